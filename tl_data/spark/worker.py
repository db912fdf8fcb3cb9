"""The code that runs in Spark's Python workers: it turns rows of arguments into Arrow arrays of answers.

Spark may evaluate a Python function several times: for each occurrence in a query, for a sort or a second
branch, for retried and speculative tasks, each possibly in another process. So answers are shared through the
ledger. Answers of durable functions are kept permanently. Other answers are shared among the workers of one
registration for `KEEP` seconds.
"""

from __future__ import annotations

import hashlib
import os
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import NEAREST, NEAREST_ROWS, Function, Parameter
from tl_data.connection import Connection, connect
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.guard import Admission, Limits, limits_of
from tl_data.ledger.models import Call
from tl_data.runtime.batches import DistinctRows
from tl_data.runtime.context import call_context
from tl_data.session import Session
from tl_data.settings import Settings
from tl_data.spark.statement import STATEMENT_CONF, new_statement, parse_statement
from tl_data.usage import current

#: Seconds for which workers share answers of functions that are not durable; equal to the time in the pool.
KEEP = 300.0

#: The Spark conf with the API key. Spark redacts confs whose name contains `token` if they are set before the
#: start; a value that is set later is written into the event log. On a command line all users can see it.
KEY_CONF = "spark.tl_data.token"

Columns = Sequence[pa.Array]


@dataclass(frozen=True)
class Worker:
    """The data for a worker process; it is pickled with every function.

    Attributes:
        settings: the settings of the calls, without the API key if `needs_key`.
        scope: identifies the registration, among whose workers answers are shared.
        needs_key: whether the worker must read the API key itself, because the settings are sent without it.
        statement: the statement whose guard counts, unless the Spark conf names one.
    """

    settings: Settings
    scope: str
    needs_key: bool = False
    statement: str = field(default_factory=new_statement)

    def connection(self) -> Connection:
        """The connection of this process. It is opened at first use, after the fork.

        Raises:
            SettingsError: this worker has no API key; the message has the next step.
        """
        if not self.needs_key:
            return connect(self.settings)
        key = os.environ.get("TL_API_KEY") or _conf(KEY_CONF)
        if not key:
            raise SettingsError(
                "this Spark worker has no API key: set TL_API_KEY in the environment of the workers, or "
                f"{KEY_CONF} in the configuration that Spark starts with. Spark redacts this conf, but not "
                "spark.executorEnv.*"
            )
        return connect(self.settings, api_key=key)

    def values(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """The plain form. The first failed row fails the statement, unless `on_error` is "null"."""
        f, guard = self.function(name), self._stream_guard(name)
        positions = array("q")

        def values(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
            return self.connection().values(f, rows, admission=guard.admission, positions=positions)

        build = partial(DistinctRows.expand_values, arrow_type=f.gives)
        return _answers(f.parameters, batches, values, build, guard, positions)

    def outcomes(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """The `try_` form. The outcome of a failed row has its error."""
        f, guard = self.function(name), self._stream_guard(name)

        def attempt(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
            return self.connection().map(f, rows, admission=guard.admission)

        return _answers(
            f.parameters, batches, attempt, partial(DistinctRows.expand_outcomes, arrow_type=f.outcome), guard
        )

    def listings(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """A listing of the API for each row of options, as a list of structs."""
        t = LISTINGS[name]

        def read(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
            for row in rows:
                options = {n: v for n, v in row.items() if v is not None}
                batches = self.connection().batches(t, **options)
                yield [record for batch in batches for record in batch.to_pylist()]

        arrow_type = pa.list_(pa.struct(list(t.schema)))
        return _answers(
            t.parameters, batches, read, partial(DistinctRows.expand_values, arrow_type=arrow_type)
        )

    def _stream_guard(self, name: str) -> _StreamGuard:
        """The guard for one stream of rows."""
        connection, text = self.connection(), _conf(STATEMENT_CONF)
        statement, limits = self.statement, limits_of(connection.settings)
        if text:
            statement, limits = parse_statement(text, limits)
        return _StreamGuard(connection, self.function(name), Admission(statement), limits)

    def function(self, name: str) -> Function:
        """A function of the catalog. Workers share the answers of a function that is not durable."""
        f = FUNCTIONS[name]
        return f if f.durable else replace(f, run=_shared(name, self.scope))


def nearest(batches: Iterable[Columns]) -> Iterator[pa.Array]:
    """`tl_nearest`: the rows of a lake, which the worker reads, for each row of arguments."""
    from tl_data import vectors  # imports NumPy

    names = [p.name for p in NEAREST]
    for columns in batches:
        batch = DistinctRows.of(names, columns, len(columns[0]))
        yield batch.expand_values(vectors.nearest_lists(batch.rows), NEAREST_ROWS)


@dataclass
class _StreamGuard:
    """The guard of one stream of rows. Other workers may run the same statement."""

    connection: Connection
    function: Function
    admission: Admission
    limits: Limits

    def admit(self, rows: list[dict[str, Any]]) -> None:
        """Reserve the cost of rows. Raises BudgetReached if the statement could exceed its limits."""
        self.connection.admit(self.admission, self.function, rows, limits=self.limits, shared=True)

    def settle(self) -> None:
        """End the oldest batch."""
        self.connection.settle(self.admission, shared=True)


@lru_cache(maxsize=256)
def _shared(name: str, scope: str) -> Callable[..., Any]:
    """A function that keeps its answers in the ledger for `KEEP` seconds.

    There is one object per name and scope, because the pool recognizes repeated calls by it.
    """
    f = FUNCTIONS[name]

    async def run(tl: Session, **arguments: Any) -> Any:
        async def call() -> dict[str, Any]:
            return {"value": await f.run(tl, **arguments), "model": current().model}

        digest = hashlib.sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with call_context(bills=()):  # no bill here: the connection bills the call
            answer = (await tl.ledger.once(Call(f.name, digest, scope=scope, keep=KEEP), call)).result
        usage = current()
        usage.model, usage.content_key = answer["model"], None  # the key of this call identifies no video
        return answer["value"]

    return run


def _answers(
    parameters: Sequence[Parameter],
    batches: Iterable[Columns],
    answer: Callable[[Iterator[dict[str, Any]]], Iterator[Any]],
    build: Callable[[DistinctRows, Sequence[Any]], pa.Array],
    guard: _StreamGuard | None = None,
    positions: array[int] | None = None,
) -> Iterator[pa.Array]:
    """Give one array per batch.

    The rows of all batches are one stream, so the calls of the next batch begin before the last answer of
    this batch has arrived.

    Args:
        answer: the answers of distinct rows.
        build: makes the array of a batch from the answers of its distinct rows.
        positions: receives the position in the stream of each distinct row, before the row is read.
    """
    waiting: deque[DistinctRows] = deque()
    names = [p.name for p in parameters]

    def rows() -> Iterator[dict[str, Any]]:
        read = 0
        for columns in batches:
            batch = DistinctRows.of(names, columns, len(columns[0]))
            waiting.append(batch)
            if guard is not None:
                guard.admit(batch.rows)
            if positions is not None:
                positions.extend(read + position for position in batch.positions)
            read += len(batch)
            yield from batch.rows

    answers = iter(answer(rows()))
    for first in answers:
        while not len(batch := waiting.popleft()):
            yield build(batch, [])
        column = build(batch, [first, *islice(answers, len(batch.rows) - 1)])
        if guard is not None:
            guard.settle()
        yield column
    for batch in waiting:
        yield build(batch, [])


def _conf(name: str) -> str | None:
    """A Spark conf in a worker, where Spark sends it with the task; None outside of a task."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.getLocalProperty(name) if context is not None else None
