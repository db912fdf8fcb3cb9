"""The code in Spark's Python workers: rows of arguments in, Arrow arrays of answers out.

Spark may evaluate a Python function several times: for each occurrence in a query, for a sort or a second
branch, for retried and speculative tasks, each possibly in another process. So answers are shared through the
ledger: those of durable functions permanently, others among the workers of one registration for `KEEP`
seconds.
"""

from __future__ import annotations

import hashlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from itertools import islice
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import Function, Parameter
from tl_data.connection import Connection, connect
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS, TABLES
from tl_data.guard import Admitted, Limits, limits_of
from tl_data.ledger.models import Call
from tl_data.runtime.context import call_context
from tl_data.runtime.pool import outcome_row
from tl_data.session import Session
from tl_data.settings import Settings
from tl_data.spark.statement import STATEMENT_CONF, new_statement, parse_statement
from tl_data.usage import current

#: Seconds for which workers share answers of calls that are not durable, as in the pool.
KEEP = 300.0

#: The Spark conf for the API key. Spark redacts keys whose name contains `token` if they are set at the
#: start; later ones are written into its event log. On a command line it is visible to all users.
KEY_CONF = "spark.tl_data.token"

Columns = Sequence[pa.Array]


@dataclass(frozen=True)
class Worker:
    """The data for a worker process, which is pickled with every function.

    `needs_key`: the settings had an API key that is not sent; the worker must have one.
    """

    settings: Settings
    scope: str
    needs_key: bool = False
    statement: str = field(
        default_factory=new_statement
    )  # whose guard counts, unless the Spark conf names one

    def connection(self) -> Connection:
        """The connection of this process, opened after the fork, at first use.

        Raises:
            SettingsError: this worker has no API key; the message has the next step.
        """
        if not self.needs_key:
            return connect(self.settings)
        key = os.environ.get("TL_API_KEY") or _conf(KEY_CONF)
        if not key:
            raise SettingsError(
                "this Spark worker has no API key: set TL_API_KEY in the environment of the workers, or "
                f"{KEY_CONF} in the configuration that Spark starts with. Spark redacts that one, but not "
                "spark.executorEnv.*"
            )
        return connect(self.settings, api_key=key)

    def values(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """The plain form: the first failed row fails the statement; the message has the row and the cause."""
        f, guarded = self.function(name), self._guarded(name)
        return _answers(
            f.parameters,
            f.gives,
            batches,
            lambda rows: self.connection().values(f, rows, admitted=guarded.admitted),
            guarded,
        )

    def outcomes(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """The `try_` form: the outcome of a failed row has its error."""
        f, guarded = self.function(name), self._guarded(name)

        def tried(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
            return map(outcome_row, self.connection().map(f, rows, admitted=guarded.admitted))

        return _answers(f.parameters, f.outcome, batches, tried, guarded)

    def listings(self, name: str, batches: Iterable[Columns]) -> Iterator[pa.Array]:
        """A listing of the API for each row of options, as a list of structs."""
        t = TABLES[name]

        def read(rows: Iterator[dict[str, Any]]) -> Iterator[Any]:
            for row in rows:
                given = {n: v for n, v in row.items() if v is not None}
                batches = self.connection().batches(t, **given)
                yield [record for batch in batches for record in batch.to_pylist()]

        return _answers(t.parameters, pa.list_(pa.struct(list(t.schema))), batches, read)

    def _guarded(self, name: str) -> _Guarded:
        """The guard for one stream of rows."""
        connection, text = self.connection(), _conf(STATEMENT_CONF)
        statement, limits = self.statement, limits_of(connection.settings)
        if text:
            statement, limits = parse_statement(text, limits)
        return _Guarded(connection, self.function(name), Admitted(statement), limits)

    def function(self, name: str) -> Function:
        """The function of the catalog. Answers of one that is not durable are shared among the workers."""
        f = FUNCTIONS[name]
        return f if f.durable else replace(f, run=_shared(name, self.scope))


@dataclass
class _Guarded:
    """The guard of one stream of rows, whose statement is shared with other workers."""

    connection: Connection
    function: Function
    admitted: Admitted
    limits: Limits

    def admit(self, rows: list[dict[str, Any]]) -> None:
        """Reserve the cost of rows. Raises BudgetReached if the statement could exceed its limits."""
        self.connection.admit(self.admitted, self.function, rows, limits=self.limits, shared=True)

    def settle(self) -> None:
        """End the oldest batch."""
        self.connection.settle(self.admitted, shared=True)


@lru_cache(maxsize=256)
def _shared(name: str, scope: str) -> Callable[..., Any]:
    """The marker of a scope, one object per scope, by which the pool reuses answers."""
    f = FUNCTIONS[name]

    async def run(tl: Session, **arguments: Any) -> Any:
        async def do() -> dict[str, Any]:
            return {"value": await f.run(tl, **arguments), "model": current().model}

        digest = hashlib.sha256(orjson.dumps(arguments, option=orjson.OPT_SORT_KEYS)).hexdigest()
        with call_context(bills=()):  # the connection bills it, by the operation of the price list
            answer = (await tl.ledger.once(Call(f.name, digest, scope=scope, keep=KEEP), do)).result
        usage = current()
        usage.model, usage.content_key = answer["model"], None  # the key of the sharing is none of a video
        return answer["value"]

    return run


def _answers(
    parameters: Sequence[Parameter],
    gives: pa.DataType,
    batches: Iterable[Columns],
    answer: Callable[[Iterator[dict[str, Any]]], Iterator[Any]],
    guarded: _Guarded | None = None,
) -> Iterator[pa.Array]:
    """One array for each batch, from one stream of rows: the calls of the next batch begin before the last
    answer of this one is there."""
    sizes: deque[int] = deque()
    names = [p.name for p in parameters]

    def rows() -> Iterator[dict[str, Any]]:
        for columns in batches:
            sizes.append(len(columns[0]))
            batch = [
                dict(zip(names, values, strict=True))
                for values in zip(*(column.to_pylist() for column in columns), strict=True)
            ]
            if guarded is not None:
                guarded.admit(batch)
            yield from batch

    answers = iter(answer(rows()))
    for first in answers:
        while not (size := sizes.popleft()):
            yield pa.array([], gives)
        array = pa.array([first, *islice(answers, size - 1)], gives)
        if guarded is not None:
            guarded.settle()
        yield array
    for _ in sizes:
        yield pa.array([], gives)


def _conf(name: str) -> str | None:
    """A Spark conf as seen by a worker: Spark hands it over with the task."""
    from pyspark import TaskContext

    context = TaskContext.get()
    return context.getLocalProperty(name) if context is not None else None
