"""The connections themselves, for faults that no HTTP answer can express: a reset, a close half-way."""

from __future__ import annotations

import asyncio
import socket
import struct
from weakref import WeakValueDictionary

from starlette.types import Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

_open: WeakValueDictionary[tuple[str, int], asyncio.Transport] = WeakValueDictionary()


class Lost(Exception):
    """The connection is gone on purpose: there is nothing more to answer."""


class KnownConnection(H11Protocol):
    """uvicorn's HTTP protocol, with its connections findable by the peer's address."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(transport)
        if peer := transport.get_extra_info("peername"):
            _open[peer[0], peer[1]] = transport


def _transport(scope: Scope) -> asyncio.Transport | None:
    client = scope.get("client")
    return _open.get((client[0], client[1])) if client else None


def reset(scope: Scope) -> None:
    """Drop the connection of a request at once: the peer sees a reset."""
    if transport := _transport(scope):
        at = transport.get_extra_info("socket")
        if at is not None:
            at.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def close(scope: Scope) -> None:
    """Close the connection of a request after what was sent: the peer sees an early end."""
    if transport := _transport(scope):
        transport.close()
