"""Waiting for many remote tasks with few requests.

One look at a listing answers for all tasks that are waited for: indexing tasks of an index are found among
those that became `ready` or `failed` since the newest one seen, embedding tasks by no longer being listed as
`processing`. A single task is asked for by itself. Nothing depends on the listing being right: a task that it
never mentions is asked for directly now and then.
"""

from __future__ import annotations

import asyncio
import contextvars
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

OVERLAP = 10.0  # seconds a look reaches back behind the newest task seen: clocks of servers differ
FIRST_LOOK = 0.1  # seconds; the first looks at new tasks are quick, for those that take no time
DIRECT = 12  # a task is asked for directly after this many looks that did not mention it
FEW = 2  # so many tasks are asked for one by one: a listing would not be cheaper
FEW_A_LOOK = 8  # tasks asked for directly in one look, at most
LISTED = 100  # analysis tasks of others that a look passes over before it asks for each of ours
OUTAGE = 300.0  # seconds without an answer of the API after which it is down
ENDS = ("ready", "failed", "canceled")


class TaskWatcher:
    """Waits for tasks on behalf of any number of callers in one event loop."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._settings = settings
        self._indexes: dict[str, tuple[_Indexing, _Group]] = {}
        self._indexed: dict[str, _Group] = {}
        self._embedding = _Group(_Embedding(client), settings)
        self._embedding_v2 = _Group(_EmbeddingV2(client), settings)
        self._analyzing = _Group(_Analyzing(client), settings)
        self._assets = _Group(_Assets(client), settings)

    async def wait(self, task_id: str, index_id: str, *, since: str | None = None) -> Json:
        """Wait until an indexing task is ready and return it, with at least `_id`, `video_id` and `status`.

        `since` is a time from the API (RFC 3339) at which the task was surely unfinished, such as its
        `created_at`; it saves one request.

        Raises:
            TaskFailed: the task ended in `failed`; with the reason if the API gives one.
            StillRunning: it is not finished at `settings.task_deadline`.
            NotAllowed: the key does not work any more.
            NotFound: there is no such task (any more).
            APIError: the API was not to be reached for longer than `OUTAGE`, or `settings.max_wait`.
        """
        if index_id not in self._indexes:
            kind = _Indexing(self._client, index_id)
            self._indexes[index_id] = kind, _Group(kind, self._settings)
        kind, group = self._indexes[index_id]
        if since is not None:
            kind.begin(since, known_now=False)
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

        Raises what `wait` raises; a task that was canceled is TaskFailed, too.
        """
        return ended(await self._analyzing.end_of(task_id), task_id)

    async def wait_asset(self, asset_id: str) -> Json:
        """Wait until an asset is ready and return it. Raises what `wait` raises."""
        return ended(await self._assets.end_of(asset_id), asset_id)

    async def wait_indexed(self, indexed_asset_id: str, index_id: str) -> Json:
        """Wait until an indexed asset is ready and return it. Raises what `wait` raises."""
        if index_id not in self._indexed:
            self._indexed[index_id] = _Group(_IndexedAssets(self._client, index_id), self._settings)
        return ended(await self._indexed[index_id].end_of(indexed_asset_id), indexed_asset_id)

    async def wait_embed_v2(self, task_id: str) -> Json:
        """Wait until a task of /embed-v2 is ready and return it with its vectors. Raises as `wait` does."""
        return ended(await self._embedding_v2.end_of(task_id), task_id)

    async def aclose(self) -> None:
        """Stop looking; whoever still waits is cancelled."""
        own = [*self._indexed.values(), self._embedding, self._embedding_v2, self._analyzing, self._assets]
        for group in own + [group for _, group in self._indexes.values()]:
            await group.aclose()


def ended(task: Json, task_id: str) -> Json:
    """A task that has ended well.

    Raises:
        TaskFailed: it failed or was canceled; with the API's code and reason where it gives them.
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
        message = f"the platform gave up on the task{of} without saying why; check that the file plays"
    raise TaskFailed(str(message).rstrip("."), task_id, str(error.get("code") or "task_failed"))


@dataclass
class _Waiter:
    end: asyncio.Future[Json]
    began: float  # loop time
    callers: int = 0
    looks: int = 0  # that did not mention it


class _Kind(Protocol):
    """How tasks of one kind are asked about."""

    blind: bool  # the server does not list them: they are asked for one by one

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]: ...
    async def asked(self, task_id: str) -> Json: ...


class _Group:
    """The tasks that one look answers for, and the loop that looks while there are any."""

    def __init__(self, kind: _Kind, settings: Settings) -> None:
        self._kind = kind
        self._settings = settings
        self._waiters: dict[str, _Waiter] = {}
        self._looking: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def end_of(self, task_id: str) -> Json:
        """The task once it has ended, ready or failed."""
        loop = asyncio.get_running_loop()
        waiter = self._waiters.setdefault(task_id, _Waiter(loop.create_future(), loop.time()))
        waiter.callers += 1
        if self._looking is None or self._looking.done():
            # In an empty context: the looks are for all, and on nobody's receipt.
            self._looking = loop.create_task(self._look_on(), context=contextvars.Context())
        self._changed.set()
        try:
            async with asyncio.timeout(self._settings.task_deadline):
                return await asyncio.shield(waiter.end)
        except TimeoutError:
            raise StillRunning(
                f"the task is not finished after {self._settings.task_deadline:g} s; it goes on, and the "
                "next run waits for it without paying again. Raise task_deadline to wait longer",
                task_id,
            ) from None
        finally:
            waiter.callers -= 1
            if not waiter.callers and self._waiters.get(task_id) is waiter:
                del self._waiters[task_id]
                waiter.end.cancel()
                self._changed.set()

    async def aclose(self) -> None:
        if self._looking:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    async def _look_on(self) -> None:
        loop = asyncio.get_running_loop()
        seen = loop.time()  # when the API last answered
        try:
            while self._waiters:
                await self._pause(loop.time())
                try:
                    await self._look()
                    seen = loop.time()
                except APIError as error:
                    longest = min(OUTAGE, self._settings.max_wait)
                    if not error.retryable or loop.time() - seen > longest:
                        self._end_all(error)
        except BaseException as error:
            # Whatever stops the looking ends the waiting: nobody waits for what nobody looks for.
            self._end_all(error if isinstance(error, Exception) else None)
            raise

    async def _pause(self, began: float) -> None:
        """Wait for the next look: quick for a few new tasks, at most `poll_interval` for many or old ones."""
        loop = asyncio.get_running_loop()
        while self._waiters:
            youngest = loop.time() - max(w.began for w in self._waiters.values())
            wanted = max(FIRST_LOOK * len(self._waiters), youngest / 5)
            left = began + min(self._settings.poll_interval, wanted) - loop.time()
            if left <= 0:
                return
            self._changed.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._changed.wait(), left)

    async def _look(self) -> None:
        ids = list(self._waiters)
        few = len(ids) <= FEW
        ended, doubtful = ({}, []) if few else await self._kind.listed(ids)
        for task_id, task in ended.items():
            self._end(task_id, task)
        for waiter in self._waiters.values():
            waiter.looks += 1
        patience = 1 if few or self._kind.blind else DIRECT
        unmentioned = [i for i, w in self._waiters.items() if w.looks >= patience and i not in doubtful]
        unmentioned.sort(key=lambda i: -self._waiters[i].looks)
        for task_id in doubtful + unmentioned[:FEW_A_LOOK]:
            if waiting := self._waiters.get(task_id):
                waiting.looks = 0
                await self._ask(task_id)

    async def _ask(self, task_id: str) -> None:
        try:
            task = await self._kind.asked(task_id)
        except (NotFound, BadRequest) as error:
            self._end(task_id, error)
            return
        if task.get("status") in ENDS:
            self._end(task_id, task)

    def _end(self, task_id: str, task: Json | Exception) -> None:
        waiter = self._waiters.pop(task_id, None)
        if waiter and not waiter.end.done():
            if isinstance(task, Exception):
                waiter.end.set_exception(copy(task))  # one each: a traceback grows where it is raised
            else:
                waiter.end.set_result(task)

    def _end_all(self, error: Exception | None) -> None:
        for task_id, waiter in list(self._waiters.items()):
            if error is None:
                waiter.end.cancel()
                del self._waiters[task_id]
            else:
                self._end(task_id, error)


class _Indexing:
    """Indexing tasks of one index: looked up among those that ended since the newest one seen."""

    def __init__(self, client: Client, index_id: str) -> None:
        self._client = client
        self._index_id = index_id
        self._newest: datetime | None = None  # by the API's clock; what ended before is known
        self.blind = False  # the server does not know these filters: tasks are asked for one by one

    def begin(self, unfinished_at: str | None, known_now: bool) -> None:
        """Reach back to when a task was surely unfinished; if it is so even now, what was seen holds."""
        begun = moment(unfinished_at) or datetime.now(UTC) - timedelta(hours=1)
        if self._newest is None or (begun < self._newest and not known_now):
            self._newest = begun

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """Those that ended, and those that must be asked for."""
        if self.blind or self._newest is None:
            return {}, []
        since = self._newest - timedelta(seconds=OVERLAP)
        newest, wanted = self._newest, set(ids)
        ended: dict[str, Json] = {}
        try:
            async for task in self._client.list_tasks(
                index_id=self._index_id,
                status=list(ENDS),
                updated_at=since.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
                sort_by="updated_at",
                sort_option="desc",
            ):
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
            self.blind = True
            return {}, []
        self._newest = newest
        # The reason of a failure may stand in the task alone.
        unexplained = [i for i, task in ended.items() if task["status"] == "failed" and "error" not in task]
        return {i: task for i, task in ended.items() if i not in unexplained}, unexplained

    async def asked(self, task_id: str) -> Json:
        return await self._client.retrieve_task(task_id)


class _Embedding:
    """Embedding tasks: looked up among those that are still processing."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.blind = False

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """Nothing is known of their end, but those that are not processing must be asked for."""
        try:
            going_on = {str(t.get("_id")) async for t in self._client.list_embed_tasks(status="processing")}
        except (BadRequest, NotFound):
            self.blind = True
            return {}, []
        return {}, [task_id for task_id in ids if task_id not in going_on]

    async def asked(self, task_id: str) -> Json:
        task = await self._client.embed_task_status(task_id)
        if task.get("status") not in ENDS:
            return task
        return await self._client.retrieve_embed_task(task_id)


class _EmbeddingV2(_Embedding):
    """Embedding tasks of /embed-v2: likewise."""

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        try:
            processing = {
                str(t.get("_id")) async for t in self._client.list_embed_v2_tasks(status="processing")
            }
        except (BadRequest, NotFound):
            self.blind = True
            return {}, []
        return {}, [task_id for task_id in ids if task_id not in processing]

    async def asked(self, task_id: str) -> Json:
        return await self._client.retrieve_embed_v2_task(task_id)


class _Analyzing:
    """Analysis tasks: looked up among the newest ones."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.blind = False

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """Nothing but those that must be asked for: a listing shows no results."""
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
            self.blind = True
            return {}, []
        return {}, over

    async def asked(self, task_id: str) -> Json:
        return await self._client.retrieve_analyze_task(task_id)


class _IndexedAssets:
    """What is on its way into an index as an asset: looked up among those that ended, newest first."""

    def __init__(self, client: Client, index_id: str) -> None:
        self._client, self._index_id = client, index_id
        self.blind = False

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        """Nothing but those that must be asked for: a listing shows no facts of the file."""
        wanted, over, seen = set(ids), [], 0
        try:
            async for found in self._client.list_indexed_assets(self._index_id, status=["ready", "failed"]):
                seen += 1
                if str(found.get("_id")) in wanted:
                    over.append(str(found["_id"]))
                if len(over) == len(wanted) or seen >= LISTED + 2 * len(ids):
                    break
        except (BadRequest, NotFound):
            self.blind = True
            return {}, []
        return {}, over

    async def asked(self, task_id: str) -> Json:
        return await self._client.retrieve_indexed_asset(self._index_id, task_id)


class _Assets:
    """Assets: looked up by their ids, fifty at a time."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.blind = False

    async def listed(self, ids: list[str]) -> tuple[dict[str, Json], list[str]]:
        found: dict[str, Json] = {}
        try:
            for at in range(0, len(ids), 50):
                async for asset in self._client.list_assets(asset_ids=ids[at : at + 50]):
                    if asset.get("status") in ENDS:
                        found[str(asset.get("_id"))] = asset
        except (BadRequest, NotFound):
            self.blind = True
            return {}, []
        return {i: asset for i, asset in found.items() if i in ids}, []

    async def asked(self, task_id: str) -> Json:
        return await self._client.retrieve_asset(task_id)
