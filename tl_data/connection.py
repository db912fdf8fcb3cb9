"""The synchronous interface of the package: one `Connection` per settings in each process.

Each connection has its own event loop. Backends call from their own threads and Spark forks its workers, so
the loop runs in a background thread, which is started at first use, after any fork.
"""

from __future__ import annotations

import atexit
import math
import os
import threading
import time
from array import array
from collections.abc import Coroutine, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tl_data.billing import Bill
from tl_data.catalog import Function, Listing
from tl_data.client import Client
from tl_data.client.local_server import Engine, engine, models_of
from tl_data.errors import APIError, RowFailed, SettingsError
from tl_data.guard import (
    Admission,
    Guard,
    Limits,
    LocalReservations,
    SharedReservations,
    charge_of,
    limits_of,
    prices_for,
)
from tl_data.ledger.ledger import Ledger
from tl_data.media.identity import is_url
from tl_data.models import search_model
from tl_data.ratelimit.limiter import Limiter
from tl_data.runtime.concurrency import Loop
from tl_data.runtime.context import call_context
from tl_data.runtime.notebook import StatementBars
from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import Outcome
from tl_data.session import Session
from tl_data.settings import SERVICE_URL, Settings
from tl_data.types import VECTOR
from tl_data.untrusted import private_folder
from tl_data.urls import is_loopback, redacted
from tl_data.usage import current

T = TypeVar("T")

Row = tuple[Any, ...]

#: Maximum number of statements whose start time is stored.
STATEMENTS = 1000

#: Names of arguments that may be a URL or a path.
_MEDIA = ("video", "audio", "image")


class Connection:
    """Calls of catalog functions and listings, for one set of settings. Use `connect()` to get one."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop = Loop()
        self._engine: Engine | None = None
        self._session: Session | None = None
        self._opening = threading.Lock()
        self._pool = Pool(settings.concurrency)
        self._guards: dict[bool, Guard] = {}
        self._bars = StatementBars()
        self._begun: dict[str, float] = {}  # statement -> `time.monotonic` at its first batch
        self.bill = Bill()  # the cost of this process's calls on this connection

    @property
    def session(self) -> Session:
        """The async session, opened at first use: registering functions opens no connection."""
        with self._opening:
            if self._session is None:
                self._session = self._open()
            return self._session

    @property
    def base_url(self) -> str:
        """The URL of the server. The URL of the embedded engine is known only while it runs."""
        if self._engine is not None:
            return self._engine.base_url
        return self.settings.base_url or ("embedded engine" if self.settings.embedded else SERVICE_URL)

    @property
    def dimension(self) -> int | None:
        """The length of the session's vectors; None if it is unknown before the first answer.

        Without the setting `search_model`, it is the length of today's default model, until an answer shows
        that the account has the API of 2025. With a configured encoder, reading this property starts the
        embedded engine, because only the model files determine the length.
        """
        settings = self.settings
        if self._session is not None and settings.search_model is None and settings.dimension is not None:
            model = search_model(self._session.embed_model)
            if model is not None and self._session.models is None:
                return model.dimension
        if settings.embedded and settings.local_clip and settings.dimension is None:
            models = self.session.models
            return models.dimension if models else None
        return settings.dimension

    def _open(self) -> Session:
        settings = self.settings
        if settings.embedded or settings.ledger is None:
            private_folder(Path(settings.home))
        if settings.embedded:
            self._engine = engine(Path(settings.home).resolve() / "engine", settings.tiers)
            base_url = self._engine.base_url
        else:
            base_url = settings.base_url or SERVICE_URL
            if settings.api_key is None and not is_loopback(base_url):
                raise SettingsError(f"{base_url} needs an API key: set TL_API_KEY, or pass api_key=")

        async def open_session() -> Session:
            ledger = Ledger.open(settings.ledger_url, secrets=(settings.api_key or "",))
            limiter = Limiter.of(settings, ledger.storage)
            client = Client(settings, base_url=base_url, limiter=limiter)
            try:
                models = await models_of(client)
                if models is None:
                    with suppress(APIError):  # later calls try again, and their rows get the error
                        await client.account_generation()
                return Session(settings, client, ledger, models)
            except BaseException:
                await client.aclose()
                raise

        return self._loop.run(open_session())

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the connection's loop and wait for it. Ctrl-C cancels it."""
        return self._loop.run(work)

    def cancel(self, owner: object | None = None) -> None:
        """Cancel running calls, from any thread. Their callers get `Cancelled`.

        Args:
            owner: cancel only the calls inside the blocks of `runtime.concurrency.calls_of(owner)`.
        """
        self._loop.cancel(owner)

    def call(self, function: Function, **arguments: Any) -> Any:
        """One call, for one row of arguments.

        Raises:
            TLDataError: the call failed; its class says how.
        """
        [outcome] = self.map(function, [arguments])
        if outcome.error is not None:
            raise outcome.error
        return outcome.value

    def map(
        self,
        function: Function,
        rows: Iterable[Mapping[str, Any]],
        *,
        stop_on_error: bool = False,
        admission: Admission | None = None,
    ) -> Iterator[Outcome]:
        """The outcomes of the rows, in order. Each distinct row is one call; many calls run concurrently.

        A row whose first argument is NULL gives NULL without a call. Calls of long videos start early, so
        that none of them runs alone at the end. Their length must be known: this process indexed, listed or
        requested them, or they are local files.

        Args:
            stop_on_error: stop at the first failed row and start no further calls.
            admission: the reservations of the statement, from `guarded`; costs are also counted there.
        """
        session = self.session
        names = [p.name for p in function.parameters]

        bills = (self.bill,) if admission is None else (self.bill, admission.bill)

        async def run(row: Row) -> Any:
            if row[0] is None:
                return None
            before, value = session.arrived, None
            try:
                with call_context(bills=bills):
                    value = await function.run(session, **function.arguments(_arguments(names, row)))
                # Rounded to float32, so that a cached answer equals the first one.
                return array("f", value).tolist() if value and function.gives == VECTOR else value
            finally:
                if not function.durable and current().calls and not current().reused:
                    for bill in bills:
                        bill.enter(charge_of(function, value))
                if session.arrived != before:
                    self._pool.forget()  # a video has arrived: cached searches and listings are outdated

        bar = self._bars.of(function.sql, admission.statement if admission else None)
        read = (_row(function, row) for row in (bar.counted(rows) if bar else rows))
        # A list is read at once; a stream in a thread, because it may wait for its source.
        keys = list(read) if isinstance(rows, list) else read
        chunks = self._pool.chunks(
            run,
            keys,
            group=function.run,
            length=(lambda row: session.lengths.about(row[0])) if names[0] in _MEDIA else None,
            stop_on_error=stop_on_error,
            since=admission.begun if admission else None,
        )
        if bar is not None:
            return bar.shown(self._loop.iterate_chunks(chunks))
        # The caller needs all outcomes of a list, so they cross the threads once.
        return self._loop.collect_chunks(chunks) if keys is not read else self._loop.iterate_chunks(chunks)

    def values(
        self,
        function: Function,
        rows: Iterable[Mapping[str, Any]],
        *,
        admission: Admission | None = None,
        positions: Sequence[int] | None = None,
    ) -> Iterator[Any]:
        """The values of `map`. The first failed row raises, after the running calls have ended.

        Args:
            positions: the position of each row in the caller's rows, for messages; None: they are the same.

        Raises:
            RowFailed: a row failed; the message has the row, the cause and the next step. Answers of durable
                functions stay in the ledger.
        """
        pending: dict[int, Mapping[str, Any]] = {}  # rows of a stream without an outcome yet

        def feed() -> Iterator[Mapping[str, Any]]:
            for number, row in enumerate(rows):
                pending[number] = row
                yield row

        known = rows if isinstance(rows, list) else None
        stop = self.settings.on_error == "raise"
        outcomes = self.map(
            function, feed() if known is None else known, stop_on_error=stop, admission=admission
        )
        for number, outcome in enumerate(outcomes):
            row = pending.pop(number) if known is None else known[number]
            if stop and (error := outcome.error) is not None:
                values = ", ".join(f"{n} = {_short(v)}" for n, v in row.items() if v is not None)
                at = number if positions is None else positions[number]
                kept = "Finished rows are kept and cost nothing on a re-run. " if function.durable else ""
                raise RowFailed(
                    f"{function.sql} failed at row {at + 1} ({values}): {type(error).__name__}: {error}. "
                    f"{kept}Use try_{function.sql} to get the error as a column instead."
                ) from error
            yield outcome.value

    @contextmanager
    def guarded(
        self, function: Function, rows: Sequence[Mapping[str, Any]], statement: str
    ) -> Iterator[Admission]:
        """Reserve the cost of one batch of a statement for the duration of the block; see `guard.py`.

        Raises:
            BudgetReached: the statement could exceed its budget; no call of the batch was sent.
        """
        begun = self._begun.pop(statement, time.monotonic())
        self._begun[statement] = begun
        while len(self._begun) > STATEMENTS:
            del self._begun[next(iter(self._begun))]
        admission = Admission(statement, begun)
        self.admit(admission, function, rows)
        try:
            yield admission
        finally:
            self.settle(admission)

    def admit(
        self,
        admission: Admission,
        function: Function,
        rows: Iterable[Mapping[str, Any]],
        *,
        limits: Limits | None = None,
        shared: bool = False,
    ) -> None:
        """Reserve the cost of one batch of a statement. Raises as `guarded` does.

        Args:
            limits: the limits of the statement; None: the limits of the settings.
            shared: whether other processes run the same statement and share answers through the ledger.
        """
        limits = limits or limits_of(self.settings)
        if limits == Limits():
            return
        guard = self._guard(shared)
        names = [p.name for p in function.parameters]

        async def admit() -> None:
            keys = dict.fromkeys(_row(function, row) for row in rows)
            new = [
                _arguments(names, key)
                for key in keys
                if key[0] is not None and not self._pool.knows(function.run, key, admission.begun or math.inf)
            ]
            await guard.admit(admission, function, new, limits, kept=shared)

        self._loop.run(admit())

    def settle(self, admission: Admission, *, shared: bool = False) -> None:
        """End the oldest batch: replace its reserved cost by the actual one."""
        if admission.names:
            self._loop.run(self._guard(shared).settle(admission), anyway=True)

    def _guard(self, shared: bool = False) -> Guard:
        session = self.session
        if shared not in self._guards:
            reservations = SharedReservations(session.ledger.storage) if shared else LocalReservations()
            self._guards[shared] = Guard(session, prices_for(session), reservations)
        return self._guards[shared]

    def usage(self) -> list[dict[str, Any]]:
        """The cost of this process's calls on this connection, one row per operation of the price list."""
        prices = prices_for(self.session)
        return [
            {
                "operation": operation,
                "calls": units.calls,
                "video_minutes": units.video_minutes,
                "input_tokens": units.input_tokens,
                "output_tokens": units.output_tokens,
                "price": Bill({operation: units}).price(prices),
                "currency": prices.currency,
            }
            for operation, units in sorted(self.bill.operations.items())
        ]

    def batches(self, table: Listing, **options: Any) -> Iterator[pa.RecordBatch]:
        """A listing as record batches. An offline listing opens no session and starts no engine."""
        session = None if table.offline else self.session
        return self._loop.iterate(table.batches(session, **options))

    def close(self, *, stop_engine: bool = False) -> None:
        """Close the session and release the embedded engine. With `stop_engine`, also stop the engine."""
        with self._opening:
            if self._session is not None:
                self._loop.run(self._session.aclose())
                self._session = None
            if self._engine is not None:
                self._engine.release(stop=stop_engine)
                self._engine = None
        self._loop.close()
        _connections.pop((os.getpid(), self.settings), None)


_connections: dict[tuple[int, Settings], Connection] = {}
_connecting = threading.Lock()


def connect(settings: Settings | None = None, **overrides: Any) -> Connection:
    """The connection of this process for the given settings; equal settings share one connection.

    Args:
        settings: the settings; None: `Settings.load()`.
        overrides: single settings that take precedence: `connect(index="news", concurrency=32)`.
    """
    chosen = settings.but(**overrides) if settings is not None else Settings.load(**overrides)
    key = (os.getpid(), chosen)
    with _connecting:
        if key not in _connections:
            _connections[key] = Connection(chosen)
        return _connections[key]


def cancel_all() -> None:
    """Cancel the running calls of all connections of this process."""
    for (pid, _), connection in list(_connections.items()):
        if pid == os.getpid():
            connection.cancel()


@atexit.register
def _close_all() -> None:
    for (pid, _), connection in list(_connections.items()):
        if pid == os.getpid():
            connection.close()


def _arguments(names: list[str], row: Row) -> dict[str, Any]:
    return {n: (list(v) if isinstance(v, tuple) else v) for n, v in zip(names, row, strict=True)}


def _row(function: Function, row: Mapping[str, Any]) -> Row:
    """The arguments of a row as a hashable key, in the order of the declaration.

    Raises:
        SchemaMismatch: an argument is unknown or missing, or has another type.
    """
    function.arguments(row)
    values = (_address(p.name, p.value(row.get(p.name))) for p in function.parameters)
    return tuple(tuple(v) if isinstance(v, list) else v for v in values)


def _address(name: str, value: Any) -> Any:
    """A URL without surrounding blanks, newlines and byte order mark, which come from text files."""
    if name not in _MEDIA or not isinstance(value, str):
        return value
    stripped = value.strip().strip("\ufeff").strip()
    return stripped if is_url(stripped) else value


def _short(value: Any) -> str:
    text = redacted(repr(value))
    return text if len(text) <= 200 else text[:197] + "..."
