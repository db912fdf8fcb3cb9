"""Wait for many remote tasks with few requests.

One request for a list covers all awaited tasks of a kind. Indexing tasks and indexed assets of an index are
looked up among those that ended since the newest one seen, assets by their ids, a few pages of them a poll.
Embedding tasks have ended when the list of `processing` tasks no longer contains them. Up to two tasks are
retrieved directly where that takes no more requests than a list.

Lists may be incomplete: of the tasks that several lists in a row did not contain, one is retrieved directly.
If it has ended, the others are retrieved, too; if it has not, the lists are trusted for a while.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator
from contextlib import suppress
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

OVERLAP = 10.0  # seconds before the newest task seen that a list covers again: clocks of servers differ
FIRST_POLL = 0.1  # seconds per new task before its first poll: short, for tasks that end at once
DIRECT_AFTER = 12  # polls without a task in the list after which it is retrieved directly
FEW = 2  # up to so many tasks are retrieved one by one, which costs no more than a list
DIRECT_PER_POLL = 8  # tasks retrieved directly in one poll, at most
ASSETS_PER_LIST = 50  # the API's largest page
LISTS_PER_POLL = 4  # lists of assets in one poll, at most
CLOCKS = timedelta(minutes=5)  # by which the API's clock may differ from ours
LISTED = 100  # other tasks of the account that a poll reads in a list before it gives up
OUTAGE = 300.0  # seconds of failed polls after which the callers get the error
ENDS = ("ready", "failed", "canceled")
INDEXING_ENDS = ("ready", "failed")  # of indexing tasks and indexed assets; they cannot be canceled


class TaskWatcher:
    """Waits for tasks on behalf of any number of callers in one event loop."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._indexes: dict[str, tuple[_Indexing, _Group]] = {}
        self._indexed: dict[str, tuple[_IndexedAssets, _Group]] = {}
        self._embedding = _Group(_Embedding(client), settings)
        self._embedding_v2 = _Group(_EmbeddingV2(client), settings)
        self._analyzing = _Group(_Analyzing(client), settings)
        self._assets = _Group(_Assets(client), settings)

    async def wait(self, task_id: str, index_id: str, *, since: str | None = None, new: bool = False) -> Json:
        """Wait until an indexing task is ready and return it, with at least `_id`, `video_id` and `status`.

        Args:
            since: a time from the API (RFC 3339) at which the task was unfinished, such as its `created_at`.
                It saves one request.
            new: the task was created a moment ago; it saves the same request.

        Raises:
            TaskFailed: the task failed; with the reason if the API gives one.
            StillRunning: the task did not finish within `settings.task_deadline`.
            NotAllowed: the API key is no longer valid.
            NotFound: the task does not exist or was deleted.
            APIError: the API did not respond for `OUTAGE` seconds, or `settings.max_wait` if that is less.
        """
        if index_id not in self._indexes:
            kind = _Indexing(self._client, index_id)
            self._indexes[index_id] = kind, _Group(kind, self._settings)
        kind, group = self._indexes[index_id]
        if since is not None:
            kind.begin(since, known_now=False)
        elif new:
            kind.begin((datetime.now(UTC) - CLOCKS).isoformat(), known_now=True)
        else:
            task = await self._client.retrieve_task(task_id)
            if task.get("status") in ENDS:
                return ended(task, task_id)
            kind.begin(task.get("updated_at") or task.get("created_at"), known_now=True)
        return ended(await group.end_of(task_id), task_id)

    async def wait_embed(self, task_id: str) -> Json:
        """Wait until an embedding task is ready and return it with its vectors. Raises what `wait` raises."""
        return ended(await self._embedding.end_of(task_id), task_id)

    async def wait_analyze(self, task_id: str) -> Json:
        """Wait until an analysis task is ready and return it with its result.

        Raises what `wait` raises; TaskFailed also for a canceled task.
        """
        return ended(await self._analyzing.end_of(task_id), task_id)

    async def wait_asset(self, asset_id: str) -> Json:
        """Wait until an asset is ready and return it. Raises what `wait` raises."""
        return ended(await self._assets.end_of(asset_id), asset_id)

    async def wait_indexed(self, indexed_asset_id: str, index_id: str, *, new: bool = False) -> Json:
        """Wait until an indexed asset is ready and return it, at least as a list shows it.

        Args:
            new: it was created a moment ago; this saves one request.

        Raises what `wait` raises.
        """
        if index_id not in self._indexed:
            kind = _IndexedAssets(self._client, index_id)
            self._indexed[index_id] = kind, _Group(kind, self._settings)
        kind, group = self._indexed[index_id]
        if new:
            kind.begin((datetime.now(UTC) - CLOCKS).isoformat(), known_now=True)
        else:
            found = await self._client.retrieve_indexed_asset(index_id, indexed_asset_id)
            if found.get("status") in ENDS:
                return ended(found, indexed_asset_id)
            kind.begin(found.get("updated_at") or found.get("created_at"), known_now=True)
        return ended(await group.end_of(indexed_asset_id), indexed_asset_id)

    async def wait_embed_v2(self, task_id: str) -> Json:
        """Wait until a task of /embed-v2 is ready and return it with its vectors. Raises as `wait` does."""
        return ended(await self._embedding_v2.end_of(task_id), task_id)

    async def aclose(self) -> None:
        """Stop polling. Callers that still wait are cancelled."""
        groups = [self._embedding, self._embedding_v2, self._analyzing, self._assets]
        groups += [group for _, group in self._indexed.values()]
        for group in groups + [group for _, group in self._indexes.values()]:
            await group.aclose()


def ended(task: Json, task_id: str) -> Json:
    """Return the task unless it failed.

    Raises:
        TaskFailed: the task failed or was canceled; with the API's code and reason where it gives them.
    """
    if task.get("status") not in ("failed", "canceled"):
        return task
    raw = task.get("error")
    error: Json = raw if isinstance(raw, dict) else {}
    filename = (task.get("system_metadata") or {}).get("filename")
    of = f" of {filename}" if filename else ""
    message = error.get("message") or task.get("error_message")
    if message is None and task["status"] == "canceled":
        raise TaskFailed("the task was canceled", task_id, str(error.get("code") or "task_canceled"))
    if message is None:
        message = f"the task{of} failed without a reason from the platform; check that the file plays"
    raise TaskFailed(str(message).rstrip("."), task_id, str(error.get("code") or "task_failed"))


@dataclass
class _Waiter:
    end: asyncio.Future[Json]
    began: float  # loop time
    callers: int = 0
    missed: int = 0  # consecutive lists without the task


class _Kind(Protocol):
    """The requests for tasks of one kind."""

    no_list: bool  # the server has no such list; tasks are retrieved one by one
    few: int  # up to so many tasks are retrieved one by one

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]: ...
    async def retrieve(self, task_id: str) -> Json: ...


class _Group:
    """The awaited tasks of one kind, and the background task that polls while there are any."""

    def __init__(self, kind: _Kind, settings: Settings) -> None:
        self._kind = kind
        self._settings = settings
        self._waiters: dict[str, _Waiter] = {}
        self._poller: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()
        self._lists = 0  # since a task was last retrieved directly
        self._incomplete = False  # such a task had ended, and no list had contained it

    async def end_of(self, task_id: str) -> Json:
        """Wait until a task has ended, successfully or not, and return it."""
        loop = asyncio.get_running_loop()
        waiter = self._waiters.setdefault(task_id, _Waiter(loop.create_future(), loop.time()))
        waiter.callers += 1
        if self._poller is None or self._poller.done():
            # In an empty context, so that polls for all callers are on no single caller's usage.
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
        seen = loop.time()  # when the API last answered
        try:
            while self._waiters:
                await self._pause(loop.time())
                try:
                    await self._poll()
                    seen = loop.time()
                except APIError as error:
                    longest = min(OUTAGE, self._settings.max_wait)
                    if not error.retryable or loop.time() - seen > longest:
                        self._end_all(error)
        except BaseException as error:
            # Without the poller nobody would complete the waiters, so they end with it.
            self._end_all(error if isinstance(error, Exception) else None)
            raise

    async def _pause(self, began: float) -> None:
        """Wait until the next poll: short for a few new tasks, `poll_interval` for many or old ones."""
        loop = asyncio.get_running_loop()
        while self._waiters:
            youngest = loop.time() - max(w.began for w in self._waiters.values())
            pause = max(FIRST_POLL * len(self._waiters), youngest / 5)
            remaining = began + min(self._settings.poll_interval, pause) - loop.time()
            if remaining <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), remaining)

    async def _poll(self) -> None:
        ids = list(self._waiters)
        few = len(ids) <= self._kind.few
        ended, to_retrieve = ({}, []) if few else await self._kind.check(ids)
        for task_id, task in ended.items():
            self._end(task_id, task)
        for task_id in to_retrieve:
            if task_id in self._waiters:
                await self._retrieve(task_id)
        if few or self._kind.no_list:
            for task_id in sorted(self._waiters, key=lambda i: -self._waiters[i].missed)[:DIRECT_PER_POLL]:
                await self._retrieve(task_id)
        for waiter in self._waiters.values():
            waiter.missed += 1
        if not (few or self._kind.no_list):
            await self._retrieve_unlisted()

    async def _retrieve_unlisted(self) -> None:
        """Retrieve one of the tasks that many lists did not contain, and more if the lists lack them."""
        self._lists += 1
        if self._lists < DIRECT_AFTER and not self._incomplete:
            return
        unlisted = [i for i, w in self._waiters.items() if w.missed >= DIRECT_AFTER]
        unlisted.sort(key=lambda i: -self._waiters[i].missed)
        unlisted = unlisted[: DIRECT_PER_POLL if self._incomplete else 1]
        if unlisted:
            self._lists = 0
            self._incomplete = any([await self._retrieve(task_id) for task_id in unlisted])

    async def _retrieve(self, task_id: str) -> bool:
        """Retrieve a task; whether it has ended."""
        if waiter := self._waiters.get(task_id):
            waiter.missed = 0
        try:
            task = await self._kind.retrieve(task_id)
        except (NotFound, BadRequest) as error:
            self._end(task_id, error)
            return True
        if task.get("status") not in ENDS:
            return False
        self._end(task_id, task)
        return True

    def _end(self, task_id: str, task: Json | Exception) -> None:
        waiter = self._waiters.pop(task_id, None)
        if waiter and not waiter.end.done():
            if isinstance(task, Exception):
                waiter.end.set_exception(copy(task))  # a copy for each waiter: raising extends the traceback
            else:
                waiter.end.set_result(task)

    def _end_all(self, error: Exception | None) -> None:
        for task_id, waiter in list(self._waiters.items()):
            if error is None:
                waiter.end.cancel()
                del self._waiters[task_id]
            else:
                self._end(task_id, error)


class _Ended:
    """Work in one index, looked up among what ended since the newest one seen."""

    few = FEW

    def __init__(self) -> None:
        self._newest: datetime | None = None  # by the API's clock; what ended before is known
        self.no_list = False  # the server does not support these filters

    def begin(self, unfinished_at: str | None, known_now: bool) -> None:
        """Extend the next list back to a time at which a new task was unfinished.

        With `known_now`, the task is unfinished now, so the lists read so far cannot have contained its end.
        """
        begun = moment(unfinished_at) or datetime.now(UTC) - timedelta(hours=1)
        if self._newest is None or (begun < self._newest and not known_now):
            self._newest = begun

    def listed(self, since: str) -> AsyncIterator[Json]:
        """What ended since then, newest first."""
        raise NotImplementedError

    async def ended(self, ids: list[str]) -> dict[str, Json]:
        """Those of the ids that have ended, as the list shows them."""
        if self.no_list or self._newest is None:
            return {}
        since = self._newest - timedelta(seconds=OVERLAP)
        newest, wanted = self._newest, set(ids)
        ended: dict[str, Json] = {}
        try:
            asked = since.isoformat(timespec="milliseconds").replace("+00:00", "Z")
            async for task in self.listed(asked):
                changed = moment(task.get("updated_at"))
                if changed and changed < since:
                    break
                newest = max(newest, changed or newest)
                task_id = str(task.get("_id"))
                if task_id in wanted and task.get("status") in ENDS:
                    ended[task_id] = task
                    if len(ended) == len(wanted):
                        break
        except (BadRequest, NotFound):
            self.no_list = True
            return {}
        self._newest = newest
        return ended


class _Indexing(_Ended):
    """Indexing tasks of one index."""

    def __init__(self, client: Client, index_id: str) -> None:
        super().__init__()
        self._client = client
        self._index_id = index_id

    def listed(self, since: str) -> AsyncIterator[Json]:
        return self._client.list_tasks(
            index_id=self._index_id,
            status=list(INDEXING_ENDS),
            updated_at=since,
            sort_by="updated_at",
            sort_option="desc",
        )

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """The tasks that ended by id, and the ids of tasks to retrieve."""
        ended = await self.ended(ids)
        # The reason of a failure may be in the task itself alone.
        unexplained = [i for i, task in ended.items() if task["status"] == "failed" and "error" not in task]
        return {i: task for i, task in ended.items() if i not in unexplained}, unexplained

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_task(task_id)


class _Embedding:
    """Embedding tasks, looked up among those that are processing."""

    few = FEW

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """No ended tasks, and the ids that are no longer `processing`, to be retrieved."""
        try:
            processing = {str(t.get("_id")) async for t in self._client.list_embed_tasks(status="processing")}
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {}, [task_id for task_id in ids if task_id not in processing]

    async def retrieve(self, task_id: str) -> Json:
        task = await self._client.embed_task_status(task_id)
        if task.get("status") not in ENDS:
            return task
        return await self._client.retrieve_embed_task(task_id)


class _EmbeddingV2(_Embedding):
    """Embedding tasks of /embed-v2, looked up in the same way."""

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        try:
            processing = {
                str(t.get("_id")) async for t in self._client.list_embed_v2_tasks(status="processing")
            }
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {}, [task_id for task_id in ids if task_id not in processing]

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_embed_v2_task(task_id)


class _Analyzing:
    """Analysis tasks, looked up among the newest ones."""

    few = FEW

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """No ended tasks, and the ids of those to retrieve: the list has no results."""
        wanted, over, seen = set(ids), [], 0
        try:
            async for task in self._client.list_analyze_tasks():
                seen += 1
                task_id = str(task.get("task_id"))
                if task_id in wanted:
                    wanted.discard(task_id)
                    if task.get("status") in ENDS:
                        over.append(task_id)
                if not wanted or seen >= LISTED + 2 * len(ids):
                    break
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {}, over

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_analyze_task(task_id)


class _IndexedAssets(_Ended):
    """Indexed assets of one index. A list takes no more requests than a single one."""

    few = 0

    def __init__(self, client: Client, index_id: str) -> None:
        super().__init__()
        self._client, self._index_id = client, index_id

    def listed(self, since: str) -> AsyncIterator[Json]:
        return self._client.list_indexed_assets(
            self._index_id,
            status=list(INDEXING_ENDS),
            updated_at=since,
            sort_by="updated_at",
            sort_option="desc",
        )

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """The indexed assets that ended by id; there is no more to retrieve of a failed one."""
        return await self.ended(ids), []

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_indexed_asset(self._index_id, task_id)


class _Assets:
    """Assets, looked up by their ids, those first that were looked up longest ago."""

    few = 0

    def __init__(self, client: Client) -> None:
        self._client = client
        self.no_list = False
        self._checked: dict[str, int] = {}  # by id, the poll that last looked it up
        self._polls = 0

    async def check(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        self._polls += 1
        self._checked = {i: self._checked.get(i, 0) for i in ids}
        turn = sorted(ids, key=self._checked.__getitem__)[: ASSETS_PER_LIST * LISTS_PER_POLL]
        found: dict[str, Json] = {}
        try:
            for at in range(0, len(turn), ASSETS_PER_LIST):
                part = turn[at : at + ASSETS_PER_LIST]
                async for asset in self._client.list_assets(asset_ids=part):
                    if asset.get("status") in ENDS:
                        found[str(asset.get("_id"))] = asset
                self._checked |= dict.fromkeys(part, self._polls)
        except (BadRequest, NotFound):
            self.no_list = True
            return {}, []
        return {i: asset for i, asset in found.items() if i in ids}, []

    async def retrieve(self, task_id: str) -> Json:
        return await self._client.retrieve_asset(task_id)
