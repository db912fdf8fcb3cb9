"""A remote file as one that can be read and seeked, without downloading it: for reading container headers."""

from __future__ import annotations

import asyncio
import io
from typing import TYPE_CHECKING

from tl_data.errors import BadRequest, ConnectionFailed, TLDataError
from tl_data.urls import redacted

if TYPE_CHECKING:
    from tl_data.client import Client

FIRST_BLOCK = 128 << 10
LARGEST_BLOCK = 2 << 20
BLOCKS = 8  # kept in memory
MOST = 32 << 20  # bytes read of one file before giving up on its header
PATIENCE = 60.0  # seconds for one block


class GivesUp(BadRequest):
    """The header is too far inside of the file, or its server only sends whole files."""


class RangeFile(io.RawIOBase):
    """A remote file as one that can be read and seeked, by a thread beside the event loop.

    Blocks are fetched as they are needed; those that follow each other grow, so that a long header
    takes few requests. The last few are kept.
    """

    def __init__(self, client: Client, url: str, length: int, loop: asyncio.AbstractEventLoop) -> None:
        self._client = client
        self._url = url
        self._length = length
        self._loop = loop
        self._at = 0
        self._blocks: dict[int, bytes] = {}  # by where they begin, oldest first
        self._end = 0  # of the last block
        self._grown = FIRST_BLOCK
        self.fetched = 0  # bytes
        self.failure: TLDataError | None = None

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._length}[whence]
        self._at = max(0, base + offset)
        return self._at

    def read(self, size: int = -1, /) -> bytes:
        end = self._length if size < 0 else min(self._length, self._at + size)
        if self._at >= end:
            return b""
        start, block = self._block()
        piece = block[self._at - start : end - start]  # nothing if the file is shorter than was said
        self._at += len(piece)
        return piece

    def _block(self) -> tuple[int, bytes]:
        """The block that holds the position, and where it begins."""
        for start, block in self._blocks.items():
            if start <= self._at < start + len(block):
                return start, block
        self._grown = min(LARGEST_BLOCK, self._grown * 2) if self._at == self._end else FIRST_BLOCK
        start, self._end = self._at, min(self._length, self._at + self._grown)
        if self.fetched + self._end - start > MOST:
            self.failure = GivesUp("the header is too far inside of the file", "header_not_found")
            raise self.failure
        block = self._fetch(start, self._end)
        self._blocks[start] = block
        while len(self._blocks) > BLOCKS:
            del self._blocks[next(iter(self._blocks))]
        return start, block

    def _fetch(self, start: int, end: int) -> bytes:
        if self.closed:
            raise ValueError("the file is closed")
        try:
            reading = asyncio.run_coroutine_threadsafe(
                self._client.read_range(self._url, start, end), self._loop
            )
            block = reading.result(PATIENCE)
        except TLDataError as error:
            gives_up = isinstance(error, BadRequest) and error.code == "ranges_not_supported"
            self.failure = GivesUp(str(error), error.code) if gives_up else error
            raise self.failure from None
        except TimeoutError:
            reading.cancel()
            self.failure = ConnectionFailed(f"the server of {redacted(self._url)} sends too slowly")
            raise self.failure from None
        self.fetched += len(block)
        return block
