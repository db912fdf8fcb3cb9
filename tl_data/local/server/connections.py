"""uvicorn's HTTP protocol with limits, and the open connections, which faults reset or close."""

from __future__ import annotations

import asyncio
import socket
import struct
from weakref import WeakValueDictionary

from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from tl_data.local.errors import too_many_connections

#: Open connections by address and port of the peer.
_open: WeakValueDictionary[tuple[str, int], asyncio.Transport] = WeakValueDictionary()


class LimitedConnection(H11Protocol):
    """uvicorn's HTTP protocol with limits on connections and on the time in which a request must arrive.

    A connection is closed if the head of its next request is not complete after `head_seconds`, or if nothing
    of a body arrives for `body_seconds`. uvicorn has no such timeouts.
    Beyond `most_connections`, a new connection replaces the one that has waited longest for a request. If
    every connection has a request in progress, the requests of the new one get 503.
    """

    most_connections = 1000
    head_seconds = 30.0
    body_seconds = 60.0
    _deadline: asyncio.TimerHandle | None = None
    _body_timer: asyncio.TimerHandle | None = None
    _body_at = 0.0  # loop time at which the latest part of the body arrived
    _idle_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Called by the event loop for each new connection."""
        super().connection_made(transport)
        self._start_deadline()
        if len(self.connections) > self.most_connections:
            self._make_room()
        if peer := transport.get_extra_info("peername"):
            _open[peer[0], peer[1]] = transport

    def data_received(self, data: bytes) -> None:
        """Called by the event loop when data has arrived."""
        super().data_received(data)
        if self._is_idle():  # the data belongs to the head of the next request
            self._start_deadline()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        self._body_at = self.loop.time()
        if self._body_timer is None:
            self._watch_body(self.body_seconds)

    def on_response_complete(self) -> None:
        """Called by uvicorn when the response to a request is complete."""
        self._idle_since = self.loop.time()
        super().on_response_complete()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the event loop when the connection has ended."""
        for timer in (self._deadline, self._body_timer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def _make_room(self) -> None:
        """Close the connection that has been idle longest; without one, refuse the requests of this one."""
        idle = [
            other
            for other in self.connections
            if isinstance(other, LimitedConnection)
            and other is not self
            and other._is_idle()
            and not other.transport.is_closing()
        ]
        if idle:
            min(idle, key=lambda other: other._idle_since).transport.close()
        else:
            self.app = _too_many_connections

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _start_deadline(self) -> None:
        if self._deadline is None:
            self._idle_since = self.loop.time()
            self._deadline = self.loop.call_later(self.head_seconds, self._close_if_idle)

    def _watch_body(self, seconds: float) -> None:
        if not self._is_idle() and self.cycle.more_body:
            self._body_timer = self.loop.call_later(seconds, self._close_if_stalled)

    def _close_if_stalled(self) -> None:
        self._body_timer = None
        if self.flow is not None and self.flow.read_paused:  # the engine does not read at the moment
            self._body_at = self.loop.time()
        rest = self._body_at + self.body_seconds - self.loop.time()
        if rest > 0 or self._is_idle() or not self.cycle.more_body:
            self._watch_body(max(rest, 0.1))
        else:
            self.transport.close()

    def _close_if_idle(self) -> None:
        self._deadline = None
        if self._is_idle() and not self.transport.is_closing():
            self.transport.close()


async def _too_many_connections(scope: Scope, receive: Receive, send: Send) -> None:
    """An ASGI app that refuses every request of a connection beyond the limit, and closes the connection."""
    error = too_many_connections()
    headers = error.headers | {"Connection": "close"}
    await JSONResponse(error.body, error.status, headers)(scope, receive, send)


def _transport(scope: Scope) -> asyncio.Transport | None:
    client = scope.get("client")
    return _open.get((client[0], client[1])) if client else None


def reset(scope: Scope) -> None:
    """Abort the connection of a request, so that the peer sees a reset."""
    if transport := _transport(scope):
        connection = transport.get_extra_info("socket")
        if connection is not None:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        transport.abort()


def close(scope: Scope) -> None:
    """Close the connection of a request after the data sent so far, so that the peer sees an early end."""
    if transport := _transport(scope):
        transport.close()
