"""One run of a job: inspect the videos, submit them, wait, create the outputs and commit the tables.

Outputs are of two kinds. Clips, vectors and frames come from a video in an index. Texts come from analyses,
which an account of today makes without an index: summaries, chapters, highlights and annotations.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from contextlib import nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import Any

from tl_data.billing import RunAccount, recording
from tl_data.client.analyze_tasks import BATCH_ITEMS
from tl_data.errors import LakeError, NotFound, TLDataError
from tl_data.lake.base import Group
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import TABLES, TEXT_TABLES
from tl_data.lake.writer import Commits
from tl_data.ledger.models import Call, Entry, Unreadable
from tl_data.pipeline.guardrails import Draining, Guardrails, WorkSlots, price_at_most
from tl_data.pipeline.inspect import VideoStatus, cache_header_refusal, inspect_video, ref_of
from tl_data.pipeline.job import OUTPUTS, Job
from tl_data.pipeline.model_check import (
    check_index_model,
    check_table_models,
    describe_other_models,
    keep_texts,
)
from tl_data.pipeline.outputs import (
    FATAL,
    CreatedOutputs,
    groups,
    is_text,
    make_from_index,
    make_texts,
    output_names,
)
from tl_data.pipeline.planner import prices_of, video_failure
from tl_data.pipeline.progress import Progress
from tl_data.pipeline.recovery import RunReconciler, Tasks, paid_twice, run_lease, spent_lately
from tl_data.pipeline.removal import delete_videos
from tl_data.pipeline.report import Report, VideoFailure, trace_video
from tl_data.pipeline.rows import error_rows, mark_removed, unlist_deleted_outputs, video_rows
from tl_data.pipeline.worklist import SourceVideo, Worklist
from tl_data.runtime.concurrency import in_parallel
from tl_data.runtime.shutdown import cancel_waits_on, grace_period, was_cancelled_by_shutdown
from tl_data.session import Session

#: Seconds that `paid_twice` may take at the end of a complete run, and of an interrupted one.
PAID_TWICE_TIMEOUT, PAID_TWICE_TIMEOUT_INTERRUPTED = 60.0, 3.0
GRACE = 15.0  # seconds for which an interrupted run waits for the answers of paid requests
#: Concurrent videos per concurrent call. Most videos in progress wait for the platform.
VIDEOS_PER_CALL = 4
#: Failures that a report keeps in memory for its output. The table `errors` has all of them.
REPORTED_ERRORS = 100


class Run:
    """A run of a job.

    A run ends early in one of two ways. At a limit or a fatal error, `Guardrails.drain` is set: no new video
    is begun, and videos in progress are finished. On Ctrl-C or SIGTERM, `interrupt` is set: videos in
    progress are cancelled, and paid requests get `GRACE` seconds for their answer.

    Args:
        interrupt: an event that another task sets on Ctrl-C or SIGTERM.
        submit: whether to index new videos; if not, they are skipped.
        collect: whether to wait for indexed videos and to create the outputs. If not, the run ends when all
            videos are submitted.
    """

    def __init__(
        self,
        session: Session,
        job: Job,
        progress: Progress,
        interrupt: asyncio.Event,
        *,
        submit: bool = True,
        collect: bool = True,
    ) -> None:
        self.session, self.job, self.progress, self.interrupt = session, job, progress, interrupt
        self.submitting, self.collecting = submit, collect
        now = datetime.now(UTC)
        self.report = Report(
            job.name,
            f"{now:%Y%m%dT%H%M%S}-{uuid.uuid4().hex[:6]}",
            prices=prices_of(job, session),
            model=session.vectors_by,
            started_at=now,
        )
        self._outputs, self._guardrails = output_names(job), Guardrails(job, self.report)
        # The API limits indexing and analysis separately, so neither waits for the other.
        calls = session.settings.concurrency
        drain = self._guardrails.drain
        self._inspect_slots, self._submit_slots = WorkSlots(calls, drain), WorkSlots(calls, drain)
        self._create_slots = asyncio.Semaphore(calls)
        self._ended = 0  # videos that are done, unchanged, refused or failed
        self._minutes = 0.0  # video minutes of the videos whose outputs are created
        self._tasks = Tasks()
        self._began = time.monotonic()

    async def run(self) -> Report:
        """Run the job.

        Raises:
            SettingsError: the job does not match its source; no video was processed.
            SchemaMismatch: the job does not match its source or its tables. No video was processed, unless
                another program changed a table during the run; paid answers are in the ledger.
            LakeError: the tables cannot be read or written; paid answers are in the ledger.
        """
        lake = Lake(self.job.folder, self.job.format)
        self._index = await self.session.find_index()
        await asyncio.to_thread(check_table_models, lake, self.job, self.session, self.report.prices)
        self._source = await asyncio.to_thread(Worklist, self.job, lake)
        storage = self.session.ledger.storage
        with self._source:
            await self._prepare(lake)
            # For the rows of other runs; this run writes its own row through `self._commits`.
            runs = await asyncio.to_thread(lake.table, TABLES["runs"])
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
                        await self._process_all()
                        if self.interrupt.is_set():
                            account.unsettled += 1  # requests may have been sent whose answers are unknown
                        else:
                            await reconciler.close()
                    finally:
                        await reconciler.leave()
        if self.job.refresh and self.collecting and not self.job.limit:
            self.report.left_behind = await asyncio.to_thread(describe_other_models, lake, self.report.model)
        return self.report

    async def _prepare(self, lake: Lake) -> None:
        """Open the tables, check the index, and handle videos that the source no longer lists."""
        tables = (*self.job.tables, "videos", "errors", "runs")
        if self.job.refresh:  # the new id of a video replaces the old one in every table
            tables += tuple(name for name in OUTPUTS if lake.exists(TABLES[name]))
        if self._source.deleted_outputs:
            await asyncio.to_thread(unlist_deleted_outputs, lake, self._source.deleted_outputs)
        limits = self.job.commit_videos, self.job.commit_seconds
        self._commits = await asyncio.to_thread(Commits, lake, tables, self.report.row, *limits)
        await check_index_model(self.session, self._index)
        self.report.rows, self.report.distinct = self._source.rows, self._source.distinct
        await asyncio.to_thread(self._apply_removals, lake)
        self.report.tables = {name: table.sql_path() for name, table in self._commits.tables.items()}

    def _apply_removals(self, lake: Lake) -> None:
        """Update the tables for changes of the source.

        Rows of videos that the source lists again get this job's name and no `removed_at`. Videos that it no
        longer lists are marked or deleted, or kept, as the setting `removed` says.
        """
        if self._source.to_mark:
            mark_removed(lake, self._source.to_mark, None, self.job.name)
        if self.job.removed == "keep" or not (unlisted := self._source.unlisted()):
            return
        self.report.removed = len(unlisted)
        if self.job.removed == "mark":
            mark_removed(lake, [row.source_key for row in unlisted], datetime.now(UTC), self.job.name)
        else:
            delete_videos(lake, unlisted)

    async def _process_all(self) -> None:
        width = self.session.settings.concurrency * VIDEOS_PER_CALL
        if await self.session.batches_texts() and any(map(is_text, self._outputs)):
            width = max(width, BATCH_ITEMS)  # videos that wait for a batch take little memory
        ending, committing = (
            asyncio.ensure_future(self._show_ending()),
            asyncio.ensure_future(self._commit_by_time()),
        )
        # This task ends early only if the tables cannot be written.
        committing.add_done_callback(lambda _: self._guardrails.drain.set())
        self._step("working")
        try:
            drain = self._guardrails.drain
            with cancel_waits_on(drain), grace_period(GRACE):
                await self._videos(width, drain)
            committing.cancel()
            [result] = await asyncio.gather(committing, return_exceptions=True)
            if isinstance(result, Exception):
                raise result  # the rows of a commit are missing in the tables
        except Exception as error:
            self._guardrails.end("stopped", f"stopped: {type(error).__name__}: {error}")
            raise
        finally:
            ending.cancel()
            committing.cancel()
            await asyncio.gather(ending, committing, return_exceptions=True)
            if self.interrupt.is_set():
                self._guardrails.end(
                    "interrupted", "interrupted: finished videos are in the tables; run again to continue"
                )
            seconds = PAID_TWICE_TIMEOUT_INTERRUPTED if self.interrupt.is_set() else PAID_TWICE_TIMEOUT
            self.report.paid_twice = await paid_twice(self.session, self._tasks, seconds)
            if self.report.failed:
                self._guardrails.end("partial", "")
            self.report.ended_at = datetime.now(UTC)
            await self._commits.flush(always=True)
            self._step("done")

    async def _videos(self, width: int, drain: asyncio.Event) -> None:
        """Process all videos.

        With `max_failures`, all videos are inspected before anything is paid, so that refusals count first.
        """
        items, interrupt = self._source.items(), self.interrupt
        if self.job.max_failures is None:
            await in_parallel(items, trace_video(self._process), width=width, drain=drain, cancel=interrupt)
            return
        if await in_parallel(items, self._inspect_and_hold, width=width, drain=drain, cancel=interrupt):
            held = self._source.held()
            await in_parallel(
                held, trace_video(self._process_held), width=width, drain=drain, cancel=interrupt
            )

    async def _commit_by_time(self) -> None:
        """Commit at intervals, also while no video finishes."""
        while True:
            await asyncio.sleep(min(self.job.commit_seconds, 5.0))
            await self._commits.flush()

    async def _show_ending(self) -> None:
        """Show the phase `ending` once a stop is requested. Paid requests may still take a while."""
        await self.interrupt.wait()
        self._step("ending")

    async def _process(self, item: SourceVideo) -> VideoStatus:
        """Inspect and process one video."""
        return await self._handle(_uninspected(item), inspect=True)

    async def _inspect_and_hold(self, item: SourceVideo) -> None:
        """Inspect a video and queue it, unless it needs no work."""
        await self._handle(_uninspected(item), inspect=True, hold=True)

    async def _process_held(self, video: VideoStatus) -> VideoStatus:
        """Process a video that was inspected and queued."""
        return await self._handle(video)

    async def _handle(self, video: VideoStatus, *, inspect: bool = False, hold: bool = False) -> VideoStatus:
        """Process one video. Its errors become rows of `errors`; errors that concern all videos stop the run.

        Args:
            inspect: whether to inspect the video first.
            hold: whether to only queue an inspected video that needs work.
        """
        item = video.item
        try:
            if inspect:
                async with self._inspect_slots:
                    video = await inspect_video(
                        self.session,
                        self._index,
                        self._outputs,
                        item,
                        measure=self.submitting,
                        refresh=self.job.refresh,
                    )
                if video.error is not None:
                    await cache_header_refusal(self.session, video)
                    raise video.error
                if hold and video.state != "unchanged":
                    await asyncio.to_thread(self._source.hold, video)
                    return video
            # The tables have all outputs: an error that a concurrent run recorded no longer applies.
            if video.state == "unchanged" and item.attempts:
                self._commits.delete("errors", [(key,) for key in item.attempts])
            with self.session.watcher.announced():
                done = video.state == "unchanged" or await self._work(video)
        except Unreadable as error:  # a LedgerError, but about the damaged record of this video alone
            self._fail(video, error)
        except FATAL as error:
            video.error = error
            self._guardrails.end("stopped", f"stopped: {error}")
            return video
        except TLDataError as error:
            self._fail(video, error)
            self._guardrails.note_error(error)
        except Draining:
            return video
        except asyncio.CancelledError:
            if not was_cancelled_by_shutdown():
                raise
            return video  # the run ended while the video waited for a rate limit: nothing was sent
        else:
            if done:
                self.report.unchanged += video.state == "unchanged"
                self.report.reused += video.state == "unchanged"
                self._guardrails.outage_errors = 0
                self._ended += 1
                self._step("working")
        try:
            await self._commits.flush()
        except LakeError as error:
            self._guardrails.end("stopped", f"stopped: {error}")
            raise
        return video

    async def _work(self, video: VideoStatus) -> bool:
        """Index a video, wait for it and create its outputs.

        Returns:
            Whether the video is queued for the tables.
        """
        assert video.identity is not None
        if video.state == "new" and video.indexing and not self.submitting:
            return False
        price = price_at_most(video, self.report.prices, analyzing=self.collecting)
        if not await self._guardrails.reserve(sum(price)):
            return False
        # Analyses (summaries, chapters, ...) wait long for their batches: so the clips and vectors of a video
        # are read after them, and not held in memory meanwhile.
        texts_first = await self.session.batches_texts()
        batched = texts_first and self.collecting and any(map(is_text, video.needed))
        announced = self.session.analyses.announced() if batched else nullcontext(lambda: None)
        try:
            with announced as begin_texts:
                call: Call | None = None
                entry: Entry | None = None
                if not video.indexing:
                    ready, new = await self._record_without_index(video), video.state == "new"
                    if self._guardrails.drain.is_set():
                        return False  # nothing is paid yet
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
                created, record = CreatedOutputs(), ready
                begin_texts()
                if texts_first:
                    await make_texts(
                        self.session, video.needed, ref_of(video, ready), created, self._create_slots
                    )
                if call is not None or not all(map(is_text, video.needed)):
                    read = partial(self._read, video, call, entry, ready)
                    record = await make_from_index(
                        self.session,
                        video.needed,
                        ready,
                        read,
                        video.item.location,
                        created,
                        self._create_slots,
                    )
                if not texts_first:
                    await make_texts(
                        self.session, video.needed, ref_of(video, record), created, self._create_slots
                    )
                if video.needs_asset and any(isinstance(e, NotFound) for e in created.failures.values()):
                    await self.session.forget_asset(video.identity)
        finally:
            self._guardrails.release(sum(price), ended=True)
        self._queue_rows(video, record, created)
        self.report.reused += not new
        return True

    async def _record_without_index(self, video: VideoStatus) -> dict[str, Any]:
        """The record of a video that is not indexed, for its analyses. Creates its asset if it needs one."""
        assert video.identity is not None
        record: dict[str, Any] = {"duration_sec": video.seconds, "status": None}
        if video.needs_asset and self.collecting:
            asset = await self.session.asset(video.item.location, video.identity, self._submit_slots)
            record["asset_id"] = str(asset["_id"])
            record["duration_sec"] = video.seconds if asset.get("duration") is None else asset["duration"]
        return record

    async def _submit(self, video: VideoStatus) -> tuple[Call, Entry, bool]:
        """Submit a video for indexing, after its asset if it needs one.

        Waiting for the asset does not count as a concurrent call.

        Returns:
            The call, its entry in the ledger, and whether this run sent it.
        """
        location = video.item.location
        assert video.identity is not None
        if video.needs_asset:
            await self.session.asset_to_index(location, video.identity, self._submit_slots)
        async with self._submit_slots:
            call, entry = await self.session.submit_video(
                location, identity=video.identity, seconds=video.seconds
            )
        self._tasks.add(entry)
        self.report.pending = self._tasks.pending
        return call, entry, not entry.reused

    async def _read(
        self,
        video: VideoStatus,
        call: Call | None,
        entry: Entry | None,
        ready: dict[str, Any],
        **options: Any,
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read a video in its index.

        Without a call and without options nothing is requested: the record is complete.

        Args:
            call, entry: the call that submitted the video, and its entry in the ledger; None if the ledger
                had the record of the indexed video.
            ready: the record of the video so far.
            options: options of the request: `embedding_option`, `transcription`.

        Returns:
            The complete record, and the response of the API.

        Raises:
            NotFound: the video was deleted from the index. Its record is removed from the ledger, so that the
                next run indexes it again.
        """
        if call is not None and entry is not None:
            return await self.session.read_video(call, entry, ready, **options)
        if not options:
            return ready, {}
        client = self.session.client
        retrieve = client.retrieve_video if ready.get("task_id") else client.retrieve_indexed_asset
        try:
            return ready, await retrieve(ready["index_id"], ready["video_id"], **options)
        except NotFound:
            assert video.identity is not None
            await self.session.ledger.forget(self.session.index_call(video.identity, ready["index_id"]).key)
            raise

    async def _await_index(self, call: Call, entry: Entry) -> dict[str, Any]:
        """Wait until a submitted video is indexed, and return its record."""
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

    def _queue_rows(self, video: VideoStatus, record: dict[str, Any], created: CreatedOutputs) -> None:
        """Queue a video with its outputs for the tables; failed outputs go to `errors`."""
        assert video.identity is not None
        item, video_id, content_key = video.item, record.get("video_id"), video.identity.content_key
        for name, rows in created.tables.items():
            self._commits.add(name, content_key if TABLES[name] in TEXT_TABLES else str(video_id), rows)
        for table, keys in groups(created.names, video_id, content_key).items():
            self._commits.delete(table, keys)
        made = {name for name in self._outputs if name not in video.needed} | set(created.names)
        keep_texts(self._source, self._commits, video, video_id)
        self._delete_former(item, video_id, content_key)
        rows = video_rows(video, record, self.session.vectors_by, made, self.job)
        self._commits.video(rows)
        self.report.latest = next(iter(item.keys), None)
        self._fail_outputs(video, created.failures)
        self._minutes += float(record.get("duration_sec") or 0.0) / 60

    def _delete_former(self, item: SourceVideo, video_id: str | None, content_key: str) -> None:
        """Queue the deletion of the rows of the former video of these source keys.

        A key has a former video if its file was replaced (another content key) or it was indexed again
        (another video id). Rows that another source key still refers to are kept.
        """
        old = {
            (row.video_id, row.content_key): row.made
            for row in item.keys.values()
            if row and (row.video_id != video_id or row.content_key != content_key)
        }
        if old:
            self._source.set_video(list(item.keys), video_id, content_key)
        for (old_id, old_content), made in old.items():
            if old_id != video_id and not self._source.has_other_key("video_id", old_id, item.keys):
                index_outputs = [name for name in made if not is_text(name)]
                self._delete(groups(index_outputs, old_id))
            if old_content == content_key:
                self._delete(groups(filter(is_text, made), old_id) if old_id != video_id else {})
            elif not self._source.has_other_key("content_key", old_content, item.keys):
                self._delete(groups(filter(is_text, made), old_id, old_content))

    def _delete(self, groups_by_table: Mapping[str, list[Group]]) -> None:
        """Queue the deletion of row groups."""
        for table, keys in groups_by_table.items():
            self._commits.delete(table, keys)

    def _fail(self, video: VideoStatus, error: TLDataError) -> None:
        """Queue a refused or failed video for the table `errors`."""
        video.error = error
        failure = video_failure(video, error)
        self._commits.error(error_rows(video, failure, error))
        self._ended += 1
        self._step("working")
        self._count_failures([failure])

    def _fail_outputs(self, video: VideoStatus, errors: Mapping[str, TLDataError]) -> None:
        """Queue failed outputs of a finished video for the table `errors`."""
        failures = [video_failure(video, error, output) for output, error in errors.items()]
        if not failures:
            return
        rows = [
            row
            for failure, error in zip(failures, errors.values(), strict=True)
            for row in error_rows(video, failure, error)
        ]
        self._commits.error(rows)
        self._count_failures(failures)
        for error in errors.values():
            self._guardrails.note_error(error)

    def _count_failures(self, failures: list[VideoFailure]) -> None:
        """Count a video with these failures.

        Final failures that `errors` has already do not count for `max_failures`: they would stop every run.
        """
        self.report.failed += 1
        self.report.new_failures += any(failure.new for failure in failures)
        self.report.errors += failures[: max(0, REPORTED_ERRORS - len(self.report.errors))]
        if any(failure.new or failure.retryable for failure in failures):
            self._guardrails.count_failure()

    def _step(self, phase: str) -> None:
        """Report the progress."""
        elapsed = time.monotonic() - self._began
        self.progress(self.report.step(phase, self._ended, self._minutes, elapsed))


def _uninspected(item: SourceVideo) -> VideoStatus:
    """The status of a video before it is inspected. An error of the inspection belongs to it."""
    return VideoStatus(item, "refused")
