"""Telling the embedded engine from the service: it has a page of its own counts that the API has not."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tl_data.errors import ConnectionFailed

if TYPE_CHECKING:
    from tl_data.client.client import Client


async def is_embedded(client: Client) -> bool:
    """Whether the server on this machine is an embedded engine; any other host is not asked."""
    parts = urlsplit(client.base_url)
    if parts.hostname not in ("127.0.0.1", "localhost", "::1"):
        return False
    headers = {"x-api-key": client.settings.api_key} if client.settings.api_key else {}
    try:
        answer = await client.wire.send("GET", f"{parts.scheme}://{parts.netloc}/_engine/stats", headers)
    except ConnectionFailed:
        return False  # the first real call will say what is wrong
    return answer.status == 200
