"""Any-to-video search."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any

import orjson

from tl_data.catalog import Parameter, function
from tl_data.errors import BadRequest, SchemaMismatch
from tl_data.media.identity import NOT_A_PLACE, is_url, local_path, missing_file
from tl_data.models import SearchModel, name_of_today
from tl_data.session import Session
from tl_data.types import COUNT, FLAG, HITS, JSON, NUMBER, TEXT, TEXTS
from tl_data.urls import redacted
from tl_data.usage import current

Rows = list[dict[str, Any]]

#: Options of both searches, with the API's names. Only `max_hits` is not the API's: it counts over all pages.
OPTIONS = (
    Parameter(
        "max_hits", COUNT, False, 10, "maximum number of clips (of videos, if grouped), over all pages"
    ),
    Parameter(
        "search_options",
        TEXTS,
        False,
        None,
        "sources to search: visual, audio, transcription (speech). NULL is all of the index",
    ),
    Parameter("filter", JSON, False, None, 'JSON object over metadata, such as {"duration": {"gte": 60}}'),
    Parameter("operator", TEXT, False, None, "how several sources combine: or (the default), and"),
    Parameter("group_by", TEXT, False, None, "clip (the default) or video; the rows are clips either way"),
    Parameter(
        "threshold",
        TEXT,
        False,
        None,
        "minimum confidence of a hit: high, medium, low, none; for models with scores",
    ),
    Parameter(
        "adjust_confidence_level",
        NUMBER,
        False,
        None,
        "0 to 1, shifts the boundaries between the levels of confidence; for models with scores",
    ),
    Parameter("sort_option", TEXT, False, None, "score or clip_count; for models with scores"),
    Parameter("page_limit", COUNT, False, None, "clips per request, 1 to 50"),
    Parameter(
        "include_user_metadata", FLAG, False, None, "whether to return the metadata of the videos as JSON"
    ),
    Parameter("transcription_options", TEXTS, False, None, "lexical, semantic or both, for transcription"),
)

MORE_IMAGES = Parameter(
    "images", TEXTS, False, None, "URLs or paths of further pictures; at most 10 pictures in total"
)
#: Values of `search_options` in version 1.2 of the API.
OLD_OPTIONS = ("conversation", "logo", "text_in_video")
#: Options that only models with scores support.
SCORED = ("threshold", "adjust_confidence_level", "sort_option")


@function(
    HITS,
    index_id=TEXT,
    query_text=TEXT,
    options=OPTIONS,
    example={"index_id": "demo", "query_text": "a red car"},
)
async def search(tl: Session, index_id: str, query_text: str, **options: Any) -> Rows:
    """Search an index by words: one row per matching clip, best first.

    Args:
        index_id: name or id of the index.
        query_text: what to look for, in words; NULL gives no rows.
    """
    if query_text is None:
        return []
    return await _hits(tl, index_id, None, query_text=query_text, **options)


@function(
    HITS,
    index_id=TEXT,
    image=TEXT,
    query_text=TEXT,
    options=(*OPTIONS, MORE_IMAGES),
    example={"index_id": "demo", "image": "https://example.com/car.jpg"},
)
async def search_by_image(
    tl: Session, index_id: str, image: str, query_text: str | None = None, **options: Any
) -> Rows:
    """Search an index by a picture: one row per matching clip, best first.

    Args:
        index_id: name or id of the index.
        image: URL or path of a JPEG or PNG; NULL gives no rows.
        query_text: words to narrow the picture down (Marengo 3.0 and the embedded engine).
    """
    if image is None:
        return []
    pictures: dict[str, Any] = {}
    async with AsyncExitStack() as copies:
        for each in [image, *(options.pop("images", None) or [])]:
            sent = await copies.enter_async_context(tl.sendable(each))
            for name, source in media(sent, "query_media_url", "query_media_file").items():
                pictures.setdefault(name, []).append(source)
        return await _hits(
            tl, index_id, ["visual"], query_text=query_text, query_media_type="image", **pictures, **options
        )


async def _hits(
    tl: Session,
    index_id: str,
    sources: list[str] | None,
    *,
    max_hits: int = 10,
    page_limit: int | None = None,
    search_options: list[str] | None = None,
    **options: Any,
) -> Rows:
    if max_hits < 1:
        raise SchemaMismatch(f"max_hits is {max_hits}; it must be 1 or more")
    if old := name_of_today(name for name in search_options or () if name in OLD_OPTIONS):
        raise SchemaMismatch(f"search_options is {', '.join(search_options or ())}.{old}")
    index = await tl.index_id(index_id)
    model = await tl.index_search_model(index)
    if model is not None and tl.models is None:
        _refuse_ignored(model, options)
    chosen = search_options or sources or tl.search_options(index, model)
    if "transcription" not in chosen and options.get("transcription_options"):
        raise SchemaMismatch(
            "transcription_options needs `transcription` among the search_options, which are "
            f"{', '.join(chosen)}"
        )
    current().model = tl.vectors_by

    async def search_sources(sources: list[str]) -> Rows:
        items = tl.client.search(
            index, sources, limit=max_hits, page_limit=page_limit or min(max_hits, 50), **options
        )
        hits: Rows = []
        async for item in items:
            for clip in item.get("clips") or [item]:
                hits.append(_hit(clip, len(hits) + 1))
        return hits

    try:
        return await search_sources(chosen)
    except BadRequest as refused:
        # Older indexes do not have this search option. A rejected search is not charged.
        if search_options or "transcription" not in chosen or refused.code != "search_option_not_supported":
            raise
        tl.without_transcription.add(index)
        return await search_sources([source for source in chosen if source != "transcription"])


def _refuse_ignored(model: SearchModel, options: dict[str, Any]) -> None:
    """Reject options and images that the service would silently ignore.

    Raises:
        SchemaMismatch: with their names and what to use instead.
    """
    ignored = [name for name in SCORED if options.get(name) is not None]
    if model.ranks_only and ignored:
        raise SchemaMismatch(
            f"{model.name} ranks hits without scores and ignores {', '.join(ignored)}: leave it out, limit "
            "the hits with max_hits, or check them with tl_analyze and start_sec, end_sec"
        )
    pictures = sum(len(options.get(name) or ()) for name in ("query_media_url", "query_media_file"))
    if pictures > model.query_images:
        raise SchemaMismatch(f"{pictures} pictures are given; {model.name} searches by {model.query_images}")


def _hit(clip: dict[str, Any], number: int) -> dict[str, Any]:
    metadata = clip.get("user_metadata")
    return {
        "video_id": clip.get("video_id"),
        "start_sec": clip.get("start"),
        "end_sec": clip.get("end"),
        "score": clip.get("score"),  # Marengo 2.7 and the embedded engine
        "rank": clip.get("rank") or number,  # without ranks: the position in the response
        "confidence": clip.get("confidence"),
        "thumbnail_url": clip.get("thumbnail_url"),
        "transcription": clip.get("transcription"),
        "user_metadata": orjson.dumps(metadata).decode() if metadata else None,
    }


def media(source: str, url: str, file: str) -> dict[str, Any]:
    """The source as an API parameter: named by `url` if it is a URL, by `file` if it is a local file."""
    if is_url(source):
        return {url: source}
    path = local_path(source)
    if not path.is_file():
        raise SchemaMismatch(f"{redacted(source)} is {NOT_A_PLACE}{missing_file(source)}")
    return {file: path}
