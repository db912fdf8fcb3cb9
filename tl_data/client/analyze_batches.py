"""Batches of analyses: analyses that start at about the same time are created and polled together."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from tl_data.client.analyze_tasks import ACTIVE_BATCHES, BATCH_HOURS, BATCH_ITEMS, AnalyzeTaskMethods
from tl_data.client.task_poller import OUTAGE, require_success
from tl_data.errors import APIError, BadRequest, NotFound, StillRunning
from tl_data.runtime.context import current_context
from tl_data.runtime.shutdown import Grace
from tl_data.settings import Settings

Json = dict[str, Any]

SEND_AFTER = 0.5  # seconds without a new item before a batch is sent; `poll_interval` if other batches run
LONGEST_COLLECTION = 30.0  # maximum seconds from the first item until a batch without announced items is sent
ENOUGH = 50  # number of items with which a batch does not wait for announced ones
LONGEST_WAIT = 120.0  # maximum seconds for which a batch waits for announced items
FIRST_POLL = 0.25  # minimum seconds before the first poll
ITEM_SECONDS = 0.1  # seconds per item before the first poll, up to `poll_interval`
MAX_PAUSE = 60.0  # maximum seconds between two polls of a batch
PARTIAL = 60.0  # seconds between reads of the partial results of a running batch
ENDED = ("completed", "canceled", "expired")
MAX_HOURS = BATCH_HOURS * 0.95  # hours of video in a batch; less than allowed: durations may be inexact


@dataclass
class _Item:
    """An analysis that waits for its batch."""

    body: Json
    minutes: float
    task_id: asyncio.Future[str]
    grace: Grace | None = None  # of the caller: a caller that is stopped waits for a request that was sent

    def mark_in_flight(self, sent: bool) -> None:
        """Record whether a request with this item is in flight."""
        if self.grace is not None:
            self.grace.sent = sent


@dataclass
class _Batch:
    """A batch that was created and has not ended."""

    batch_id: str
    items: dict[str, asyncio.Future[Json]] = field(default_factory=dict)  # ended task by task id
    poller: asyncio.Task[None] | None = None


class Batches:
    """Collects the analyses of one event loop into batches."""

    def __init__(self, client: AnalyzeTaskMethods, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._waiting: list[_Item] = []
        self._halves: list[list[_Item]] = []  # halves of batches that were too large; they go first
        self._timer: asyncio.TimerHandle | None = None
        self._collecting_since = 0.0  # loop time at which the first item of the next batch was added
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[str, _Batch] = {}
        self._batch_of: dict[str, _Batch] = {}  # by task id
        self._active = 0  # number of batches that were sent and have not ended
        self._announced = 0  # number of videos whose items will be added
        self._unsupported = False  # whether the server does not support batches
        self._closed = False

    async def aclose(self) -> None:
        """Stop polling. Callers that still wait are cancelled, and nothing more is sent."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
        running = [*self._tasks, *(b.poller for b in self._batches.values() if b.poller)]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        for item in [*self._waiting, *(item for half in self._halves for item in half)]:
            item.task_id.cancel()

    async def add(self, body: Json, minutes: float) -> str:
        """Add an analysis to the next batch, wait until the batch is created, and return the task id.

        Args:
            body: the arguments of `create_analyze_task`; the video must be an asset.
            minutes: billed minutes of video.

        Raises:
            APIError: the batch, or without support for batches the task, could not be created.
        """
        if self._unsupported:
            return str((await self._client.create_analyze_task(**body))["task_id"])
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        item = _Item(body, minutes, future, current_context().grace)
        self._waiting.append(item)
        hours = sum(each.minutes for each in self._waiting) / 60
        if len(self._waiting) >= BATCH_ITEMS or hours > MAX_HOURS:
            self._flush()
        else:
            self._schedule()
        return await item.task_id

    @contextmanager
    def announced(self) -> Iterator[Callable[[], None]]:
        """Announce the items of a video, so that a batch waits for them: each batch takes several requests.

        Gives a function to call when the items are about to be added. The end of the block calls it, too.
        """
        is_open = True

        def close() -> None:
            nonlocal is_open
            self._announced -= is_open
            if is_open and not self._announced and self._waiting:
                self._collecting_since = asyncio.get_running_loop().time()
                self._schedule()
            is_open = False

        self._announced += 1
        try:
            yield close
        finally:
            close()

    def _schedule(self) -> None:
        """Schedule the next batch for when no more items arrive. Wait longer while other batches run."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
        else:
            self._collecting_since = loop.time()
        delay = max(SEND_AFTER, self._settings.poll_interval) if self._active else SEND_AFTER
        longest = LONGEST_COLLECTION
        if self._announced and len(self._waiting) < ENOUGH:
            delay = longest = LONGEST_WAIT
        remaining = self._collecting_since + longest - loop.time()
        self._timer = loop.call_later(max(0.0, min(delay, remaining)), self._flush)

    def _flush(self) -> None:
        """Send the waiting items in as many batches as the account allows. The others wait until one ends."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        self._start_batches(self._take_half)
        self._start_batches(self._take_batch)

    def _start_batches(self, take: Callable[[], list[_Item]]) -> None:
        """Send what `take` removes from a queue, in as many batches as the account allows."""
        while self._active < ACTIVE_BATCHES and not self._closed and (items := take()):
            self._active += 1
            self._start(items)

    def _take_half(self) -> list[_Item]:
        """Remove the next half of a batch that was too large. Drop cancelled items."""
        while self._halves:
            if items := [item for item in self._halves.pop(0) if not item.task_id.done()]:
                return items
        return []

    def _take_batch(self) -> list[_Item]:
        """Remove the items of the next batch from the queue: all have the same mode. Drop cancelled items."""
        self._waiting = [item for item in self._waiting if not item.task_id.done()]
        items: list[_Item] = []
        hours = 0.0
        for item in self._waiting:
            if _mode(item) != _mode(self._waiting[0]):
                continue
            hours += item.minutes / 60
            if items and (len(items) == BATCH_ITEMS or hours > MAX_HOURS):
                break
            items.append(item)
        chosen = set(map(id, items))
        self._waiting = [item for item in self._waiting if id(item) not in chosen]
        return items

    def _start(self, items: list[_Item]) -> None:
        # The context is empty, so that the requests are not counted in the usage of one caller.
        task = asyncio.get_running_loop().create_task(self._send(items), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, items: list[_Item]) -> None:
        """Create a batch, and wait until it has ended. Until then it counts as active."""
        try:
            batch = await self._create(items)
            if batch is not None and batch.poller is not None:
                await asyncio.wait([batch.poller])
        except BaseException as error:
            for item in items:
                item.mark_in_flight(False)
                if item.task_id.done():
                    continue
                if isinstance(error, Exception):
                    item.task_id.set_exception(copy(error))
                else:
                    item.task_id.cancel()
            if not isinstance(error, Exception):
                raise
        finally:
            self._active -= 1
            self._start_batches(self._take_half)
            if self._waiting and self._timer is None:
                self._flush()

    async def _create(self, items: list[_Item]) -> _Batch | None:
        """Create a batch of these items; None if single tasks or smaller batches were created instead."""
        if self._unsupported:
            await self._create_tasks(items)
            return None
        model, mode = str(items[0].body.get("model_name")), _mode(items[0])
        minutes = sum(item.minutes for item in items)
        for item in items:
            item.mark_in_flight(True)
        try:
            created = await self._client.create_batch(
                [batch_item(item.body) for item in items],
                model_name=model,
                analysis_mode=mode,
                video_minutes=minutes,
            )
        except (BadRequest, NotFound) as refused:
            # One invalid item was enough to reject the batch, or the server has no batches.
            no_route = refused.http_status in (404, 405, 410) and refused.code in (
                "endpoint_not_exists",
                "endpoint_deprecated",
                "not_supported",
                None,
            )
            self._unsupported = self._unsupported or no_route
            await self._create_tasks(items)
            return None
        except APIError as failed:
            if failed.http_status != 504 or len(items) < 2:
                raise
            # HTTP 504 of this route: the batch was too large. By the API's specification, none was created.
            for item in items:
                item.mark_in_flight(False)
            half = len(items) // 2
            self._halves += [items[:half], items[half:]]  # sent when this batch no longer counts as active
            return None
        batch = self._add_batch(str(created["batch_id"]))
        ids = {str(i.get("custom_id")): str(i["task_id"]) for i in created.get("items") or []}
        for number, item in enumerate(items):
            task_id = ids.get(str(item.body.get("custom_id"))) or str(created["items"][number]["task_id"])
            self._add_task(batch, task_id)
            if not item.task_id.done():
                item.task_id.set_result(task_id)
        return batch

    async def _create_tasks(self, items: list[_Item]) -> None:
        """Create a single task for each item."""

        async def create_task(item: _Item) -> None:
            item.mark_in_flight(True)
            try:
                created = await self._client.create_analyze_task(**item.body)
            except Exception as error:  # noqa: BLE001 - the caller that awaits the item gets it
                item.mark_in_flight(False)
                if not item.task_id.done():
                    item.task_id.set_exception(error)
                return
            if not item.task_id.done():
                item.task_id.set_result(str(created["task_id"]))

        slots = asyncio.Semaphore(self._settings.concurrency)

        async def create_in_slot(item: _Item) -> None:
            async with slots:
                await create_task(item)

        await asyncio.gather(*(create_in_slot(item) for item in items))

    # ---- waiting --------------------------------------------------------------------------------

    async def wait(self, task_id: str) -> Json | None:
        """Wait for a task and return it once.

        None if this object created no batch with the task, or has returned the task before. Then the caller
        retrieves the task.

        Raises:
            TaskFailed: the task failed, was canceled, or expired with its batch.
            StillRunning: the task did not finish within `settings.task_deadline`.
            APIError: the batch could not be retrieved.
        """
        batch = self._batch_of.get(task_id)
        if batch is None:
            return None
        try:
            async with asyncio.timeout(self._settings.task_deadline):
                task = await asyncio.shield(batch.items[task_id])
            # Delivered: a later caller gets None and retrieves the task itself.
            self._batch_of.pop(task_id, None)
        except TimeoutError:
            raise StillRunning(
                f"batch {batch.batch_id} did not finish within {self._settings.task_deadline:g} s. It is "
                "still running; the next run waits for it and is not charged again",
                task_id,
            ) from None
        return require_success(task, task_id)

    def _add_batch(self, batch_id: str) -> _Batch:
        """Add a batch, and start to poll it."""
        if batch_id not in self._batches:
            batch = self._batches[batch_id] = _Batch(batch_id)
            batch.poller = asyncio.get_running_loop().create_task(
                self._poll(batch), context=contextvars.Context()
            )
        return self._batches[batch_id]

    def _add_task(self, batch: _Batch, task_id: str) -> None:
        """Add a task to a batch, so that `wait` can be called for it."""
        if task_id not in batch.items:
            future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
            # This avoids a warning if nobody awaits the future.
            future.add_done_callback(lambda f: f.cancelled() or f.exception())
            batch.items[task_id] = future
            self._batch_of[task_id] = batch

    async def _poll(self, batch: _Batch) -> None:
        """Poll a batch until it ends, and deliver its results as they arrive."""
        loop = asyncio.get_running_loop()
        started = last_response = last_read = loop.time()
        interval, delivered_items = self._settings.poll_interval, 0
        pause = max(FIRST_POLL, min(interval, ITEM_SECONDS * len(batch.items)))
        try:
            while True:
                await asyncio.sleep(pause)
                pause = max(min(interval, pause * 2), (loop.time() - started) / 4)
                try:
                    state = await self._client.retrieve_batch(batch.batch_id)
                    last_response = loop.time()
                    age = last_response - started
                    has_ended = state.get("status") in ENDED
                    ended_items = sum(
                        int(state.get(f"{status}_items") or 0) for status in ("ready", "failed", "canceled")
                    )
                    if ended_items:  # the expected time of the others, by the pace so far
                        remaining = age / ended_items * (len(batch.items) - ended_items)
                        pause = min(max(min(interval, pause), remaining), max(interval, age))
                    pause = min(pause, MAX_PAUSE)
                    has_new = ended_items > delivered_items and loop.time() - last_read > PARTIAL
                    if has_ended or has_new:
                        last_read, delivered_items = loop.time(), ended_items
                        self._deliver(batch, await self._client.batch_results(batch.batch_id), has_ended)
                    if has_ended:
                        return
                except APIError as error:
                    longest = min(OUTAGE, self._settings.max_wait)
                    if not error.retryable or loop.time() - last_response > longest:
                        self._fail(batch, error)
                        return
        except BaseException:
            for future in batch.items.values():
                future.cancel()
            raise
        finally:
            self._batches.pop(batch.batch_id, None)

    def _deliver(self, batch: _Batch, lines: list[Json], has_ended: bool) -> None:
        """Complete the futures of the items that have ended; of all items if the batch has ended."""
        for line in lines:
            future = batch.items.get(str(line.get("task_id")))
            if future is None or future.done() or line.get("status") not in ("ready", "failed", "canceled"):
                continue
            future.set_result(_task_of(line))
        if has_ended:
            for task_id, future in batch.items.items():
                if not future.done():
                    error = {
                        "code": "batch_expired",
                        "message": "the batch ended before this item was processed",
                    }
                    future.set_result({"task_id": task_id, "status": "canceled", "error": error})

    def _fail(self, batch: _Batch, error: APIError) -> None:
        for future in batch.items.values():
            if not future.done():
                future.set_exception(copy(error))


def batch_item(body: Mapping[str, Any]) -> Json:
    """Convert the arguments of `create_analyze_task` to an item of a batch."""
    names = (
        *("video", "custom_id", "response_format", "temperature", "max_tokens"),
        *("start_time", "end_time", "min_segment_duration", "max_segment_duration"),
    )
    item = {name: body[name] for name in names if body.get(name) is not None}
    if body.get("prompt_v2") is not None:
        item["prompt"] = body["prompt_v2"]
    elif body.get("prompt") is not None:
        item["prompt"] = {"input_text": body["prompt"]}
    return item


def _mode(item: _Item) -> str:
    return str(item.body.get("analysis_mode") or "general")


def _task_of(line: Mapping[str, Any]) -> Json:
    """Convert a line of the batch results to a task, whose `result` is the `data` of the line."""
    return {**line, "result": line.get("data")}
