"""Reads the source of a job as pairs of key and URL. For `alerts.py` the URLs are saved questions."""

from __future__ import annotations

import glob
import itertools
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import LakeError, MissingExtra, SchemaMismatch, SettingsError, TLDataError
from tl_data.media.listing import ENDINGS, files_below
from tl_data.pipeline.job import Job
from tl_data.urls import redacted

BATCH = 2_000  # rows per read

#: DuckDB's function for files with each ending.
READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}


class SourceLocked(TLDataError):
    """Another process has locked the source. A later run may succeed."""

    retryable = True


Pair = tuple[str | None, str | None]  #: key, and URL or path, of a row


def pairs(job: Job) -> Iterator[Pair]:
    """Key and URL of each row of the source of a job, unchanged.

    Raises:
        SchemaMismatch: a column is missing or is not text.
        SettingsError: the source is missing or cannot be read.
        SourceLocked: another process has locked the source.
    """
    source = job.source
    if source.kind == "urls":
        return ((None, url) for url in source.place)
    place = str(source.place)
    if source.kind == "folder":
        return _files_in(job.base, place)
    by_spark = job.engine == "spark" and source.kind in ("files", "delta")
    if (by_spark or source.kind.startswith("spark")) and (read := _spark(job)) is not None:
        return _columns(job, read)
    if source.kind == "delta" or (source.kind == "files" and _is_delta(place)):
        from tl_data.lake.delta import delta_batches

        try:
            return _columns(job, delta_batches(place))
        except LakeError as error:
            raise SettingsError(f"{source.section}.{source.kind}: {error}") from error
    return _columns(job, *_duckdb(job))


def _files_in(base: str, place: str) -> Iterator[Pair]:
    """The videos of a folder, of a prefix in a bucket, or of a pattern, in the order of the listing."""
    files = files_below(place, base)
    first = next(files, None)
    if first is None:
        raise SettingsError(f"source.folder: {redacted(place)} has no video files ({', '.join(ENDINGS)})")
    return ((None, file.address) for file in itertools.chain([first], files))


def _is_delta(place: str) -> bool:
    if not Path(place, "_delta_log").is_dir():
        return False
    from tl_data.lake.delta import is_delta

    return is_delta(place)


def _columns(job: Job, batches: pa.RecordBatchReader, close: Callable[[], object] = int) -> Iterator[Pair]:
    """Key and URL of each row. The columns are validated before the first row.

    Args:
        close: called when the iteration ends, also early or by an error.
    """
    _check(job, batches.schema)
    return _read(job, batches, close)


def _check(job: Job, schema: pa.Schema) -> None:
    """Validate that the columns of URL and key exist and have usable types."""
    names = schema.names
    for column in filter(None, (job.source.url, job.source.key)):
        if column not in names:
            raise SchemaMismatch(
                f"{_source_name(job)} has no column {column!r}; it has {', '.join(names)}{_csv_hint(job)}"
            )
    kind = schema.field(job.source.url).type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    ):
        raise SchemaMismatch(
            f"column {job.source.url!r} of {_source_name(job)} is {kind}; "
            f"it must be text: {_content_name(job)}"
        )
    if job.source.key and pa.types.is_nested(kind := schema.field(job.source.key).type):
        raise SchemaMismatch(
            f"column {job.source.key!r} of {_source_name(job)} is {kind}; a key must be text or a number"
        )


def _csv_hint(job: Job) -> str:
    """A hint for a missing column, if the source is a CSV file: its lines may differ in length."""
    if job.source.kind != "files" or _reader(job, str(job.source.place)) != "read_csv":
        return ""
    return (
        ". If the first line of the CSV file names it, other lines have more or fewer fields than that line: "
        "put values with commas into double quotes"
    )


def _source_name(job: Job) -> str:
    """The source in messages."""
    return "the source" if job.source.section == "source" else "the table of saved questions"


def _content_name(job: Job) -> str:
    """The contents of the column `url` in messages."""
    return "URLs or paths" if job.source.section == "source" else "questions"


def _read(job: Job, batches: Iterable[pa.RecordBatch], close: Callable[[], object]) -> Iterator[Pair]:
    """Key and URL of each row of the batches."""
    try:
        for batch in _readable(job, batches):
            urls = batch.column(job.source.url).to_pylist()
            if job.source.key is None:
                yield from ((None, url) for url in urls)
                continue
            keys = _keys_as_text(job, batch.column(job.source.key))
            for key, url in zip(keys, urls, strict=True):
                if key is None and url is not None:
                    raise SchemaMismatch(
                        f"column {job.source.key!r} of the source is the key, but NULL for {redacted(url)}; "
                        "set a key in every row"
                    )
                yield key, url
    finally:
        close()


def _readable(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The batches. Errors while reading them are raised as TLDataError."""
    try:
        yield from batches
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(job, error) from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("duckdb", "_duckdb"):
            raise
        raise _unreadable(job, error) from error


def _unreadable(job: Job, error: BaseException) -> TLDataError:
    """Convert the error of an unreadable source."""
    lines = [line.strip(" *") for line in str(error).strip().splitlines()]
    text = " ".join(line for line in lines[:4] if line)[:400]
    place = f"{job.source.section}.{job.source.kind}: {redacted(str(job.source.place))}"
    if "lock on file" in text or "different configuration" in text:
        return SourceLocked(
            f"{place} is locked by another process or connection: {text}. Run again when it is free"
        )
    return SettingsError(f"{place} cannot be read: {text}")


EXACT = 2.0**53  # DOUBLE cannot represent all whole numbers from here on


def _keys_as_text(job: Job, column: pa.Array) -> list[str | None]:
    if pa.types.is_floating(column.type) and (largest := pc.max(pc.abs(column)).as_py() or 0) >= EXACT:
        raise SchemaMismatch(
            f"column {job.source.key!r} of {_source_name(job)} is the key and was read as {column.type}, "
            f"which cannot represent all whole numbers up to {largest:.17g}. This type is used if a key is "
            "above 2^64 or a fraction. Write the keys as text"
        )
    try:
        return list(pc.cast(column, pa.string()).to_pylist())
    except pa.ArrowException as error:
        raise SchemaMismatch(
            f"column {job.source.key!r} of {_source_name(job)} is the key and {column.type}; "
            f"it cannot be read as text: {error}"
        ) from error


def _has_byte_order_mark(place: str) -> bool:
    """Whether a file begins with a byte order mark."""
    path = Path(place)
    if not path.is_file() or path.suffix == ".gz":
        return False
    with path.open("rb") as file:
        return file.read(3) == b"\xef\xbb\xbf"


def _files_of(place: str) -> list[str]:
    """The files of a path or pattern; a remote pattern is returned unchanged.

    An existing folder with a name such as `[2024]` is not treated as a pattern.
    """
    if "://" in place or Path(place).exists() or not glob.has_magic(place):
        return [place]
    path = Path(place)
    for folder in path.parents:
        if folder.is_dir():
            pattern = str(path.relative_to(folder))
            names = sorted(glob.glob(pattern, root_dir=folder, recursive=True))
            return [str(folder / name) for name in names] or [place]
    return [place]


def _duckdb(job: Job) -> tuple[pa.RecordBatchReader, Callable[[], object]]:
    """Read the source by DuckDB. Returns the reader, and the function that closes the connection."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "jobs") from error
    place = str(job.source.place)
    query = place
    if job.source.kind == "files":
        reader = _reader(job, place)
        files = _files_of(place)
        marked = [file for file in files if _has_byte_order_mark(file)] if reader == "read_json" else []
        if marked:
            raise SettingsError(
                f"{job.source.section}.files: {marked[0]} begins with a byte order mark, which JSON does not "
                "allow: save it as UTF-8 without one"
            )
        quoted = ", ".join("'" + file.replace("'", "''") + "'" for file in files)
        # A CSV file is read as text, so that the key 007 does not become 7. Quotes and JSON types are
        # detected from all rows, not only from the first ones.
        options = {
            "read_csv": ", all_varchar := true, quote := '\"', sample_size := -1",
            "read_json": ", sample_size := -1",
        }
        query = f"SELECT * FROM {reader}([{quoted}]{options.get(reader, '')})"
    try:
        con = duckdb.connect(job.source.database or ":memory:", read_only=bool(job.source.database))
        try:
            con.execute("SET file_search_path = ?", [job.base])
            reader = con.sql(query).to_arrow_reader(BATCH)
            _check(job, reader.schema)
        except BaseException:
            con.close()
            raise
        return reader, con.close
    except duckdb.Error as error:
        raise _unreadable(job, error) from error


def _reader(job: Job, place: str) -> str:
    """The DuckDB function for files with this ending."""
    reader = READERS.get(Path(place.split("?")[0]).suffix.lower().removesuffix(".gz"))
    if reader is None:
        raise SettingsError(f"{job.source.section}.files: {place} must end in one of {', '.join(READERS)}")
    return reader


def _spark(job: Job) -> pa.RecordBatchReader | None:
    """Read the source by Spark; None if this Spark lacks the data source, such as Delta."""
    try:
        from pyspark.errors import PySparkException
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtra("pyspark", "spark") from error
    from tl_data.spark.delta import started

    spark = started(SparkSession.builder)
    place = str(job.source.place)
    try:
        frame = _frame(spark, job, place)
        columns = [c for c in (job.source.key, job.source.url) if c and c in frame.columns]
        return (frame.select(*columns) if columns else frame.limit(0)).toArrow().to_reader(BATCH)
    except Exception as error:
        if "DATA_SOURCE_NOT_FOUND" in str(error) and not job.source.kind.startswith("spark"):
            return None  # the caller reads the files without Spark
        if "MALFORMED_RECORD" in str(error) or "MALFORMED_CSV" in str(error):
            raise SettingsError(
                f"{job.source.section}.{job.source.kind}: {redacted(place)} cannot be read: a line of the "
                "CSV file has more or fewer fields than its first line. Put double quotes around values with "
                "commas"
            ) from error
        # Spark may raise errors of its jobs as errors of Py4J.
        if not isinstance(error, PySparkException) and not type(error).__module__.startswith("py4j"):
            raise
        raise _unreadable(job, error) from error


SEPARATORS = (",", ";", "\t", "|")


def _separator(spark: Any, job: Job, place: str) -> str:
    """The separator of a CSV file: the first one with which its header has the column of URLs."""
    first = spark.read.text(place).head()
    header = first[0].removeprefix("\ufeff") if first else ""
    for separator in SEPARATORS:
        if job.source.url in (name.strip(' "') for name in header.split(separator)):
            return separator
    return ","


def _frame(spark: Any, job: Job, place: str) -> Any:
    """The source as a DataFrame, with the same types as when DuckDB reads it."""
    if job.source.kind == "spark_table":
        return spark.table(place)
    if job.source.kind == "spark_query":
        return spark.sql(place)
    if job.source.kind == "delta" or _is_delta(place):
        return spark.read.format("delta").load(place)
    kind = _reader(job, place)
    if Path(place).exists():  # Spark interprets every path as a pattern
        place = re.sub(r"([\[\]{}*?\\])", r"\\\1", place)
    if kind == "read_parquet":
        return spark.read.parquet(place)
    if kind == "read_csv":
        # Without a schema all columns are text, so that the key 007 does not become 7. With column pruning
        # Spark would accept lines with more fields than the header, and drop the surplus fields.
        reader = spark.read.option("columnPruning", False)
        return reader.csv(
            place, header=True, sep=_separator(spark, job, place), escape='"', multiLine=True, mode="FAILFAST"
        )
    lines = spark.read.json(place)
    # Without multiLine, Spark reads a JSON array as one malformed line.
    return spark.read.json(place, multiLine=True) if lines.columns == ["_corrupt_record"] else lines
