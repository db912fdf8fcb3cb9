"""Decodes JPEG and PNG pictures in a process of its own: a hostile picture fails its own request only.

A progressive JPEG of 30 MB can hold 400,000 passes over 50 million pixels, which take hours. The process has
limits of CPU time, memory and pixels. It starts at first use, which takes about 0.3 s, and ends when it has
been idle for a while. It decodes one picture at a time, because a large one takes hundreds of megabytes.

A request is the length of the file in 8 bytes, two longest sides in 4 bytes each, and the file. An answer is
a line of JSON and the pixels.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import orjson

from tl_data.untrusted import worker_environment

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_PIXELS = 50_000_000  # 150 MB once decoded
CPU_SECONDS = 10  # limit of the CPU time of a picture; PNG of 50 million pixels take 2 s
SECONDS = 60.0  # limit of the time of a picture, for a process that waits or gets no CPU
_IDLE_SECONDS = 60.0  # then the process ends
_MEGABYTES = 4000  # limit of its address space; JPEG of 50 million pixels take 700 MB
_ENVIRONMENT = {
    "OPENCV_IO_MAX_IMAGE_PIXELS": str(MAX_PIXELS),  # OpenCV reads the header with its own code
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
}
_HEAD = struct.Struct(">QII")


class NotPicture(ValueError):
    """The picture cannot be decoded."""


class DecoderClosed(RuntimeError):
    """The decoder was closed before the picture was decoded; nothing is known about the picture."""


class PictureDecoder:
    """A process that decodes pictures. Threads may share it.

    Engines of one Python process share it, too: each calls `acquire`, and `release` when it closes.
    """

    def __init__(self, cpu_seconds: int = CPU_SECONDS, seconds: float = SECONDS) -> None:
        self._cpu_seconds, self._seconds = cpu_seconds, seconds
        self._lock = threading.Lock()  # held while a picture is decoded
        self._state = threading.Lock()  # held for a moment; a process starts only if none closes the decoder
        self._process: subprocess.Popen[bytes] | None = None
        self._users = 0  # calls of `acquire` without `release`
        self._closing = 0  # calls of `close` that have not returned
        self._closings = 0  # all calls of `close`

    def decode(self, data: bytes, sides: tuple[int, int]) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Decode a file into RGB pixels, as uint8 of height x width x 3.

        Args:
            data: the file.
            sides: the longest sides of the two results in pixels. Smaller pictures keep their size.

        Raises:
            NotPicture: the file cannot be decoded within the limits.
            DecoderClosed: `close` was called while the picture was decoded or waited for its turn.
        """
        closings = self._closings
        with self._lock:
            for attempt in (1, 2):
                process, reused = self._ready_process(closings)
                expired = threading.Event()
                timer = threading.Timer(self._seconds, _expire, (process, expired))
                timer.start()
                pictures, sent = None, True
                try:
                    pictures = _exchange(process, data, sides)
                except NotPicture:
                    raise
                except BrokenPipeError:
                    sent = False
                except BaseException:  # the next request would get the answer to this one
                    process.kill()
                    self._end()
                    raise
                finally:
                    timer.cancel()
                if pictures is not None:
                    return pictures
                code = self._end()
                if self._closings != closings:
                    raise DecoderClosed("the decoder was closed while it decoded the picture")
                # 0: it was idle, just when the request was sent. Not sent: the picture is not the cause.
                ended_before = code == 0 or (reused and not sent)
                if attempt == 2 or expired.is_set() or not ended_before:
                    raise NotPicture(f"the image cannot be decoded: {_cause(code, self._cpu_seconds)}")
        raise AssertionError

    def acquire(self) -> None:
        """Register a user, so that the `release` of another one does not close the decoder."""
        with self._state:
            self._users += 1

    def release(self) -> None:
        """Unregister a user; the last one closes the decoder."""
        with self._state:
            self._users -= 1
            last = self._users == 0
        if last:
            self.close()

    def close(self) -> None:
        """End the process. Running and waiting requests fail at once; a later one starts another process."""
        with self._state:
            self._closing += 1
            self._closings += 1
            if self._process is not None:
                self._process.kill()
        try:
            with self._lock:
                if self._process is not None:
                    self._end()
        finally:
            with self._state:
                self._closing -= 1

    def _ready_process(self, closings: int) -> tuple[subprocess.Popen[bytes], bool]:
        """A process that runs, and whether it has served before.

        Args:
            closings: the number of calls of `close` when the request was made.
        """
        with self._state:
            if self._closing or self._closings != closings:
                raise DecoderClosed("the decoder was closed while the picture waited for its turn")
            if self._process is not None and self._process.poll() is not None:  # ended while it was idle
                self._end()
            if self._process is not None:
                return self._process, True
            return self._start(), False

    def _start(self) -> subprocess.Popen[bytes]:
        self._process = subprocess.Popen(
            [sys.executable, "-m", __name__, str(self._cpu_seconds)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # libjpeg prints a warning for each damaged part
            start_new_session=True,  # Ctrl-C in the terminal of the server does not reach it
            env=worker_environment() | _ENVIRONMENT,
        )
        return self._process

    def _end(self) -> int:
        """Wait for the end of the process, and return its exit code."""
        process, self._process = self._process, None
        assert process is not None
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
        return process.returncode


def _exchange(
    process: subprocess.Popen[bytes], data: bytes, sides: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]] | None:
    """Send a request and read the answer; None if the process has ended since.

    Raises:
        BrokenPipeError: the process ended before it had received the request.
        NotPicture: the process answered that the file cannot be decoded.
    """
    import numpy as np

    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(_HEAD.pack(len(data), *sides) + data)
    process.stdin.flush()
    line = process.stdout.readline()
    if not line.endswith(b"\n"):
        return None
    answer = orjson.loads(line)
    if "error" in answer:
        raise NotPicture(answer["error"])
    pictures = []
    for height, width in answer["shapes"]:
        pixels = process.stdout.read(height * width * 3)
        if len(pixels) < height * width * 3:
            return None
        pictures.append(np.frombuffer(pixels, np.uint8).reshape(height, width, 3))
    first, second = pictures
    return first, second


def _expire(process: subprocess.Popen[bytes], expired: threading.Event) -> None:
    """Kill a process whose picture takes too long."""
    expired.set()
    process.kill()


def _cause(code: int, cpu_seconds: int) -> str:
    """Why the process ended."""
    if code == -signal.SIGXCPU:
        return f"it takes more than {cpu_seconds} s"
    if code == -signal.SIGKILL:
        return "it takes too long or too much memory"
    return f"its decoder crashed ({signal.Signals(-code).name if code < 0 else f'exit code {code}'})"


decoder = PictureDecoder()
atexit.register(decoder.close)


def shrink(picture: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Scale a picture down so that its longer side has at most `side` pixels."""
    import cv2
    import numpy as np

    height, width = picture.shape[:2]
    scale = side / max(height, width)
    if scale >= 1:
        return picture
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    return np.asarray(cv2.resize(picture, size, interpolation=cv2.INTER_AREA), np.uint8)


def _serve(cpu_seconds: int) -> None:
    """Answer requests until stdin ends or nothing has been requested for a while."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print does not mix with the answers
    requests = sys.stdin.buffer
    _limit_memory()
    while head := _next(requests):
        size, *sides = _HEAD.unpack(head)
        data = requests.read(size)
        _limit_cpu(cpu_seconds)
        try:
            answer, pictures = _decode(data, sides)
        except MemoryError:
            answer, pictures = {"error": "the image cannot be decoded: it takes too much memory"}, []
        answers.write(orjson.dumps(answer) + b"\n")
        for picture in pictures:
            answers.write(picture.tobytes())
        answers.flush()


def _next(requests: IO[bytes]) -> bytes:
    """The head of the next request; b"" if there is none."""
    import select

    if not select.select([requests], [], [], _IDLE_SECONDS)[0]:
        return b""
    return requests.read(_HEAD.size)


def _decode(data: bytes, sides: Sequence[int]) -> tuple[dict[str, Any], list[NDArray[np.uint8]]]:
    import cv2
    import numpy as np

    cv2.setNumThreads(1)
    try:
        picture = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR) if data else None
    except cv2.error as error:  # a header with an absurd size
        return {"error": f"the image cannot be decoded: {error}"}, []
    if picture is None:
        return {"error": "the file is not an image that can be decoded"}, []
    rgb = np.asarray(cv2.cvtColor(picture, cv2.COLOR_BGR2RGB), np.uint8)
    pictures = [shrink(rgb, side) for side in sides]
    return {"shapes": [picture.shape[:2] for picture in pictures]}, pictures


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (_MEGABYTES << 20, _MEGABYTES << 20))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # this system has no such limits


def _limit_cpu(seconds: int) -> None:
    """End this process when the current request has taken `seconds` of CPU time."""
    try:
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        soft = int(used.ru_utime + used.ru_stime) + 1 + seconds
        resource.setrlimit(resource.RLIMIT_CPU, (soft, resource.getrlimit(resource.RLIMIT_CPU)[1]))
    except (ImportError, ValueError, OSError):
        pass  # this system has no such limits; the parent process has a limit of time


if __name__ == "__main__":
    _serve(int(sys.argv[1]))
