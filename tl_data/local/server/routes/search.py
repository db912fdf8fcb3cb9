"""/search, and /search/{page_token} for further pages."""

from __future__ import annotations

import re
import struct
import uuid
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data.local import models
from tl_data.local.errors import EngineError, MediaError, invalid, not_provided, token_expired
from tl_data.local.media_validation import check_image
from tl_data.local.server.context import Engine, engine_of
from tl_data.local.server.forms import Form, Upload, parse_flag
from tl_data.local.server.metadata import read_filter
from tl_data.local.server.old_names import SEARCH, refuse_old_names, suggest_replacement
from tl_data.local.server.references import load_image
from tl_data.local.server.routes.entities import find_entities, read_pictures, remove_mentions
from tl_data.local.storage.database import Row, Where, now

if TYPE_CHECKING:
    from tl_data.local.search.query import Hit

TRANSCRIPTION_OPTIONS = ("lexical", "semantic")
THRESHOLDS = ("high", "medium", "low", "none")
#: Parameters that have no effect under profiles without `ranked_parameters`.
IGNORED = ("threshold", "sort_option", "adjust_confidence_level")
TRANSCRIPTION_OPTIONS_ERROR = (
    "The following parameters are invalid: transcription_options. transcription_options can only be used "
    "when search_options contains 'transcription'"
)
MAX_IMAGES = 10
MAX_IMAGE_BYTES = 32 << 20
OLD_MAX_IMAGE_BYTES = 5 << 20  # for indexes with Marengo 2.7
#: A page token: the id of the search, and the number of the page.
TOKEN = re.compile(r"([0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32})-(\d{1,9})")


async def create(request: Request) -> Response:
    """POST /search"""
    engine = engine_of(request)
    async with engine.form(request, "query_media_file", max_file=MAX_IMAGE_BYTES) as form:
        refuse_old_names(engine.profile, form.fields, SEARCH)
        if "query_text" not in form.fields and "query" in form.fields:
            form.fields["query_text"] = form.fields["query"]
        missing = [name for name in ("index_id", "search_options") if not form.texts(name)]
        if missing:
            raise not_provided(*missing)
        options = list(dict.fromkeys(form.texts("search_options")))
        page_limit = form.whole_number("page_limit", 10, engine.profile.least_page_limit, 50) or 10
        group_by = form.choice("group_by", ("clip", "video"), "clip")
        if not engine.profile.ranked_parameters:
            for name in IGNORED:
                form.fields.pop(name, None)
        sort = form.choice("sort_option", ("score", "clip_count"), "score")
        if sort == "clip_count" and group_by != "video":
            raise invalid(
                "sort_option", f"clip_count can only be used with group_by set to video, not {group_by}."
            )
        operator = form.choice("operator", ("or", "and"), "or")
        threshold = form.choice("threshold", THRESHOLDS, "low")
        adjust = form.number("adjust_confidence_level", 0.0, 1.0)
        with_metadata = form.flag("include_user_metadata", False)
        transcription_options = form.choices("transcription_options", TRANSCRIPTION_OPTIONS)
        if (
            transcription_options
            and "transcription" not in options
            and not engine.profile.lone_transcription_options
        ):
            raise EngineError(400, "parameter_invalid", TRANSCRIPTION_OPTIONS_ERROR)
        conditions, ids = read_filter(form.text("filter") or "{}")
        index = _find_index(engine, form, options)
        text = _read_text(form, index["models"])
        entities = find_entities(engine, text) if text else []
        if entities:
            text = remove_mentions(text or "")
        # A query that consists of mentions alone counts as one with a text: " ".
        images = await _read_images(
            engine, form, index["models"], options, transcription_options, text or (" " if entities else None)
        )
        images += [picture for entity in entities for picture in await read_pictures(engine, entity)]
    pool, pool_ids = _search_pool(engine, index["id"], conditions, ids)
    hits: list[tuple[Hit, str]] = []
    profile = engine.profile
    if profile.ranks_all:
        threshold = "none"
    if not profile.speech_in_audio and not _is_old(index["models"]):
        options = ["sound" if option == "audio" else option for option in options]
    if pool["total_count"]:
        try:
            hits = await engine.stages.search(
                index["id"], text=text, images=images, options=options, operator=operator,
                threshold=threshold, adjust=0.5 if adjust is None else adjust,
                transcription_options=transcription_options or TRANSCRIPTION_OPTIONS,
                video_ids=pool_ids if conditions or ids else None, all_clips=profile.ranks_all,
            )  # fmt: skip
        except ValueError as error:
            raise invalid("query_media_file" if images else "query_text", str(error)) from None
    items = [
        {
            "score": round(hit.score, 2),
            "start": hit.start_sec,
            "end": hit.end_sec,
            "video_id": hit.video_id,
            # The API has three classes of confidence. Weaker hits, with the threshold `none`, are `low`.
            "confidence": hit.confidence if hit.confidence != "none" else "low",
            "rank": hit.rank,
            "thumbnail": keyframe,
            "transcription": hit.transcription,
        }
        for hit, keyframe in hits
        if hit.video_id in pool_ids
    ]
    results: list[dict[str, Any]] = _group_by_video(items, sort) if group_by == "video" else items
    row: Row = {
        "id": uuid.uuid4().hex if profile.plain_tokens else str(uuid.uuid4()), "created_at": now(),
        "expires_at": now(engine.config.page_token_seconds),
        "index_id": index["id"], "pool": pool, "items": results,
        "request": {"page_limit": page_limit, "metadata": with_metadata, "grouped": group_by == "video"},
    }  # fmt: skip
    if len(results) > page_limit:
        engine.store.add("searches", row)
    engine.store.increment("searches")
    engine.bill.charge("search")
    return JSONResponse(_page_to_json(engine, request, row, 0, with_metadata))


def _find_index(engine: Engine, form: Form, options: list[str]) -> Row:
    """Return the index of a search. It must support all search options."""
    index = engine.index(form.required("index_id"))
    if not models.search_models(index["models"]):
        raise models.no_search()
    supported = models.search_options(index["models"])
    for option in options:
        if option not in supported:
            raise EngineError(
                400,
                "search_option_not_supported",
                f"Search option {option} is not supported for index {index['id']}. Please use one of the "
                f"following search options: {', '.join(supported)}."
                + ("" if engine.profile.strict else suggest_replacement(option)),
            )
    return index


def _is_old(index_models: list[dict[str, Any]]) -> bool:
    return any(model["model_name"] in models.OLD_MARENGO for model in index_models)


def _read_text(form: Form, index_models: list[dict[str, Any]]) -> str | None:
    """Read the query text; None if the query has only images."""
    text = form.text("query_text")
    if text is None:
        return None
    if not text.strip():
        if form.files.get("query_media_file") or form.text("query_media_url"):
            return None
        raise invalid("query_text", "It must not be blank.", text)
    limit = models.OLD_TOKENS if _is_old(index_models) else models.TOKENS
    if models.count_tokens(text) > limit:
        raise models.too_long("query_text", text, limit)
    return text


async def _read_images(
    engine: Engine,
    form: Form,
    index_models: list[dict[str, Any]],
    options: list[str],
    transcription_options: list[str],
    text: str | None,
) -> list[bytes]:
    urls = [url for url in form.texts("query_media_url") if url.strip()]
    uploads = [] if urls else form.files.get("query_media_file", [])
    if not urls and not uploads:
        if text is None:
            raise not_provided("query_text", "query_media_url", "query_media_file")
        if form.text("query_media_type"):
            form.choice("query_media_type", ("image",), "image")
        return []
    if not form.text("query_media_type"):
        raise not_provided("query_media_type")
    form.choice("query_media_type", ("image",), "image")
    name, old = ("query_media_url" if urls else "query_media_file"), _is_old(index_models)
    max_images = 1 if old else MAX_IMAGES
    if len(urls) + len(uploads) > max_images:
        raise invalid(name, f"At most {max_images} images are allowed. You sent {len(urls) + len(uploads)}.")
    if "visual" not in options:
        raise _combination_error(", ".join(options), "an image query, which needs visual")
    if text is not None and old:
        raise _combination_error("query_text", "an image query on an index with Marengo 2.7")
    if transcription_options and "transcription" not in options:
        raise _combination_error(
            "transcription_options", "an image query without transcription in search_options"
        )
    images: list[bytes] = []
    sources: list[Upload | str] = [*uploads, *urls]
    for source in sources:
        shown_source = source if isinstance(source, str) else source.filename
        try:
            data = await load_image(engine, source) if isinstance(source, str) else source.path.read_bytes()
            check_image(data, 64 if old else 128, OLD_MAX_IMAGE_BYTES if old else MAX_IMAGE_BYTES)
        except MediaError as error:
            raise invalid(name, error.message, shown_source) from None
        images.append(data)
    return images


def _combination_error(option: str, other: str) -> EngineError:
    # The service's documented text. `option` may also be another parameter of the search.
    text = f"Search option {option} is not supported with {other}."
    return EngineError(400, "search_option_combination_not_supported", text)


def _search_pool(
    engine: Engine, index_id: str, conditions: list[Where], ids: list[str] | None
) -> tuple[dict[str, Any], frozenset[str]]:
    """The videos to search: all videos of the index, or those that match the filter.

    Returns the pool as the API shows it, and the ids of its videos.
    """
    in_index = Where("index_id", "=", index_id)
    if ids:
        known_ids = {
            row["id"]
            for row in engine.store.rows("videos", [in_index, Where("id", "in", ids)], columns=["id"])
        }
        if unknown_ids := [video_id for video_id in ids if video_id not in known_ids]:
            text = f"The following videos are not in index {index_id}: {', '.join(unknown_ids)}."
            raise EngineError(400, "search_video_not_in_same_index", text)
        conditions = [*conditions, Where("id", "in", ids)]
    rows = engine.store.rows("videos", [in_index, *conditions], columns=["id", "duration"])
    total = round(sum(row["duration"] for row in rows))
    pool = {"total_count": len(rows), "total_duration": total, "index_id": index_id}
    return pool, frozenset(row["id"] for row in rows)


def _group_by_video(items: list[dict[str, Any]], sort: str) -> list[dict[str, Any]]:
    groups: dict[str, list[dict[str, Any]]] = {}
    for item in items:
        groups.setdefault(item["video_id"], []).append(item)
    videos = [{"id": video_id, "clips": clips} for video_id, clips in groups.items()]
    if sort == "clip_count":
        videos.sort(key=lambda video: -len(video["clips"]))
    return videos


async def retrieve_page(request: Request) -> Response:
    """GET /search/{page_token}"""
    engine, token = engine_of(request), request.path_params["page_token"]
    match = TOKEN.fullmatch(token)
    row = engine.store.get("searches", match[1]) if match else None
    if match is None or row is None or row["expires_at"] <= now():
        raise token_expired(token)
    number, limit = int(match[2]), row["request"]["page_limit"]
    if number * limit >= len(row["items"]):
        raise token_expired(token)
    flag = request.query_params.get("include_user_metadata")
    with_metadata = parse_flag("include_user_metadata", flag) if flag else row["request"]["metadata"]
    video_ids = {item.get("id") or item["video_id"] for item in row["items"]}
    in_index = [Where("index_id", "=", row["index_id"])]
    if not video_ids <= {video["id"] for video in engine.store.rows("videos", in_index, columns=["id"])}:
        raise token_expired(token)
    return JSONResponse(_page_to_json(engine, request, row, number, with_metadata))


def _page_to_json(
    engine: Engine, request: Request, row: Row, number: int, with_metadata: bool
) -> dict[str, Any]:
    limit, items = row["request"]["page_limit"], row["items"]
    info: dict[str, Any] = {
        "limit_per_page": limit,
        "total_results": len(items),
        "page_expires_at": f"{row['expires_at'][:19]}Z"
        if engine.profile.whole_seconds
        else row["expires_at"],
    }
    if row["request"]["grouped"]:
        info["total_inner_matches"] = sum(len(item["clips"]) for item in items)
    if (number + 1) * limit < len(items):
        info["next_page_token"] = f"{row['id']}-{number + 1}"
    if number > 0:
        info["prev_page_token"] = f"{row['id']}-{number - 1}"
    page_items = items[number * limit : (number + 1) * limit]
    return {
        "search_pool": row["pool"],
        "data": _items_to_json(engine, request, row, page_items, with_metadata),
        "page_info": info,
    }


def _items_to_json(
    engine: Engine, request: Request, row: Row, items: list[dict[str, Any]], with_metadata: bool
) -> list[dict[str, Any]]:
    index = engine.store.get("indexes", row["index_id"])
    thumbnails = index is not None and "thumbnail" in index["addons"]
    ids = list({item.get("id") or item["video_id"] for item in items})
    metadata = {
        video["id"]: video["user_metadata"]
        for video in engine.store.rows("videos", [Where("id", "in", ids)], columns=["id", "user_metadata"])
    }

    def clip_to_json(item: dict[str, Any]) -> dict[str, Any]:
        keyframe = item["thumbnail"]
        optional: dict[str, Any] = {
            "thumbnail_url": engine.signed_urls.url_for(
                str(request.base_url), item["video_id"], "frames", keyframe
            )
            if thumbnails and keyframe
            else None,
            "transcription": item["transcription"] or None,
            "user_metadata": metadata.get(item["video_id"], {}) if with_metadata else None,
        }
        if not engine.profile.scores:
            fields = {"rank": item["rank"], "video_id": item["video_id"]}
            fields |= {name: to_single_precision(item[name]) for name in ("start", "end")}
            return fields | ({"user_metadata": optional["user_metadata"]} if with_metadata else {})
        fields = {name: value for name, value in item.items() if name not in ("thumbnail", "transcription")}
        return fields | {name: value for name, value in optional.items() if value is not None}

    if row["request"]["grouped"]:
        return [
            {"id": item["id"], "clips": [clip_to_json(inner) for inner in item["clips"]]} for item in items
        ]
    return [clip_to_json(item) for item in items]


def to_single_precision(value: float) -> float | int:
    """Round to single precision: 12.9 becomes 12.899999618530273. A whole number becomes an integer.

    The times of hits have all digits; user metadata has the shortest decimal (`metadata.round_to_single`).
    """
    near: float = struct.unpack("f", struct.pack("f", value))[0]
    return int(near) if near.is_integer() else near


routes = [
    Route("/search", create, methods=["POST"]),
    Route("/search/{page_token}", retrieve_page, methods=["GET"]),
]
