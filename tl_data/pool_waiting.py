"""The calls of a map that wait for a free place, and which of them begins next."""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Coroutine, Hashable
from typing import Any

from tl_data.pool_memory import Outcome

Cell = list["Work"]  # of one or none


class Work:
    """One call, and for how many rows it is made."""

    __slots__ = (
        *("call", "cell", "closing", "future", "name", "notes"),
        *("number", "rows", "shared", "size", "task", "waiting"),
    )

    def __init__(self, name: Hashable, number: int, waiting: Waiting) -> None:
        self.name = name
        self.call: Callable[[], Coroutine[Any, Any, None]]  # makes it, once a place was taken for it
        self.future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.task: asyncio.Task[None] | None = None  # none while it waits for a place
        self.notes: list[Callable[[Work, Outcome], None]] = []
        self.number = number  # of the first row, in the map that it began in
        self.rows = 0
        self.shared = False  # with rows of another map
        self.size = 0
        self.closing = False
        self.waiting = waiting
        self.cell: Cell = []  # holds it while it waits

    def begin(self, places: asyncio.Semaphore | None = None) -> None:
        """Make the call, in a task of its own, at a place that was taken or with the next free one."""

        call = self.call
        del self.call  # it holds this, and both would live until the garbage is collected

        async def in_turn(places: asyncio.Semaphore) -> None:
            await places.acquire()
            await call()

        self.task = asyncio.create_task(in_turn(places) if places else call())

    def hurry(self) -> None:
        """Somebody can give back no further row before this one."""
        if self.cell:
            self.waiting.hurry(self)


class Waiting:
    """The calls of one map that have not begun.

    Without lengths they begin in order. With lengths every other place goes to the longest one, so that it
    is not begun last and then waited for alone; the rest go to the oldest, so that rows come all the time.

    Args:
        most: calls that may wait; the longest can only be found among those.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0  # waiting
        self._by_length = False  # whether the next one is the longest
        # A call is in more than one of these; its cell is emptied when it leaves, and so holds no answer.
        self._oldest: deque[Cell] = deque()
        self._longest: list[tuple[float, int, Cell]] = []
        self._hurried: deque[Cell] = deque()
        self._more, self._fewer = asyncio.Event(), asyncio.Event()

    async def room(self) -> None:
        """Wait until one more may wait."""
        while self._count >= self._most:
            self._fewer.clear()
            await self._fewer.wait()

    def put(self, work: Work, length: float | None) -> None:
        """A call that may begin; `length` beside those of the others, if it is known."""
        work.cell = [work]
        self._count += 1
        self._oldest.append(work.cell)
        if length is not None:
            if len(self._longest) > 2 * self._count + 64:  # most have begun as the oldest
                self._longest = [item for item in self._longest if item[2]]
                heapq.heapify(self._longest)
            heapq.heappush(self._longest, (-length, work.number, work.cell))
        self._more.set()

    def hurry(self, work: Work) -> None:
        """Let this call begin next."""
        self._hurried.append(work.cell)
        self._more.set()

    def look_again(self) -> None:
        """There may be room now."""
        self._more.set()

    async def ready(self, room: Callable[[], bool]) -> None:
        """Wait for a call that may begin: any one while there is room, otherwise only one in a hurry."""
        while not self._hurried and not (self._count and room()):
            self._more.clear()
            await self._more.wait()

    def take(self, room: Callable[[], bool]) -> Work | None:
        """The call that begins next; None if none may after all."""
        cell = _first(self._hurried)
        if cell is None and room():
            if self._by_length:
                while self._longest and cell is None:
                    cell = heapq.heappop(self._longest)[2] or None
            self._by_length = not self._by_length
            cell = cell or _first(self._oldest)
        if cell is None:
            return None
        [work] = cell
        self.leave(work)
        return work

    def leave(self, work: Work) -> None:
        """The call waits no longer."""
        if work.cell:
            work.cell.clear()
            self._count -= 1
            self._fewer.set()
            while self._oldest and not self._oldest[0]:
                self._oldest.popleft()


def _first(cells: deque[Cell]) -> Cell | None:
    while cells:
        if cell := cells.popleft():
            return cell
    return None
