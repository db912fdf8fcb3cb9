"""Wait for many remote tasks with few requests.

One poll requests a list that covers all awaited tasks of a kind:

- Indexing tasks and indexed assets of an index: those that have ended since the newest one in earlier lists.
- Assets: by their ids, up to `LISTS_PER_POLL` pages in a poll.
- Embedding tasks: those with status `processing`. A task that the list does not contain has ended.
- Analysis tasks: the newest ones of the account.

A single awaited task is retrieved directly, which takes no more requests than a list. Assets and indexed
assets are always looked up in a list.

The time between polls follows the pace at which tasks end: a poll is sent when about a third of the awaited
tasks, at least `MIN_ENDED` and at most a page of them, should have ended since the last one. So the polls of
a job are a small share of its requests, whether its videos take seconds or minutes.

A list may be incomplete. When `DIRECT_AFTER` polls in a row have shown no end of some of the tasks, one of
these is retrieved directly. If it has ended, the others are retrieved, too. If not, `DIRECT_AFTER` more lists
are read first.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

from tl_data.errors import APIError, BadRequest, NotFound, StillRunning, TaskFailed
from tl_data.ratelimit.headers import moment
from tl_data.settings import Settings

if TYPE_CHECKING:
    from tl_data.client import Client

Json = dict[str, Any]

OVERLAP = 10.0  # seconds by which two lists overlap, because the clocks of the API's servers differ
FIRST_POLL = 0.1  # seconds per awaited task before the first poll; short, because some tasks end at once
DIRECT_AFTER = 12  # number of polls without the end of a task after which it is retrieved directly
MAX_AT_INTERVAL = 2  # up to this number of tasks are polled at `poll_interval`, and more of them less often
MIN_ENDED = 15  # a poll is sent when at least so many tasks should have ended since the last one
MARGIN = 1.2  # factor of the expected time: a poll that comes a little too early needs another one
MAX_PAUSE = 60.0  # maximum seconds between two polls
MAX_SINGLE = 1  # up to this number of tasks are retrieved directly, with no more requests than a list
DIRECT_PER_POLL = 8  # maximum number of tasks that one poll retrieves directly
PER_PAGE = 50  # the API's maximum number of items on a page
LISTS_PER_POLL = 4  # maximum number of lists of assets in one poll
#: The largest difference that is expected between the clock of the API and that of this machine.
MAX_CLOCK_DIFFERENCE = timedelta(minutes=5)
MAX_LISTED = 100  # a poll reads up to so many analysis tasks of the list, and two more per awaited task
OUTAGE = 300.0  # seconds of failed polls after which the callers get a retryable error
FINAL_STATUSES = ("ready", "failed", "canceled")  # statuses of tasks that have ended
INDEXING_FINAL_STATUSES = ("ready", "failed")  # the same for indexing, which cannot be canceled


@dataclass
class Announced:
    """The number of announced videos."""

    videos: int = 0


class TaskWatcher:
    """Waits for tasks on behalf of any number of callers in one event loop."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._announced = Announced()
        self._indexes: dict[str, tuple[_Indexing, _Group]] = {}
        self._indexed: dict[str, tuple[_IndexedAssets, _Group]] = {}
        self._embedding = _Group(_Embedding(client), settings, self._announced)
        self._embedding_v2 = _Group(_EmbeddingV2(client), settings, self._announced)
        self._analyzing = _Group(_Analyzing(client), settings, self._announced)
        self._assets = _Group(_Assets(client), settings, self._announced)

    @contextmanager
    def announced(self) -> Iterator[None]:
        """Announce a video whose tasks are awaited in this block.

        The more videos are announced, the later is the first poll, so that one list covers all of them.
        """
        self._announced.videos += 1
        try:
            yield
        finally:
            self._announced.videos -= 1

    async def wait(self, task_id: str, index_id: str, *, since: str | None = None, new: bool = False) -> Json:
        """Wait until an indexing task is ready and return it, with at least `_id`, `video_id` and `status`.

        Args:
            since: a time of the API's clock (RFC 3339) at which the task had not ended, such as its
                `created_at`. It saves a request.
            new: whether the task was just created. This saves the same request.

        Raises:
            TaskFailed: the task failed. The message contains the reason if the API gives one.
            StillRunning: the task did not finish within `settings.task_deadline`.
            NotAllowed: the API key is no longer valid.
            NotFound: the task does not exist or was deleted.
            APIError: polls failed for `OUTAGE` seconds, or `settings.max_wait` if that is less. An error that
                is not retryable is raised at once, to all callers that wait for tasks of the same list.
        """
        if index_id not in self._indexes:
            kind = _Indexing(self._client, index_id)
            self._indexes[index_id] = kind, _Group(kind, self._settings, self._announced)
        kind, group = self._indexes[index_id]
        return await _end_of_listed(kind, group, task_id, since=since, new=new)

    async def wait_embed(self, task_id: str) -> Json:
        """Wait until an embedding task is ready and return it with its vectors. Raises what `wait` raises."""
        return require_success(await self._embedding.end_of(task_id), task_id)

    async def wait_analyze(self, task_id: str) -> Json:
        """Wait until an analysis task is ready and return it with its result.

        Raises what `wait` raises; TaskFailed also for a canceled task.
        """
        return require_success(await self._analyzing.end_of(task_id), task_id)

    async def wait_asset(self, asset_id: str) -> Json:
        """Wait until an asset is ready and return it. Raises what `wait` raises."""
        return require_success(await self._assets.end_of(asset_id), asset_id)

    async def wait_indexed(self, indexed_asset_id: str, index_id: str, *, new: bool = False) -> Json:
        """Wait until an indexed asset is ready and return it, with at least the fields that a list contains.

        Raises what `wait` raises.

        Args:
            new: whether the indexed asset was just created. This saves a request.
        """
        if index_id not in self._indexed:
            kind = _IndexedAssets(self._client, index_id)
            self._indexed[index_id] = kind, _Group(kind, self._settings, self._announced)
        kind, group = self._indexed[index_id]
        return await _end_of_listed(kind, group, indexed_asset_id, new=new)

    async def wait_embed_v2(self, task_id: str) -> Json:
        """Wait until a task of /embed-v2 is ready and return it with vectors. Raises what `wait` raises."""
        return require_success(await self._embedding_v2.end_of(task_id), task_id)

    async def aclose(self) -> None:
        """Stop polling. Callers that still wait are cancelled."""
        groups = [self._embedding, self._embedding_v2, self._analyzing, self._assets]
        groups += [group for _, group in self._indexed.values()]
        for group in groups + [group for _, group in self._indexes.values()]:
            await group.aclose()


def require_success(task: Json, task_id: str) -> Json:
    """Return an ended task unless it failed.

    Raises:
        TaskFailed: the task failed or was canceled. It has the API's code and reason if the API gives them.
    """
    if task.get("status") not in ("failed", "canceled"):
        return task
    raw = task.get("error")
    error: Json = raw if isinstance(raw, dict) else {}
    filename = (task.get("system_metadata") or {}).get("filename")
    of_file = f" of {filename}" if filename else ""
    message = error.get("message") or task.get("error_message")
    if message is None and task["status"] == "canceled":
        raise TaskFailed("the task was canceled", task_id, str(error.get("code") or "task_canceled"))
    if message is None:
        message = f"the task{of_file} failed without a reason from the platform; check that the file plays"
    raise TaskFailed(str(message).rstrip("."), task_id, str(error.get("code") or "task_failed"))


@dataclass
class _Waiter:
    """A task that at least one caller awaits."""

    end: asyncio.Future[Json]  # the ended task
    began: float  # loop time at which the first caller began to wait
    callers: int = 0
    polls_without_end: int = 0  # consecutive polls without its end; a direct retrieval resets it


class _Kind(Protocol):
    """The requests for tasks of one kind."""

    no_list: bool  # whether the server has no such list, so that tasks are retrieved one by one
    max_direct: int  # up to this number of tasks are retrieved one by one

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """Read the list. Returns the ended tasks by id, and the ids of tasks that must be retrieved."""
        ...

    async def retrieve(self, task_id: str) -> Json:
        """Retrieve one task, ended or not."""
        ...


class _Group:
    """The awaited tasks of one kind. A background task polls them while there are any."""

    def __init__(self, kind: _Kind, settings: Settings, announced: Announced) -> None:
        self._kind = kind
        self._settings = settings
        self._announced = announced
        self._waiters: dict[str, _Waiter] = {}
        self._poller: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()  # set when a waiter is added or removed
        self._pace: float | None = None  # tasks that ended per second recently; None if none has ended
        self._ended_count = 0  # number of tasks that have ended since the last poll
        self._began = 0.0  # loop time since which tasks are awaited without interruption
        self._lists = 0  # number of lists since a task was last retrieved directly
        self._incomplete = False  # whether that task had ended although no list had shown its end

    async def end_of(self, task_id: str) -> Json:
        """Wait until a task has ended, successfully or not, and return it."""
        loop = asyncio.get_running_loop()
        waiter = self._waiters.setdefault(task_id, _Waiter(loop.create_future(), loop.time()))
        waiter.callers += 1
        if self._poller is None or self._poller.done():
            # The context is empty, so that the requests are not counted in the usage of one caller.
            self._poller = loop.create_task(self._poll_until_done(), context=contextvars.Context())
        self._changed.set()
        try:
            async with asyncio.timeout(self._settings.task_deadline):
                return await asyncio.shield(waiter.end)
        except TimeoutError:
            raise StillRunning(
                f"the task did not finish within {self._settings.task_deadline:g} s. It is still running; "
                "the next run waits for it and is not charged again. Raise task_deadline to wait longer",
                task_id,
            ) from None
        finally:
            waiter.callers -= 1
            if not waiter.callers and self._waiters.get(task_id) is waiter:
                del self._waiters[task_id]
                waiter.end.cancel()
                self._changed.set()

    async def aclose(self) -> None:
        if self._poller:
            self._poller.cancel()
            await asyncio.gather(self._poller, return_exceptions=True)

    async def _poll_until_done(self) -> None:
        loop = asyncio.get_running_loop()
        self._began = last_response = loop.time()
        self._pace = None
        try:
            while self._waiters:
                began, self._ended_count = loop.time(), 0
                await self._pause(began)
                try:
                    await self._poll()
                    last_response = loop.time()
                    self._update_pace(last_response - began)
                except APIError as error:
                    longest = min(OUTAGE, self._settings.max_wait)
                    if not error.retryable or loop.time() - last_response > longest:
                        self._end_all(error)
        except BaseException as error:
            # Only this background task completes the waiters, so they must end with it.
            self._end_all(error if isinstance(error, Exception) else None)
            raise

    async def _pause(self, began: float) -> None:
        """Wait until the next poll.

        Args:
            began: loop time at which the pause began.
        """
        loop = asyncio.get_running_loop()
        while self._waiters:
            remaining = began + self._pause_seconds(began) - loop.time()
            if remaining <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining)

    def _pause_seconds(self, began: float) -> float:
        """The length of a pause that began at this time. New tasks are polled soon: some end at once."""
        count, interval = len(self._waiters), self._settings.poll_interval
        soon = min(interval, FIRST_POLL * max(count, self._announced.videos))
        # Requests to the embedded engine cost nothing.
        if count <= MAX_AT_INTERVAL or self._settings.embedded:
            age_of_newest = asyncio.get_running_loop().time() - max(w.began for w in self._waiters.values())
            return max(soon, min(interval, age_of_newest / 5))
        longest = min(MAX_PAUSE, interval * count / MAX_AT_INTERVAL)
        # Until a task has ended, and while the pace is a rough estimate, pauses grow with the time so far.
        longest = min(longest, 1.5 * (began - self._began))
        enough = min(count, max(MIN_ENDED, min(PER_PAGE, count / 3)))
        return max(soon, longest if self._pace is None else min(longest, MARGIN * enough / self._pace))

    def _update_pace(self, seconds: float) -> None:
        """Update the pace after a poll. `seconds` is the time since the previous poll."""
        pace = self._ended_count / max(seconds, 0.001)
        if self._pace is not None:
            self._pace = (self._pace + pace) / 2
        elif pace:
            self._pace = pace

    async def _poll(self) -> None:
        """Read the list once, or retrieve the tasks directly, and complete the waiters of ended tasks."""
        ids = list(self._waiters)
        direct = len(ids) <= self._kind.max_direct
        ended, to_retrieve = ({}, []) if direct else await self._kind.check(ids)
        for task_id, task in ended.items():
            self._end(task_id, task)
        for task_id in to_retrieve:
            if task_id in self._waiters:
                await self._retrieve(task_id)
        if direct or self._kind.no_list:
            longest_first = sorted(self._waiters, key=lambda i: -self._waiters[i].polls_without_end)
            for task_id in longest_first[:DIRECT_PER_POLL]:
                await self._retrieve(task_id)
        for waiter in self._waiters.values():
            waiter.polls_without_end += 1
        if not (direct or self._kind.no_list):
            await self._retrieve_overdue()

    async def _retrieve_overdue(self) -> None:
        """Retrieve one of the tasks whose end many polls did not show; several if lists are incomplete."""
        self._lists += 1
        if self._lists < DIRECT_AFTER and not self._incomplete:
            return
        overdue = [i for i, w in self._waiters.items() if w.polls_without_end >= DIRECT_AFTER]
        overdue.sort(key=lambda i: -self._waiters[i].polls_without_end)
        overdue = overdue[: DIRECT_PER_POLL if self._incomplete else 1]
        if overdue:
            self._lists = 0
            self._incomplete = any([await self._retrieve(task_id) for task_id in overdue])

    async def _retrieve(self, task_id: str) -> bool:
        """Retrieve a task, and return whether it has ended."""
        if waiter := self._waiters.get(task_id):
            waiter.polls_without_end = 0
        try:
            task = await self._kind.retrieve(task_id)
        except (NotFound, BadRequest) as error:
            self._end(task_id, error)
            return True
        if task.get("status") not in FINAL_STATUSES:
            return False
        self._end(task_id, task)
        return True

    def _end(self, task_id: str, task: Json | Exception) -> None:
        """Complete the waiter of a task with the ended task or an exception."""
        waiter = self._waiters.pop(task_id, None)
        self._ended_count += waiter is not None
        if waiter and not waiter.end.done():
            if isinstance(task, Exception):
                waiter.end.set_exception(copy(task))  # each waiter gets a copy: raise extends the traceback
            else:
                waiter.end.set_result(task)

    def _end_all(self, error: Exception | None) -> None:
        """End all waiters with an exception; None cancels them."""
        for task_id, waiter in list(self._waiters.items()):
            if error is None:
                waiter.end.cancel()
                del self._waiters[task_id]
            else:
                self._end(task_id, error)


class _EndedList:
    """Base class for tasks of one index, looked up in a list of the tasks that ended since the last poll."""

    max_direct = MAX_SINGLE

    def __init__(self) -> None:
        self._newest: datetime | None = None  # latest `updated_at` in earlier lists; see also `begin`
        self.no_list = False  # whether the server does not support these filters

    def begin(self, unfinished_at: str | None, runs_now: bool) -> None:
        """Make the next list begin early enough for a new awaited task.

        Args:
            unfinished_at: a time of the API's clock at which the task had not ended; None: an hour ago.
            runs_now: whether the task was just created, or retrieved and had not ended. Then no earlier list
                can have contained its end, and the next one need not begin earlier.
        """
        first = moment(unfinished_at) or datetime.now(UTC) - timedelta(hours=1)
        if self._newest is None or (first < self._newest and not runs_now):
            self._newest = first

    def list_ended(self, since: str) -> AsyncIterator[Json]:
        """List the tasks that have ended since a time, newest first."""
        raise NotImplementedError

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """The ended tasks by id, and the ids of tasks that must be retrieved."""
        raise NotImplementedError

    async def retrieve(self, task_id: str) -> Json:
        """Retrieve one task, ended or not."""
        raise NotImplementedError

    async def find_ended(self, ids: list[str]) -> dict[str, Json]:
        """The tasks with these ids that have ended, by id, with the fields that the list contains."""
        if self.no_list or self._newest is None:
            return {}
        since = self._newest - timedelta(seconds=OVERLAP)
        newest, awaited = self._newest, set(ids)
        ended: dict[str, Json] = {}
        try:
            since_text = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            async for task in self.list_ended(since_text):
                changed = moment(task.get("updated_at"))
                if changed and changed < since:
                    break
                newest = max(newest, changed or newest)
                task_id = str(task.get("_id"))
                if task_id in awaited and task.get("status") in FINAL_STATUSES:
                    ended[task_id] = task
                    if len(ended) == len(awaited):
                        break
        except (BadRequest, NotFound):
            self.no_list = True
            return {}
        self._newest = newest
        return ended


async def _end_of_listed(
    kind: _EndedList, group: _Group, task_id: str, *, since: str | None = None, new: bool = False
) -> Json:
    """Wait for a task of one index. It is retrieved first, unless it is known to run at `since` or is new."""
    if since is not None:
        kind.begin(since, runs_now=False)
    elif new:
        kind.begin((datetime.now(UTC) - MAX_CLOCK_DIFFERENCE).isoformat(), runs_now=True)
    else:
        task = await kind.retrieve(task_id)
        if task.get("status") in FINAL_STATUSES:
            return require_success(task, task_id)
        kind.begin(task.get("updated_at") or task.get("created_at"), runs_now=True)
    return require_success(await group.end_of(task_id), task_id)


class _Indexing(_EndedList):
    """Indexing tasks of one index."""

    def __init__(self, client: Client, index_id: str) -> None:
        super().__init__()
        self._client = client
        self._index_id = index_id

    def list_ended(self, since: str) -> AsyncIterator[Json]:
        return self._client.list_tasks(
            index_id=self._index_id,
            status=list(INDEXING_FINAL_STATUSES),
            updated_at=since,
            sort_by="updated_at",
            sort_option="desc",
        )

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """The ended tasks by id, and the ids of failed tasks that must be retrieved for the reason."""
        ended = await self.find_ended(ids)
        # The list may not contain the reason of a failure.
        unexplained = [i for i, task in ended.items() if task["status"] == "failed" and "error" not in task]
        return {i: task for i, task in ended.items() if i not in unexplained}, unexplained

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_task(task_id)


class _Embedding:
    """Embedding tasks, looked up in the list of those with status `processing`."""

    max_direct = MAX_SINGLE

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False

    def list_processing(self) -> AsyncIterator[Json]:
        """List the tasks that have not ended."""
        return self._client.list_embed_tasks(status="processing")

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """No ended tasks, and the ids of tasks that must be retrieved: they are no longer `processing`."""
        try:
            processing = {str(task.get("_id")) async for task in self.list_processing()}
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {}, [task_id for task_id in ids if task_id not in processing]

    async def retrieve(self, task_id: str) -> Json:
        task = await self._client.embed_task_status(task_id)
        if task.get("status") not in FINAL_STATUSES:
            return task
        return await self._client.retrieve_embed_task(task_id)


class _EmbeddingV2(_Embedding):
    """Embedding tasks of /embed-v2, looked up in the list of those with status `processing`."""

    def list_processing(self) -> AsyncIterator[Json]:
        return self._client.list_embed_v2_tasks(status="processing")

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_embed_v2_task(task_id)


class _Analyzing:
    """Analysis tasks, looked up in the list of the newest ones."""

    max_direct = MAX_SINGLE

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """No tasks, and the ids of the ended ones, which must be retrieved: the list contains no results."""
        missing, ended_ids, listed = set(ids), [], 0
        try:
            async for task in self._client.list_analyze_tasks():
                listed += 1
                task_id = str(task.get("task_id"))
                if task_id in missing:
                    missing.discard(task_id)
                    if task.get("status") in FINAL_STATUSES:
                        ended_ids.append(task_id)
                if not missing or listed >= MAX_LISTED + 2 * len(ids):
                    break
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {}, ended_ids

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_analyze_task(task_id)


class _IndexedAssets(_EndedList):
    """Indexed assets of one index. A list takes no more requests than the retrieval of one of them."""

    max_direct = 0

    def __init__(self, client: Client, index_id: str) -> None:
        super().__init__()
        self._client, self._index_id = client, index_id

    def list_ended(self, since: str) -> AsyncIterator[Json]:
        return self._client.list_indexed_assets(
            self._index_id,
            status=list(INDEXING_FINAL_STATUSES),
            updated_at=since,
            sort_by="updated_at",
            sort_option="desc",
        )

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """The ended indexed assets by id, and no ids: the list contains all fields of a failed one."""
        return await self.find_ended(ids), []

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_indexed_asset(self._index_id, task_id)


class _Assets:
    """Assets, looked up by their ids. A poll begins with those whose last look-up was the earliest."""

    max_direct = 0

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False
        self._last_poll: dict[str, int] = {}  # by asset id: number of the poll that last looked it up
        self._polls = 0

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        self._polls += 1
        self._last_poll = {i: self._last_poll.get(i, 0) for i in ids}
        due_ids = sorted(ids, key=self._last_poll.__getitem__)[: PER_PAGE * LISTS_PER_POLL]
        ended: dict[str, Json] = {}
        try:
            for start in range(0, len(due_ids), PER_PAGE):
                page_ids = due_ids[start : start + PER_PAGE]
                async for asset in self._client.list_assets(asset_ids=page_ids):
                    if asset.get("status") in FINAL_STATUSES:
                        ended[str(asset.get("_id"))] = asset
                self._last_poll |= dict.fromkeys(page_ids, self._polls)
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        awaited = set(ids)
        return {i: asset for i, asset in ended.items() if i in awaited}, []

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_asset(task_id)
