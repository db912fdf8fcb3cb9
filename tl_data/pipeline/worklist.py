"""The distinct videos of a source, each with its keys and its state in the tables.

Rows are sorted and joined in a temporary database on disk, so that memory does not grow with the source.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import pyarrow as pa

from tl_data.errors import MediaRefused, MissingExtra, TLDataError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, TABLES, TEXT_TABLES, VIDEOS, LakeSchema
from tl_data.media.identity import NOT_A_PLACE, canonical_url, is_url, local_path, missing_file
from tl_data.pipeline.job import OUTPUTS, Job
from tl_data.pipeline.source import BATCH, pairs
from tl_data.runtime.scratch import Scratch
from tl_data.urls import redacted

MEMORY = "96MB"  # limit of the database while it sorts
MORE_MEMORY = "1GB"  # limit for a second attempt if MEMORY is not enough
CACHE = "24MB"  # limit of the database while the videos are read
FETCH = 500  # rows per fetch

#: The columns of a source row in the database. `name` is its key; without one, its canonical URL.
#: `code` and `message` are its error.
SOURCE_ROW = pa.schema([(n, pa.string()) for n in ("name", "canonical", "video", "url", "code", "message")])

#: Groups, joins and one sort, which DuckDB can do on disk; window functions need memory. `ambiguous_key` has
#: the keys that stand for several videos, `first_row` the number of each video's first row.
STEPS = (
    """CREATE TABLE pair AS
    SELECT name, canonical, min(n) AS n, arg_min(video, n) AS video, arg_min(url, n) AS url,
        any_value(code) AS code, any_value(message) AS message
    FROM source_row GROUP BY name, canonical""",
    "DROP TABLE source_row",
    "CREATE TABLE ambiguous_key AS SELECT name FROM pair GROUP BY name HAVING count(*) > 1",
    "CREATE TABLE first_row AS SELECT canonical, min(n) AS first FROM pair GROUP BY canonical",
    """CREATE TABLE ordered AS
    SELECT i.*, m.name IS NOT NULL AS ambiguous, p.content_key, p.video_id, p.model, p.made,
        p.indexed_at, e.attempt, e.failures
    FROM pair i
    JOIN first_row f ON f.canonical = i.canonical
    LEFT JOIN ambiguous_key m ON m.name = i.name
    LEFT JOIN past p ON p.source_key = i.name
    LEFT JOIN failed e ON e.source_key = i.name
    ORDER BY ambiguous, CASE WHEN m.name IS NOT NULL THEN i.name END, f.first, i.n""",
    "DROP TABLE pair",
    "CHECKPOINT",
)

COUNT = "SELECT count(DISTINCT CASE WHEN ambiguous THEN 'k' || name ELSE 'c' || canonical END) FROM ordered"

#: Rows are read by position, because DuckDB would hold the whole result of one query in memory.
PAGE = "SELECT * FROM ordered WHERE rowid >= ? AND rowid < ? ORDER BY rowid"


@dataclass(frozen=True)
class KnownVideo:
    """The state of a source key in the table `videos`."""

    content_key: str
    video_id: str | None  # None: not indexed
    model: str
    made: tuple[str, ...]  # its outputs in other tables, as in `videos.made`: "clips", "summaries:<prompt>"
    indexed_at: datetime | None = None


@dataclass(frozen=True)
class UnlistedVideo:
    """A row of `videos` that the source of this job no longer lists."""

    source_key: str
    content_key: str | None
    video_id: str | None
    made: tuple[str, ...]


@dataclass
class SourceVideo:
    """One distinct video and its source keys, or the error of a source key that stands for several videos."""

    canonical: str  # URL without its signature; "" for an ambiguous key and for rows without a URL
    location: str  # URL with its signature, or absolute path; "" as for `canonical`
    url: str  # URL or path as in the source
    keys: dict[str, KnownVideo | None]  # source key -> its state in `videos`; None: it has none
    attempts: dict[str, int] = field(default_factory=dict)  # source key -> failed attempts in `errors`
    failures: frozenset[str] = frozenset()  # names of its failures in `errors`; see `failure_name`
    urls: dict[str, str] = field(default_factory=dict)  # source key -> URL or path as in the source
    error: TLDataError | None = None  # the row has no valid URL, or its key stands for several videos


class Worklist:
    """The videos of a source joined with the tables. Close it, or use it as a context manager."""

    def __init__(self, job: Job, lake: Lake) -> None:
        """Read the source of a job, and its videos in the tables.

        Rows of the same video are one item, also if their keys differ. A row has an error if it has no URL,
        or if its text is neither a URL nor a file. A key that stands for several videos is one item with an
        error, which has all rows of the key. Other items are not affected.

        Raises:
            SchemaMismatch: a column is missing or is not text.
            SettingsError: the source is missing or cannot be read.
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtra("duckdb", "jobs") from error
        self._scratch = Scratch()
        file = self._scratch.path / "source.duckdb"
        self._con: Any = duckdb.connect(str(file), config={"memory_limit": MEMORY, "threads": 1})
        try:
            self._read_past(lake)
            if job.refresh:
                self._read_texts(lake)
            self.rows = self._read_source(job)  # number of rows that were read, with repeated ones
            for step in STEPS:
                try:
                    self._con.execute(step)
                except duckdb.OutOfMemoryException:  # too many rows for this limit
                    self._con.execute(f"SET memory_limit = '{MORE_MEMORY}'")
                    self._con.execute(step)
            self.distinct = int(self._con.execute(COUNT).fetchall()[0][0])  # number of items
            self._read_changes(job)
            self._con.close()  # releases the memory of the sort
            self._con = duckdb.connect(str(file), config={"memory_limit": CACHE, "threads": 1})
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Remove the temporary database."""
        self._con.close()
        self._scratch.close()

    def items(self) -> Iterator[SourceVideo]:
        """The distinct videos in the order of the source; items with an error at the end."""
        for _, group in groupby(self._rows(), _item_key):
            yield _item(list(group))

    def hold(self, video: Any) -> None:
        """Store an inspected video on disk until all videos are inspected."""
        with (self._scratch.path / "held.pickle").open("ab") as file:
            pickle.dump(video, file)

    def held(self) -> Iterator[Any]:
        """The stored videos, in the order of `hold`."""
        path = self._scratch.path / "held.pickle"
        if not path.exists():
            return
        with path.open("rb") as file:
            size = path.stat().st_size
            while file.tell() < size:
                yield pickle.load(file)

    def has_other_key(
        self, column: Literal["video_id", "content_key"], value: str | None, keys: Iterable[str]
    ) -> bool:
        """Whether the tables have a video or content under a source key other than these."""
        query = f"SELECT 1 FROM past WHERE {column} = ? AND NOT list_contains(?, source_key) LIMIT 1"
        return bool(self._con.execute(query, [value, list(keys)]).fetchall())

    def set_video(self, keys: list[str], video_id: str | None, content_key: str) -> None:
        """Update source keys in the temporary database, for `has_other_key`; the lake is not written."""
        self._con.execute(
            "UPDATE past SET video_id = ?, content_key = ? WHERE list_contains(?, source_key)",
            [video_id, content_key, keys],
        )

    def unlisted(self) -> list[UnlistedVideo]:
        """The rows of `videos` of this job that the source no longer lists."""
        rows = self._con.sql("SELECT * FROM unlisted ORDER BY source_key").to_arrow_table().to_pylist()
        return [
            UnlistedVideo(r["source_key"], r["content_key"], r["video_id"], tuple(r["made"] or ()))
            for r in rows
        ]

    def _read_changes(self, job: Job) -> None:
        """Find rows of `videos` that left the source, and rows to mark as listed by this job.

        The source lists the latter. They are marked as removed; or, if the job handles removals, they have no
        job yet.
        """
        listed = "SELECT name FROM ordered"
        # A source that is read in part does not show what was removed. An empty source counts as incomplete,
        # so that a failed export of the list does not remove all videos.
        complete = not job.limit and self.rows > 0
        self._con.execute(
            f"""CREATE TABLE unlisted AS SELECT source_key, content_key, video_id, made FROM past
            WHERE {complete} AND job = $job AND removed_at IS NULL AND source_key NOT IN ({listed})""",
            {"job": job.name},
        )
        set_job = job.removed != "keep"
        rows = self._con.execute(
            f"""SELECT source_key FROM past WHERE source_key IN ({listed})
            AND (removed_at IS NOT NULL OR ({set_job} AND job IS NULL)) ORDER BY source_key"""
        ).fetchall()
        #: Source keys of the rows to mark as listed by this job.
        self.to_mark = [key for (key,) in rows]

    def _rows(self) -> Iterator[dict[str, Any]]:
        """The rows of the table `ordered`."""
        start = 0
        while rows := self._con.sql(PAGE, params=[start, start + FETCH]).to_arrow_table().to_pylist():
            yield from rows
            start += FETCH

    def _read_past(self, lake: Lake) -> None:
        """Read the tables `videos` and `errors`, and find outputs whose tables were deleted."""
        columns = [
            "source_key",
            "content_key",
            "video_id",
            "model",
            "made",
            "indexed_at",
            "job",
            "removed_at",
        ]
        self._copy("past", lake.batches(VIDEOS, columns))
        self._copy("failure", lake.batches(ERRORS, ["source_key", "attempt", "output", "code", "class"]))
        self._con.execute(
            """CREATE TABLE failed AS SELECT source_key, max(attempt) AS attempt,
            list(coalesce(output, '') || ':' || coalesce(code, class, '')) AS failures
            FROM failure GROUP BY source_key"""
        )
        absent = [name for name in OUTPUTS if not lake.exists(TABLES[name])]
        #: Outputs of which the tables were deleted.
        self.deleted_outputs = tuple(name for name in absent if self._forget(name))

    def _forget(self, name: str) -> bool:
        """Remove an output from the column `made`. Returns whether a video had it."""
        kept = f"[m FOR m IN made IF split_part(m, ':', 1) <> '{name}']"
        [(count,)] = self._con.execute(
            f"UPDATE past SET made = {kept} WHERE len({kept}) < len(made)"
        ).fetchall()
        return bool(count)

    def _read_texts(self, lake: Lake) -> None:
        """Read the tables of texts.

        If a job replaces vectors of another model (`refresh`), its videos get new ids, and `texts` returns
        the rows to write again under the new id.
        """
        for declared in TEXT_TABLES:
            self._copy(declared.name, lake.batches(declared))

    def _copy(self, name: str, rows: pa.RecordBatchReader) -> None:
        """Create a table of these rows.

        The batches are read here. If DuckDB read them, it would raise its own error in place of a LakeError.
        """
        self._con.register("part", rows.schema.empty_table())
        self._con.execute(f"CREATE TABLE {name} AS SELECT * FROM part")
        for batch in rows:
            self._con.register("part", pa.Table.from_batches([batch]))
            self._con.execute(f"INSERT INTO {name} SELECT * FROM part")
        self._con.unregister("part")

    def texts(self, declared: LakeSchema, video_id: str) -> pa.Table:
        """The rows of a video in a table of texts. Only for a job with `refresh`, see `_read_texts`."""
        query = f"SELECT * FROM {declared.name} WHERE video_id = ?"
        return self._con.sql(query, params=[video_id]).to_arrow_table().cast(declared.schema)

    def _read_source(self, job: Job) -> int:
        """Copy the rows of the source into the database, and return their number."""
        columns = ", ".join(f"{name} VARCHAR" for name in SOURCE_ROW.names)
        self._con.execute(f"CREATE TABLE source_row ({columns}, n BIGINT)")
        source, rows, videos = pairs(job), 0, set[str]()
        signing = job.load_settings().signing_parameters
        while batch := list(islice(source, BATCH)):
            read: list[dict[str, str | None]] = []
            for key, url in batch:
                read.append(_source_row(key, url, job.base, signing))
                if job.urls == "redacted":
                    _redact(read[-1], has_key=key is not None)
                if job.limit:
                    videos.add(str(read[-1]["canonical"]))
                    if len(videos) >= job.limit:
                        break
            self._con.register("batch", pa.Table.from_pylist(read, SOURCE_ROW))
            self._con.execute(f"INSERT INTO source_row SELECT *, {rows} + row_number() OVER () FROM batch")
            self._con.unregister("batch")
            rows += len(read)
            if job.limit and len(videos) >= job.limit:
                break
        return rows


def failure_name(output: str | None, code: str) -> str:
    """The name of a failure, by which known failures are recognized in `SourceVideo.failures`."""
    return f"{output or ''}:{code}"


def _item_key(row: dict[str, Any]) -> tuple[bool, str]:
    """What the rows of one item share: an ambiguous key, else the video."""
    ambiguous = bool(row["ambiguous"])
    return ambiguous, row["name" if ambiguous else "canonical"]


def _item(rows: list[dict[str, Any]]) -> SourceVideo:
    """The item of some rows of the table `ordered`."""
    first = rows[0]
    if first["ambiguous"]:
        videos = sorted(row["canonical"] or "no URL" for row in rows)
        return SourceVideo(
            "", "", first["url"], {first["name"]: None}, error=_ambiguous(first["name"], videos)
        )
    keys = {row["name"]: _known(row) for row in rows}
    attempts = {r["name"]: r["attempt"] for r in rows if r["attempt"]}
    failures = frozenset(failure for row in rows for failure in row["failures"] or ())
    refused = MediaRefused(first["message"], first["code"]) if first["code"] else None
    urls = {row["name"]: row["url"] for row in rows}
    return SourceVideo(
        first["canonical"], first["video"], first["url"], keys, attempts, failures, urls, refused
    )


def _known(row: dict[str, Any]) -> KnownVideo | None:
    if not row["content_key"]:
        return None
    made = tuple(row["made"] or ())
    return KnownVideo(row["content_key"], row["video_id"], row["model"], made, row["indexed_at"])


def _ambiguous(key: str, videos: list[str]) -> MediaRefused:
    examples = ", ".join(videos[:3]) + (", ..." if len(videos) > 3 else "")
    text = (
        f"the key {key!r} stands for {len(videos)} different videos ({examples}); use a distinct key for each"
    )
    return MediaRefused(text, "source_key_ambiguous")


def _source_row(key: str | None, text: str | None, base: str, signing: str) -> dict[str, str | None]:
    """A row of the source as a SOURCE_ROW: with its canonical URL, or with its error.

    All rows without key and URL become one item, because they cannot be distinguished.
    """
    if text is None or not text.strip():
        missing = "the row has no URL: its value is NULL or empty"
        return _row(key or "NULL", "", "", "", "video_url_missing", missing)
    if "\ufffd" in text:  # how Spark replaces bytes that are not UTF-8
        message = "the URL has characters that are not UTF-8: save the source as UTF-8"
        return _row(key or text, text, text, text, "video_url_invalid", message)
    try:
        url = text.strip().strip("\ufeff").strip()
        if is_url(url):
            canonical = canonical_url(url, signing)
            return _row(key or canonical, canonical, url, text)
        path = Path(base, local_path(text).expanduser())
        if not path.is_file():
            path = Path(base, local_path(text.strip()).expanduser())
        if path.is_file():
            canonical = path.absolute().as_uri()
            return _row(key or canonical, canonical, str(path.absolute()), text)
    except MediaRefused as refused:
        return _row(key or text, text, text, text, refused.code, str(refused.args[0]))
    except (OSError, ValueError, RuntimeError):
        pass  # not a valid path
    shown = text if len(text) <= 200 else text[:197] + "..."
    message = f"{shown!r} is {NOT_A_PLACE}{missing_file(text)}"
    return _row(key or text, text, text, text, "video_url_invalid", message)


def _redact(row: dict[str, str | None], *, has_key: bool) -> None:
    """Remove secrets from the URL of a row, and from its name if the row has no key of its own.

    A parameter that looks like a secret may also tell two videos apart: the names keep a digest of the URL.
    """
    if not has_key:
        name = row["name"] or ""
        if (shown := redacted(name)) != name:
            shown += f"#{hashlib.sha256((row['canonical'] or '').encode()).hexdigest()[:12]}"
        row["name"] = shown
    row["url"] = redacted(row["url"] or "")


def _row(
    name: str, canonical: str, video: str, url: str, code: str | None = None, message: str | None = None
) -> dict[str, str | None]:
    return dict(zip(SOURCE_ROW.names, (name, canonical, video, url, code, message), strict=True))
