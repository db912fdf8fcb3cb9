"""The source of a job: whatever lists videos, read into distinct videos and the rows that mean them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import MediaRefused, MissingExtra, SchemaMismatch, SettingsError, TLDataError
from tl_data.identity import canonical_url, is_url, local_path, redact
from tl_data.jobs import Job

BATCH = 10_000  # rows at a time

#: Endings by which a folder's files count as videos. What they really hold is found out later.
ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp")

READERS = {
    ".parquet": "read_parquet",
    ".csv": "read_csv",
    ".tsv": "read_csv",
    ".json": "read_json",
    ".jsonl": "read_json",
    ".ndjson": "read_json",
}

Pair = tuple[str | None, str | None]  # key, URL or path


@dataclass
class Item:
    """One distinct video: where it is, and the source keys that mean it."""

    canonical: str
    video: str  # URL, signature included, or absolute path
    keys: dict[str, None]  # an ordered set
    url: str  # as the source says it
    fault: TLDataError | None = None  # known from the text alone


@dataclass
class Listing:
    """What a source holds."""

    rows: int = 0
    items: list[Item] = field(default_factory=list)


def listing(job: Job) -> Listing:
    """Read the source of a job.

    Rows that say the same key and video are one. A row without a URL, a text that is neither a URL nor a
    file, and a key that stands for different videos become items with a fault, and nothing else suffers.

    Raises:
        SchemaMismatch: a column is missing or is not text.
        SettingsError: the source is not there or cannot be read.
    """
    found = Listing()
    by_canonical: dict[str, Item] = {}
    of_key: dict[str, str] = {}
    ambiguous: dict[str, set[str]] = {}
    nameless: Item | None = None
    for key, url in _pairs(job):
        found.rows += 1
        if url is None or not url.strip():
            nameless = _nameless(nameless, key)
        else:
            canonical, video, fault = _place(url, job.base)
            name = key if key is not None else canonical
            item = by_canonical.get(canonical)
            if item is None:
                item = by_canonical[canonical] = Item(canonical, video, {}, url, fault)
            if of_key.setdefault(name, canonical) != canonical:
                ambiguous.setdefault(name, {of_key[name]}).add(canonical)
            else:
                item.keys[name] = None
        if job.limit and len(by_canonical) >= job.limit:
            break
    for name, places in ambiguous.items():
        for canonical in places:
            by_canonical[canonical].keys.pop(name, None)
    found.items = [item for item in by_canonical.values() if item.keys]
    found.items += [_ambiguous(name, sorted(places)) for name, places in ambiguous.items()]
    found.items += [nameless] if nameless else []
    return found


def _nameless(item: Item | None, key: str | None) -> Item:
    """All rows without a URL together: without a key there is nothing to tell them apart by."""
    fault = MediaRefused("the row has no URL: its value is NULL or empty", "video_url_missing")
    item = item or Item("", "", {}, "", fault)
    item.keys[key or "NULL"] = None
    return item


def _ambiguous(key: str, places: list[str]) -> Item:
    shown = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
    text = f"the key {key!r} stands for {len(places)} different videos ({shown}); give each a key of its own"
    return Item("", "", {key: None}, places[0], MediaRefused(text, "source_key_ambiguous"))


def _place(text: str, base: str) -> tuple[str, str, TLDataError | None]:
    """Canonical name and usable form of what stands in the source, and what is wrong with it."""
    try:
        if is_url(text.strip()):
            return canonical_url(text), text.strip(), None
        path = Path(base, local_path(text).expanduser())
        if path.is_file():
            return path.absolute().as_uri(), str(path.absolute()), None
    except (MediaRefused, OSError, ValueError) as error:
        return text, text, error if isinstance(error, MediaRefused) else _neither(text)
    return text, text, _neither(text)


def _neither(text: str) -> MediaRefused:
    shown = text if len(text) <= 200 else text[:197] + "..."
    return MediaRefused(
        f"{shown!r} is neither a URL (http:// or https://) nor a file on this machine", "video_url_invalid"
    )


def _pairs(job: Job) -> Iterator[Pair]:
    source = job.source
    if source.kind == "urls":
        return ((None, url) for url in source.place)
    place = str(source.place)
    if source.kind == "folder":
        return _files_in(Path(job.base, place))
    if source.kind == "delta" or (source.kind == "files" and _is_delta(place)):
        from tl_data.lake_delta import delta_batches

        return _columns(job, delta_batches(place))
    if source.kind.startswith("spark"):
        return _columns(job, _spark(job))
    return _columns(job, _duckdb(job))


def _files_in(folder: Path) -> Iterator[Pair]:
    if not folder.is_dir():
        raise SettingsError(f"source.folder: {folder} is not a folder")
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in ENDINGS and p.is_file())
    if not paths:
        raise SettingsError(f"source.folder: {folder} holds no video file ({', '.join(ENDINGS)})")
    return ((None, str(path)) for path in paths)


def _is_delta(place: str) -> bool:
    if not Path(place, "_delta_log").is_dir():
        return False
    from tl_data.lake_delta import is_delta

    return is_delta(place)


def _columns(job: Job, batches: pa.RecordBatchReader) -> Iterator[Pair]:
    """Key and URL of each row, checked against what the source has before the first row is read."""
    names = batches.schema.names
    for column in filter(None, (job.source.url, job.source.key)):
        if column not in names:
            raise SchemaMismatch(f"the source has no column {column!r}; it has {', '.join(names)}")
    kind = batches.schema.field(job.source.url).type
    if not (
        pa.types.is_string(kind)
        or pa.types.is_large_string(kind)
        or pa.types.is_string_view(kind)
        or pa.types.is_null(kind)
    ):
        raise SchemaMismatch(
            f"column {job.source.url!r} of the source is {kind}; it must be text: URLs or paths"
        )
    return _read(job, batches)


def _read(job: Job, batches: Iterable[pa.RecordBatch]) -> Iterator[Pair]:
    for batch in batches:
        urls = batch.column(job.source.url).to_pylist()
        if job.source.key is None:
            yield from ((None, url) for url in urls)
            continue
        keys = pc.cast(batch.column(job.source.key), pa.string()).to_pylist()
        for key, url in zip(keys, urls, strict=True):
            if key is None and url is not None:
                raise SchemaMismatch(
                    f"column {job.source.key!r} of the source is the key, but NULL for {redact(url)}; "
                    "give every row a key"
                )
            yield key, url


def _duckdb(job: Job) -> pa.RecordBatchReader:
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "jobs") from error
    place = str(job.source.place)
    query = place
    if job.source.kind == "files":
        reader = READERS.get(Path(place.split("?")[0]).suffix.lower().removesuffix(".gz"))
        if reader is None:
            raise SettingsError(f"source.files: {place} ends in none of {', '.join(READERS)}")
        quoted = place.replace("'", "''")
        # A CSV file's URLs and keys are text whatever they look like: 007 is not 7.
        text = ", all_varchar := true" if reader == "read_csv" else ""
        query = f"SELECT * FROM {reader}('{quoted}'{text})"
    try:
        con = duckdb.connect(job.source.database or ":memory:", read_only=bool(job.source.database))
        con.execute("SET file_search_path = ?", [job.base])
        return _closing(con, con.sql(query).to_arrow_reader(BATCH))
    except duckdb.Error as error:
        said = str(error).strip().splitlines()[0]
        raise SettingsError(f"source.{job.source.kind}: {place} cannot be read: {said}") from error


def _closing(con: Any, reader: pa.RecordBatchReader) -> pa.RecordBatchReader:
    """A reader that closes its connection when all is read, or nothing more is wanted."""

    def batches() -> Iterator[pa.RecordBatch]:
        try:
            yield from reader
        finally:
            con.close()

    return pa.RecordBatchReader.from_batches(reader.schema, batches())


def _spark(job: Job) -> pa.RecordBatchReader:
    try:
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise MissingExtra("pyspark", "spark") from error
    spark = SparkSession.builder.getOrCreate()
    place = str(job.source.place)
    frame = spark.table(place) if job.source.kind == "spark_table" else spark.sql(place)
    wanted = [c for c in (job.source.key, job.source.url) if c and c in frame.columns]
    return (frame.select(*wanted) if wanted else frame.limit(0)).toArrow().to_reader(BATCH)
