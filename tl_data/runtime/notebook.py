"""Progress bars in notebooks, drawn by rich. Outside of a notebook nothing is shown.

A bar is one output of the cell that started the work. It is updated in place, and its last state stays.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from tl_data.runtime.result_cache import Outcome

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")

#: Seconds after which a statement shows a bar. Shorter statements show none.
SHOW_AFTER = 2.0
#: Minimum number of seconds between two updates of a bar.
UPDATE_EVERY = 0.25


def in_notebook() -> bool:
    """Whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    shell = module.get_ipython() if module else None
    return shell is not None and hasattr(shell, "kernel")


class Bar:
    """A progress bar below the running cell.

    Args:
        progress: a progress of rich that is not started; its tasks are the lines of the bar.
    """

    def __init__(self, progress: Progress) -> None:
        from IPython.display import display

        self.progress = progress
        self._handle: Any = display(progress, display_id=True)  # type: ignore[no-untyped-call]
        self._drawn_at = time.monotonic()

    def draw(self, *, last: bool = False) -> None:
        """Draw the bar, at most once per `UPDATE_EVERY` seconds, and in any case if it is the last time."""
        now = time.monotonic()
        if last or now - self._drawn_at >= UPDATE_EVERY:
            self._drawn_at = now
            self._handle.update(self.progress)


class StatementBar:
    """Counts the rows of a statement, over all its batches, and shows them once it has run for a while."""

    def __init__(self, name: str) -> None:
        self.name, self.begun = name, time.monotonic()
        self.rows = self.done = self.failed = 0
        self._bar: Bar | None = None
        self._lock = threading.Lock()  # the batches of a statement may run in several threads

    def counted(self, rows: Iterable[T]) -> Iterator[T]:
        """The rows, each counted when it is read."""
        for row in rows:
            with self._lock:
                self.rows += 1
            yield row

    def shown(self, outcomes: Iterator[Outcome]) -> Iterator[Outcome]:
        """The outcomes of the rows, each of which advances the bar."""
        try:
            for outcome in outcomes:
                self._advance(failed=outcome.error is not None)
                yield outcome
        finally:
            with self._lock:
                if self._bar is not None:
                    self._bar.draw(last=True)

    def _advance(self, *, failed: bool) -> None:
        with self._lock:
            self.done += 1
            self.failed += failed
            elapsed = time.monotonic() - self.begun
            if self._bar is None:
                if elapsed < SHOW_AFTER:
                    return
                self._bar = Bar(_progress())
                self._bar.progress.add_task(self.name, total=None, state="")
            failures = f", {self.failed} failed" if self.failed else ""
            state = f"{self.done}/{self.rows} rows{failures}, {elapsed:.0f} s"
            task = self._bar.progress.tasks[0].id
            self._bar.progress.update(task, completed=self.done, total=self.rows, state=state)
            self._bar.draw()


def _progress() -> Progress:
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[state]}"))


class StatementBars:
    """The bars of the statements of a connection.

    Args:
        most: the largest number of statements that are remembered.
    """

    def __init__(self, most: int = 100) -> None:
        self._most = most
        self._bars: dict[tuple[str, str], StatementBar] = {}

    def of(self, name: str, statement: str | None) -> StatementBar | None:
        """The bar of a function in a statement; None outside of a notebook.

        Args:
            name: the name of the called function.
            statement: id of the statement; None: the call is a statement of its own.
        """
        if not in_notebook():
            return None
        if statement is None:
            return StatementBar(name)
        bar = self._bars.pop((statement, name), None) or StatementBar(name)
        self._bars[statement, name] = bar
        while len(self._bars) > self._most:
            del self._bars[next(iter(self._bars))]
        return bar
