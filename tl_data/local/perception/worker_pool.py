"""Looking in processes of their own, so that a hostile file costs its task and never the server.

`Lookers` keeps a few worker processes warm (loading the models takes seconds) and replaces one that dies,
hangs, or takes too much memory. A worker is `python -m tl_data.local.perception.worker_pool`: it reads
requests from stdin and answers on stdout, a line of JSON each, and it ends when its stdin does. Each
worker has a second process, `--ears`, that listens while the first one looks: the speech recogniser holds the
interpreter's lock.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tl_data.errors import TLDataError
from tl_data.local.models import Tiers
from tl_data.local.perception.evidence import Evidence, ModelFailed, NotVideo, Probe, from_json, to_json
from tl_data.untrusted import worker_environment

_LINE = 1 << 28  # bytes an answer may have
_RENEW = 200  # looks after which a worker is replaced: what libraries leak must not add up
_PAGE = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class LookFailed(TLDataError):
    """A video could not be looked at: too slow, too large, or its worker died; the message says which."""


class Lookers:
    """A pool of worker processes that look at videos.

    Args:
        workers: How many videos are looked at side by side.
        seconds: The longest that one look may take.
        patience: Seconds without any progress after which a look counts as hung.
        megabytes: The most memory a worker may use, its ears included.
        command: What starts a worker; for tests.
        tiers: The models in the place of built-in stages; their sizes are added to the memory allowed.
    """

    def __init__(
        self,
        workers: int,
        *,
        seconds: float = 6 * 3600,
        patience: float = 180,
        megabytes: int = 2500,
        command: tuple[str, ...] = (sys.executable, "-m", "tl_data.local.perception.worker_pool"),
        tiers: Tiers | None = None,
    ) -> None:
        self._seconds, self._patience = seconds, patience
        self._tiers = tiers or Tiers()
        self._megabytes = megabytes + self._tiers.megabytes
        self._command = command
        self._free = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._closed = False

    async def look(
        self,
        path: Path,
        folder: Path,
        *,
        on_progress: Callable[[float], None] | None = None,
        seconds: float | None = None,
    ) -> Evidence:
        """Look at a video; see `analyzer.analyze`. Cancelling it ends the worker that is at it.

        Raises:
            NotVideo: the file is not readable video or sound.
            ModelFailed: a model that a setting names cannot be used.
            LookFailed: it took too long or too much memory, or brought the worker down.
        """
        request = {"do": "look", "path": str(path), "folder": str(folder)} | self._models()
        answer = await self._ask(request, on_progress, seconds or self._seconds)
        return from_json(orjson.dumps(answer))

    async def look_again(self, evidence: Evidence, sound: Path, folder: Path) -> Evidence:
        """Bring evidence to these models: see again.py. Raises as `look` does.

        Args:
            evidence: what other models found.
            sound: a file to hear; not read if the recogniser is the same.
            folder: of the keyframes.
        """
        request = {"do": "again", "path": str(sound), "folder": str(folder)} | self._models()
        request["evidence"] = to_json(evidence).decode()
        answer = await self._ask(request, None, self._seconds)
        return from_json(orjson.dumps(answer))

    def _models(self) -> dict[str, str]:
        """Folders and names of the models, as a worker is told."""
        tiers = self._tiers
        return {
            "clip": str(tiers.clip or ""),
            "sight": tiers.sight,
            "whisper": str(tiers.whisper or ""),
            "ears": tiers.ears,
            "objects": str(tiers.objects or ""),
            "detector": "on" if tiers.detector else "off",
        }

    async def probe(self, path: Path) -> Probe:
        """The facts of a file, read in a worker. Raises as `look` does."""
        return Probe(**await self._ask({"do": "probe", "path": str(path)}, None, 60.0))

    async def aclose(self) -> None:
        """End all workers; looks that are going on fail."""
        self._closed = True
        for worker in list(self._all):
            await worker.end()
        self._all.clear()
        self._idle.clear()

    async def _ask(
        self, request: dict[str, str], tell: Callable[[float], None] | None, seconds: float
    ) -> Any:
        async with self._free:
            if self._closed:
                raise LookFailed("The engine is shutting down.")
            worker = self._idle.pop() if self._idle else await self._start()
            keep = False
            try:
                answer = await worker.ask(request, tell, seconds, self._patience, self._megabytes)
                keep = worker.asked < _RENEW and not self._closed
            except (NotVideo, ModelFailed):
                keep = not self._closed
                raise
            finally:
                if keep:
                    self._idle.append(worker)
                else:
                    self._all.discard(worker)
                    await worker.end()
            return answer

    async def _start(self) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._megabytes),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=_LINE,
            start_new_session=True,  # its ears and itself can be ended together
            env=worker_environment(),
        )
        worker = _Worker(process)
        self._all.add(worker)
        return worker


@dataclass(eq=False)
class _Worker:
    """The server's end of one worker process."""

    process: asyncio.subprocess.Process
    asked: int = 0
    _heard_of: float = field(default_factory=time.monotonic)

    async def ask(
        self,
        request: dict[str, str],
        tell: Callable[[float], None] | None,
        seconds: float,
        patience: float,
        megabytes: int,
    ) -> Any:
        self.asked += 1
        self._heard_of = time.monotonic()
        answer = asyncio.create_task(self._answer(request, tell))
        watch = asyncio.create_task(self._watch(seconds, patience, megabytes))
        try:
            await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise LookFailed(watch.result())
        finally:
            for task in (answer, watch):
                task.cancel()
            await asyncio.gather(answer, watch, return_exceptions=True)

    async def _answer(self, request: dict[str, str], tell: Callable[[float], None] | None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ConnectionError):  # it died: told below
            self.process.stdin.write(orjson.dumps(request) + b"\n")
            await self.process.stdin.drain()
        while line := await self.process.stdout.readline():
            self._heard_of = time.monotonic()
            told = orjson.loads(line)
            if "progress" in told:
                if tell is not None:
                    tell(told["progress"])
            elif "refused" in told:
                raise NotVideo(told["refused"])
            elif "model" in told:
                raise ModelFailed(told["model"])
            elif "failed" in told:
                raise LookFailed(told["failed"])
            else:
                return told["done"]
        code = await self.process.wait()
        how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
        raise LookFailed(f"The file brought down the process that read it ({how}).")

    async def _watch(self, seconds: float, patience: float, megabytes: int) -> str:
        """Returns, with the reason, when the worker must be ended."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            if now - began > seconds:
                return f"Looking at the file took longer than {seconds:g} s."
            if now - self._heard_of > patience:
                return f"Reading the file made no progress for {patience:g} s."
            used = _memory(self.process.pid) >> 20
            if used > megabytes:
                return f"Reading the file took {used} MB of memory, more than the {megabytes} MB allowed."

    async def end(self) -> None:
        """Kill the process and its ears."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()
        # The pipe's transport closes when its end is read; unread, it would complain when collected.
        if self.process.stdout is not None:
            with contextlib.suppress(ValueError):
                while await self.process.stdout.read(1 << 16):
                    pass


def _memory(pid: int) -> int:
    """Resident bytes of a process and its children; 0 where the system does not tell (RLIMIT_AS remains)."""
    total = 0
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * _PAGE
    except (OSError, IndexError):
        pass
    return total


if __name__ == "__main__":
    from tl_data.local.perception import worker as work

    work.main(int(sys.argv[1]), ears="--ears" in sys.argv)
