"""The two records that drive every surface: `Function` and `Table`, and their registries.

A function is declared once, in `functions/`:

    @function(HITS, index_id=TEXT, query_text=TEXT, example={"index_id": "demo", "query_text": "a red car"})
    async def search(tl, index_id, query_text, page_limit=10):
        '''Search an index: one row per matching clip.'''

and DuckDB, Spark, pandas, the command line and the reference are loops over `FUNCTIONS`. `tl` is the
`Session` (session.py): the client, the ledger, and the videos of the session's index.
"""

from __future__ import annotations

import inspect
import numbers
import os
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import orjson
import pyarrow as pa

from tl_data.errors import SchemaMismatch
from tl_data.types import outcome_of

if TYPE_CHECKING:
    from tl_data.session import Session

Run = Callable[..., Awaitable[Any]]
Pages = Callable[..., AsyncIterator[list[dict[str, Any]]]]
T = TypeVar("T")


@dataclass(frozen=True)
class Parameter:
    """One argument: its Arrow type, and whether it may be left out (then `default` is used)."""

    name: str
    type: pa.DataType
    required: bool
    default: Any
    doc: str

    def value(self, given: Any) -> Any:
        """A value from Python as the type wants it: a path as text, a mapping as JSON, an int as a number.

        Raises:
            SchemaMismatch: it is of another type.
        """
        kinds = next(kinds for is_one, kinds in _KINDS if is_one(self.type))
        if given is None or (isinstance(given, kinds) and isinstance(given, bool) <= (bool in kinds)):
            return given
        if kinds == (str,) and isinstance(given, os.PathLike):
            return os.fspath(given)
        if kinds == (str,) and isinstance(given, Mapping):
            return orjson.dumps(given).decode()
        shown = repr(given) if len(repr(given)) < 80 else f"{repr(given)[:77]}..."
        raise SchemaMismatch(f"{self.name} is {shown}, but must be {self.type}")


#: What Python's types may be for each Arrow type of an argument.
_KINDS: tuple[tuple[Callable[[pa.DataType], bool], tuple[type, ...]], ...] = (
    (pa.types.is_string, (str,)),
    (pa.types.is_boolean, (bool,)),
    (pa.types.is_integer, (numbers.Integral,)),
    (pa.types.is_floating, (numbers.Real,)),
    (pa.types.is_timestamp, (datetime, str)),
    (pa.types.is_list, (list, tuple)),
)


@dataclass(frozen=True)
class Function:
    """One call of the API: columns in, one value a row out. A list of structs is a table."""

    name: str
    run: Run  # async (session, **arguments) -> a value of type `gives`, as plain Python objects
    parameters: tuple[Parameter, ...]
    gives: pa.DataType
    example: Mapping[str, Any]
    durable: bool  # costs minutes or tokens: kept in the ledger
    doc: str  # first line: CLI help, SQL comment and reference line at once
    detail: str = ""

    @property
    def is_table(self) -> bool:
        """Whether SQL unfolds the value into rows."""
        return bool(pa.types.is_list(self.gives) and pa.types.is_struct(self.gives.value_type))

    @property
    def columns(self) -> pa.Schema:
        """The columns of a table function; the one column `value` of any other."""
        if self.is_table:
            return pa.schema(list(self.gives.value_type))
        return pa.schema([("value", self.gives)])

    @property
    def takes(self) -> pa.Schema:
        """The arguments in order, as a schema."""
        return pa.schema([(p.name, p.type) for p in self.parameters])

    @property
    def outcome(self) -> pa.StructType:
        """The type of the `try_` form."""
        return outcome_of(self.gives)

    @property
    def sql(self) -> str:
        """Name in SQL; the never-failing form is `try_` before it."""
        return f"tl_{self.name}"

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Names and values as `run` wants them: unknown names refused, NULL options left to their defaults.

        Raises:
            SchemaMismatch: a name the function does not have, or a required one that is missing.
        """
        return _checked(self.sql, self.parameters, values)


@dataclass(frozen=True)
class Table:
    """One listing of the API: pages in, record batches out."""

    name: str
    pages: Pages  # async generator (session, **options) of lists of rows
    parameters: tuple[Parameter, ...]
    schema: pa.Schema
    example: Mapping[str, Any]
    doc: str
    detail: str = ""

    @property
    def sql(self) -> str:
        """Name in SQL."""
        return f"tl_{self.name}"

    def arguments(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Names and values as `pages` wants them: unknown names refused, NULL options left to their defaults.

        Raises:
            SchemaMismatch: a name the listing does not have.
        """
        return _checked(self.sql, self.parameters, values)

    async def batches(self, session: Session, **options: Any) -> AsyncIterator[pa.RecordBatch]:
        """The listing as record batches, one a page."""
        given = {p.name: p.value(options[p.name]) for p in self.parameters if p.name in options}
        async for rows in self.pages(session, **self.arguments(options | given)):
            yield pa.RecordBatch.from_pylist(rows, self.schema)


def _checked(name: str, parameters: tuple[Parameter, ...], values: Mapping[str, Any]) -> dict[str, Any]:
    known = {p.name: p for p in parameters}
    if unknown := [n for n in values if n not in known]:
        raise SchemaMismatch(f"{name} has no argument {', '.join(unknown)}; it takes {', '.join(known)}")
    if missing := [p.name for p in parameters if p.required and p.name not in values]:
        raise SchemaMismatch(f"{name} needs {', '.join(missing)}")
    return {n: v for n, v in values.items() if v is not None or known[n].required}


def bound(f: Function | Table, args: tuple[Any, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a Python call by name.

    Raises:
        SchemaMismatch: there are more than the function takes.
    """
    names = [p.name for p in f.parameters]
    if len(args) > len(names):
        raise SchemaMismatch(f"{f.name} takes {len(names)} arguments ({', '.join(names)}), not {len(args)}")
    return {**dict(zip(names, args, strict=False)), **options}


def described(call: Callable[..., T], f: Function | Table, name: str = "") -> Callable[..., T]:
    """A Python function with name, help and signature of a record, for `help()` and editors."""
    call.__name__ = call.__qualname__ = name or f.name
    call.__doc__ = f"{f.doc}\n\n{f.detail}\n\nArgs:\n" + "\n".join(
        f"    {p.name}: {p.doc}" for p in f.parameters
    )
    arguments = [
        inspect.Parameter(
            p.name,
            inspect.Parameter.POSITIONAL_OR_KEYWORD,
            default=inspect.Parameter.empty if p.required else p.default,
        )
        for p in f.parameters
    ]
    settings = inspect.Parameter("settings", inspect.Parameter.KEYWORD_ONLY, default=None)
    call.__signature__ = inspect.Signature([*arguments, settings])  # type: ignore[attr-defined]
    return call


FUNCTIONS: dict[str, Function] = {}
TABLES: dict[str, Table] = {}


def records() -> list[Function | Table]:
    """Everything declared, functions first."""
    return [*FUNCTIONS.values(), *TABLES.values()]


def function(
    gives: pa.DataType,
    *,
    example: Mapping[str, Any],
    durable: bool = False,
    options: tuple[Parameter, ...] = (),
    **takes: pa.DataType,
) -> Callable[[Run], Function]:
    """Declare an async function of (session, arguments..., **options) as part of the surface.

    Args:
        gives: type of the value of one row.
        example: arguments that documents show and every test calls with.
        durable: whether the call costs minutes or tokens and goes through the ledger.
        options: further arguments that several functions share; `run` takes them as `**options`.
        takes: Arrow types of the function's own arguments, in order.
    """

    def declare(run: Run) -> Function:
        doc, detail, parameters = _read(run, takes)
        f = Function(run.__name__, run, parameters + options, gives, example, durable, doc, detail)
        f.arguments(example)
        return _declare(FUNCTIONS, f)

    return declare


def table(schema: pa.Schema, *, example: Mapping[str, Any], **takes: pa.DataType) -> Callable[[Pages], Table]:
    """Declare an async generator of pages of rows as a listing of the surface."""

    def declare(pages: Pages) -> Table:
        doc, detail, parameters = _read(pages, takes)
        t = Table(pages.__name__, pages, parameters, schema, example, doc, detail)
        return _declare(TABLES, t)

    return declare


R = TypeVar("R", Function, Table)


def _declare(registry: dict[str, R], record: R) -> R:
    """Add a record under its name.

    Raises:
        SchemaMismatch: a function or listing of this name is declared already.
    """
    if record.name in FUNCTIONS or record.name in TABLES:
        raise SchemaMismatch(f"{record.name} is declared twice: rename one of the two declarations")
    registry[record.name] = record
    return record


def _read(
    run: Callable[..., Any], takes: Mapping[str, pa.DataType]
) -> tuple[str, str, tuple[Parameter, ...]]:
    """Take name, default and description of each argument from the declaration itself."""
    text = inspect.getdoc(run) or ""
    doc, _, rest = text.partition("\n")
    detail, _, args = rest.partition("Args:")
    described = dict(re.findall(r"^\s{4}(\w+): (.+(?:\n\s{6,}.+)*)", args, re.MULTILINE))
    signature = [p for p in inspect.signature(run).parameters.values() if p.kind != p.VAR_KEYWORD][1:]
    if [p.name for p in signature] != list(takes):
        raise SchemaMismatch(f"{run.__name__}: the declared arguments are not those of the function")
    parameters = tuple(
        Parameter(
            p.name,
            takes[p.name],
            p.default is p.empty,
            None if p.default is p.empty else p.default,
            re.sub(r"\s+", " ", described.get(p.name, "")),
        )
        for p in signature
    )
    if undescribed := [p.name for p in parameters if not p.doc]:
        raise SchemaMismatch(f"{run.__name__}: no line under 'Args:' for {', '.join(undescribed)}")
    return doc, detail.strip(), parameters


def literal(value: Any) -> str:
    """A plain value as SQL that both engines read."""
    if value is None:
        return "NULL"
    if isinstance(value, bool | int | float):
        return str(value).lower()
    if isinstance(value, list | tuple):  # the engines have no common literal of a list
        rows = ", ".join(f"({literal(item)})" for item in value)
        return f"(SELECT array_agg(v) FROM (VALUES {rows}) t(v))"
    return "'" + str(value).replace("'", "''") + "'"
