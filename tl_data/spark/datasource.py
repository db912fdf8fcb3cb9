"""The Python data source `twelvelabs`: listings of the API, searches, a stream of ready videos, and a sink.

    spark.read.format("twelvelabs").option("index_id", "demo").load("videos")
    spark.read.format("twelvelabs").option("query_text", "a red car").load("search")
    spark.readStream.format("twelvelabs").option("index_id", "demo").load("videos")
    df.write.format("twelvelabs").mode("append").option("index_id", "demo").save()

Options are the arguments of the listing or search by name. `index_id` may be a comma-separated list of
indexes, or `*` for all indexes. `query_text` may be a JSON list of texts. Each pair of an index and a query
is a partition. Filters that the API supports are pushed down.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, ClassVar

import orjson
import pyarrow as pa
from pyspark.sql.datasource import (
    DataSource,
    DataSourceReader,
    DataSourceStreamReader,
    DataSourceStreamWriter,
    DataSourceWriter,
    InputPartition,
    WriterCommitMessage,
)
from pyspark.sql.pandas.types import from_arrow_schema
from pyspark.sql.types import StructType

from tl_data.catalog import Function, Listing
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS, LISTINGS
from tl_data.settings import Settings
from tl_data.spark.streaming import ReadyVideos
from tl_data.spark.worker import Worker

#: The listings that can be loaded. Options are strings, so a listing that requires a list is not among them.
_LOADABLE = {
    name: t
    for name, t in LISTINGS.items()
    if not any(p.required and pa.types.is_list(p.type) for p in t.parameters)
}

#: Columns whose filters the API supports, as the option of the same name: `=` and IN; `=`, `>` and `>=`.
_EQUAL = {"index_id", "filename", "index_name", "status"}
_SINCE = {"created_at", "updated_at"}

#: Options that Spark adds to every read and write.
_SPARK_OPTIONS = {"path", "paths"}


class TwelveLabs(DataSource):
    """The data source. `tl_data.register(spark)` registers it with the settings of the registration."""

    worker: ClassVar[Worker | None] = None

    @classmethod
    def name(cls) -> str:
        """The name of the format."""
        return "twelvelabs"

    def record(self) -> Listing | Function:
        """The listing or search of `load(...)`.

        Raises:
            SchemaMismatch: an unknown name, or an option that is not one of its arguments.
        """
        name = self.options.get("path") or "videos"
        known: dict[str, Listing | Function] = {**_LOADABLE, "search": FUNCTIONS["search"]}
        record = known.get(name)
        if record is None:
            raise SchemaMismatch(f"twelvelabs cannot load {name!r}; it can load {', '.join(known)}")
        record.arguments(
            {n: v for n, v in self.user_options().items() if n != "lookback_hours"} | _required(record)
        )
        return record

    def user_options(self) -> dict[str, str]:
        """The user's options, without those of Spark."""
        return {n: v for n, v in self.options.items() if n not in _SPARK_OPTIONS}

    def configured_worker(self) -> Worker:
        """The worker of the registration; without one, a worker with the settings of the environment."""
        return self.worker or Worker(Settings.load(), scope="twelvelabs")

    def schema(self) -> StructType:
        """The columns of the listing, or of the search and its query."""
        return from_arrow_schema(_columns(self.record()))

    def reader(self, schema: StructType) -> DataSourceReader:
        """A batch reader, with one partition per index and query."""
        return ListingReader(self.configured_worker(), self.record(), self.user_options())

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: N802 - Spark's name
        """A stream of newly ready videos of an index."""
        if self.record().name != "videos":
            raise SchemaMismatch(f"only videos can be read as a stream, not {self.record().name}")
        return ReadyVideos(self.configured_worker(), self.user_options())

    def writer(self, schema: StructType, overwrite: bool) -> DataSourceWriter:
        """A sink that indexes the videos of the rows."""
        return Sink(self.configured_worker(), schema, self.user_options(), overwrite)

    def streamWriter(self, schema: StructType, overwrite: bool) -> DataSourceStreamWriter:  # noqa: N802
        """A sink that indexes the videos of each micro-batch."""
        return StreamSink(self.configured_worker(), schema, self.user_options(), overwrite)


class DiscoveredTwelveLabs(TwelveLabs):
    """The data source that Spark discovers without a registration; it has the settings of the environment.

    Spark refuses readers that accept filters unless `spark.sql.python.filterPushdown.enabled` is set.
    `tl_data.register(spark)` sets it. Here it may be unset, so the reader accepts no filters, and Spark
    filters the rows.
    """

    def reader(self, schema: StructType) -> DataSourceReader:
        """A batch reader, with one partition per index and query."""
        return _UnfilteredListingReader(self.configured_worker(), self.record(), self.user_options())


def source_of(worker: Worker) -> type[TwelveLabs]:
    """The data source with the settings of one registration."""
    return type("TwelveLabs", (TwelveLabs,), {"worker": worker})


@dataclass
class Part(InputPartition):
    """The options of one listing or search, which one task reads."""

    options: dict[str, Any]


class ListingReader(DataSourceReader):
    """Reads a listing or a search."""

    def __init__(self, worker: Worker, record: Listing | Function, options: Mapping[str, str]) -> None:
        self.worker, self.name, self.is_listing = worker, record.name, isinstance(record, Listing)
        self.options: dict[str, Any] = _typed(record, options)
        self._schema = _columns(record)

    def pushFilters(self, filters: Sequence[Any]) -> Iterable[Any]:  # noqa: N802 - Spark's name
        """Push filters down. All filters are returned, so that Spark applies them again."""
        parameters = {p.name: p for p in self._record().parameters}
        for f in filters:
            column, kind = ".".join(f.attribute if hasattr(f, "attribute") else ()), type(f).__name__
            if column not in parameters or column in self.options:
                continue
            if column in _EQUAL and kind in ("EqualTo", "In"):
                values = list(f.value) if kind == "In" else [f.value]
                if None in values:
                    continue
                if column == "index_id":
                    self.options[column] = ",".join(map(str, values))
                elif pa.types.is_list(parameters[column].type):
                    self.options[column] = values
                elif len(values) == 1:
                    self.options[column] = values[0]
            elif column in _SINCE and kind in ("EqualTo", "GreaterThan", "GreaterThanOrEqual"):
                self.options[column] = _rfc3339(f.value)
        return filters

    def partitions(self) -> Sequence[Part]:
        """One partition per index and, for a search, per query."""
        options = dict(self.options)
        if "index_id" not in {p.name for p in self._record().parameters}:
            return [Part(options)]
        indexes = self._indexes(options.pop("index_id", None))
        texts = options.pop("query_text", None)
        queries = orjson.loads(texts) if texts and texts.lstrip().startswith("[") else [texts]
        query_options = [{} if query is None else {"query_text": query} for query in queries]
        return [
            Part(options | q | ({} if index is None else {"index_id": index}))
            for index in indexes
            for q in query_options
        ]

    def read(self, partition: InputPartition) -> Iterator[pa.RecordBatch]:
        """The rows of one partition: a batch per page of a listing, or one with all hits of a search."""
        assert isinstance(partition, Part)
        connection, record = self.worker.connection(), self._record()
        if isinstance(record, Listing):
            yield from connection.batches(record, **partition.options)
            return
        rows = next(connection.values(self.worker.function(record.name), [partition.options]))
        query = {n: partition.options.get(n) for n in ("index_id", "query_text")}
        yield pa.RecordBatch.from_pylist([query | row for row in rows or ()], self._schema)

    def _record(self) -> Listing | Function:
        return LISTINGS[self.name] if self.is_listing else FUNCTIONS[self.name]

    def _indexes(self, index_id: str | None) -> list[str | None]:
        if index_id is None:
            return [None if self.is_listing else self.worker.settings.index]
        if index_id.strip() != "*":
            return list(dict.fromkeys(i.strip() for i in index_id.split(",")))
        listing = self.worker.connection().batches(LISTINGS["indexes"])
        return [index for batch in listing for index in batch.column("index_id").to_pylist()]


class _UnfilteredListingReader(ListingReader):
    """Reads a listing or a search without pushing filters down."""

    pushFilters = DataSourceReader.pushFilters  # type: ignore[assignment]  # noqa: N815 - Spark's name


@dataclass
class Indexed(WriterCommitMessage):
    """The number of rows that one task has indexed."""

    rows: int


class Sink(DataSourceWriter):
    """Indexes the video of each row once, even if Spark retries a task."""

    def __init__(
        self, worker: Worker, schema: StructType, options: Mapping[str, str], overwrite: bool
    ) -> None:
        if overwrite:
            raise SchemaMismatch(
                "twelvelabs supports only append, because overwriting would delete indexed videos: "
                "use .mode('append')"
            )
        record = FUNCTIONS["index_video"]
        column = options.get("video_column")
        names = schema.fieldNames()
        candidates = [n for n in ([column] if column else ["video", "url"]) if n in names]
        if not candidates:
            expected = column or "video or url"
            raise SchemaMismatch(f"the rows to index have no column {expected}; they have {', '.join(names)}")
        self.worker, self.column = worker, candidates[0]
        self.options = _typed(record, {n: v for n, v in options.items() if n != "video_column"})
        self.argument_columns = [p.name for p in record.parameters if p.name in names and p.name != "video"]

    def write(self, iterator: Iterator[Any]) -> Indexed:
        """Index the rows of one task.

        Raises:
            RowFailed: a row failed; the message names it. Rows after it are not started. Videos that are
                indexed cost nothing in a retry.
        """
        count = 0
        function = self.worker.function("index_video")
        rows = (
            self.options | {n: row[n] for n in self.argument_columns} | {"video": row[self.column]}
            for row in iterator
        )
        for _ in self.worker.connection().values(function, rows):
            count += 1
        return Indexed(count)

    def commit(self, messages: Sequence[WriterCommitMessage | None], *batch: int) -> None:
        """Do nothing: the videos are indexed when `write` returns."""

    def abort(self, messages: Sequence[WriterCommitMessage | None], *batch: int) -> None:
        """Do nothing: indexed videos stay indexed, and a re-run finds them without paying again."""


class StreamSink(Sink, DataSourceStreamWriter):
    """A `Sink` for the micro-batches of a stream."""


def _required(record: Listing | Function) -> dict[str, Any]:
    return {} if isinstance(record, Listing) else {"index_id": None}


def _columns(record: Listing | Function) -> pa.Schema:
    if isinstance(record, Listing):
        return record.schema
    query = [pa.field("index_id", pa.string()), pa.field("query_text", pa.string())]
    return pa.schema([*query, *record.columns])


def _typed(record: Listing | Function, options: Mapping[str, str]) -> dict[str, Any]:
    """Convert the texts of options to their types: number, boolean, or list (JSON or comma-separated)."""
    types = {p.name: p.type for p in record.parameters}
    return {n: _value(n, v, types[n]) for n, v in options.items() if n in types}


def _value(name: str, text: str, kind: pa.DataType) -> Any:
    if pa.types.is_list(kind):
        return orjson.loads(text) if text.lstrip().startswith("[") else [t.strip() for t in text.split(",")]
    if pa.types.is_boolean(kind) and text.lower() not in ("true", "false"):
        raise SchemaMismatch(f"option {name} is {text!r}; it must be true or false")
    try:
        return pa.scalar(text).cast(kind).as_py()
    except pa.ArrowInvalid as error:
        raise SchemaMismatch(f"option {name} is {text!r}, but must be {kind}") from error


def _rfc3339(value: Any) -> str:
    """A time from Spark as RFC 3339. Spark gives times in UTC, with or without a time zone."""
    assert isinstance(value, datetime)
    return value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC).isoformat().replace("+00:00", "Z")
