"""The interface of export targets: what a tool supports, how to write to it, and which rows it refuses.

    SINK = Sink("lancedb", reader="vectors", connect=connect, extra="lancedb", location_format="FOLDER")

`connect(target)` opens the tool and returns a `Store`, which creates collections, and upserts and deletes
rows. The runner reads the lake and compares it with the record of earlier exports, which the lake holds, too
(`state.py`). It sends the changed rows as Arrow record batches.
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
    """A row that the target refuses. The other rows are sent."""

    id: str
    code: str
    message: str
    video: str = ""  # id or source key of the row's video
    start_sec: float | None = None


@dataclass(frozen=True)
class Shape:
    """The columns of the exported rows without `id` and `vector`; for vectors, their dimension and metric."""

    table: str
    schema: pa.Schema
    dimension: int | None = None  # None: no row has a vector
    metric: Metric = "cosine"
    keys: tuple[str, ...] = ("id",)


@dataclass(frozen=True)
class Target:
    """A parsed address such as `qdrant://localhost:6333?collection=clips`."""

    scheme: str
    location: str  # host and path without the login, or a local path
    host: str
    port: int | None
    path: str  # the part after the host, without the leading slash
    user: str
    password: str
    options: Mapping[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The address without its login, for messages."""
        return self._named(self.location)

    @property
    def identity(self) -> str:
        """The address with an absolute path. It selects the record of earlier exports to this target."""
        return self._named(str(self.file.absolute()) if self.is_path else self.location)

    @property
    def content_options(self) -> str:
        """The options that can affect the content of rows, as a query string, which is part of their digests.

        If one of them changes, the next export sends all rows. These are all options except those that select
        where rows are written and how the connection is made.
        """
        others = (*LOCATION_OPTIONS, *CONNECTION_OPTIONS, "table")
        return "&".join(f"{k}={v}" for k, v in sorted(self.options.items()) if k not in others)

    def _named(self, location: str) -> str:
        query = "&".join(f"{k}={v}" for k, v in sorted(self.options.items()) if k in LOCATION_OPTIONS)
        return redacted(f"{self.scheme}://{location}{'?' if query else ''}{query}")

    @property
    def is_path(self) -> bool:
        """Whether the location is a local path: it begins with `/`, `.` or `~`."""
        return self.location.startswith(("/", ".", "~"))

    @property
    def file(self) -> Path:
        """The location as a local path, relative to the current folder."""
        return Path(self.location).expanduser()

    @property
    def collection(self) -> str:
        """The name of the table, index or collection."""
        return self.options.get("collection", "tl_vectors")

    def url(self, scheme: str = "http", port: int | None = None) -> str:
        """The URL of an HTTP server; HTTPS with `?tls=true` or on port 443."""
        secure = self.options.get("tls") == "true" or self.port == 443
        number = self.port or port
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}{'s' if secure else ''}://{host}{f':{number}' if number else ''}"


#: Options that select where rows are written.
LOCATION_OPTIONS = ("collection", "namespace", "schema", "database")
#: Options of the connection to the same server, which leave the rows as they are. `host` and `socket` are not
#: among them: they may name another server.
CONNECTION_OPTIONS = (
    "authSource",
    "directConnection",
    "grpc_port",
    "replicaSet",
    "schema_folder",
    "srv",
    "tls",
)


class Store(Protocol):
    """An open target."""

    @property
    def errors(self) -> tuple[type[Exception], ...]:
        """The exceptions of the tool's client, for `error_kind`. Others end the export as they are."""

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check dimension, metric and columns, as far as the tool reports them. With `create`, create a
        missing collection.

        Returns:
            Whether the collection was missing.

        Raises:
            SchemaMismatch: the collection has another dimension, metric or column.
        """

    def upsert(self, rows: pa.RecordBatch) -> Sequence[Refused]:
        """Insert rows, or replace rows with the same `id`. Returns the rows that the tool refused."""

    def delete(self, ids: Sequence[str]) -> None:
        """Delete rows; missing ids are ignored."""

    def finish(self) -> None:
        """Make the rows visible; called once after the last batch."""

    def close(self) -> None:
        """Close the connection; also called after an error."""


@dataclass(frozen=True)
class Sink:
    """Describes a tool that an export can write to."""

    name: str
    reader: Literal["vectors", "timelines", "tables"]  # which reader of the lake supplies the rows
    connect: Callable[[Target], Store]
    location_format: str  # the part of an address after `://`, or what it names; for messages
    extra: str | None = None  # the extra of this package that installs the client
    options: Mapping[str, str] = field(default_factory=dict)  # name -> help text
    #: The tables that are exported if none is named; (): those of `rows.EXPORTABLE` that the lake has.
    default_tables: tuple[str, ...] = ()
    #: The allowed tables; (): only the default tables, or `rows.EXPORTABLE` if `reader` is `tables`.
    allowed_tables: tuple[str, ...] = ()
    single_table: bool = False  # whether a target holds only one table
    reserved: re.Pattern[str] | None = None  # column names that the tool reserves
    valid_name: re.Pattern[str] | None = None  # column names that the tool allows; None: all
    batch_rows: int = 500  # rows per request
    single_file: bool = False  # whether the target is one file, rewritten after any change


class BaseStore:
    """Defaults for stores."""

    errors: tuple[type[Exception], ...] = ()

    def finish(self) -> None:
        """Do nothing: rows are visible at once."""

    def close(self) -> None:
        """Do nothing: there is no connection."""


def parse_target(text: str) -> Target:
    """Parse an address.

    Raises:
        SettingsError: the address has no scheme, or its port is invalid.
    """
    if not (match := re.match(r"([a-z][a-z0-9+.-]*)://(.*)$", text, re.DOTALL)):
        raise SettingsError(
            f"{redacted(text)!r} is not a target; write TOOL://LOCATION?option=value, "
            "such as lancedb://./store?collection=clips"
        )
    scheme, rest = match[1], match[2]
    rest, _, query = rest.partition("?")
    options = dict(parse_qsl(query, keep_blank_values=True))
    if rest.startswith(("/", ".", "~")):
        return Target(scheme, unquote(rest), "", None, "", "", "", options)
    try:
        parts = urlsplit(f"x://{rest}")
    except ValueError as error:
        raise SettingsError(f"{redacted(text)}: the address is invalid: {error}") from error
    try:
        port = parts.port
    except ValueError as error:
        raise SettingsError(f"{redacted(text)}: the port is not a number from 0 to 65535") from error
    login, _, address = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    path = unquote(parts.path.lstrip("/"))
    location = address + (f"/{path}" if path else "")
    return Target(
        scheme, location, parts.hostname or "", port, path, unquote(user), unquote(password), options
    )


def check_options(sink: Sink, target: Target) -> None:
    """Validate the options of an address.

    Raises:
        SettingsError: an option is unknown or has another value than it takes, or the location is missing.
    """
    known = {**sink.options, "table": "", **({"metric": ""} if sink.reader == "vectors" else {})}
    if unknown := [name for name in target.options if name not in known]:
        raise SettingsError(
            f"{sink.name} has no option {unknown[0]!r}; its options are {', '.join(sorted(known))}"
        )
    if (metric := target.options.get("metric", "cosine")) not in METRICS:
        raise SettingsError(f"metric is {metric!r}; it must be one of {', '.join(METRICS)}")
    for name in ("tls", "srv"):
        if (value := target.options.get(name, "true")) not in ("true", "false"):
            raise SettingsError(f"{name} is {value!r}; it must be true or false")
    if not target.location:
        raise SettingsError(f"{sink.name}:// needs a location: {sink.location_format}")


def check_names(sink: Sink, names: Iterable[str]) -> None:
    """Validate the column names of an export.

    Raises:
        SettingsError: the tool reserves a name or does not allow it.
    """
    for name in names:
        is_reserved = sink.reserved is not None and sink.reserved.fullmatch(name)
        if is_reserved or (sink.valid_name is not None and not sink.valid_name.fullmatch(name)):
            why = "reserves this name" if is_reserved else "does not allow this name"
            raise SettingsError(
                f"field {name!r}: {sink.name} {why}. Rename it in fields={{'name in the target': 'column'}}, "
                "which must list all columns to export"
            )


def check_same(what: str, actual: Any, expected: Any, target: str) -> None:
    """Check that a property of a collection is the one that the export needs.

    Raises:
        SchemaMismatch: they differ.
    """
    if actual != expected:
        raise SchemaMismatch(
            f"{target}: {what} is {actual}, but this export needs {expected}. Nothing was written. "
            "Choose another collection, or remove this one."
        )


def import_client(extra: str, *names: str) -> list[Any]:
    """Import the modules of a client library.

    Raises:
        MissingExtra: a module is not installed; the message has the command that installs the extra.
    """
    from importlib import import_module

    try:
        return [import_module(name) for name in names]
    except ImportError as error:
        raise MissingExtra(names[0].partition(".")[0], extra) from error


# Most clients raise one class for many causes, so the text of an error decides. The patterns are wordings of
# clients, servers, operating systems and HTTP. `_LOST_TYPE` is searched in the name of the class alone: words
# such as "network" also occur in messages about the content of rows.
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


def error_kind(error: BaseException) -> Literal["full", "lost", "denied", "row"]:
    """Classify an error of a client library.

    Returns:
        full: the target has no space. The export stops.
        denied: the target refuses the credentials. The export stops.
        lost: the target is unreachable, overloaded or failed. The batch is sent again, then the export stops.
        row: any other error. The batch is bisected to find the rows that the target refuses.
    """
    status = next(
        (
            s
            for n in ("status_code", "status", "http_status")
            if isinstance(s := getattr(error, n, None), int)
        ),
        None,
    )
    text = f"{type(error).__name__}: {error}"
    if status == 507 or _FULL.search(text):
        return "full"
    if status in (401, 403) or (status is None and _DENIED.search(text)):
        return "denied"
    if status is not None:
        return "lost" if status in (408, 425, 429) or status >= 500 else "row"
    if isinstance(error, ConnectionError | TimeoutError) or _LOST.search(text):
        return "lost"
    if _LOST_TYPE.search(type(error).__name__):
        return "lost"
    return "row"


def export_error(target: str, error: BaseException, kind: str, *, resumes: bool = False) -> ExportError:
    """The error that ends an export, with the code `target_{kind}`.

    Args:
        target: the name of the target.
        error: the error of its client.
        kind: a result of `error_kind`.
        resumes: whether earlier batches were recorded, so that the next export does not send them again.
    """
    text = redacted(" ".join(str(error).split())[:300]) or type(error).__name__
    reason = {
        "full": "the target is full. Make room and export again",
        "denied": "the target refuses these credentials. Correct them and export again",
        "lost": "the target is unreachable, overloaded or failed. Export again",
    }.get(kind, "the target refused the request")
    more = ". The next export skips the rows that were sent" if resumes else ""
    return ExportError(f"{target}: {reason} ({text}){more}", code=f"target_{kind}")
