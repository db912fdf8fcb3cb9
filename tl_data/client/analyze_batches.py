"""Batching of analyses: collected for a moment, created with one request, and polled as a batch."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from typing import Any

from tl_data.client.analyze_tasks import ACTIVE_BATCHES, BATCH_HOURS, BATCH_ITEMS, AnalyzeTaskMethods
from tl_data.client.task_poller import OUTAGE, ended
from tl_data.errors import APIError, BadRequest, NotFound, StillRunning
from tl_data.settings import Settings

Json = dict[str, Any]

SEND_AFTER = 0.5  # seconds without a new item after which a batch is sent; `poll_interval` beside others
LONGEST_COLLECTION = 30.0  # seconds after which it is sent although items keep coming
FIRST_POLL = 0.25  # seconds; doubles up to `poll_interval`, then grows with the age of the batch
LONGEST_PAUSE = 60.0  # seconds between two polls of a batch, at most
PARTIAL = 60.0  # seconds between reads of the partial results of a running batch
ENDED = ("completed", "canceled", "expired")
MOST_HOURS = BATCH_HOURS * 0.95  # of video in a batch: lengths may be known roughly


@dataclass
class _Item:
    body: Json
    minutes: float
    task_id: asyncio.Future[str]


@dataclass
class _Batch:
    batch_id: str
    items: dict[str, asyncio.Future[Json]] = field(default_factory=dict)  # by task
    poller: asyncio.Task[None] | None = None


class Batches:
    """Collects analyses of one event loop into batches."""

    def __init__(self, client: AnalyzeTaskMethods, settings: Settings) -> None:
        self._client, self._settings = client, settings
        self._waiting: list[_Item] = []
        self._timer: asyncio.TimerHandle | None = None
        self._collecting_since = 0.0  # loop time
        self._tasks: set[asyncio.Task[None]] = set()
        self._batches: dict[str, _Batch] = {}
        self._batch_of: dict[str, _Batch] = {}  # by task
        self._active = 0  # batches that were sent and have not ended
        self._unsupported = False  # the server does not support batches

    async def aclose(self) -> None:
        """Stop polling. Callers that still wait are cancelled."""
        if self._timer:
            self._timer.cancel()
        running = [*self._tasks, *(b.poller for b in self._batches.values() if b.poller)]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)

    async def add(self, body: Json, minutes: float) -> str:
        """Add an analysis to the next batch; returns the id of its task when it has been created.

        Args:
            body: the arguments of `create_analyze_task`; the video is an asset.
            minutes: billed minutes of video.

        Raises:
            APIError: the batch failed or, where batches are not supported, the task.
        """
        if self._unsupported:
            return str((await self._client.create_analyze_task(**body))["task_id"])
        item = _Item(body, minutes, asyncio.get_running_loop().create_future())
        self._waiting.append(item)
        hours = sum(each.minutes for each in self._waiting) / 60
        if len(self._waiting) >= BATCH_ITEMS or hours > MOST_HOURS:
            self._flush()
        else:
            self._schedule()
        return await item.task_id

    def _schedule(self) -> None:
        """Send what waits when no more items come. While other batches run, more are worth waiting for."""
        loop = asyncio.get_running_loop()
        if self._timer:
            self._timer.cancel()
        else:
            self._collecting_since = loop.time()
        quiet = max(SEND_AFTER, self._settings.poll_interval) if self._active else SEND_AFTER
        rest = self._collecting_since + LONGEST_COLLECTION - loop.time()
        self._timer = loop.call_later(max(0.0, min(quiet, rest)), self._flush)

    def _flush(self) -> None:
        """Send what waits, as far as the account takes another batch; the rest goes when one has ended."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        while self._active < ACTIVE_BATCHES and (items := self._next()):
            self._active += 1
            self._start(items)

    def _next(self) -> list[_Item]:
        """The items of the next batch, of one mode, as many as one takes. Cancelled ones are dropped."""
        self._waiting = [item for item in self._waiting if not item.task_id.done()]
        items: list[_Item] = []
        hours = 0.0
        for item in self._waiting:
            if _mode(item) != _mode(self._waiting[0]):
                continue
            hours += item.minutes / 60
            if items and (len(items) == BATCH_ITEMS or hours > MOST_HOURS):
                break
            items.append(item)
        chosen = set(map(id, items))
        self._waiting = [item for item in self._waiting if id(item) not in chosen]
        return items

    def _start(self, items: list[_Item]) -> None:
        # In an empty context, so that it is on no single caller's usage.
        task = asyncio.get_running_loop().create_task(self._send(items), context=contextvars.Context())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _send(self, items: list[_Item]) -> None:
        """Create a batch, and count it as active until it has ended."""
        try:
            batch = await self._create(items)
            if batch is not None and batch.poller is not None:
                await asyncio.wait([batch.poller])
        except BaseException as error:
            for item in items:
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
            if self._waiting and self._timer is None:
                self._flush()

    async def _create(self, items: list[_Item]) -> _Batch | None:
        """Create a batch of these items; None if they were sent in another way."""
        if self._unsupported:
            await self._one_by_one(items)
            return None
        model, mode = str(items[0].body.get("model_name")), _mode(items[0])
        minutes = sum(item.minutes for item in items)
        try:
            made = await self._client.create_batch(
                [batch_item(item.body) for item in items],
                model_name=model,
                analysis_mode=mode,
                video_minutes=minutes,
            )
        except (BadRequest, NotFound) as refused:
            # A batch is rejected as a whole for one invalid item, or because the server has no batches.
            no_route = refused.http_status in (404, 405, 410) and refused.code in (
                "endpoint_not_exists",
                "endpoint_deprecated",
                "not_supported",
                None,
            )
            self._unsupported = self._unsupported or no_route
            await self._one_by_one(items)
            return None
        except APIError as failed:
            if failed.http_status != 504 or len(items) < 2:
                raise
            half = len(items) // 2  # too large to be created in time; nothing was created
            self._active += 2
            self._start(items[:half])
            self._start(items[half:])
            return None
        batch = self._batch(str(made["batch_id"]))
        ids = {str(i.get("custom_id")): str(i["task_id"]) for i in made.get("items") or []}
        for number, item in enumerate(items):
            task_id = ids.get(str(item.body.get("custom_id"))) or str(made["items"][number]["task_id"])
            self._expect(batch, task_id)
            if not item.task_id.done():
                item.task_id.set_result(task_id)
        return batch

    async def _one_by_one(self, items: list[_Item]) -> None:
        async def one(item: _Item) -> None:
            try:
                made = await self._client.create_analyze_task(**item.body)
            except Exception as error:  # noqa: BLE001 - raised where the item is awaited
                if not item.task_id.done():
                    item.task_id.set_exception(error)
                return
            if not item.task_id.done():
                item.task_id.set_result(str(made["task_id"]))

        slots = asyncio.Semaphore(self._settings.concurrency)

        async def in_turn(item: _Item) -> None:
            async with slots:
                await one(item)

        await asyncio.gather(*(in_turn(item) for item in items))

    # ---- waiting --------------------------------------------------------------------------------

    async def wait(self, task_id: str) -> Json | None:
        """Wait for a task of a batch created here and return it; None if it belongs to no such batch.

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
        except TimeoutError:
            raise StillRunning(
                f"batch {batch.batch_id} did not finish within {self._settings.task_deadline:g} s. It is "
                "still running; the next run waits for it and is not charged again",
                task_id,
            ) from None
        return ended(task, task_id)

    def _batch(self, batch_id: str) -> _Batch:
        if batch_id not in self._batches:
            batch = self._batches[batch_id] = _Batch(batch_id)
            batch.poller = asyncio.get_running_loop().create_task(
                self._poll(batch), context=contextvars.Context()
            )
        return self._batches[batch_id]

    def _expect(self, batch: _Batch, task_id: str) -> None:
        if task_id not in batch.items:
            future: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
            future.add_done_callback(lambda f: f.cancelled() or f.exception())  # possibly never awaited
            batch.items[task_id] = future
            self._batch_of[task_id] = batch

    async def _poll(self, batch: _Batch) -> None:
        """Poll a batch until it ends, and deliver its results as they arrive."""
        loop = asyncio.get_running_loop()
        began = answered = read = loop.time()
        pause, ended_items = FIRST_POLL, 0
        try:
            while True:
                await asyncio.sleep(pause)
                age = min(LONGEST_PAUSE, (loop.time() - began) / 4)
                pause = max(min(self._settings.poll_interval, pause * 2), age)
                try:
                    state = await self._client.retrieve_batch(batch.batch_id)
                    answered = loop.time()
                    over = state.get("status") in ENDED
                    count = sum(int(state.get(f"{n}_items") or 0) for n in ("ready", "failed", "canceled"))
                    if over or (count > ended_items and loop.time() - read > PARTIAL):
                        read, ended_items = loop.time(), count
                        self._hand_out(batch, await self._client.batch_results(batch.batch_id), over)
                    if over:
                        return
                except APIError as error:
                    if not error.retryable or loop.time() - answered > min(OUTAGE, self._settings.max_wait):
                        self._fail(batch, error)
                        return
        except BaseException:
            for future in batch.items.values():
                future.cancel()
            raise

    def _hand_out(self, batch: _Batch, lines: list[Json], over: bool) -> None:
        for line in lines:
            future = batch.items.get(str(line.get("task_id")))
            if future is None or future.done() or line.get("status") not in ("ready", "failed", "canceled"):
                continue
            future.set_result(_as_task(line))
        if over:
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


def _as_task(line: Mapping[str, Any]) -> Json:
    """Convert a line of the batch results to the shape of a task, where `data` is called `result`."""
    return {**line, "result": line.get("data")}
