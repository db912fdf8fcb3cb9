"""The distinct videos of a source, each with the keys that mean it and what the tables know of them.

Rows are sorted and joined in a temporary database on disk, so that memory does not grow with the source.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa

from tl_data.errors import MediaRefused, MissingExtra, TLDataError
from tl_data.identity import canonical_url, is_url, local_path
from tl_data.jobs import Job
from tl_data.lake import Lake
from tl_data.lake_tables import ERRORS, VIDEOS
from tl_data.source import BATCH, pairs

MEMORY = "64MB"  # of the database; the rest is on disk
FETCH = 1_000  # rows at a time

SAID = pa.schema([(n, pa.string()) for n in ("name", "canonical", "video", "url", "code", "message")])

#: `meanings`: how many videos a key stands for. `first`: the row that mentions a video first.
DISTINCT = """
CREATE TABLE item AS
SELECT *,
    count(*) OVER (PARTITION BY name) AS meanings,
    min(n) OVER (PARTITION BY canonical) AS first
FROM (
    SELECT name, canonical, min(n) AS n, arg_min(video, n) AS video, arg_min(url, n) AS url,
        any_value(code) AS code, any_value(message) AS message
    FROM said GROUP BY name, canonical
)"""

COUNT = "SELECT count(DISTINCT CASE WHEN meanings > 1 THEN 'k' || name ELSE 'c' || canonical END) FROM item"

ITEMS = """
SELECT i.*, p.content_key, p.video_id, p.model, p.made, e.attempt
FROM item i LEFT JOIN past p ON p.source_key = i.name LEFT JOIN failed e ON e.source_key = i.name
ORDER BY meanings > 1, CASE WHEN meanings > 1 THEN name END, first, n"""


@dataclass(frozen=True)
class Row:
    """What the table `videos` says of a source key."""

    content_key: str
    video_id: str
    model: str
    made: tuple[str, ...]


@dataclass
class Item:
    """One distinct video: where it is, and the source keys that mean it."""

    canonical: str
    video: str  # URL, signature included, or absolute path
    url: str  # as the source says it
    keys: dict[str, Row | None]
    attempts: dict[str, int] = field(default_factory=dict)  # of the keys in `errors`
    fault: TLDataError | None = None  # known from the text alone


class Listing:
    """What a source holds, beside what the tables hold. Close it, or use it in `with`."""

    def __init__(self, job: Job, lake: Lake) -> None:
        """Read the source of a job, and of the tables what concerns it.

        Rows that say the same key and video are one. A row without a URL, a text that is neither a URL nor
        a file, and a key that stands for different videos become items with a fault; nothing else suffers.

        Raises:
            SchemaMismatch: a column is missing or is not text.
            SettingsError: the source is not there or cannot be read.
        """
        try:
            import duckdb
        except ImportError as error:
            raise MissingExtra("duckdb", "jobs") from error
        self._folder = tempfile.TemporaryDirectory(prefix="tl_data_")
        file = Path(self._folder.name, "source.duckdb")
        self._con: Any = duckdb.connect(str(file), config={"memory_limit": MEMORY, "threads": 1})
        try:
            self._read_past(lake)
            self.rows = self._read_source(job)
            self._con.execute(DISTINCT)
            self._con.execute("DROP TABLE said")
            self.distinct = int(self._con.execute(COUNT).fetchall()[0][0])
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
        self._folder.cleanup()

    def items(self) -> Iterator[Item]:
        """The distinct videos in the order of the source; those that are no videos at the end."""
        for _, group in groupby(self._rows(ITEMS), _which):
            yield _item(list(group))

    def another_means(self, video_id: str, keys: list[str]) -> bool:
        """Whether the tables have the video under another key than these."""
        asked = "SELECT 1 FROM past WHERE video_id = ? AND NOT list_contains(?, source_key) LIMIT 1"
        with self._con.cursor() as cursor:
            return cursor.execute(asked, [video_id, keys]).fetchone() is not None

    def _rows(self, query: str) -> Iterator[dict[str, Any]]:
        with self._con.cursor() as cursor:
            for batch in cursor.sql(query).to_arrow_reader(FETCH):
                yield from batch.to_pylist()

    def _read_past(self, lake: Lake) -> None:
        known = lake.batches(VIDEOS, ["source_key", "content_key", "video_id", "model", "made"])
        self._con.register("known", known)
        self._con.execute("CREATE TABLE past AS SELECT * FROM known")
        failed = lake.batches(ERRORS, ["source_key", "attempt"])
        self._con.register("in_errors", failed)
        self._con.execute("CREATE TABLE failed AS SELECT * FROM in_errors")
        for view in ("known", "in_errors"):
            self._con.unregister(view)

    def _read_source(self, job: Job) -> int:
        columns = ", ".join(f"{name} VARCHAR" for name in SAID.names)
        self._con.execute(f"CREATE TABLE said ({columns}, n BIGINT)")
        said, rows, videos = pairs(job), 0, set[str]()
        while batch := list(islice(said, BATCH)):
            read: list[dict[str, str | None]] = []
            for key, url in batch:
                read.append(_said(key, url, job.base))
                if job.limit:
                    videos.add(str(read[-1]["canonical"]))
                    if len(videos) >= job.limit:
                        break
            self._con.register("batch", pa.Table.from_pylist(read, SAID))
            self._con.execute(f"INSERT INTO said SELECT *, {rows} + row_number() OVER () FROM batch")
            self._con.unregister("batch")
            rows += len(read)
            if job.limit and len(videos) >= job.limit:
                break
        return rows


def _which(row: dict[str, Any]) -> tuple[bool, str]:
    """The item that a row belongs to: a key with several meanings, or else a video."""
    ambiguous = row["meanings"] > 1
    return ambiguous, row["name" if ambiguous else "canonical"]


def _item(rows: list[dict[str, Any]]) -> Item:
    first = rows[0]
    if first["meanings"] > 1:
        places = sorted(row["canonical"] or "no URL" for row in rows)
        return Item("", "", first["url"], {first["name"]: None}, fault=_ambiguous(first["name"], places))
    keys = {
        r["name"]: Row(r["content_key"], r["video_id"], r["model"], tuple(r["made"] or ()))
        if r["video_id"]
        else None
        for r in rows
    }
    attempts = {r["name"]: r["attempt"] for r in rows if r["attempt"]}
    fault = MediaRefused(first["message"], first["code"]) if first["code"] else None
    return Item(first["canonical"], first["video"], first["url"], keys, attempts, fault)


def _ambiguous(key: str, places: list[str]) -> MediaRefused:
    shown = ", ".join(places[:3]) + (", ..." if len(places) > 3 else "")
    text = f"the key {key!r} stands for {len(places)} different videos ({shown}); give each a key of its own"
    return MediaRefused(text, "source_key_ambiguous")


def _said(key: str | None, text: str | None, base: str) -> dict[str, str | None]:
    """A row of the source: canonical name and usable form of what stands there, or what is wrong with it.

    Rows without a URL are one item: without a key there is nothing to tell them apart by.
    """
    if text is None or not text.strip():
        missing = "the row has no URL: its value is NULL or empty"
        return _row(key or "NULL", "", "", "", "video_url_missing", missing)
    try:
        if is_url(text.strip()):
            canonical = canonical_url(text)
            return _row(key or canonical, canonical, text.strip(), text)
        path = Path(base, local_path(text).expanduser())
        if path.is_file():
            canonical = path.absolute().as_uri()
            return _row(key or canonical, canonical, str(path.absolute()), text)
    except MediaRefused as refused:
        return _row(key or text, text, text, text, refused.code, str(refused.args[0]))
    except (OSError, ValueError, RuntimeError):
        pass  # a text that not even a path can be made of
    shown = text if len(text) <= 200 else text[:197] + "..."
    message = f"{shown!r} is neither a URL (http:// or https://) nor a file on this machine"
    return _row(key or text, text, text, text, "video_url_invalid", message)


def _row(
    name: str, canonical: str, video: str, url: str, code: str | None = None, message: str | None = None
) -> dict[str, str | None]:
    return dict(zip(SAID.names, (name, canonical, video, url, code, message), strict=True))
