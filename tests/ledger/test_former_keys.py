"""Records of version 0.1 are found by the keys that it computed. The keys here are computed by its code."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path

import pytest

from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call
from tl_data.media.identity import identify

DIGEST = '"' + "a" * 32 + '"'


@dataclass(frozen=True)
class Headers:
    """The response headers of a file."""

    etag: str | None = None
    length: int | None = 1000
    last_modified: str | None = "Wed, 01 Jan 2025 00:00:00 GMT"
    md5: str | None = None

    async def probe_url(self, url: str) -> Headers:
        return self


@pytest.mark.parametrize(
    ("url", "etag", "former_key"),
    [
        ("https://e.com/v.mp4?token=5", None, "1c87d309daaea8460872c871807d4c5d"),
        ("https://e.com/v.mp4?token=5", DIGEST, "8b11fcee7eecc7b9ed8d5864ff0b595d"),
        ("https://e.com/v.mp4?sig=a&se=2026&id=3", DIGEST, "af595749ee5ca2ae368657cd396cc4b7"),
        ("https://me@e.com/v.mp4", DIGEST, "918be6f89c48ba07cfabe09b96d0f1dc"),
        ("https://e.com/v.mp4", DIGEST, None),
        # Files of several URLs had these keys.
        ("https://e.com/v.mp4?sig=a&se=2026&id=3", None, None),
        ("https://me@e.com/v.mp4", None, None),
    ],
)
def test_the_former_key_of_a_url(url: str, etag: str | None, former_key: str | None) -> None:
    assert asyncio.run(identify(Headers(etag), url)).former_key == former_key


@pytest.mark.parametrize(
    ("params", "former_key"),
    [
        ({"prompt": "compare with https://e.com/v.mp4?token=5 please"}, "b50d8b29a1dde5d98657f5ea651b54dd"),
        ({"url": "https://e.com/v.mp4?token=5"}, "c8ecf5f2f0bb7bac2826569fb4a0423a"),
        # A call with another `se` had the same key.
        ({"prompt": "see https://e.com/v.mp4?sig=a&se=2026&id=3"}, None),
        ({"prompt": "plain"}, None),
    ],
)
def test_the_former_key_of_a_call(params: dict[str, str], former_key: str | None) -> None:
    call = Call("analyze", "video:1", params, "m")
    assert [former.key for former in call.former_calls] == ([former_key] if former_key else [])


def test_a_former_record_is_read_and_not_paid_again(tmp_path: Path) -> None:
    params = {"prompt": "compare with https://e.com/v.mp4?token=5 please"}
    call = Call("analyze", "new key", params, "m", former_content_key="old key")
    former = call.former_calls[-1]
    assert former.content_key == "old key"
    assert former.described()["params"] == params

    async def paid() -> str:
        return "the answer of version 0.1"

    async def unexpected() -> str:
        raise AssertionError("the call is paid for again")

    async def run() -> None:
        ledger = Ledger.open(str(tmp_path))
        await ledger.once(former, paid)
        entry = await Ledger.open(str(tmp_path)).once(call, unexpected)
        assert (entry.key, entry.result, entry.reused) == (former.key, "the answer of version 0.1", True)
        entries = [entry async for entry in ledger.entries()]
        assert [entry.key for entry in entries] == [former.key]

    asyncio.run(run())
