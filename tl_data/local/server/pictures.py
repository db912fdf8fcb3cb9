"""Pictures by their addresses, fetched while a request waits."""

from __future__ import annotations

from tl_data.local.media_validation import MAX_BYTES
from tl_data.local.server.context import Engine
from tl_data.local.storage.database import new_id
from tl_data.local.tasks.download import check_url, fetch

IMAGE_SECONDS = 60.0


async def load_image(engine: Engine, url: str) -> bytes:
    """The bytes behind an address of an image.

    Raises:
        MediaProblem: not a URL, refused, unreachable, a web page, too large.
    """
    target = engine.uploads / f"{new_id()}.image"
    try:
        await fetch(
            check_url(url, engine.config), target, engine.config,
            limit=MAX_BYTES, seconds=IMAGE_SECONDS, what="image",
        )  # fmt: skip
        return target.read_bytes()
    finally:
        target.unlink(missing_ok=True)
