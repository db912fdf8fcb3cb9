"""Plays a video by the HLS stream that the platform made of it.

The addresses of a stream are signed for an hour and belong to hosts that the lake does not name. So the page
loads playlists and segments from the viewer, which fetches them: in a playlist, each address is replaced by
its number. The viewer fetches no address that a playlist did not contain, and follows no redirect to another
host.
"""

from __future__ import annotations

import re
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from tl_data.errors import MediaRefused, NotFound, TLDataError
from tl_data.settings import Settings
from tl_data.urls import origin, unsigned_parameters
from tl_data.view.media import MEDIA_TYPES
from tl_data.view.snapshot import Row

if TYPE_CHECKING:
    from tl_data.client.remote import Part
    from tl_data.connection import Connection

#: Seconds after which the platform is asked for a new address of a stream.
ADDRESS_SECONDS = 1800.0
#: The largest playlist or segment, in bytes.
MAX_BYTES = 64 << 20
#: Streams whose addresses are kept; the one used longest ago is forgotten first.
MAX_STREAMS = 64
PLAYLIST_TYPE = "application/vnd.apple.mpegurl"
_URI = re.compile(r'URI="([^"]+)"')


@dataclass(frozen=True)
class Answer:
    """A playlist or segment as the page gets it."""

    status: int  # 200; 206 or 416 if a range was requested
    media_type: str
    body: bytes
    content_range: str | None = None


@dataclass
class _Stream:
    """The addresses of one stream, the first playlist first.

    A number is for a path in a playlist, with its parameters other than a signature. So a number stays valid
    when the platform signs the addresses again.
    """

    signing: str  # the setting `signing_parameters`
    renewed: float = 0.0  # when the addresses were signed, by the monotonic clock
    addresses: list[str] = field(default_factory=list)
    numbers: dict[tuple[int, str], int] = field(default_factory=dict)
    playlists: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, address: str) -> None:
        """Set the address of the first playlist."""
        self.addresses[:1] = [address]

    def replaced(self, playlist: Part, number: int, identifier: str) -> str:
        """A playlist with numbers instead of addresses.

        Raises:
            TLDataError: it contains an address of another host, or one that is not a URL.
        """
        self.playlists.add(number)
        text, base, seen = playlist.body.decode("utf-8", "replace"), playlist.final_url, dict[str, str]()

        def local(uri: str) -> str:
            try:
                address = urljoin(base, uri)
                leaves = origin(address) != origin(base)
            except ValueError as error:
                raise TLDataError(f"the stream refers to an address that is not a URL: {error}") from None
            if leaves:
                raise TLDataError(f"the stream refers to another host: {urlsplit(address).hostname}")
            return "stream?" + urlencode({"id": identifier, "n": self._number(address, number, seen)})

        return "\n".join(_lines(text, local))

    def _number(self, address: str, playlist: int, seen: dict[str, str]) -> int:
        """The number of an address in a playlist. `seen` has the addresses of the same playlist, by path."""
        parts = urlsplit(address)
        key = "?".join((parts.path, "&".join(unsigned_parameters(parts.query, parts.path, self.signing))))
        if seen.setdefault(key, address) != address:
            key = address  # what looks like a signature tells the segments of this playlist apart
        number = self.numbers.setdefault((playlist, key), len(self.addresses))
        self.addresses[number : number + 1] = [address]
        return number


class Streams:
    """The streams of the videos of a lake.

    Args:
        settings: settings of the engine or service that has the videos; None if there is neither.
        address_seconds: seconds after which the platform is asked for a new address of a stream.
    """

    def __init__(self, settings: Settings | None, address_seconds: float = ADDRESS_SECONDS) -> None:
        self.settings = settings
        self.address_seconds = address_seconds
        self._streams: OrderedDict[str, _Stream] = OrderedDict()
        self._lock = threading.Lock()

    def possible(self, tile: Row) -> bool:
        """Whether the platform may have a stream of the video. Nothing is requested."""
        return self.settings is not None and bool(tile["video_id"] and tile["record"].get("index_id"))

    def fetch(self, tile: Row, number: int = 0, byte_range: str | None = None) -> Answer:
        """A playlist or segment.

        Args:
            number: the number that a playlist gave it; 0: the first playlist.
            byte_range: the range of a segment, as in the header `Range`; None: all of it.

        Raises:
            MediaRefused: the platform has no stream of the video, or the host of the stream refuses the part.
            TLDataError: the platform or the host of the stream does not answer.
        """
        stream = self._stream(tile["id"])
        with stream.lock:
            if number and number >= len(stream.addresses):
                raise MediaRefused("this part of the stream is unknown: load the page again", "unknown_part")
            if not stream.addresses or time.monotonic() - stream.renewed > self.address_seconds:
                self._renew(stream, tile)
            address = stream.addresses[number]
            suffix = Path(urlsplit(address).path).suffix.lower()
            whole = number == 0 or number in stream.playlists or suffix in (".m3u8", ".m3u")
        part = self._read(address, None if whole else byte_range)
        if part.status == 206 and _is_playlist(part):
            part = self._read(address)
        if not _is_playlist(part):
            return Answer(part.status, MEDIA_TYPES.get(suffix, "video/mp4"), part.body, part.content_range)
        with stream.lock:
            return Answer(200, PLAYLIST_TYPE, stream.replaced(part, number, tile["id"]).encode())

    def _stream(self, identifier: str) -> _Stream:
        """The stream of a video; an empty one if it is unknown."""
        with self._lock:
            if identifier not in self._streams:
                signing = self.settings.signing_parameters if self.settings else ""
                self._streams[identifier] = _Stream(signing)
            self._streams.move_to_end(identifier)
            if len(self._streams) > MAX_STREAMS:
                self._streams.popitem(last=False)
            return self._streams[identifier]

    def _renew(self, stream: _Stream, tile: Row) -> None:
        """Ask for new addresses of the parts that are known. The caller holds the lock of the stream."""
        stream.start(self._address(tile))
        for number in sorted(stream.playlists):  # a playlist has a higher number than the one that names it
            try:
                part = self._read(stream.addresses[number])
            except MediaRefused:  # the platform no longer has this variant; the others play on
                if number == 0:
                    raise
                stream.playlists.discard(number)
                continue
            if _is_playlist(part):
                stream.replaced(part, number, tile["id"])
        stream.renewed = time.monotonic()

    def _connection(self) -> Connection:
        from tl_data.connection import connect

        if self.settings is None:
            raise MediaRefused("there is no key and no engine to ask for a stream", "no_stream")
        return connect(self.settings)

    def _read(self, address: str, byte_range: str | None = None) -> Part:
        connection = self._connection()
        return connection.run(connection.session.client.read_part(address, MAX_BYTES, byte_range))

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


def _is_playlist(part: Part) -> bool:
    return part.body.lstrip().startswith(b"#EXTM3U")


def _lines(playlist: str, local: Callable[[str], str]) -> Iterator[str]:
    """The lines of a playlist, with `local(uri)` instead of each URI."""
    for line in playlist.splitlines():
        if not line.strip() or line.startswith("#"):
            yield _URI.sub(lambda match: f'URI="{local(match[1])}"', line)
        else:
            yield local(line.strip())
