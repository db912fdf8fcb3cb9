"""The viewer as a Starlette application: a page and the JSON endpoints that it calls. It writes nothing."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from tl_data._version import __version__
from tl_data.client.remote import range_of
from tl_data.errors import LakeError, MediaRefused, TLDataError, next_step
from tl_data.object_store import BucketObject
from tl_data.settings import Settings
from tl_data.urls import encoded, redacted
from tl_data.view.library import SORTS, Library, Query
from tl_data.view.media import Media, chunks_of
from tl_data.view.search import Question, Search
from tl_data.view.security import AccessControl
from tl_data.view.snapshot import LakeFolder, Row
from tl_data.view.snippets import TableLocation, snippets
from tl_data.view.streams import Streams

STATIC = Path(__file__).parent / "static"
MAX_PAGE = 200  # the most videos of one answer
PICTURE_BYTES = 10 * 2**20  # the largest uploaded picture


@dataclass
class Viewer:
    """A lake and the objects that answer the requests of the page.

    Args:
        name: the name of the lake on the page.
        settings: settings of the engine or service that embeds texts; None if there is neither.
        base: the folder of relative source paths.
        media: a folder with copies of the sources.
    """

    lake: LakeFolder
    name: str
    settings: Settings | None = None
    base: Path = Path()
    media: Path | None = None

    def __post_init__(self) -> None:
        self.library = Library(self.lake)
        self.sources = Media(self.lake, self.base, self.media)
        self.streams = Streams(self.settings)
        self.search = Search(self.lake, self.library, self.settings)
        self.location = TableLocation(self.lake.folder, self.lake.format_of("videos") or "delta")


def app(viewer: Viewer, token: str, port: int) -> Starlette:
    """The application. It answers only below `/token/`, and only under the names of this machine."""
    names = [f"{name}:{port}" for name in ("127.0.0.1", "localhost", "[::1]")]
    routes = [
        Mount(
            f"/{token}",
            routes=[
                Route("/", _index),
                Route("/api/summary", _json(viewer, _summary)),
                Route("/api/videos", _json(viewer, _videos)),
                Route("/api/video", _json(viewer, _video)),
                Route("/api/search", _json(viewer, _search)),
                Route("/api/search/picture", _picture_search(viewer), methods=["POST"]),
                Route("/api/errors", _json(viewer, _errors)),
                Route("/api/runs", _json(viewer, lambda v, q: {"runs": v.lake.snapshot().runs})),
                Route("/api/alerts", _json(viewer, _alerts)),
                Route("/api/snippets", _json(viewer, _snippets)),
                Route("/api/retry.csv", _retry_list(viewer)),
                Route("/poster", _poster(viewer)),
                Route("/media", _media(viewer)),
                Route("/stream", _stream(viewer)),
                Mount("/static", StaticFiles(directory=STATIC)),
            ],
        )
    ]
    access = Middleware(AccessControl, token=token, names=names, origins=viewer.library.origins)
    return Starlette(routes=routes, middleware=[access])


def _index(request: Request) -> Response:
    return FileResponse(STATIC / "index.html", headers={"Cache-Control": "no-store"})


def _json_response(value: Any, status: int = 200) -> Response:
    body = orjson.dumps(value, default=_json_value, option=orjson.OPT_UTC_Z)
    return Response(body, status, {"Cache-Control": "no-store"}, "application/json")


def _json_value(value: Any) -> Any:
    """A JSON value for an object that orjson does not support."""
    return float(value) if isinstance(value, Decimal) else str(value)


def _error_response(error: Exception, status: int) -> Response:
    code = getattr(error, "code", None) or type(error).__name__
    return _json_response({"error": {"code": code, "message": redacted(str(error))}}, status)


def _json(viewer: Viewer, compute: Callable[[Viewer, dict[str, str]], Any]) -> Callable[[Request], Response]:
    """An endpoint that answers with the result of `compute` as JSON, or with 404 if the result is None."""

    def endpoint(request: Request) -> Response:
        try:
            result = compute(viewer, dict(request.query_params))
        except TLDataError as error:
            return _error_response(error, 409)
        except (KeyError, ValueError) as error:
            return _error_response(
                ValueError(f"a parameter of the request is missing or invalid: {error}"), 400
            )
        if result is None:
            return _error_response(LookupError("The lake does not have this video."), 404)
        return _json_response(result)

    return endpoint


def _summary(viewer: Viewer, query: dict[str, str]) -> Any:
    snapshot = viewer.lake.snapshot()
    return {
        "name": viewer.name,
        "folder": redacted(viewer.lake.folder),
        "format": viewer.location.format,
        "release": __version__,
        "version": snapshot.version,
        "counts": snapshot.counts,
        "notes": snapshot.notes,
        "costs": viewer.search.costs(),
        "sorts": SORTS,
        **viewer.library.facets(),
    }


def _videos(viewer: Viewer, query: dict[str, str]) -> Any:
    filters = {
        name: query[name] for name in ("text", "state", "topic", "since", "until", "sort") if name in query
    }
    offset, limit = max(0, int(query.get("offset", 0))), min(MAX_PAGE, max(1, int(query.get("limit", 60))))
    return viewer.library.page(Query(**filters, offset=offset, limit=limit))


def _video(viewer: Viewer, query: dict[str, str]) -> Any:
    video = viewer.library.video(query["id"])
    tile = viewer.library.find(query["id"])
    if video is None or tile is None:
        return None
    playable = viewer.sources.playable(tile)
    return {
        **video,
        "next_step": next_step(tile["record"]) if tile["state"] == "failed" else None,
        "play": {
            "kind": playable.kind,
            "reason": playable.reason,
            "stream": viewer.streams.may_have_stream(tile),
        },
    }


def _search(viewer: Viewer, query: dict[str, str]) -> Any:
    kind, text = query.get("kind", "words"), query.get("text", "").strip()
    if kind == "similar":
        hits = viewer.search.similar(query["id"], float(query.get("start", 0)))
    elif not text:
        hits = []
    elif kind == "words":
        hits = viewer.library.search_words(text, 120)
    elif kind == "meaning":
        hits = viewer.search.meaning(Question(text))
    elif kind == "index":
        hits = viewer.search.index(text)
    else:
        raise ValueError(f"kind is {kind!r}; it must be words, meaning, index or similar")
    return {"hits": hits}


def _picture_search(viewer: Viewer) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        body = b""
        async for chunk in request.stream():
            body += chunk
            if len(body) > PICTURE_BYTES:
                return _error_response(
                    ValueError("The picture is larger than 10 MB. Choose a smaller one."), 413
                )
        try:
            hits = await run_in_threadpool(viewer.search.meaning, Question(image=body))
        except TLDataError as error:
            return _error_response(error, 409)
        return _json_response({"hits": hits})

    return endpoint


def _errors(viewer: Viewer, query: dict[str, str]) -> Any:
    rows = []
    for row in viewer.lake.snapshot().errors:
        redacted_texts = {
            "url": redacted(str(row.get("url") or "")),
            "message": redacted(str(row.get("message") or "")),
        }
        at = row.get("failed_at") or row.get("at")
        rows.append({**row, **redacted_texts, "at": at, "next_step": next_step(row)})
    return {"errors": rows}


def _alerts(viewer: Viewer, query: dict[str, str]) -> Any:
    rows = sorted(viewer.lake.snapshot().alerts, key=_found_at, reverse=True)
    alerts = []
    for row in rows:
        alert = {k: v for k, v in row.items() if k != "url"} | {"at": row.get("found_at") or row.get("at")}
        alerts.append(
            viewer.library.titled({**alert, "id": row.get("video_id") or row.get("source_key") or ""})
        )
    return {"alerts": alerts}


def _found_at(row: Row) -> str:
    return str(row.get("found_at") or row.get("at") or "")


def _snippets(viewer: Viewer, query: dict[str, str]) -> Any:
    arguments = {name: query[name] for name in ("text", "video") if name in query}
    index = viewer.settings.index if viewer.settings else "tl_data"
    return snippets(
        viewer.location,
        query.get("kind", "video"),
        **arguments,
        start=float(query.get("start", 0)),
        index=index,
        searched=viewer.library.searched_columns(),
    )


def _retry_list(viewer: Viewer) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        code = request.query_params.get("code", "")
        out = io.StringIO()
        rows = csv.writer(out)
        rows.writerow(["source_key", "url"])
        for row in viewer.lake.snapshot().errors:
            if not code or row.get("code") == code:
                rows.writerow([row.get("source_key"), row.get("url")])
        headers = {"Content-Disposition": 'attachment; filename="retry.csv"', "Cache-Control": "no-store"}
        return PlainTextResponse(out.getvalue(), headers=headers, media_type="text/csv")

    return endpoint


def _poster(viewer: Viewer) -> Callable[[Request], Response]:
    def endpoint(request: Request) -> Response:
        tile = viewer.library.find(request.query_params.get("id", ""))
        second = request.query_params.get("t")
        try:
            picture = viewer.sources.picture(tile, float(second) if second else None) if tile else None
        except (LakeError, MediaRefused, ValueError):
            picture = None
        if picture is None:
            return FileResponse(STATIC / "no-picture.svg", headers={"Cache-Control": "no-store"})
        return Response(picture, headers={"Cache-Control": "private, max-age=600"}, media_type="image/jpeg")

    return endpoint


def _media(viewer: Viewer) -> Callable[[Request], Any]:
    async def endpoint(request: Request) -> Response:
        tile = await run_in_threadpool(viewer.library.find, request.query_params.get("id", ""))
        if tile is None:
            return _error_response(LookupError("The lake does not have this video."), 404)
        playable = await run_in_threadpool(viewer.sources.playable, tile)
        if playable.kind == "file":
            return FileResponse(playable.location, media_type=playable.media_type)
        if playable.kind in ("http", "hls"):
            # The URL may be signed. It is sent as a redirect, so that it is not part of the page.
            return RedirectResponse(encoded(playable.location), 302, {"Cache-Control": "no-store"})
        if playable.kind == "bucket":
            return await _from_bucket(request, playable.location, playable.media_type)
        return _error_response(LookupError(playable.reason), 404)

    return endpoint


def _stream(viewer: Viewer) -> Callable[[Request], Response]:
    """A playlist or segment of the platform's stream of a video."""

    def endpoint(request: Request) -> Response:
        tile = viewer.library.find(request.query_params.get("id", ""))
        number = request.query_params.get("n", "0")
        if tile is None or not number.isdigit():
            return _error_response(LookupError("The lake does not have this video."), 404)
        requested = request.headers.get("range", "")
        byte_range = requested if range_of(requested, 0) is not None else None
        try:
            answer = viewer.streams.fetch(tile, int(number), byte_range)
        except MediaRefused as error:
            return _error_response(error, 404)
        except TLDataError as error:
            return _error_response(error, 502)
        headers = {"Cache-Control": "no-store"}
        if answer.content_range:
            headers["Content-Range"] = answer.content_range
        return Response(answer.body, answer.status, headers, answer.media_type)

    return endpoint


async def _from_bucket(request: Request, address: str, media_type: str) -> Response:
    try:
        bucket_object = await run_in_threadpool(BucketObject, address)
    except LakeError as error:
        return _error_response(error, 502)
    start, end, status = 0, bucket_object.size, 200
    headers = {"Accept-Ranges": "bytes"}
    if requested := range_of(request.headers.get("range", ""), bucket_object.size):
        start, end = requested
        if start >= end:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{bucket_object.size}"})
        status = 206
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{bucket_object.size}"
    headers["Content-Length"] = str(end - start)
    return StreamingResponse(chunks_of(bucket_object, start, end), status, headers, media_type)
