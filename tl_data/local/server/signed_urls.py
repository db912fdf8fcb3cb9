"""Addresses of thumbnails, streams and parts of uploads: they must work in a browser, which sends no API key.

Each carries its expiry and a signature in the path, so that a playlist's relative segment names inherit them.
"""

from __future__ import annotations

import hmac
import os
import re
import secrets
import time
from hashlib import sha256
from pathlib import Path

PREFIX = "/media"
LIFE_SEC = 12 * 3600
NAME = re.compile(r"[A-Za-z0-9_-]{1,80}\.[a-z0-9]{2,4}")
FOLDERS = ("frames", "hls", "parts")


class Links:
    """Makes and checks addresses; the secret lies beside the data."""

    def __init__(self, home: Path) -> None:
        file = home / "media.key"
        if not file.exists():
            fresh = home / f"media.key.{os.getpid()}"
            fresh.touch(mode=0o600)
            fresh.write_text(secrets.token_hex(32), encoding="ascii")
            fresh.replace(file)
        self._secret = file.read_text(encoding="ascii").encode()

    def to(self, base_url: str, video_id: str, folder: str, name: str) -> str:
        """The address of one file of a video; the same for an hour, so that browsers may cache it."""
        until = (int(time.time()) // 3600 + 1) * 3600 + LIFE_SEC
        return (
            f"{base_url.rstrip('/')}{PREFIX}/{until}-{self._sign(video_id, until)}/{video_id}/{folder}/{name}"
        )

    def allows(self, ticket: str, video_id: str, folder: str, name: str) -> bool:
        """Whether an address was made here, is not too old, and names a plain file."""
        until, _, signature = ticket.partition("-")
        if not (until.isdecimal() and len(until) < 12 and int(until) > time.time()):
            return False
        good = hmac.compare_digest(signature.encode(), self._sign(video_id, int(until)).encode())
        return good and folder in FOLDERS and NAME.fullmatch(name) is not None

    def _sign(self, video_id: str, until: int) -> str:
        return hmac.new(self._secret, f"{video_id} {until}".encode(), sha256).hexdigest()[:32]
