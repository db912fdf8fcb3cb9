"""The embedded engine's analysis of videos on Spark executors: one row per video, written to a lake.

The driver reads the source in chunks and starts one Spark job per chunk, several at a time, so that no core
waits for the last video of a chunk. An executor identifies each URL, downloads and analyses it, and returns
its evidence, clips and vectors, and frames on request. The driver alone writes the lake, one commit per
chunk: there are no conflicting writers, and files have the size of a chunk. A killed run loses the chunks in
flight.

Executors need the extras `local` and `spark` of tl_data. Nothing is paid, and no server runs.
"""

from __future__ import annotations

import asyncio
import math
import os
import socket
import uuid
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.client.remote import Remote, content_md5
from tl_data.errors import (
    ConnectionFailed,
    MediaRefused,
    MissingExtra,
    SchemaMismatch,
    SettingsError,
    TLDataError,
)
from tl_data.functions.embed import segments as segments_of
from tl_data.functions.index import clip_rows
from tl_data.lake.base import Group, rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, ERRORS, EVIDENCE, FRAMES, RUNS, VECTORS, VIDEOS, LakeSchema
from tl_data.media.frames import frames_of
from tl_data.media.identity import canonical_url, identify, is_url, local_path
from tl_data.object_store import Buckets
from tl_data.runtime.scratch import Scratch
from tl_data.spark.register import is_connect
from tl_data.types import COUNT, FLAG, NUMBER, TEXT
from tl_data.urls import is_bucket, redacted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tl_data.local.perceive import Access, Perceived, Perceiver

JOB = "perceive"  # the value of the column `job` of `videos` and `runs`
#: Value of the column `made` of `videos`.
MADE = ("clips", "evidence", "vectors")
#: Columns of `videos` that an executor returns.
_VIDEO_COLUMNS = ("canonical_url", "content_key", "duration_sec", "width", "height", "fps", "size_bytes")
_VECTOR = pa.list_(pa.float32())


def _rows_type(declared: LakeSchema, *without: str) -> pa.DataType:
    """The type of a list of rows of a table, without the columns that are equal for all rows of a video."""
    fields = [f for f in declared.schema if f.name not in ("video_id", "model", "dimension", *without)]
    fields = [pa.field(f.name, _VECTOR if f.name == "vector" else f.type) for f in fields]
    return pa.list_(pa.struct(fields))


_CLIPS, _VECTORS, _FRAMES = _rows_type(CLIPS, "thumbnail_url"), _rows_type(VECTORS), _rows_type(FRAMES)
#: What an executor receives for each video. `known_key` is the content key that needs no analysis; NULL if
#: the lake has none for this URL.
_INPUT = pa.schema([("canonical_url", TEXT), ("url", TEXT), ("known_key", TEXT)])
#: What an executor returns for each video. `state` is done, unchanged or failed; `form` is the version of the
#: evidence.
_RESULT = pa.schema(
    [
        ("canonical_url", TEXT),
        ("state", TEXT),
        ("content_key", TEXT),
        ("sha256", TEXT),
        ("filename", TEXT),
        ("size_bytes", COUNT),
        ("duration_sec", NUMBER),
        ("width", COUNT),
        ("height", COUNT),
        ("fps", NUMBER),
        ("form", COUNT),
        ("evidence", pa.binary()),
        ("clips", _CLIPS),
        ("vectors", _VECTORS),
        ("frames", _FRAMES),
        ("class", TEXT),
        ("code", TEXT),
        ("message", TEXT),
        ("retryable", FLAG),
        ("worker", TEXT),
        ("seconds", NUMBER),
    ]
)


@dataclass
class Report:
    """The outcome of `perceive`."""

    model: str  # the engine's name of the models, as in the column `model`
    videos: int = 0  # distinct videos of the source
    analyzed: int = 0
    unchanged: int = 0  # videos that the lake already has, with the same content
    failed: int = 0  # listed in `errors`
    minutes: float = 0.0  # of video, analyzed
    analysis_seconds: float = 0.0  # sum over all executors
    workers: set[str] = field(default_factory=set)  # Python workers that analyzed a video, as host:pid


@dataclass(frozen=True)
class _Executor:
    """The function that analyzes videos on an executor. Spark pickles it with its fields."""

    access: Access  # the files and addresses that it may read
    model: str  # the model name that all executors must have
    frames: bool  # whether it also returns frames
    signed_url_hours: float  # how long URLs of objects in buckets are signed for

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn batches of `_INPUT` into batches of `_RESULT`, one row each.

        Raises:
            SchemaMismatch: this executor has other models.
            ModelFailed, StorageFull: the executor cannot analyze videos.
        """
        perceiver = _perceiver(self.access)
        if perceiver.model != self.model:
            raise SchemaMismatch(
                f"the executor on {socket.gethostname()} has the models {perceiver.model}, but another has "
                f"{self.model}. Install the same packages and set the same TL_LOCAL_* variables on all"
            )
        started: deque[dict[str, Any]] = deque()
        try:
            for batch in batches:
                for row in batch.to_pylist():
                    started.append(self._start(perceiver, row))
                    if len(started) == 2:  # the second download runs during the analysis of the first
                        yield self._finish(perceiver, started.popleft())
            while started:
                yield self._finish(perceiver, started.popleft())
        finally:  # after an error, and after the end of the task
            for fields in started:
                if "download" in fields:
                    perceiver.discard(fields["download"])

    def _start(self, perceiver: Perceiver, row: Mapping[str, Any]) -> dict[str, Any]:
        """Identify a video and begin its download; returns the first fields of its result."""
        from tl_data.local.errors import MediaError

        result: dict[str, Any] = {"canonical_url": row["canonical_url"], "worker": _worker_name()}
        url = str(row["url"])
        try:
            head, get = self._addresses(url)
            perceiver.check(get)  # before anything is read of it
            identity = asyncio.run(identify(_Headers(perceiver, head, get), url))
            result["content_key"] = identity.content_key
            if identity.content_key == row["known_key"]:
                return result | {"state": "unchanged"}
            return result | {"download": perceiver.start(get)}
        except (TLDataError, MediaError) as error:
            if not _is_of_video(error):
                raise
            return result | _failure(error)

    def _addresses(self, url: str) -> tuple[str, str]:
        """The URLs for HEAD and GET: signed for an object in a bucket, a file:// URL for a path."""
        if not is_bucket(url):
            return (url, url) if is_url(url) else (local_path(url).absolute().as_uri(),) * 2
        buckets = _buckets(self.signed_url_hours)

        async def sign() -> tuple[str, str]:
            return await buckets.sign("HEAD", url), await buckets.sign("GET", url)

        return asyncio.run(sign())

    def _finish(self, perceiver: Perceiver, started: dict[str, Any]) -> pa.RecordBatch:
        """The complete result of a video, as one row."""
        from tl_data.local.errors import MediaError

        fields = started
        if "state" not in started:
            download = started.pop("download")
            pictures: dict[str, Any] = {"frames": None}

            def read(path: Path, seconds: float) -> None:
                pictures.update(_pictures(path, seconds))

            try:
                found = perceiver.finish(download, read if self.frames else None)
                fields = started | pictures | _fields(found) | {"state": "done"}
            except (TLDataError, MediaError) as error:
                if not _is_of_video(error):
                    raise
                fields = started | _failure(error)
        return pa.RecordBatch.from_pylist([fields], _RESULT)


class _Headers:
    """Reads the headers of one URL through the engine's checks of addresses, for `identify`."""

    def __init__(self, perceiver: Perceiver, head: str, get: str) -> None:
        self._perceiver, self._head, self._get = perceiver, head, get

    async def probe_url(self, url: str) -> Remote:
        status, fields = self._perceiver.headers(self._head, self._get)
        if status >= 400:
            raise MediaRefused(
                f"cannot read {redacted(url)} (HTTP {status})",
                "video_url_not_found" if status in (404, 410) else "video_url_not_accessible",
            )
        ranged = fields.get("content-range", "").rpartition("/")[2]
        length = ranged or fields.get("content-length", "")
        return Remote(
            url=url,
            final_url=url,
            status=status,
            content_type=fields.get("content-type"),
            length=int(length) if length.isdigit() else None,
            etag=fields.get("etag"),
            last_modified=fields.get("last-modified"),
            accept_ranges=bool(ranged),
            md5=content_md5(fields, s3=url.startswith("s3")),
        )


@cache
def _buckets(hours: float) -> Buckets:
    """The stores of buckets of this Python worker: their credentials are fetched once."""
    return Buckets(hours)


#: The perceivers of this Python worker, by access. Spark reuses workers, so each loads its models once.
_perceivers: dict[Access, Perceiver] = {}
#: Their folders. Spark ends its workers without `atexit`: the next worker on the machine removes the folders.
_scratch: list[Scratch] = []


def _perceiver(access: Access) -> Perceiver:
    from tl_data.local.perceive import Perceiver

    if access not in _perceivers:
        _scratch.append(Scratch())
        _perceivers[access] = Perceiver(access, folder=_scratch[-1].path)
    return _perceivers[access]


def _worker_name() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _is_of_video(error: Exception) -> bool:
    """Whether the cause of an error is the video, not the packages, settings or models of the executor."""
    from tl_data.local.perception.evidence import ModelFailed

    return not isinstance(error, ModelFailed | MissingExtra | SettingsError)


def _pictures(path: Path, seconds: float) -> dict[str, Any]:
    """The frames of a downloaded file. Unreadable frames are None, with the fields of the failure."""
    try:
        return {"frames": frames_of(str(path), seconds)}
    except (MediaRefused, ConnectionFailed) as error:
        return {"frames": None} | _failure(error)


#: Codes of failures that may pass.
_RETRYABLE = ("video_url_not_accessible", "video_url_not_found", "engine_worker_failed")


def _failure(error: Exception) -> dict[str, Any]:
    """The fields of a failed video."""
    code = str(getattr(error, "code", None) or "video_file_broken")
    message = str(getattr(error, "message", None) or error)
    return {
        "state": "failed",
        "class": "MediaRefused",
        "code": code,
        "message": redacted(message),
        "retryable": code in _RETRYABLE,
    }


def _fields(found: Perceived) -> dict[str, Any]:
    """The fields of an analyzed video. Clips and vectors are those that the API would return for it."""
    full = {
        "embedding": {"video_embedding": {"segments": found.segments}},
        "transcription": found.transcription,
    }
    names = ("sha256", "filename", "size_bytes", "duration_sec", "width", "height", "fps", "form", "seconds")
    return {name: getattr(found, name) for name in names} | {
        "evidence": found.evidence,
        "clips": [{n: v for n, v in clip.items() if n != "vector"} for clip in clip_rows(full, "visual")],
        "vectors": segments_of(full),
    }


# -------------------------------------------------------------------------------------------- the driver


def perceive(
    df: DataFrame,
    url: str = "url",
    *,
    lake: Lake | str = "lake",
    key: str | None = None,
    frames: bool = False,
    media: str | None = None,
    allow_private: bool = False,
    chunk: int = 64,
    per_task: int = 4,
    in_flight: int = 2,
    again: bool = False,
    signed_url_hours: float = 12.0,
) -> Report:
    """Analyze the videos of a DataFrame on the executors, and write the results to a lake.

    The tables `videos`, `clips`, `vectors` and `evidence` are those that an embedded engine would make, under
    the same model name: `nearest`, `tl-data view` and `tl-data serve --lake` read them. A video that the lake
    has with the same content and model is not downloaded. One that fails is a row in `errors`.

    Args:
        df: the rows.
        url: the column with URLs (http, https, s3, gs, az, abfss), or with paths below `media`.
        lake: the folder or bucket of the lake. Only the driver writes it.
        key: the column that identifies a row; None: the URL without its signature.
        frames: also write the table `frames`, for the viewer.
        media: the folder that executors may read paths and file:// URLs from.
        allow_private: whether URLs may resolve to private addresses.
        chunk: videos per Spark job and per commit.
        per_task: videos per Spark task.
        in_flight: number of concurrent Spark jobs.
        again: whether to retry unchanged videos whose failure was final.
        signed_url_hours: how long URLs of objects in buckets are signed for.

    Raises:
        SchemaMismatch: a column is missing, the lake has vectors of another model, or executors differ.
        LakeError: the lake cannot be written. What is written stays; a repeated call continues.
    """
    from tl_data.local.perceive import Access

    for column in (url, key):
        if column is not None and column not in df.columns:
            raise SchemaMismatch(f"no column {column!r}; columns: {', '.join(df.columns)}")
    for name, value in (("chunk", chunk), ("per_task", per_task), ("in_flight", in_flight)):
        if value < 1:
            raise SchemaMismatch(f"{name} is {value}; it must be at least 1")
    spark = df.sparkSession
    access = Access(allow_private=allow_private, media=str(Path(media).absolute()) if media else None)
    model = _model_of_executors(spark, access)
    opened = lake if isinstance(lake, Lake) else Lake(str(lake), "delta")
    run = _Run(opened, model, _Known.read(opened, model, again), frames)
    work = _Executor(access, model, frames, signed_url_hours)
    columns = [df[url].alias("url")] + ([df[key].alias("source_key")] if key else [])
    rows = df.select(*columns).distinct().toLocalIterator(prefetchPartitions=True)
    source = run.inputs({"url": row["url"], "source_key": row["source_key"] if key else None} for row in rows)
    tag = f"tl-perceive-{uuid.uuid4().hex}"
    pending: dict[Future[pa.Table], None] = {}
    with ThreadPoolExecutor(in_flight, "tl-perceive") as pool:
        try:
            while True:
                while len(pending) < in_flight and (inputs := list(islice(source, chunk))):
                    pending[pool.submit(_analyze_chunk, spark, work, inputs, per_task, tag)] = None
                if not pending:
                    break
                wait(pending, return_when=FIRST_COMPLETED)
                for failed in _commit_finished(run, pending):
                    failed.result()  # raises
        except BaseException as error:
            with suppress(Exception):  # of a cluster that is gone: `error` says so
                _cancel_jobs(spark, tag)
            pool.shutdown(cancel_futures=True)
            try:
                if not isinstance(error, TLDataError):  # otherwise the lake refused a chunk
                    _commit_finished(run, pending)
            finally:
                run.end("interrupted")
            raise
    run.end("done")
    return run.report


def _commit_finished(run: _Run, pending: dict[Future[pa.Table], None]) -> list[Future[pa.Table]]:
    """Commit the chunks that are finished, and remove them from `pending`; returns the failed ones."""
    failed: list[Future[pa.Table]] = []
    for future in [future for future in pending if future.done()]:
        del pending[future]
        if future.cancelled() or future.exception() is not None:
            failed.append(future)
        else:
            run.commit(future.result())
    return failed


def _model_of_executors(spark: Any, access: Access) -> str:
    """The model name, read on an executor, because the driver may not have the models."""

    def name(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"model": [_perceiver(access).model]})

    rows = spark.range(1, numPartitions=1).mapInArrow(name, "model string").collect()
    return str(rows[0]["model"])


def _cancel_jobs(spark: Any, tag: str) -> None:
    """Cancel the running jobs with a tag."""
    if is_connect(spark):
        spark.interruptTag(tag)
    else:  # tags of a classic session are not those of the jobs of `toArrow`
        spark.sparkContext.cancelJobsWithTag(tag)


def _analyze_chunk(
    spark: Any, work: _Executor, inputs: Sequence[dict[str, Any]], per_task: int, tag: str
) -> pa.Table:
    """Analyze one chunk, rows of `_INPUT`, in Spark jobs with a tag; returns rows of `_RESULT`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    # The tag is that of this thread, which ends with the call of `perceive`.
    if is_connect(spark):
        spark.addTag(tag)
    else:
        spark.sparkContext.addJobTag(tag)
    source = spark.createDataFrame(pa.Table.from_pylist(list(inputs), _INPUT))
    parts = source.repartition(max(1, math.ceil(len(inputs) / per_task)))

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return work(batches)

    result: pa.Table = parts.mapInArrow(run, from_arrow_schema(_RESULT)).toArrow()
    return result.cast(_RESULT)


def _video_id(sha256: str) -> str:
    """The id of a video: 24 hex digits, as on a platform, from the file, so that equal files have one id."""
    return sha256[:24]


@dataclass
class _Known:
    """What the lake contains about each canonical URL, in about 430 bytes of memory per video."""

    #: Canonical URL -> content key that needs no analysis.
    keys: dict[str, str] = field(default_factory=dict)
    #: Source key -> canonical URL and content key of its row in `videos`.
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)  # source key in `errors` -> failed attempts
    #: Canonical URL -> fields of the failure: content that is not retried, and all failures of this call.
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Source key in `errors` -> canonical URL in `failed`.
    listed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, lake: Lake, model: str, again: bool) -> _Known:
        """Read the tables.

        Raises:
            SchemaMismatch: the lake has vectors of another model.
        """
        for batch in lake.batches(VECTORS, ["model"]):
            other = [m for m in pc.unique(batch.column("model")).to_pylist() if m != model]
            if other:
                raise SchemaMismatch(
                    f"{redacted(lake.folder)} has vectors of {other[0]}, and the executors have {model}. "
                    "Vectors of different models are not comparable: choose another lake"
                )
        known = cls()
        for batch in lake.batches(VIDEOS, ["source_key", "canonical_url", "content_key", "model", "made"]):
            for row in batch.to_pylist():
                known.sources[row["source_key"]] = row["canonical_url"], row["content_key"]
                if _is_complete(row, model):
                    known.keys[row["canonical_url"]] = row["content_key"]
        columns = ["source_key", "url", "attempt", "output", *_FAILURE]
        for row in lake.read(ERRORS, columns).to_pylist():
            if row["output"] is not None:  # the video itself has not failed
                continue
            known.attempts[row["source_key"]] = row["attempt"] or 0
            if not (again or row["retryable"]) and row["content_key"]:
                canonical = _canonical(row["url"])
                known.failed[canonical] = {name: row[name] for name in _FAILURE}
                known.listed[row["source_key"]] = canonical
                known.keys[canonical] = row["content_key"]
        return known


#: The fields of a failure, as in `errors`.
_FAILURE = ("class", "code", "message", "retryable", "content_key")


def _is_complete(row: Mapping[str, Any], model: str) -> bool:
    """Whether a row of `videos` needs no analysis by a model."""
    return row["model"] == model and set(MADE) <= set(row["made"] or ())


def _canonical(url: str) -> str:
    """The canonical URL of a URL or path.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    return canonical_url(url) if is_url(url) else local_path(url).absolute().as_uri()


class _Run:
    """The state of one call of `perceive`."""

    def __init__(self, lake: Lake, model: str, known: _Known, frames: bool) -> None:
        self.report = Report(model)
        self._known = known
        names = [VIDEOS, ERRORS, CLIPS, VECTORS, EVIDENCE, RUNS, *([FRAMES] if frames else [])]
        self._tables = {declared.name: lake.table(declared) for declared in names}
        self._keys: dict[str, dict[str, str]] = {}  # canonical URL in flight -> source key -> URL
        self._refused: list[dict[str, Any]] = []  # rows of `errors` for invalid URLs
        self._rows = 0
        self._seen: set[str] = set()  # canonical URLs that became tasks
        #: Canonical URL -> source key -> URL, of rows whose video was committed before they were read.
        self._late: dict[str, dict[str, str]] = {}
        self._run = {
            "run_id": uuid.uuid4().hex, "job": JOB, "status": "running", "model": model,
            "started_at": datetime.now(UTC),
        }  # fmt: skip

    def inputs(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """A row of `_INPUT` for each distinct video. Rows without a valid URL are refused."""
        for row in rows:
            self._rows += 1
            url, key = row["url"], row["source_key"]
            try:
                if url is None or not str(url).strip():
                    raise MediaRefused("the row has no URL", "video_url_missing")
                canonical = _canonical(str(url).strip())
            except MediaRefused as error:
                self._refused.append(self._error(str(key or url or ""), str(url or ""), _failure(error)))
                continue
            source_key = str(canonical if key is None else key)
            if canonical in self._keys:
                self._keys[canonical][source_key] = str(url)
                continue
            if canonical in self._seen:
                self._late.setdefault(canonical, {})[source_key] = str(url)
                continue
            self._keys[canonical] = {source_key: str(url)}
            self._seen.add(canonical)
            self.report.videos += 1
            known = self._known.keys.get(canonical)
            yield {"canonical_url": canonical, "url": str(url).strip(), "known_key": known}

    def commit(self, result: pa.Table) -> None:
        """Write the results of a chunk: first the outputs, then `errors` and `videos`, as jobs do."""
        report, now = self.report, datetime.now(UTC)
        rows = result.drop_columns(["clips", "vectors", "frames", "evidence"]).to_pylist()
        done = result.filter(pc.equal(result.column("state"), "done"))
        ids = [_video_id(sha256) for sha256 in done.column("sha256").to_pylist()]
        first = pa.array([ids.index(video_id) for video_id in dict.fromkeys(ids)], pa.int64())
        distinct, ids = done.take(first), list(dict.fromkeys(ids))  # several URLs may have the same content
        changed = {url for url in done.column("canonical_url").to_pylist() if url in self._known.keys}
        own = {key for row in rows for key in self._keys[row["canonical_url"]]}
        former, others = self._former_rows(changed, own)
        gone: list[Group] = [(video_id,) for video_id in {*ids, *former}]
        if ids:
            for declared in (CLIPS, VECTORS, *([FRAMES] if "frames" in self._tables else [])):
                self._tables[declared.name].replace_groups(
                    self._unfolded(distinct, ids, declared), delete=gone
                )
            columns = ["content_key", "sha256", "form", "evidence"]
            evidence = [
                {"video_id": video_id, "model": report.model, "made_at": now, **row}
                for video_id, row in zip(ids, distinct.select(columns).to_pylist(), strict=True)
            ]
            self._tables["evidence"].replace_groups(rows_of(EVIDENCE, evidence), delete=gone)
        videos: list[dict[str, Any]] = []
        missing: dict[str, dict[str, str]] = {}  # canonical URL -> source keys of videos that the lake has
        errors: list[dict[str, Any]] = []
        fixed: set[str] = set()
        with_frames = "frames" in self._tables
        read = result.column("frames").is_valid().to_pylist()
        for row, has_frames in zip(rows, read, strict=True):
            canonical = row["canonical_url"]
            keys = self._keys.pop(canonical)
            if row["state"] == "unchanged" and canonical in self._known.failed:
                report.failed += 1
                errors += self._further_errors(canonical, keys)
            elif row["state"] == "unchanged":
                report.unchanged += 1
                missing[canonical] = keys
            elif row["state"] == "failed":
                report.failed += 1
                self._known.failed[canonical] = {name: row[name] for name in _FAILURE}
                errors += [self._error(key, url, row) for key, url in keys.items()]
                self._known.listed.update(dict.fromkeys(keys, canonical))
            else:
                report.analyzed += 1
                report.minutes += row["duration_sec"] / 60
                report.analysis_seconds += row["seconds"]
                report.workers.add(row["worker"])
                self._known.keys[canonical] = row["content_key"]
                if self._known.failed.pop(canonical, None):
                    # Also those of keys that this DataFrame does not have.
                    fixed.update(key for key, url in self._known.listed.items() if url == canonical)
                video = {name: row[name] for name in _VIDEO_COLUMNS} | {
                    "video_id": _video_id(row["sha256"]),
                    "status": "ready",
                    "model": report.model,
                    "made": sorted([*MADE, *(["frames"] if with_frames and has_frames else [])]),
                    "indexed_at": now,
                    "job": JOB,
                }
                same = others.get(canonical, {}) | keys
                videos += [video | {"source_key": key, "url": url} for key, url in same.items()]
                if row["code"]:
                    errors += [self._error(key, url, row) | {"output": "frames"} for key, url in keys.items()]
        self._write_rows(videos, missing, errors, fixed)

    def _write_rows(
        self,
        videos: list[dict[str, Any]],
        missing: dict[str, dict[str, str]],
        errors: list[dict[str, Any]],
        fixed: set[str],
    ) -> None:
        """Write `errors`, `videos` and the run, with late rows and refused ones.

        Args:
            videos: rows of analyzed videos.
            missing: source keys and their URLs by canonical URL of a video that the lake has.
            errors: rows of failed videos.
            fixed: source keys whose rows in `errors` are removed.
        """
        late, self._late = self._late, {}
        for canonical, keys in late.items():
            if canonical in self._known.failed:
                errors += self._further_errors(canonical, keys)
            else:
                missing[canonical] = missing.get(canonical, {}) | keys
        refused, self._refused = self._refused, []
        self.report.failed += len(refused)
        fixed.update(row["source_key"] for row in videos)
        fixed.update(key for keys in missing.values() for key in keys if key in self._known.attempts)
        for row in videos:
            self._known.sources[row["source_key"]] = row["canonical_url"], row["content_key"]
        videos = videos + self._copies(missing)
        for key in fixed:
            self._known.attempts.pop(key, None)
            self._known.listed.pop(key, None)
        gone: list[Group] = [(key,) for key in fixed]
        self._tables["errors"].replace_groups(rows_of(ERRORS, refused + errors), delete=gone)
        if videos:
            self._tables["videos"].replace_groups(rows_of(VIDEOS, videos))
        self._write_run("running", None)

    def _further_errors(self, canonical: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
        """Rows of `errors` for the source keys of a failed video that have none."""
        failure, listed = self._known.failed[canonical], self._known.listed
        new = {key: url for key, url in keys.items() if listed.get(key) != canonical}
        listed.update(dict.fromkeys(new, canonical))
        return [self._error(key, url, failure) for key, url in new.items()]

    def _former_rows(self, changed: set[str], own: set[str]) -> tuple[set[str], dict[str, dict[str, str]]]:
        """The rows of `videos` whose content changed.

        Args:
            changed: the canonical URLs whose content changed.
            own: the source keys of this chunk.

        Returns:
            The video ids that no other row has, and the other source keys and their URLs by canonical URL.
        """
        former: set[str] = set()
        kept: set[str] = set()
        keys: dict[str, dict[str, str]] = {}
        columns = ["canonical_url", "video_id", "source_key", "url"]
        for batch in self._tables["videos"].batches(columns) if changed else ():
            for row in batch.to_pylist():
                if row["canonical_url"] in changed:
                    former.add(row["video_id"])
                    if row["source_key"] not in own:
                        keys.setdefault(row["canonical_url"], {})[row["source_key"]] = row["url"]
                else:
                    kept.add(row["video_id"])
        return former - kept, keys

    def _copies(self, missing: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
        """Rows of `videos` for source keys that have none, or one of another URL or content.

        Args:
            missing: source keys and their URLs by canonical URL of a video that the lake has.
        """
        known = self._known
        needed: dict[str, dict[str, str]] = {}
        for canonical, keys in missing.items():
            current = canonical, known.keys[canonical]
            if new := {key: url for key, url in keys.items() if known.sources.get(key) != current}:
                needed[canonical] = new
        wanted = pa.array(list(needed), TEXT)
        found: dict[str, dict[str, Any]] = {}
        for batch in self._tables["videos"].batches() if needed else ():
            for row in batch.filter(pc.is_in(batch.column("canonical_url"), wanted)).to_pylist():
                canonical = row["canonical_url"]
                if row["content_key"] == known.keys[canonical] and _is_complete(row, self.report.model):
                    found[canonical] = row
        copies = {
            key: row | {"source_key": key, "url": url}
            for canonical, row in found.items()
            for key, url in needed[canonical].items()
        }
        known.sources.update((key, (row["canonical_url"], row["content_key"])) for key, row in copies.items())
        return list(copies.values())

    def end(self, status: str) -> None:
        """Write the remaining rows, and the row of the run.

        Args:
            status: `done` or `interrupted`. A run that is done becomes `partial` if a video failed or a row
                was refused. This is known only here, after the remaining refusals are counted.
        """
        if self._refused or self._late:
            self._write_rows([], {}, [], set())
        self._write_run("partial" if status == "done" and self.report.failed else status, datetime.now(UTC))

    def _write_run(self, status: str, ended: datetime | None) -> None:
        report = self.report
        row = self._run | {
            "status": status,
            "rows": self._rows,
            "distinct_videos": report.videos,
            "unchanged": report.unchanged,
            "failed": report.failed,
            "ended_at": ended,
            # Nothing is paid.
            **dict.fromkeys(("reused", "submitted", "calls"), 0),
            **dict.fromkeys(("video_minutes", "price"), 0.0),
        }
        self._tables["runs"].replace_groups(rows_of(RUNS, [row]))

    def _error(self, key: str, url: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of `errors`."""
        self._known.attempts[key] = self._known.attempts.get(key, 0) + 1
        return {
            "source_key": key, "url": url, **{name: row.get(name) for name in _FAILURE},
            "attempt": self._known.attempts[key], "failed_at": datetime.now(UTC),
        }  # fmt: skip

    def _unfolded(self, done: pa.Table, ids: Sequence[str], declared: LakeSchema) -> pa.Table:
        """The rows of a table from the lists of analyzed videos, without Python objects for vectors."""
        lists = done.column(declared.name).combine_chunks()
        parents, elements = pc.list_parent_indices(lists), pc.list_flatten(lists)
        columns: dict[str, Any] = dict(zip([f.name for f in elements.type], elements.flatten(), strict=True))
        columns["video_id"] = pa.array(ids, TEXT).take(parents)
        columns["model"] = pa.array([self.report.model] * len(elements), TEXT)
        if "vector" in columns:
            columns["dimension"] = pc.list_value_length(columns["vector"]).cast(COUNT)
        empty = pa.nulls(len(elements))
        return pa.table(
            [columns.get(f.name, empty).cast(f.type) for f in declared.schema], schema=declared.schema
        )
