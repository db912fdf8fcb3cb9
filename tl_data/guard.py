"""The guard of a SQL statement: no call is sent that could exceed the budget of the statement.

A backend passes rows to a function in batches. Before the first call of a batch, the guard reserves the
largest price that the batch could have. If that exceeds the budget, the statement fails and no call of the
batch is sent. The steps are:

1. `bound` computes the largest cost of the new distinct rows, without a request.
2. `quote` is computed only if the bound exceeds the budget, and if the ledger keeps answers of the function.
   It runs each row up to its first paid call, so answers in the ledger are free, and it reads the lengths of
   videos from the headers of their files.
3. `reserve` counts the price as spent while the batch runs. Then `settle` replaces it by the actual cost.

Unknown quantities are replaced by upper bounds: the length of a video by the model's limit, the tokens of an
answer by the limit of tokens.
"""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import orjson

from tl_data.billing import Bill, Charge, Prices
from tl_data.catalog import Function
from tl_data.errors import APIError, BudgetReached, MediaRefused, MissingExtra, TLDataError
from tl_data.media import preflight
from tl_data.media.preflight import facts_of
from tl_data.models import TextModel, text_model
from tl_data.object_store import Storage
from tl_data.prefilter import prefilter_of
from tl_data.runtime.context import Priced, call_context
from tl_data.session import Session
from tl_data.settings import Settings

#: Budget of a statement with an API key, in the currency of the price list.
DEFAULT_BUDGET = 10.0
#: Maximum tokens of an analysis without `max_tokens` by an unknown model.
MOST_TOKENS = 4096
#: Maximum seconds of a video if the limit of the model is unknown.
LONGEST = 4 * 3600.0
#: Number of rows that are quoted concurrently.
QUOTES = 32

#: Function -> its billed operations in order. Other functions are free.
OPERATIONS: dict[str, tuple[str, ...]] = {
    "search": ("search",),
    "search_by_image": ("search",),
    "agg": ("agg",),
    "embed_text": ("embed_text",),
    "embed_image": ("embed_image",),
    "audio_vectors": ("embed_audio",),
    "video_vectors": ("embed_video",),
    **dict.fromkeys(("index_video", "clips", "transcript"), ("index",)),
    **dict.fromkeys(
        (
            *("summarize", "chapters", "highlights", "gist", "analyze", "extract", "segments"),
            *("filter", "classify", "classify_multi", "score"),
        ),
        ("index", "analyze"),
    ),
}

#: Operations that are billed by the length of the video.
_BY_LENGTH = ("index", "analyze", "embed_video", "embed_audio")


@dataclass(frozen=True)
class Quote:
    """An upper bound of the cost of calls."""

    calls: int = 0
    price: float = 0.0
    video_minutes: float = 0.0
    unknown: int = 0  # videos of unknown length, which count as the longest that the model accepts
    reused: int = 0  # rows whose answers are in the ledger

    def __add__(self, other: Quote) -> Quote:
        return Quote(
            self.calls + other.calls,
            self.price + other.price,
            self.video_minutes + other.video_minutes,
            self.unknown + other.unknown,
            self.reused + other.reused,
        )


@dataclass(frozen=True)
class Limits:
    """The limits of one statement. None: no limit."""

    budget: float | None = None
    max_calls: int | None = None

    def allow(self, calls: int, price: float) -> bool:
        """Whether a statement may make this number of calls at this price."""
        is_within_calls = self.max_calls is None or calls <= self.max_calls
        return is_within_calls and (self.budget is None or price <= self.budget + 1e-9)


def limits_of(settings: Settings) -> Limits:
    """The limits of the settings; by default `DEFAULT_BUDGET` with a key, else none."""
    budget = settings.sql_budget
    if budget is None and settings.api_key:
        budget = DEFAULT_BUDGET
    return Limits(None if budget == math.inf else budget, settings.sql_max_calls)


def prices_for(session: Session) -> Prices:
    """The price list. The embedded engine is free, unless TL_PRICES names a list."""
    if session.embedded and not os.environ.get("TL_PRICES"):
        return Prices.free()
    return Prices.load()


def charge_of(function: Function, value: Any) -> Charge:
    """The charge of one call of a function that does not use the ledger."""
    operation = OPERATIONS.get(function.name, (function.name,))[0]
    seconds = 0.0
    if operation in _BY_LENGTH and isinstance(value, list):
        seconds = max((float(row.get("end_sec") or 0.0) for row in value), default=0.0)
    return Charge("", operation, round(seconds * 1e6))


class Reservations(Protocol):
    """The reserved and paid amounts of statements."""

    async def total(self, statement: str) -> tuple[int, float]:
        """The calls and the price of a statement: what it has paid plus what is reserved."""

    async def reserve(self, statement: str, quote: Quote, limits: Limits) -> str | None:
        """Check the limits and reserve, in one atomic step.

        Returns the name of the reservation for `settle`, or None if the quote exceeds the limits.
        """

    async def settle(self, name: str, calls: int, price: float) -> None:
        """Replace the reserved amount by the actual one."""


class LocalReservations:
    """Reservations within this process, for the most recent statements."""

    def __init__(self, max_statements: int = 1000) -> None:
        self._max_statements = max_statements
        self._statements: dict[str, dict[str, tuple[int, float]]] = {}

    async def total(self, statement: str) -> tuple[int, float]:
        batches = self._statements.get(statement, {}).values()
        return sum(calls for calls, _ in batches), math.fsum(price for _, price in batches)

    async def reserve(self, statement: str, quote: Quote, limits: Limits) -> str | None:
        calls, price = await self.total(statement)
        if not limits.allow(calls + quote.calls, price + quote.price):
            return None
        batches = self._statements.pop(statement, {})
        self._statements[statement] = batches
        while len(self._statements) > self._max_statements:
            del self._statements[next(iter(self._statements))]
        name = f"{statement}/{len(batches)}"
        batches[name] = quote.calls, quote.price
        return name

    async def settle(self, name: str, calls: int, price: float) -> None:
        batches = self._statements.get(name.rpartition("/")[0])
        if batches is not None:
            batches[name] = calls, price


class SharedReservations:
    """Reservations of processes that share a ledger: one small object per batch, numbered consecutively.

    A process reserves a batch by creating the object with the next number. If two processes try to create the
    same object, one succeeds, and the other computes the total again.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self._read: dict[str, tuple[str, tuple[int, float]]] = {}  # path -> version, amounts

    async def total(self, statement: str) -> tuple[int, float]:
        return (await self._batches(statement))[1:]

    async def _batches(self, statement: str) -> tuple[int, int, float]:
        items = [item async for item in self._storage.below(f"shared/{statement}")]
        amounts = []
        for item in items:
            version, amount = self._read.get(item.path, ("", (0, 0.0)))
            if version != item.version:
                record = orjson.loads(await self._storage.read(item.path) or b"{}")
                amount = int(record.get("calls", 0)), float(record.get("price", 0.0))
                self._read[item.path] = item.version, amount
            amounts.append(amount)
        return len(items), sum(calls for calls, _ in amounts), math.fsum(price for _, price in amounts)

    async def reserve(self, statement: str, quote: Quote, limits: Limits) -> str | None:
        while True:
            number, calls, price = await self._batches(statement)
            if not limits.allow(calls + quote.calls, price + quote.price):
                return None
            path = f"shared/{statement}/{number:06d}"
            if await self._storage.create(path, _amounts(quote.calls, quote.price)):
                return path

    async def settle(self, name: str, calls: int, price: float) -> None:
        await self._storage.write(name, _amounts(calls, price))


def _amounts(calls: int, price: float) -> bytes:
    return orjson.dumps({"calls": calls, "price": price})


@dataclass
class Admission:
    """The reservations and costs of one stream of rows."""

    statement: str
    begun: float | None = None  # `time.monotonic` at the first batch, if the backend identifies statements
    bill: Bill = field(default_factory=Bill)
    names: list[str] = field(default_factory=list)  # reservations of the batches in progress, oldest first
    settled: tuple[int, float] = (0, 0.0)  # calls and price of the settled batches


class Guard:
    """The guard of one connection. It runs on the event loop of the connection."""

    def __init__(self, session: Session, prices: Prices, reservations: Reservations) -> None:
        self.prices = prices
        self._session, self._reservations = session, reservations

    async def admit(
        self,
        admission: Admission,
        function: Function,
        rows: Sequence[Mapping[str, Any]],
        limits: Limits,
        *,
        kept: bool = False,
    ) -> None:
        """Reserve the price of the calls for these distinct rows.

        Args:
            kept: whether the ledger keeps answers of this function even if it is not durable.

        Raises:
            BudgetReached: the statement could exceed its limits; nothing was sent.
        """
        if not rows or function.name not in OPERATIONS:
            return
        quote = self.bound(function, rows)
        name = await self._reservations.reserve(admission.statement, quote, limits)
        if name is None and (function.durable or kept):
            quote = await self.quote(function, rows, kept=kept)
            name = await self._reservations.reserve(admission.statement, quote, limits)
        if name is None:
            raise BudgetReached(await self._refusal(admission.statement, function, quote, limits))
        admission.names.append(name)

    async def settle(self, admission: Admission) -> None:
        """End the oldest batch: replace its reservation by the cost since the previous call of `settle`."""
        if admission.names:
            calls, price = admission.bill.calls, admission.bill.price(self.prices)
            before = admission.settled
            admission.settled = calls, price
            name = admission.names.pop(0)
            await self._reservations.settle(name, calls - before[0], max(0.0, price - before[1]))

    def bound(self, function: Function, rows: Iterable[Mapping[str, Any]]) -> Quote:
        """An upper bound of the cost of calls with these arguments, without a request."""
        rows = list(rows)
        total = Quote()
        for _ in conditions_of(function, rows):
            total += self._priced(function, ("embed_text",), {}, 0.0)
        for row in rows:
            total += self._priced(function, OPERATIONS.get(function.name, ()), row, self._known_seconds(row))
        return total

    async def quote(
        self, function: Function, rows: Iterable[Mapping[str, Any]], *, kept: bool = False
    ) -> Quote:
        """An upper bound of the cost of calls with these arguments, from the ledger and the headers of files.

        No paid call is made. Headers are requested from the servers of the videos. The index may be created,
        which is free. `kept` has the same meaning as for `admit`.
        """
        total = Quote()
        for quotes in await self.quotes(function, rows, kept=kept):
            for quote in quotes:
                total += quote
        return total

    async def quotes(
        self, function: Function, rows: Iterable[Mapping[str, Any]], *, kept: bool = False
    ) -> tuple[list[Quote], list[Quote]]:
        """The parts of `quote`: one per condition of rows with vectors, and one per row."""
        slots = asyncio.Semaphore(QUOTES)
        rows = list(rows)

        async def quote_row(row: Mapping[str, Any]) -> Quote:
            async with slots:
                return await self._quote_row(function, row, kept)

        conditions = [await self._quote_condition(function, c) for c in conditions_of(function, rows)]
        if any(quote.calls for quote in conditions):  # no vector of a condition, so nothing is decided by it
            rows = [{**row, "vector": None} for row in rows]
        return conditions, await asyncio.gather(*map(quote_row, rows))

    async def _quote_condition(self, function: Function, condition: str) -> Quote:
        """The cost of the vector of a condition."""
        try:
            with call_context(quoting=True):
                await prefilter_of(self._session, condition).vector()
        except Priced:
            return self._priced(function, ("embed_text",), {}, 0.0)
        return Quote()

    async def _quote_row(self, function: Function, row: Mapping[str, Any], kept: bool) -> Quote:
        operations = OPERATIONS.get(function.name, ())
        if not function.durable and not kept:
            return self._priced(function, operations, row, self._known_seconds(row))
        try:
            with call_context(quoting=True):
                await function.run(self._session, **function.arguments(row))
        except Priced as first:  # raised instead of the first paid call
            if not function.durable:
                return self._priced(function, operations, row, self._known_seconds(row))
            operation = first.operation if first.operation in operations else "analyze"
            seconds = first.video_minutes * 60 or self._known_seconds(row) or await self._seconds(row)
            remaining = operations[operations.index(operation) :] if operation in operations else operations
            # The seconds that an analysis is billed for: its window, times the number of definitions.
            billed = first.video_minutes * 60 if operation == "analyze" else 0.0
            return self._priced(
                function, remaining[1:] if first.submitted else remaining, row, seconds, billed
            )
        except TLDataError:
            return Quote()  # the row fails before a paid call
        return Quote(reused=1)

    def _known_seconds(self, row: Mapping[str, Any]) -> float | None:
        video = row.get("video")
        return self._session.lengths.of(video) if isinstance(video, str) else None

    async def _seconds(self, row: Mapping[str, Any]) -> float | None:
        video = row.get("video")
        if not isinstance(video, str):
            return None
        with suppress(MissingExtra, MediaRefused, APIError):
            if self._session.is_id(video):
                record = await self._session.retrieve_video(video, row.get("index_id"))
                return None if record.get("duration_sec") is None else float(record["duration_sec"])
            return (await facts_of(self._session.client, video)).duration_sec
        return None

    def _priced(
        self,
        function: Function,
        operations: Sequence[str],
        row: Mapping[str, Any],
        seconds: float | None,
        billed: float = 0.0,
    ) -> Quote:
        total = Quote()
        model = text_model(self._session.analyze_model)
        for operation in operations:
            length = seconds if seconds is not None else self._longest(operation, model)
            tokens, times = 0, 1
            if operation == "analyze":
                length = _window(row, length)
                tokens = _most_tokens(function, row, model)
                times = _definitions(row) if function.name == "segments" else 1
                length, times = (billed, 1) if billed else (length, times)
            input_tokens = 0
            if operation == "agg":
                tokens = int(row.get("max_tokens") or _default(function, "max_tokens"))
                # A token has at least one byte. The prompt adds less than 1,000 bytes.
                input_tokens = 1_000 + len(orjson.dumps([row.get("texts"), row.get("instruction")]))
            minutes = length / 60 * times if operation in _BY_LENGTH else 0.0
            price = self.prices.of(
                operation, video_minutes=minutes, calls=1, input_tokens=input_tokens, output_tokens=tokens
            )
            total += Quote(1, price, minutes)
        unknown = seconds is None and any(operation in _BY_LENGTH for operation in operations)
        return replace(total, unknown=int(unknown))

    def _longest(self, operation: str, model: TextModel | None) -> float:
        if operation == "analyze" and model is not None:
            return max(model.task_sec, model.windowed_sec)
        name = self._session.analyze_model if operation == "analyze" else self._session.search_model
        limits = preflight.limits_of(name)
        return limits.longest_sec if limits else LONGEST

    async def _refusal(self, statement: str, function: Function, quote: Quote, limits: Limits) -> str:
        calls, price = await self._reservations.total(statement)
        currency = self.prices.currency

        def money(amount: float) -> str:
            return f"{amount:,.2f} {currency}" if amount >= 0.1 or not amount else f"{amount:.2g} {currency}"

        earlier = f" The statement has already paid for or reserved {calls:,} calls, {money(price)}."
        unknown = (
            f" ({quote.unknown:,} videos of unknown length are taken as the longest that the model accepts)"
            if quote.unknown
            else ""
        )
        allowed = []
        if limits.budget is not None:
            allowed.append(money(limits.budget))
        if limits.max_calls is not None:
            allowed.append(f"{limits.max_calls:,} calls")
        video = function.parameters[0].name
        return (
            f"{function.sql}: {quote.calls:,} calls for up to {money(quote.price)}{unknown} would "
            f"take this statement over its guard of {' and '.join(allowed)}. None of them was sent."
            f"{earlier if calls else ''} A LIMIT outside of the call does not help: select rows first, "
            f"FROM (SELECT ... LIMIT 5) q, LATERAL {function.sql}(q.{video}, ...). To allow more: "
            "tl_data.register(con, budget=..., max_calls=...) or TL_SQL_BUDGET; inf switches the guard off"
        )


def _most_tokens(function: Function, row: Mapping[str, Any], model: TextModel | None) -> int:
    """The maximum number of tokens that one analysis may write."""
    if row.get("max_tokens"):
        return int(row["max_tokens"])
    if model is None:
        return MOST_TOKENS
    return model.segment_tokens if function.name == "segments" else model.default_tokens


def _default(function: Function, name: str) -> Any:
    return next(p.default for p in function.parameters if p.name == name)


def conditions_of(function: Function, rows: Iterable[Mapping[str, Any]]) -> list[str]:
    """The distinct conditions that rows with vectors compare."""
    if function.prefiltered is None:
        return []
    conditions = (row.get(function.prefiltered) for row in rows if row.get("vector") is not None)
    return list(dict.fromkeys(c.strip() for c in conditions if isinstance(c, str) and c.strip()))


def _definitions(row: Mapping[str, Any]) -> int:
    """The number of segment definitions; each is billed for the whole analyzed length."""
    with suppress(orjson.JSONDecodeError):
        definitions = orjson.loads(row.get("definitions") or "[]")
        return len(definitions) if isinstance(definitions, list) else 1
    return 1


def _window(row: Mapping[str, Any], length: float) -> float:
    """The length of the analyzed part of a video, in seconds."""
    start, end = float(row.get("start_sec") or 0.0), row.get("end_sec")
    stop = length if end is None else min(float(end), length)
    return max(0.0, stop - start) if start or end is not None else length
