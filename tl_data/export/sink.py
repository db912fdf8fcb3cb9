"""What a target of an export is: the record that each tool fills in, and what it says about a row.

    SINK = Sink("lancedb", reads="vectors", connect=connect, extra="lancedb", doc="a LanceDB table")

`connect(target)` opens the tool and gives a `Store`. The runner does the rest: it reads the lake, compares it
with what the target holds, and sends batches of Arrow. A store only creates, upserts and deletes.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import parse_qsl, unquote, urlsplit

import pyarrow as pa

from tl_data.errors import ExportError, MissingExtra, SchemaMismatch, SettingsError
from tl_data.urls import redacted

Metric = Literal["cosine", "dot", "l2"]
METRICS: tuple[Metric, ...] = ("cosine", "dot", "l2")


@dataclass(frozen=True)
class Refused:
    """A row that the target does not take. The other rows are sent all the same."""

    id: str
    code: str
    message: str
    of: str = ""  # the video: its id or source key
    start_sec: float | None = None


@dataclass(frozen=True)
class Shape:
    """What the rows look like: the payload's columns and, for vectors, their length and metric."""

    table: str
    fields: pa.Schema
    dimension: int | None = None  # None: no row has a vector
    metric: Metric = "cosine"
    keys: tuple[str, ...] = ("id",)


@dataclass(frozen=True)
class Target:
    """An address such as `qdrant://localhost:6333?collection=clips`, in its parts."""

    scheme: str
    place: str  # host and path, or a path on this machine
    host: str
    port: int | None
    path: str  # behind the host, without the slash
    user: str
    password: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The address without its login, for messages."""
        return self._named(self.place)

    @property
    def identity(self) -> str:
        """What tells two targets apart: each has a state of its own."""
        return self._named(str(self.file.absolute()) if self.is_path else self.place)

    @property
    def style(self) -> str:
        """The options that change what is written, but not where."""
        said = sorted(self.options.items())
        return "&".join(f"{k}={v}" for k, v in said if k not in (*WHERE, "table"))

    def _named(self, place: str) -> str:
        own = "&".join(f"{k}={v}" for k, v in sorted(self.options.items()) if k in WHERE)
        return redacted(f"{self.scheme}://{place}{'?' if own else ''}{own}")

    @property
    def is_path(self) -> bool:
        """Whether the place is a folder or file on this machine: it begins with `/`, `.` or `~`."""
        return self.place.startswith(("/", ".", "~"))

    @property
    def file(self) -> Path:
        """The place as a path on this machine; relative ones are relative to the current folder."""
        return Path(self.place).expanduser()

    @property
    def collection(self) -> str:
        """The table, index or collection."""
        return self.options.get("collection", "tl_vectors")

    def url(self, scheme: str = "http", port: int | None = None) -> str:
        """The address of a server that is reached over HTTP; `?tls=true` makes it HTTPS."""
        secure = self.options.get("tls") == "true" or self.port == 443
        number = self.port or port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{'s' if secure else ''}://{host}{f':{number}' if number else ''}"


#: Options that say where rows go.
WHERE = ("collection", "namespace", "schema", "database")


class Store(Protocol):
    """An open target."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """What the tool's client raises."""

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check dimension, metric and columns; create what is missing if `create`. True: it was not there.

        Raises:
            SchemaMismatch: it is there with another dimension, metric or column.
        """

    def upsert(self, rows: pa.RecordBatch) -> Sequence[Refused]:
        """Insert rows, or replace those of the same `id`. Gives the rows that were refused one by one."""

    def delete(self, ids: Sequence[str]) -> None:
        """Remove rows; ids that are not there are no error."""

    def finish(self) -> None:
        """Make what was sent visible: called once, after the last batch."""

    def close(self) -> None:
        """Let go of the connection, also after an error."""


@dataclass(frozen=True)
class Sink:
    """One tool."""

    name: str
    reads: Literal["vectors", "timelines", "tables"]
    connect: Callable[[Target], Store]
    doc: str
    extra: str | None = None  # of this package, that installs the client
    options: Mapping[str, str] = field(default_factory=dict)
    tables: tuple[str, ...] = ()  # what is exported when no table is named; () for all that are there
    takes: tuple[str, ...] = ()  # what may be named; () for the same
    one_table: bool = False  # rows of several tables do not fit into it
    reserved: re.Pattern[str] | None = None  # payload names that the tool keeps for itself
    valid_name: re.Pattern[str] | None = None  # payload names that it allows, where it allows only some
    batch: int = 500  # rows a request
    whole: bool = False  # one file that is written anew when anything changed


class BaseStore:
    """What most stores have in common."""

    errors: tuple[type[Exception], ...] = ()

    def finish(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is open."""


def parse_target(text: str) -> Target:
    """Split an address.

    Raises:
        SettingsError: it has no scheme.
    """
    if not (found := re.match(r"([a-z][a-z0-9+.-]*)://(.*)$", text, re.DOTALL)):
        raise SettingsError(
            f"{redacted(text)!r} is not a target; write TOOL://PLACE?option=value, "
            "such as lancedb://./store?collection=clips"
        )
    scheme, rest = found[1], found[2]
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if rest.startswith(("/", ".", "~")):
        return Target(scheme, unquote(rest), "", None, "", "", "", options)
    parts = urlsplit(f"x://{rest}")
    try:
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{redacted(text)}: the port is not a number from 0 to 65535") from error
    login, _, place = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    path = unquote(parts.path.lstrip("/"))
    where = place + (f"/{path}" if path else "")
    return Target(scheme, where, parts.hostname or "", port, path, unquote(user), unquote(password), options)


def check_options(sink: Sink, target: Target) -> None:
    """Refuse options that the tool does not have, and metrics that nobody has.

    Raises:
        SettingsError: names the option and what there is.
    """
    known = {**sink.options, "table": "", **({"metric": ""} if sink.reads == "vectors" else {})}
    if unknown := [name for name in target.options if name not in known]:
        there = f"it has {', '.join(sorted(known))}" if known else "it has none"
        raise SettingsError(f"{sink.name} has no option {unknown[0]!r}; {there}")
    if (metric := target.options.get("metric", "cosine")) not in METRICS:
        raise SettingsError(f"metric is {metric!r}; it is one of {', '.join(METRICS)}")
    if not target.place:
        raise SettingsError(f"{sink.name}:// needs a place: {sink.doc}")


def check_names(sink: Sink, names: Iterable[str]) -> None:
    """Refuse payload names that the tool reserves or cannot hold.

    Raises:
        SettingsError: names the field and how to rename it.
    """
    for name in names:
        taken = sink.reserved is not None and sink.reserved.fullmatch(name)
        if taken or (sink.valid_name is not None and not sink.valid_name.fullmatch(name)):
            why = "reserves this name" if taken else "does not allow this name"
            raise SettingsError(
                f"field {name!r}: {sink.name} {why}; rename it: fields={{'my_name': 'column'}}"
            )


def same(what: str, there: Any, wanted: Any, where: str) -> None:
    """Compare what a collection has with what the lake has.

    Raises:
        SchemaMismatch: they differ.
    """
    if there != wanted:
        raise SchemaMismatch(
            f"{where}: {what} is {there}, but the lake's is {wanted}. Nothing was written. "
            "Name another collection, or remove this one."
        )


def imported(extra: str, *names: str) -> list[Any]:
    """Client libraries by name.

    Raises:
        MissingExtra: names the line to type.
    """
    from importlib import import_module

    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise MissingExtra(names[0].partition(".")[0], extra) from error


_FULL = re.compile(
    r"(?i)no space left|disk.{0,12}full|os error 28|quota.{0,20}exceed|storage.{0,20}(full|limit)|too full"
    r"|OutOfMemory"
)
_LOST_TYPE = re.compile(
    r"(?i)connect|timeout|unavailable|network|socket|eof|brokenpipe|reset|operationalerror|transport"
)
_LOST = re.compile(
    r"(?i)connection (refused|reset|closed|aborted|error)|server closed the connection|timed out|broken pipe"
    r"|failed to connect|temporarily unavailable|deadline exceeded|no route to host"
)
_DENIED = re.compile(
    r"(?i)unauthori[sz]ed|authentication|permission denied|access denied|forbidden|invalid api key"
)


def kind_of(error: BaseException) -> Literal["full", "lost", "denied", "row"]:
    """What to do about an error of a client: stop, try again, or look for the row that causes it."""
    status = next(
        (
            s
            for n in ("status_code", "status", "http_status")
            if isinstance(s := getattr(error, n, None), int)
        ),
        None,
    )
    said = f"{type(error).__name__}: {error}"
    if status == 507 or _FULL.search(said):
        return "full"
    if status in (401, 403) or (status is None and _DENIED.search(said)):
        return "denied"
    if status is not None:
        return "lost" if status in (408, 425, 429) or status >= 500 else "row"
    if isinstance(error, ConnectionError | TimeoutError) or _LOST.search(said):
        return "lost"
    if _LOST_TYPE.search(type(error).__name__):
        return "lost"
    return "row"


def stopped(where: str, error: BaseException, kind: str) -> ExportError:
    """The error that ends an export."""
    said = redacted(" ".join(str(error).split())[:300]) or type(error).__name__
    do = {
        "full": "the target is full. Make room and export again",
        "denied": "the target refuses these credentials. Correct them and export again",
        "lost": "the connection was lost. Export again",
    }.get(kind, "the target refused the request")
    return ExportError(f"{where}: {do} ({said}). What was sent is remembered.", code=f"target_{kind}")
