"""Signed URLs of thumbnails, streams and parts of uploads: browsers open them without an API key.

The path has the expiry and a signature, so that the relative segment names of a playlist inherit them.
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


class SignedUrls:
    """Signs and verifies URLs; the secret is stored beside the data."""

    def __init__(self, home: Path) -> None:
        key_file = home / "media.key"
        if not key_file.exists():
            new_file = home / f"media.key.{os.getpid()}"
            new_file.touch(mode=0o600)
            new_file.write_text(secrets.token_hex(32), encoding="ascii")
            new_file.replace(key_file)
        self._secret = key_file.read_text(encoding="ascii").encode()

    def url_for(self, base_url: str, video_id: str, folder: str, name: str) -> str:
        """The URL of one file of a video; the same for an hour, so that browsers can cache it."""
        until = (int(time.time()) // 3600 + 1) * 3600 + LIFE_SEC
        return (
            f"{base_url.rstrip('/')}{PREFIX}/{until}-{self._sign(video_id, until)}/{video_id}/{folder}/{name}"
        )

    def allows(self, ticket: str, video_id: str, folder: str, name: str) -> bool:
        """Whether a URL has a valid signature, has not expired, and names a plain file."""
        until, _, signature = ticket.partition("-")
        if not (until.isdecimal() and len(until) < 12 and int(until) > time.time()):
            return False
        valid = hmac.compare_digest(signature.encode(), self._sign(video_id, int(until)).encode())
        return valid and folder in FOLDERS and NAME.fullmatch(name) is not None

    def _sign(self, video_id: str, until: int) -> str:
        return hmac.new(self._secret, f"{video_id} {until}".encode(), sha256).hexdigest()[:32]
