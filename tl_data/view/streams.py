"""Plays a video by the HLS stream that the platform made of it.

The addresses of a stream are signed for an hour and belong to hosts that the lake does not name. So the page
loads playlists and segments from the viewer, which fetches them: in a playlist, each address is replaced by
its number. The viewer fetches no address that a playlist did not contain.
"""

from __future__ import annotations

import re
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from tl_data.errors import MediaRefused, NotFound, TLDataError
from tl_data.settings import Settings
from tl_data.view.media import MEDIA_TYPES
from tl_data.view.snapshot import Row

if TYPE_CHECKING:
    from tl_data.connection import Connection

#: Seconds after which the platform is asked for a new address of a stream.
ADDRESS_SECONDS = 1800.0
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_URI = re.compile(r'URI="([^"]+)"')


@dataclass
class _Stream:
    """The addresses of one stream, the playlist first."""

    begun: float
    addresses: list[str] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)

    def number(self, address: str) -> int:
        if address not in self.numbers:
            self.numbers[address] = len(self.addresses)
            self.addresses.append(address)
        return self.numbers[address]


class Streams:
    """The streams of the videos of a lake.

    Args:
        settings: settings of the engine or service that has the videos; None if there is neither.
    """

    def __init__(self, settings: Settings | None) -> None:
        self.settings = settings
        self._streams: dict[str, _Stream] = {}
        self._lock = threading.Lock()

    def possible(self, tile: Row) -> bool:
        """Whether the platform may have a stream of the video. Nothing is requested."""
        return self.settings is not None and bool(tile["video_id"] and tile["record"].get("index_id"))

    def fetch(self, tile: Row, number: int = 0) -> tuple[str, bytes]:
        """The content type and the body of a playlist or segment.

        Args:
            number: the number that a playlist gave it; 0: the first playlist.

        Raises:
            MediaRefused: the platform has no stream of the video.
            TLDataError: the platform or the host of the stream does not answer.
        """
        stream = self._stream(tile)
        with self._lock:
            if not 0 <= number < len(stream.addresses):
                raise MediaRefused("this part of the stream is unknown: load the page again", "unknown_part")
            address = stream.addresses[number]
        body = self._download(address)
        if not body.lstrip().startswith(b"#EXTM3U"):
            return MEDIA_TYPES.get(Path(urlsplit(address).path).suffix.lower(), "video/mp4"), body
        with self._lock:
            lines = _replaced(body.decode("utf-8", "replace"), address, stream, tile["id"])
            return PLAYLIST_TYPE, "\n".join(lines).encode()

    def _stream(self, tile: Row) -> _Stream:
        stream = self._streams.get(tile["id"])
        if stream is None or time.monotonic() - stream.begun > ADDRESS_SECONDS:
            stream = _Stream(time.monotonic())
            stream.number(self._address(tile))
            with self._lock:
                self._streams[tile["id"]] = stream
        return stream

    def _connection(self) -> Connection:
        from tl_data.connection import connect

        if self.settings is None:
            raise MediaRefused("there is no key and no engine to ask for a stream", "no_stream")
        return connect(self.settings)

    def _download(self, address: str) -> bytes:
        connection = self._connection()
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "part"
            connection.run(connection.session.client.download(address, path))
            return path.read_bytes()

    def _address(self, tile: Row) -> str:
        connection = self._connection()
        if not self.possible(tile):
            raise MediaRefused("the video is not indexed, so the platform has no stream of it", "no_stream")
        try:
            video = connection.run(
                connection.session.client.retrieve_video(tile["record"]["index_id"], tile["video_id"])
            )
        except NotFound as error:
            raise MediaRefused(f"the platform does not have the video: {error}", "no_stream") from error
        address = (video.get("hls") or {}).get("video_url")
        if not address:
            raise MediaRefused("the platform has no stream of this video", "no_stream")
        return str(address)


def _replaced(playlist: str, address: str, stream: _Stream, identifier: str) -> Iterator[str]:
    """The lines of a playlist, with numbers instead of addresses. An address of another host is an error."""

    def local(uri: str) -> str:
        full = urljoin(address, uri)
        if urlsplit(full)[:2] != urlsplit(address)[:2]:
            raise TLDataError(f"the stream refers to another host: {urlsplit(full).hostname}")
        return "stream?" + urlencode({"id": identifier, "n": stream.number(full)})

    for line in playlist.splitlines():
        if not line.strip() or line.startswith("#"):
            yield _URI.sub(lambda match: f'URI="{local(match[1])}"', line)
        else:
            yield local(line.strip())
