"""Analyzes files in worker processes, so that a hostile file fails its own task and not the server.

`WorkerPool` keeps a few worker processes running, because loading the models takes seconds. It replaces a
worker that dies, hangs, or uses too much memory, and ends a worker that has been idle for a while.

A worker is `python -m tl_data.local.perception.worker_pool`. It reads requests from stdin and writes answers
to stdout, one line of JSON each. It ends when stdin ends. Each worker starts a second process (`--speech`),
because the speech recogniser holds the interpreter's lock.
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
from tl_data.local.perception.evidence import (
    MAX_JSON_BYTES,
    Evidence,
    ModelFailed,
    NotVideo,
    Probe,
    from_json,
    to_json,
)
from tl_data.untrusted import worker_environment

_MAX_REQUESTS = 200  # then a worker is replaced, because memory leaks of libraries add up
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096


class WorkerFailed(TLDataError):
    """A video could not be analyzed: timeout, memory limit, or a crashed worker. The message says which."""


class WorkerPool:
    """A pool of worker processes that analyze videos.

    Args:
        workers: Number of videos analyzed concurrently.
        seconds: Time limit of one analysis.
        stall_seconds: Seconds without progress after which an analysis counts as hung.
        megabytes: Memory limit of a worker together with its speech process.
        idle_seconds: Seconds without a request after which a worker ends. The next request starts another.
        command: Command line that starts a worker. Tests replace it.
        tiers: Models that replace built-in stages; their sizes are added to the memory limit.
        alone: Workers have no speech process: they analyze the sound after the pictures, with one thread.
    """

    def __init__(
        self,
        workers: int,
        *,
        seconds: float = 6 * 3600,
        stall_seconds: float = 180,
        megabytes: int = 2500,
        idle_seconds: float = 60.0,
        command: tuple[str, ...] = (sys.executable, "-m", "tl_data.local.perception.worker_pool"),
        tiers: Tiers | None = None,
        alone: bool = False,
    ) -> None:
        self._seconds, self._stall_seconds = seconds, stall_seconds
        self._tiers = tiers or Tiers()
        self._megabytes = megabytes + self._tiers.megabytes
        self._idle_seconds = idle_seconds
        self._command = command
        self._options = ["--alone"] if alone else []
        self._free = asyncio.Semaphore(workers)
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._ending: set[asyncio.Task[None]] = set()
        self._closed = False

    async def analyze(
        self,
        path: Path,
        folder: Path,
        *,
        on_progress: Callable[[float], None] | None = None,
        seconds: float | None = None,
    ) -> Evidence:
        """Analyze a video; see `analyzer.analyze`. Cancelling this call ends the worker.

        Raises:
            NotVideo: the file cannot be read as video or sound.
            ModelFailed: a model that a setting names cannot be used.
            WorkerFailed: a timeout, the memory limit, or a crashed worker.
        """
        request = {"do": "analyze", "path": str(path), "folder": str(folder)} | self._models()
        answer = await self._request(request, on_progress, seconds or self._seconds)
        return from_json(orjson.dumps(answer))

    async def reanalyze(self, evidence: Evidence, sound: Path, folder: Path) -> Evidence:
        """Update evidence to the models of this pool. Raises the same errors as `analyze`.

        Args:
            evidence: evidence that other models made.
            sound: a file with the sound. It is read only if the speech model differs.
            folder: the folder of the keyframes.
        """
        request = {"do": "reanalyze", "path": str(sound), "folder": str(folder)} | self._models()
        request["evidence"] = to_json(evidence).decode()
        answer = await self._request(request, None, self._seconds)
        return from_json(orjson.dumps(answer))

    def _models(self) -> dict[str, str]:
        """The folders and names of the models, for a request to a worker."""
        tiers = self._tiers
        return {
            "clip": str(tiers.clip or ""),
            "encoder": tiers.encoder,
            "whisper": str(tiers.whisper or ""),
            "speech_model": tiers.speech_model,
            "objects": str(tiers.objects or ""),
            "detector": "on" if tiers.detector else "off",
        }

    async def probe(self, path: Path) -> Probe:
        """Read the properties of a file in a worker. Raises the same errors as `analyze`."""
        return Probe(**await self._request({"do": "probe", "path": str(path)}, None, 60.0))

    async def aclose(self) -> None:
        """End all workers. Running analyses fail."""
        self._closed = True
        for worker in list(self._all):
            await worker.end()
        await asyncio.gather(*self._ending)
        self._all.clear()
        self._idle.clear()

    async def _request(
        self, request: dict[str, str], on_progress: Callable[[float], None] | None, seconds: float
    ) -> Any:
        async with self._free:
            if self._closed:
                raise WorkerFailed("The engine is shutting down.")
            worker = self._idle.pop() if self._idle else await self._start()
            keep = False
            try:
                answer = await worker.request(
                    request, on_progress, seconds, self._stall_seconds, self._megabytes
                )
                keep = worker.requests < _MAX_REQUESTS and not self._closed
            except (NotVideo, ModelFailed):
                keep = not self._closed
                raise
            finally:
                if keep:
                    self._idle.append(worker)
                    asyncio.get_running_loop().call_later(
                        self._idle_seconds, self._end_if_idle, worker, worker.requests
                    )
                else:
                    self._all.discard(worker)
                    await worker.end()
            return answer

    def _end_if_idle(self, worker: _Worker, requests: int) -> None:
        """End an idle worker whose count of requests is still `requests`."""
        if worker in self._idle and worker.requests == requests:
            self._idle.remove(worker)
            self._all.discard(worker)
            ending = asyncio.create_task(worker.end())
            self._ending.add(ending)
            ending.add_done_callback(self._ending.discard)

    async def _start(self) -> _Worker:
        process = await asyncio.create_subprocess_exec(
            *self._command,
            str(self._megabytes),
            *self._options,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
            limit=MAX_JSON_BYTES,
            start_new_session=True,  # one signal ends the worker and its speech process
            env=worker_environment(),
        )
        worker = _Worker(process)
        self._all.add(worker)
        return worker


@dataclass(eq=False)
class _Worker:
    """One worker process, as the server sees it."""

    process: asyncio.subprocess.Process
    requests: int = 0
    _last_output: float = field(default_factory=time.monotonic)

    async def request(
        self,
        request: dict[str, str],
        on_progress: Callable[[float], None] | None,
        seconds: float,
        stall_seconds: float,
        megabytes: int,
    ) -> Any:
        """Send a request and wait for its answer.

        Raises:
            WorkerFailed: a timeout, the memory limit, or a crashed worker.
        """
        self.requests += 1
        self._last_output = time.monotonic()
        answer = asyncio.create_task(self._answer(request, on_progress))
        watch = asyncio.create_task(self._watch(seconds, stall_seconds, megabytes))
        try:
            await asyncio.wait({answer, watch}, return_when=asyncio.FIRST_COMPLETED)
            if answer.done():
                return answer.result()
            raise WorkerFailed(watch.result())
        finally:
            for task in (answer, watch):
                task.cancel()
            await asyncio.gather(answer, watch, return_exceptions=True)

    async def _answer(self, request: dict[str, str], on_progress: Callable[[float], None] | None) -> Any:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        with contextlib.suppress(ConnectionError):  # a dead worker is reported below
            self.process.stdin.write(orjson.dumps(request) + b"\n")
            await self.process.stdin.drain()
        while line := await self.process.stdout.readline():
            self._last_output = time.monotonic()
            message = orjson.loads(line)
            if "progress" in message:
                if on_progress is not None:
                    on_progress(message["progress"])
            elif "refused" in message:
                raise NotVideo(message["refused"])
            elif "model" in message:
                raise ModelFailed(message["model"])
            elif "failed" in message:
                raise WorkerFailed(message["failed"])
            else:
                return message["done"]
        exit_code = await self.process.wait()
        cause = f"signal {signal.Signals(-exit_code).name}" if exit_code < 0 else f"exit code {exit_code}"
        raise WorkerFailed(f"The process that read the file crashed ({cause}).")

    async def _watch(self, seconds: float, stall_seconds: float, megabytes: int) -> str:
        """Wait until the worker exceeds a limit, and return which one."""
        began = time.monotonic()
        while True:
            await asyncio.sleep(0.25)
            now = time.monotonic()
            if now - began > seconds:
                return f"Analysis of the file took longer than {seconds:g} s."
            if now - self._last_output > stall_seconds:
                return f"Reading the file made no progress for {stall_seconds:g} s."
            used = _resident_bytes(self.process.pid) >> 20
            if used > megabytes:
                return f"Reading the file took {used} MB of memory, more than the {megabytes} MB allowed."

    async def end(self) -> None:
        """Kill the process and its speech process."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        if self.process.stdin is not None:
            self.process.stdin.close()
        await self.process.wait()
        # Read the pipe to its end, so that its transport closes. Otherwise asyncio warns when the transport
        # is garbage-collected.
        if self.process.stdout is not None:
            with contextlib.suppress(ValueError):
                while await self.process.stdout.read(1 << 16):
                    pass


def _resident_bytes(pid: int) -> int:
    """Resident bytes of a process and its children; 0 without /proc (then only RLIMIT_AS applies)."""
    total = 0
    try:
        total = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE_BYTES
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            total += int(Path(f"/proc/{child}/statm").read_text().split()[1]) * _PAGE_BYTES
    except (OSError, IndexError):
        pass
    return total


if __name__ == "__main__":
    from tl_data.local.perception import worker

    worker.main(int(sys.argv[1]), speech="--speech" in sys.argv, alone="--alone" in sys.argv)
