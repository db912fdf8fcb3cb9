"""One run of a job: inspect, submit, wait, create outputs, commit; stops at a limit."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tl_data.billing import RunAccount, recording
from tl_data.client.analyze_tasks import BATCH_ITEMS
from tl_data.errors import LakeError, NotFound, TLDataError
from tl_data.lake.base import Group
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES
from tl_data.lake.writer import Commits
from tl_data.ledger.models import Call, Entry, Unreadable
from tl_data.pipeline.guardrails import Guardrails, price_at_most
from tl_data.pipeline.inspect import VideoStatus, inspect_video, note_refusal, ref_of
from tl_data.pipeline.job import OUTPUTS, Job
from tl_data.pipeline.model_check import keep_texts, left_behind, refuse_index, refuse_mixing
from tl_data.pipeline.outputs import (
    FATAL,
    Made,
    groups,
    is_text,
    make_from_index,
    make_texts,
    wanted,
)
from tl_data.pipeline.planner import known_index, prices_of, refusal
from tl_data.pipeline.progress import Progress
from tl_data.pipeline.recovery import RunReconciler, Tasks, paid_twice, run_lease, spent_lately
from tl_data.pipeline.removal import delete_videos
from tl_data.pipeline.report import Refusal, Report, traced_video
from tl_data.pipeline.rows import error_rows, forget_lost, mark_removed, video_rows
from tl_data.pipeline.worklist import SourceVideo, Worklist
from tl_data.runtime.concurrency import in_parallel
from tl_data.runtime.shutdown import cancel_waits_on, grace_period, was_abandoned
from tl_data.session import Session

MEASURE, MEASURE_INTERRUPTED = 60.0, 3.0  # timeouts of `paid_twice` in seconds
GRACE = 15.0  # seconds that paid requests get for their answers when a run is interrupted
TEXTS = ("summaries", "chapters")  # tables keyed by the content of a video
AHEAD = 4  # concurrent videos per concurrent call: most of them wait for the platform


class Run:
    """A run. `submit` and `collect` select the halves of the work."""

    def __init__(
        self,
        session: Session,
        job: Job,
        progress: Progress,
        stop: asyncio.Event,
        *,
        submit: bool = True,
        collect: bool = True,
    ) -> None:
        self.session, self.job, self.progress, self.stop = session, job, progress, stop
        self.submitting, self.collecting = submit, collect
        now = datetime.now(UTC)
        self.report = Report(
            job.name,
            f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
            prices=prices_of(job, session),
            model=session.vectors_by,
            started_at=now,
        )
        self._names, self._guardrails = wanted(job), Guardrails(job, self.report)
        # The API limits indexing and analysis separately, so neither waits for the other.
        most = session.settings.concurrency
        self._looking, self._sending, self._making = (asyncio.Semaphore(most) for _ in range(3))
        self._ended, self._minutes = 0, 0.0
        self._tasks = Tasks()
        self._began = time.monotonic()

    async def go(self) -> Report:
        """Run the job.

        Raises:
            SettingsError, SchemaMismatch: the job does not match its source or its tables; nothing was done.
            LakeError: the tables cannot be written; paid answers are in the ledger.
        """
        lake = Lake(self.job.folder, self.job.format)
        self._index = await known_index(self.session)
        await asyncio.to_thread(refuse_mixing, lake, self.job, self.session, self.report.prices)
        self._source = await asyncio.to_thread(Worklist, self.job, lake)
        storage = self.session.ledger.storage
        with self._source:
            await self._prepare(lake)
            runs = await asyncio.to_thread(lake.table, TABLES["runs"])  # also written by other runs
            reconciler = RunReconciler(self.session, runs, self.report.prices, self.job.folder)
            with recording(RunAccount(self.report.run_id, self.report.bill)) as account:
                async with run_lease(storage, account, self.job.folder, self.report.prices):
                    await reconciler.find_interrupted()
                    try:
                        if self.job.budget is not None:
                            await reconciler.read()
                            spent = spent_lately(runs, self.report, self.job.budget_hours)
                            self._guardrails.spent_before = await asyncio.to_thread(spent)
                        await self._commits.flush(always=True)
                        await self._all()
                        if self.stop.is_set():
                            account.unsettled += 1  # requests that were just sent
                        else:
                            await reconciler.close()
                    finally:
                        await reconciler.leave()
        if self.job.refresh and self.collecting and not self.job.limit:
            self.report.left_behind = await asyncio.to_thread(left_behind, lake, self.report.model)
        return self.report

    async def _prepare(self, lake: Lake) -> None:
        names = (*self.job.tables, "videos", "errors", "runs")
        if self.job.refresh:  # the new id of a video replaces the old one in every table
            names += tuple(name for name in OUTPUTS if lake.exists(TABLES[name]))
        if self._source.lost:
            await asyncio.to_thread(forget_lost, lake, self._source.lost)
        limits = self.job.commit_videos, self.job.commit_seconds
        self._commits = await asyncio.to_thread(Commits, lake, names, self.report.row, *limits)
        await refuse_index(self.session, self._index)
        self.report.rows, self.report.distinct = self._source.rows, self._source.distinct
        await asyncio.to_thread(self._remove, lake)
        self.report.tables = {name: table.where() for name, table in self._commits.tables.items()}

    def _remove(self, lake: Lake) -> None:
        """Mark or delete videos that the source no longer lists."""
        if self._source.returned:
            mark_removed(lake, self._source.returned, None, self.job.name)
        if self.job.removed == "keep" or not (gone := self._source.gone()):
            return
        self.report.removed = len(gone)
        if self.job.removed == "mark":
            mark_removed(lake, [row.source_key for row in gone], datetime.now(UTC), self.job.name)
        else:
            delete_videos(lake, gone)

    async def _all(self) -> None:
        width = self.session.settings.concurrency * AHEAD
        if await self.session.batches_texts() and any(map(is_text, self._names)):
            width = max(width, BATCH_ITEMS)  # what waits for a batch takes little memory
        ending, ticking = asyncio.ensure_future(self._end()), asyncio.ensure_future(self._tick())
        # The timer task ends early only if it cannot write.
        ticking.add_done_callback(lambda _: self._guardrails.halt.set())
        self._step("working")
        try:
            halt = self._guardrails.halt
            with cancel_waits_on(halt), grace_period(GRACE):
                await self._videos(width, halt)
            ticking.cancel()
            [ended] = await asyncio.gather(ticking, return_exceptions=True)
            if isinstance(ended, Exception):
                raise ended  # the rows of a commit are missing in the tables
        except Exception as error:
            self._guardrails.end("stopped", f"stopped: {type(error).__name__}: {error}")
            raise
        finally:
            ending.cancel()
            ticking.cancel()
            await asyncio.gather(ending, ticking, return_exceptions=True)
            if self.stop.is_set():
                self._guardrails.end(
                    "interrupted", "interrupted: finished videos are in the tables; run again to continue"
                )
            seconds = MEASURE_INTERRUPTED if self.stop.is_set() else MEASURE
            self.report.paid_twice = await paid_twice(self.session, self._tasks, seconds)
            if self.report.failed:
                self._guardrails.end("partial", "")
            self.report.ended_at = datetime.now(UTC)
            await self._commits.flush(always=True)
            self._step("done")

    async def _videos(self, width: int, halt: asyncio.Event) -> None:
        """Process all videos.

        With `max_failures`, refusals without a call are counted before anything is paid.
        """
        items, stop = self._source.items(), self.stop
        if self.job.max_failures is None:
            await in_parallel(items, traced_video(self._one), width=width, halt=halt, stop=stop)
            return
        if await in_parallel(items, self._hold, width=width, halt=halt, stop=stop):
            held = self._source.held()
            await in_parallel(held, traced_video(self._held), width=width, halt=halt, stop=stop)

    async def _tick(self) -> None:
        """Commit by time, also while no video finishes."""
        while True:
            await asyncio.sleep(min(self.job.commit_seconds, 5.0))
            await self._commits.flush()

    async def _end(self) -> None:
        """Report the phase `ending`: paid requests may take a while."""
        await self.stop.wait()
        self._step("ending")

    async def _one(self, item: SourceVideo) -> VideoStatus:
        """Process one video."""
        return await self._done(VideoStatus(item, "refused"), inspect=True)

    async def _hold(self, item: SourceVideo) -> None:
        """Inspect a video and queue its work."""
        await self._done(VideoStatus(item, "refused"), inspect=True, hold=True)

    async def _held(self, video: VideoStatus) -> VideoStatus:
        """Process a queued video."""
        return await self._done(video)

    async def _done(self, video: VideoStatus, *, inspect: bool = False, hold: bool = False) -> VideoStatus:
        """Do the work of a video. Its errors become rows; errors that concern other videos stop the run."""
        item = video.item
        try:
            if inspect:
                async with self._looking:
                    video = await inspect_video(
                        self.session,
                        self._index,
                        self._names,
                        item,
                        measure=self.submitting,
                        refresh=self.job.refresh,
                    )
                if video.error is not None:
                    await note_refusal(self.session, video)
                    raise video.error
                if hold and video.state != "unchanged":
                    await asyncio.to_thread(self._source.hold, video)
                    return video
            if video.state == "unchanged" and item.attempts:  # it failed in a concurrent run
                self._commits.gone("errors", [(key,) for key in item.attempts])
            done = video.state == "unchanged" or await self._work(video)
        except Unreadable as error:
            self._fail(video, error)
        except FATAL as error:
            video.error = error
            self._guardrails.end("stopped", f"stopped: {error}")
            return video
        except TLDataError as error:
            self._fail(video, error)
            self._guardrails.note_error(error)
        except asyncio.CancelledError:
            if not was_abandoned():
                raise
            return video  # it waited for a rate limit when the run ended: nothing was sent
        else:
            if done:
                self.report.unchanged += video.state == "unchanged"
                self.report.reused += video.state == "unchanged"
                self._guardrails.troubles = 0
                self._ended += 1
                self._step("working")
        try:
            await self._commits.flush()
        except LakeError as error:
            self._guardrails.end("stopped", f"stopped: {error}")
            raise
        return video

    async def _work(self, video: VideoStatus) -> bool:
        """Index, wait, create the outputs. Returns whether the video is in the tables now."""
        assert video.identity is not None
        if video.state == "new" and video.indexing and not self.submitting:
            return False
        price = price_at_most(video, self.report.prices, analysing=self.collecting)
        if not await self._guardrails.reserve(sum(price)):
            return False
        try:
            call: Call | None = None
            entry: Entry | None = None
            if not video.indexing:
                ready, new = await self._unindexed(video), video.state == "new"
            elif video.state == "known":
                assert video.record is not None
                ready, new = dict(video.record), False
            else:
                call, entry, new = await self._submit(video)
                self._guardrails.release(price[0])
                price = (0.0, price[1])
                if not self.collecting:
                    return False
                ready = await self._await_index(call, entry)
            if not self.collecting:
                return False
            if not ready.get("duration_sec"):
                ready["duration_sec"] = video.seconds
            made, record = Made(), ready
            # Texts in batches wait long, and many at once: nothing large is held meanwhile.
            texts_first = await self.session.batches_texts()
            if texts_first:
                await make_texts(self.session, video.needed, ref_of(video, ready), made, self._making)
            if call is not None or not all(map(is_text, video.needed)):
                read = partial(self._read, call, entry, ready)
                record = await make_from_index(
                    self.session, video.needed, ready, read, video.item.video, made, self._making
                )
            if not texts_first:
                await make_texts(self.session, video.needed, ref_of(video, record), made, self._making)
            if video.makes_asset and any(isinstance(e, NotFound) for e in made.failures.values()):
                await self.session.forget_asset(video.identity)
        finally:
            self._guardrails.release(sum(price), ended=True)
        self._keep(video, record, made)
        self.report.reused += not new
        return True

    async def _unindexed(self, video: VideoStatus) -> dict[str, Any]:
        """What is known of a video that has only texts. Where they go by batches, it becomes an asset."""
        assert video.identity is not None
        record: dict[str, Any] = {"duration_sec": video.seconds, "status": None}
        if video.makes_asset and self.collecting:
            async with self._sending:
                call, entry = await self.session.submit_asset(video.item.video, video.identity)
            asset = await self.session.collect_asset(call, entry)
            record["asset_id"] = str(asset["_id"])
            record["duration_sec"] = video.seconds if asset.get("duration") is None else asset["duration"]
        return record

    async def _submit(self, video: VideoStatus) -> tuple[Call, Entry, bool]:
        """Submit a video for indexing. Its asset is waited for without a place among the calls in flight."""
        item = video.item.video
        assert video.identity is not None
        if video.makes_asset:
            async with self._sending:
                call, entry = await self.session.submit_asset(item, video.identity)
            await self.session.collect_asset(call, entry)
        async with self._sending:
            call, entry = await self.session.submit_video(
                item, identity=video.identity, seconds=video.seconds
            )
        self._tasks.add(entry)
        self.report.pending = self._tasks.pending
        return call, entry, not entry.reused

    async def _read(
        self, call: Call | None, entry: Entry | None, ready: dict[str, Any], **options: Any
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a video in its index: the record, and the API's answer."""
        if call is not None and entry is not None:
            return await self.session.read_video(call, entry, ready, **options)
        if not options:
            return ready, {}
        client = self.session.client
        retrieve = client.retrieve_video if ready.get("task_id") else client.retrieve_indexed_asset
        return ready, await retrieve(ready["index_id"], ready["video_id"], **options)

    async def _await_index(self, call: Call, entry: Entry) -> dict[str, Any]:
        try:
            ready = await self.session.ready_video(call, entry)
        except TLDataError as error:
            if not error.retryable:
                self._tasks.ended(entry)
            raise
        else:
            self._tasks.ended(entry)
            return ready
        finally:
            self.report.pending = self._tasks.pending

    def _keep(self, video: VideoStatus, record: dict[str, Any], made: Made) -> None:
        """Queue a video with its outputs for the tables; failed outputs go to `errors`."""
        assert video.identity is not None
        item, video_id, content_key = video.item, record.get("video_id"), video.identity.content_key
        for name, rows in made.tables.items():
            self._commits.add(name, content_key if name in TEXTS else str(video_id), rows)
        for table, keys in groups(made.names, video_id, content_key).items():
            self._commits.gone(table, keys)
        names = {name for name in self._names if name not in video.needed} | set(made.names)
        keep_texts(self._source, self._commits, video, video_id)
        self._drop_replaced(item, video_id, content_key)
        rows = video_rows(video, record, self.session.vectors_by, names, self.job.name)
        self._commits.video(rows)
        self._fail_outputs(video, made.failures)
        self._minutes += float(record.get("duration_sec") or 0.0) / 60

    def _drop_replaced(self, item: SourceVideo, video_id: str | None, content_key: str) -> None:
        """Delete the rows of a replaced file's old video, unless another key refers to it."""
        old = {
            (row.video_id, row.content_key): row.made
            for row in item.keys.values()
            if row and (row.video_id != video_id or row.content_key != content_key)
        }
        if old:
            self._source.now_means(list(item.keys), video_id, content_key)
        for (gone_id, gone_content), made in old.items():
            if gone_id != video_id and not self._source.another_means("video_id", gone_id, item.keys):
                vectors = [name for name in made if not is_text(name)]
                self._leave(groups(vectors, gone_id))
            if gone_content == content_key:
                self._leave(groups(filter(is_text, made), gone_id) if gone_id != video_id else {})
            elif not self._source.another_means("content_key", gone_content, item.keys):
                self._leave(groups(filter(is_text, made), gone_id, gone_content))

    def _leave(self, leaving: Mapping[str, list[Group]]) -> None:
        for table, keys in leaving.items():
            self._commits.gone(table, keys)

    def _fail(self, video: VideoStatus, error: TLDataError) -> None:
        """Queue a refused or failed video for the table `errors`."""
        video.error = error
        failure = refusal(video, error)
        self._commits.error(error_rows(video, failure, error))
        self._ended += 1
        self._step("working")
        self._count_failures([failure], video.item)

    def _fail_outputs(self, video: VideoStatus, errors: Mapping[str, TLDataError]) -> None:
        """Queue failed outputs of a finished video for the table `errors`."""
        failures = [refusal(video, error, output) for output, error in errors.items()]
        if not failures:
            return
        rows = [
            row
            for failure, error in zip(failures, errors.values(), strict=True)
            for row in error_rows(video, failure, error)
        ]
        self._commits.error(rows)
        self._count_failures(failures, video.item)
        for error in errors.values():
            self._guardrails.note_error(error)

    def _count_failures(self, failures: list[Refusal], item: SourceVideo) -> None:
        self.report.failed += 1
        self.report.new_failures += any(failure.new for failure in failures)
        self.report.errors += failures[: max(0, 100 - len(self.report.errors))]
        if not item.attempts or any(failure.retryable for failure in failures):
            self._guardrails.failed()

    def _step(self, phase: str) -> None:
        elapsed = time.monotonic() - self._began
        self.progress(self.report.step(phase, self._ended, self._minutes, elapsed))
