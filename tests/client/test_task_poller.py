"""Waiting for many tasks with few requests, against a server whose tasks take their time."""

from __future__ import annotations

import asyncio
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tl_data import usage
from tl_data.client import Client
from tl_data.client.task_poller import TaskWatcher
from tl_data.errors import ConnectionFailed, NotAllowed, NotFound, StillRunning, TaskFailed
from tl_data.settings import Settings


@dataclass
class Task:
    """A task that ends at a time, well or badly."""

    id: str
    index: str
    began: float
    ends: float
    error: dict[str, str] | None = None
    silent: bool = False  # never listed

    @property
    def status(self) -> str:
        return "indexing" if time.time() < self.ends else "failed" if self.error is not None else "ready"

    def record(self, full: bool) -> dict[str, Any]:
        at = min(self.ends, time.time()) if time.time() >= self.ends else self.began
        shown = {
            "_id": self.id,
            "index_id": self.index,
            "video_id": f"v{self.id}",
            "status": self.status,
            "created_at": stamp(self.began),
            "updated_at": stamp(at),
            "system_metadata": {"filename": f"{self.id}.mp4"},
        }
        return shown | ({"error": self.error} if full and self.error else {})


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass
class Platform:
    """The part of the API that watching needs."""

    url: str = ""
    tasks: dict[str, Task] = field(default_factory=dict)
    counted: Counter[str] = field(default_factory=Counter)
    refuses: int = 0  # status that every request gets
    filters: bool = True  # knows status, updated_at and sorting

    def add(self, number: int, seconds: Callable[[], float], index: str = "i", **more: Any) -> list[str]:
        ids = [f"{len(self.tasks) + n:024x}" for n in range(number)]
        now = time.time()
        self.tasks |= {i: Task(i, index, now, now + seconds(), **more) for i in ids}
        return ids

    async def listed(self, request: Request) -> Response:
        self.counted["list"] += 1
        if self.refuses:
            return JSONResponse({"message": "not now"}, self.refuses)
        asked = request.query_params
        found = [t for t in self.tasks.values() if not t.silent]
        if not self.filters and "updated_at" in asked:
            return JSONResponse({"code": "parameter_unknown", "message": "unknown"}, 400)
        if "index_id" in asked:
            found = [t for t in found if t.index == asked["index_id"]]
            statuses = asked.getlist("status")
            since = datetime.fromisoformat(asked["updated_at"]).timestamp()
            found = [t for t in found if t.status in statuses and time.time() >= t.ends >= since]
            found.sort(key=lambda t: -t.ends)
        else:
            found = [t for t in found if t.status == "indexing"]  # embedding tasks in progress
        page, limit = int(asked["page"]), int(asked["page_limit"])
        info = {"page": page, "total_page": -(-len(found) // limit)}
        rows = [t.record(full=False) for t in found[(page - 1) * limit : page * limit]]
        return JSONResponse({"data": rows, "page_info": info})

    async def one(self, request: Request) -> Response:
        self.counted["get"] += 1
        if self.refuses:
            return JSONResponse({"message": "not now"}, self.refuses)
        task = self.tasks.get(request.path_params["id"])
        if task is None:
            return JSONResponse({"code": "resource_not_exists", "message": "no such task"}, 404)
        shown = task.record(full=True)
        if request.url.path.startswith("/embed") and shown["status"] == "indexing":
            shown["status"] = "processing"
        return JSONResponse(shown)


@pytest.fixture
def platform() -> Iterator[Platform]:
    it = Platform()
    routes = [
        Route("/tasks", it.listed),
        Route("/tasks/{id}", it.one),
        Route("/embed/tasks", it.listed),
        Route("/embed/tasks/{id}", it.one),
        Route("/embed/tasks/{id}/status", it.one),
    ]
    listener = socket.create_server(("127.0.0.1", 0))
    it.url = f"http://127.0.0.1:{listener.getsockname()[1]}"
    server = uvicorn.Server(uvicorn.Config(Starlette(routes=routes), log_level="warning"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    yield it
    server.should_exit = True
    thread.join()
    listener.close()


Watch = Callable[..., Any]


@pytest.fixture
def watch(platform: Platform, settings: Settings) -> Watch:
    """Run an async function of a watcher; keywords change the settings."""

    def call(use: Callable[[TaskWatcher], Any], **changes: Any) -> Any:
        async def main() -> Any:
            async with Client(settings.but(**changes), base_url=platform.url) as client:
                watcher = TaskWatcher(client, settings.but(**changes))
                try:
                    return await asyncio.wait_for(use(watcher), 60)
                finally:
                    await watcher.aclose()

        return asyncio.run(main())

    return call


def test_hundreds_of_tasks_take_little_more_than_a_request_each(platform: Platform, watch: Watch) -> None:
    chance = random.Random(7)
    ids = platform.add(400, lambda: chance.uniform(0.5, 4.0))
    late: list[float] = []

    async def wait(watcher: TaskWatcher, task_id: str) -> str:
        task = await watcher.wait(task_id, "i", since=stamp(platform.tasks[task_id].began))
        late.append(time.time() - platform.tasks[task_id].ends)
        return str(task["video_id"])

    async def all_of_them(watcher: TaskWatcher) -> list[str]:
        return await asyncio.gather(*(wait(watcher, i) for i in ids))

    with usage.receipt() as receipt:
        assert watch(all_of_them, poll_interval=0.5) == [f"v{i}" for i in ids]
    assert receipt.calls == 0  # polls are on nobody's receipt
    assert sum(platform.counted.values()) < 0.25 * len(ids)
    assert sum(late) / len(late) < 0.75
    print(f"requests a task: {sum(platform.counted.values()) / len(ids):.2f}")
    print(f"noticed late by: {sum(late) / len(late):.2f} s")


def test_tasks_of_yesterday_are_attached_to(platform: Platform, watch: Watch) -> None:
    done = platform.add(70, lambda: -100.0)
    going = platform.add(30, lambda: 1.0)

    async def use(watcher: TaskWatcher) -> Any:
        return await asyncio.gather(*(watcher.wait(i, "i") for i in done + going))

    assert [t["_id"] for t in watch(use)] == done + going
    assert platform.counted["get"] == 100


def test_a_single_quick_task_is_noticed_at_once(platform: Platform, watch: Watch) -> None:
    (task_id,) = platform.add(1, lambda: 0.4)

    async def use(watcher: TaskWatcher) -> float:
        await watcher.wait(task_id, "i")
        return time.time() - platform.tasks[task_id].ends

    assert watch(use, poll_interval=5.0) < 0.6
    assert platform.counted["list"] == 0


@pytest.mark.parametrize("number", [1, 5])
def test_a_failed_task_says_why(platform: Platform, watch: Watch, number: int) -> None:
    reason = {"code": "video_duration_too_short", "message": "Video is too short."}
    ids = platform.add(number, lambda: 0.3, error=reason)
    unexplained = platform.add(number, lambda: 0.3, error={})

    async def use(watcher: TaskWatcher) -> Any:
        waits = [watcher.wait(i, "i") for i in ids + unexplained]
        return await asyncio.gather(*waits, return_exceptions=True)

    errors = watch(use)
    assert all(isinstance(e, TaskFailed) for e in errors)
    assert str(errors[0]) == f"Video is too short (video_duration_too_short, task {ids[0]})"
    assert f"the task of {unexplained[0]}.mp4 failed without a reason" in str(errors[-number])


def test_a_task_that_is_never_listed_is_still_found(platform: Platform, watch: Watch) -> None:
    ids = platform.add(5, lambda: 0.5) + platform.add(1, lambda: 0.5, silent=True)

    async def use(watcher: TaskWatcher) -> Any:
        return await asyncio.gather(*(watcher.wait(i, "i") for i in ids))

    assert len(watch(use, poll_interval=0.1)) == 6


def test_a_server_without_the_filters_is_asked_task_by_task(platform: Platform, watch: Watch) -> None:
    platform.filters = False
    ids = platform.add(30, lambda: 4.0)  # long enough to be asked for at least once while they work

    async def use(watcher: TaskWatcher) -> Any:
        return await asyncio.gather(*(watcher.wait(i, "i") for i in ids))

    assert len(watch(use, poll_interval=0.1)) == 30
    assert platform.counted["list"] == 1


def test_a_deadline_leaves_the_task_alone(platform: Platform, watch: Watch) -> None:
    ids = platform.add(3, lambda: 60.0)

    async def use(watcher: TaskWatcher) -> Any:
        return await asyncio.gather(*(watcher.wait(i, "i") for i in ids), return_exceptions=True)

    errors = watch(use, task_deadline=0.6)
    assert all(isinstance(e, StillRunning) and e.retryable for e in errors)
    assert "the next run waits for it and is not charged again" in str(errors[0])
    assert str(errors[0]).endswith(f"(task_still_running, task {ids[0]})")


@pytest.mark.parametrize("number", [1, 20])
def test_a_revoked_key_ends_the_waiting(platform: Platform, watch: Watch, number: int) -> None:
    ids = platform.add(number, lambda: 60.0)

    async def use(watcher: TaskWatcher) -> Any:
        waits = [asyncio.create_task(watcher.wait(i, "i")) for i in ids]
        await asyncio.sleep(0.5)
        platform.refuses = 401
        return await asyncio.gather(*waits, return_exceptions=True)

    began = time.monotonic()
    errors = watch(use)
    assert {type(e) for e in errors} == {NotAllowed}
    assert len({id(e) for e in errors}) == number
    assert time.monotonic() - began < 5


def test_a_deleted_task_ends_its_own_waiting_only(platform: Platform, watch: Watch) -> None:
    gone, *others = platform.add(5, lambda: 2.0)

    async def use(watcher: TaskWatcher) -> Any:
        waits = [asyncio.create_task(watcher.wait(i, "i")) for i in [gone, *others]]
        await asyncio.sleep(0.3)
        del platform.tasks[gone]
        return await asyncio.gather(*waits, return_exceptions=True)

    ends = watch(use, poll_interval=0.1)
    assert isinstance(ends[0], NotFound)
    assert [t["status"] for t in ends[1:]] == ["ready"] * 4


def test_an_outage_is_sat_out_but_not_for_ever(platform: Platform, watch: Watch) -> None:
    ids = platform.add(4, lambda: 4.0)

    async def begun(waits: list[asyncio.Task[Any]]) -> None:
        """Each was asked for: what fails from now on is an outage."""
        asked = platform.counted["get"]
        while platform.counted["get"] < asked + len(waits):  # noqa: ASYNC110 - a server in a thread counts
            await asyncio.sleep(0.05)
        await asyncio.sleep(0.2)

    async def use(watcher: TaskWatcher) -> Any:
        waits = [asyncio.create_task(watcher.wait(i, "i")) for i in ids]
        await begun(waits)
        platform.refuses = 503
        await asyncio.sleep(1.5)
        platform.refuses = 0
        return await asyncio.gather(*waits)

    assert len(watch(use, retries=0)) == 4
    ids = platform.add(4, lambda: 60.0)

    async def down(watcher: TaskWatcher) -> Any:
        waits = [asyncio.create_task(watcher.wait(i, "i")) for i in ids]
        await begun(waits)
        platform.refuses = 503
        return await asyncio.gather(*waits, return_exceptions=True)

    errors = watch(down, retries=0, max_wait=1.0)
    assert {e.http_status for e in errors} == {503}


def test_a_waiter_may_leave_and_two_may_wait_for_one(platform: Platform, watch: Watch) -> None:
    (task_id,) = platform.add(1, lambda: 1.0)

    async def use(watcher: TaskWatcher) -> Any:
        first, second = (asyncio.create_task(watcher.wait(task_id, "i")) for _ in range(2))
        await asyncio.sleep(0.3)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return await second

    assert watch(use)["_id"] == task_id


def test_no_request_is_sent_without_waiters(platform: Platform, watch: Watch) -> None:
    (task_id,) = platform.add(1, lambda: 60.0)

    async def use(watcher: TaskWatcher) -> int:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(watcher.wait(task_id, "i"), 0.5)
        before = sum(platform.counted.values())
        await asyncio.sleep(1.0)
        return sum(platform.counted.values()) - before

    assert watch(use) == 0


@pytest.mark.parametrize("number", [1, 40])
def test_embedding_tasks_are_watched_too(platform: Platform, watch: Watch, number: int) -> None:
    chance = random.Random(3)
    ids = platform.add(number, lambda: chance.uniform(0.2, 1.5))
    (bad,) = platform.add(1, lambda: 0.5, error={"code": "video_file_broken", "message": "Cannot read."})

    async def use(watcher: TaskWatcher) -> Any:
        waits = [watcher.wait_embed(i) for i in [*ids, bad]]
        return await asyncio.gather(*waits, return_exceptions=True)

    *tasks, failed = watch(use)
    assert [t["_id"] for t in tasks] == ids
    assert isinstance(failed, TaskFailed)
    assert failed.code == "video_file_broken"
    assert platform.counted["get"] < 2.5 * (number + 1) + 6


def test_a_server_that_is_gone_is_no_hang(settings: Settings) -> None:
    async def main() -> None:
        async with Client(settings.but(retries=0), base_url="http://127.0.0.1:9") as client:
            with pytest.raises(ConnectionFailed):
                await TaskWatcher(client, settings).wait("t", "i")

    asyncio.run(main())
