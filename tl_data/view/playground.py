"""The page at `/` of `tl-data serve`: indexes, uploads, search and questions over the server's own API."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

from tl_data.view.security import HEADERS, policy

STATIC = Path(__file__).parent / "static"


def playground_routes() -> list[BaseRoute]:
    """The routes of the page and its files. The page calls the API of the server, which checks the key."""
    return [Route("/", _page), Mount("/static", StaticFiles(directory=STATIC))]


async def _page(request: Request) -> Response:
    headers = {**HEADERS, "Content-Security-Policy": policy(()), "Cache-Control": "no-store"}
    return FileResponse(STATIC / "playground.html", headers=headers)
