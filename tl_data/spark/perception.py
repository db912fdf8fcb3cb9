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
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

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
from tl_data.lake.lake import Lake
from tl_data.media.frames import frames_of
from tl_data.media.identity import identify, is_url, local_path
from tl_data.object_store import Buckets
from tl_data.runtime.scratch import Scratch
from tl_data.spark.perception_tables import INPUT, RESULT, Known, Report, Run, failure
from tl_data.spark.register import is_connect
from tl_data.urls import is_bucket, redacted

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from tl_data.local.perceive import Access, Perceived, Perceiver


@dataclass(frozen=True)
class _Executor:
    """The function that analyzes videos on an executor. Spark pickles it with its fields."""

    access: Access  # the files and addresses that it may read
    model: str  # the model name that all executors must have
    frames: bool  # whether it also returns frames
    signed_url_hours: float  # how long URLs of objects in buckets are signed for

    def __call__(self, batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Turn batches of `INPUT` into batches of `RESULT`, one row each.

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
            return result | failure(error)

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
                fields = started | failure(error)
        return pa.RecordBatch.from_pylist([fields], RESULT)


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
        return {"frames": None} | failure(error)


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
    run = Run(opened, model, Known.read(opened, model, again), frames)
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


def _commit_finished(run: Run, pending: dict[Future[pa.Table], None]) -> list[Future[pa.Table]]:
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
    """Analyze one chunk, rows of `INPUT`, in Spark jobs with a tag; returns rows of `RESULT`."""
    from pyspark.sql.pandas.types import from_arrow_schema

    # The tag is that of this thread, which ends with the call of `perceive`.
    if is_connect(spark):
        spark.addTag(tag)
    else:
        spark.sparkContext.addJobTag(tag)
    # One partition for each task, with its number: `repartition` would give some tasks twice the rows.
    count = max(1, math.ceil(len(inputs) / per_task))
    numbers = spark.range(0, count, 1, numPartitions=count)

    def run(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for number in batch.column("id").to_pylist():
                rows = inputs[number * per_task : (number + 1) * per_task]
                yield from work([pa.RecordBatch.from_pylist(list(rows), INPUT)])

    result: pa.Table = numbers.mapInArrow(run, from_arrow_schema(RESULT)).toArrow()
    return result.cast(RESULT)
