"""The rows of a pool's source, read without holding up those that are there."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from typing import TypeVar

K = TypeVar("K")

READ_SECONDS = 0.005  # how long a reading of the source gathers rows before those there are start


async def chunks_of(source: Iterable[K] | AsyncIterable[K]) -> AsyncIterator[Iterable[K]]:
    """The rows of the source, in pieces that are there without waiting."""
    if isinstance(source, AsyncIterable):
        async for row in source:
            yield (row,)
        return
    if isinstance(source, list | tuple | range | dict | set | frozenset):
        yield source
        return
    rows = iter(source)
    while chunk := await asyncio.to_thread(_take, rows):
        yield chunk


def _take(rows: Iterator[K]) -> list[K]:
    until = time.monotonic() + READ_SECONDS
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) >= 256 or time.monotonic() > until:
            break
    return chunk
