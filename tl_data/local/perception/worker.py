"""What runs inside a worker process: `python -m tl_data.local.perception.worker_pool` comes here.

Requests are lines of JSON on stdin, answers lines of JSON on stdout. Whatever libraries print goes to stderr.
"""

from __future__ import annotations

import contextlib
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

import orjson

_SPARE = 6000  # megabytes of address space over the memory limit: mapped files, arenas, stacks


def main(megabytes: int, *, ears: bool) -> None:
    """Serve requests until stdin ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    _be_modest(megabytes)
    requests = _requests()
    serve = _listen if ears else _look
    helper = None if ears else _Ears(megabytes)
    while True:
        _answer(answers, requests.get(), serve, helper)


def _answer(
    answers: BinaryIO, request: dict[str, str], serve: Callable[..., Any], helper: _Ears | None
) -> None:
    from tl_data.local.perception.evidence import ModelFailed, NotVideo

    lock = threading.Lock()

    def say(line: dict[str, Any]) -> None:
        with lock:
            answers.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
            answers.flush()

    def tell(share: float) -> None:
        say({"progress": round(share, 4)})

    try:
        say({"done": serve(request, tell, helper)})
    except NotVideo as error:
        say({"refused": str(error)})
    except ModelFailed as error:
        say({"model": str(error)})
    except MemoryError:
        say({"failed": "Reading the file took more memory than is allowed."})
    except Exception as error:  # noqa: BLE001 - the worker goes on with the next file
        say({"failed": f"The file could not be looked at: {type(error).__name__}: {error}"})


def _look(request: dict[str, str], tell: Callable[[float], None], ears: _Ears) -> Any:
    path = Path(request["path"])
    if request["do"] == "probe":
        from tl_data.local.perception.decode import probe

        return probe(path)
    from tl_data.local.perception.analyzer import Models, analyze, heard_again, seen_again

    sight = None
    if request.get("clip"):
        from tl_data.local.perception.vision.image_encoder import encoder

        sight = encoder(Path(request["clip"]), request["sight"])
    if request["do"] == "again":
        from tl_data.local.perception.evidence import from_json

        evidence = from_json(request["evidence"].encode())
        if evidence.sight != request["sight"]:
            evidence = seen_again(evidence, Path(request["folder"]), sight)
        if evidence.ears == request["ears"]:
            return evidence
        if not evidence.probe.audio_codec:
            return replace(evidence, ears=request["ears"])
        with ears.hearing(path, tell, request["whisper"], request["ears"]) as heard:
            return heard_again(evidence, heard(), request["ears"])
    models = Models(
        sight=sight,
        objects=Path(request["objects"]) if request.get("objects") else None,
        detector=request.get("detector", "on") == "on",
    )
    with ears.hearing(path, tell, request.get("whisper", ""), request.get("ears", "")) as heard:
        return analyze(path, Path(request["folder"]), models=models, on_progress=tell, listen=heard)


def _listen(request: dict[str, str], tell: Callable[[float], None], _: None) -> Any:
    from tl_data.local.perception.audio import speech

    return speech.listen(
        Path(request["path"]),
        lambda second: tell(float(second)) if second % 5 == 0 else None,
        Path(request["whisper"]) if request.get("whisper") else None,
        request.get("ears", ""),
    )


class _Ears:
    """The process that listens while this one looks; started when it is first needed."""

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def hearing(self, path: Path, tell: Callable[[float], None], whisper: str = "", name: str = "") -> Any:
        """Start listening to a file; gives the function that waits for what was heard.

        That function raises `ModelFailed` if the model in the folder `whisper` is none: what cannot be heard
        is a note of the video, a wrong setting is not.
        """
        if self._process is None or self._process.poll() is not None:
            command = [
                sys.executable,
                "-m",
                "tl_data.local.perception.worker_pool",
                str(self._megabytes),
                "--ears",
            ]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin is not None
        process.stdin.write(
            orjson.dumps({"do": "listen", "path": str(path), "whisper": whisper, "ears": name}) + b"\n"
        )
        process.stdin.flush()
        settled = False

        def heard() -> Any:
            nonlocal settled
            import numpy as np

            from tl_data.local.perception.audio import sound
            from tl_data.local.perception.audio.speech import Heard
            from tl_data.local.perception.evidence import ModelFailed, span_of

            nothing = np.zeros((0, sound.COLUMNS), np.float32)
            assert process.stdout is not None
            for line in process.stdout:
                told = orjson.loads(line)
                if "progress" in told:
                    tell(0.95)
                    continue
                settled = True
                if "model" in told:
                    raise ModelFailed(told["model"])
                if "done" not in told:
                    return Heard((), nothing, (f"the sound could not be heard: {told.popitem()[1]}",))
                raw = told["done"]
                speech = tuple(span_of(span) for span in raw["speech"])
                seconds = np.array(raw["seconds"], np.float32) if raw["seconds"] else nothing
                return Heard(speech, seconds, tuple(raw["notes"]), raw.get("ears", ""))
            return Heard(
                (), nothing, ("the sound could not be heard: it brought down the process that read it",)
            )

        try:
            yield heard
        finally:
            if not settled:  # it is in the middle of a file that nobody waits for any more
                process.kill()
                process.wait()
                self._process = None


def _requests() -> queue.SimpleQueue[dict[str, str]]:
    """Read stdin beside the work: when it ends, so does the process, whatever it is at."""
    waiting: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            waiting.put(orjson.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return waiting


def _be_modest(megabytes: int) -> None:
    """Low priority, bounded address space, one thread a library."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
    try:
        import resource

        most = (megabytes + _SPARE) << 20
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):  # not on this system: the server watches the memory in use
        pass
    import cv2

    cv2.setNumThreads(1)
