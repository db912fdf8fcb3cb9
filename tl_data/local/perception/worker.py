"""The main loop of a worker process, started as `python -m tl_data.local.perception.worker_pool`.

Requests are lines of JSON on stdin, answers are lines of JSON on stdout. The stdout of libraries is
redirected to stderr.
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
from typing import TYPE_CHECKING, Any, BinaryIO

import orjson

if TYPE_CHECKING:
    from tl_data.local.perception.audio.speech import SoundResult

#: Megabytes of address space beyond the memory limit, for mapped files, allocator arenas and stacks.
_EXTRA_ADDRESS_SPACE = 6000


def main(megabytes: int, *, speech: bool, alone: bool = False) -> None:
    """Answer requests until stdin ends.

    Args:
        megabytes: the memory limit.
        speech: do the work of a worker's speech process.
        alone: analyze the sound in this process, after the pictures, with one thread in all.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print to stdout goes to stderr
    _limit_resources(megabytes)
    requests = _requests()
    process = _analyze_sound if speech else _process_video
    helper = None if speech else _SameProcess() if alone else _SpeechProcess(megabytes)
    if alone:
        from tl_data.local.perception import decode
        from tl_data.local.perception.audio import whisper
        from tl_data.local.perception.vision import image_encoder

        decode.THREADS = whisper.THREADS = image_encoder.THREADS = 1
    while True:
        _process_request(answers, requests.get(), process, helper)


def _process_request(
    answers: BinaryIO,
    request: dict[str, str],
    process: Callable[..., Any],
    helper: _SpeechProcess | _SameProcess | None,
) -> None:
    """Process one request and write its answer, with progress messages before it."""
    from tl_data.local.perception.evidence import ModelFailed, NotVideo

    lock = threading.Lock()

    def write(line: dict[str, Any]) -> None:
        with lock:
            answers.write(orjson.dumps(line, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n")
            answers.flush()

    def report(share: float) -> None:
        write({"progress": round(share, 4)})

    try:
        write({"done": process(request, report, helper)})
    except NotVideo as error:
        write({"refused": str(error)})
    except ModelFailed as error:
        write({"model": str(error)})
    except MemoryError:
        write({"failed": "The analysis exceeded the memory limit."})
    except Exception as error:  # noqa: BLE001 - the worker continues with the next file
        write({"failed": _could_not_analyze(error)})


def _could_not_analyze(error: Exception) -> str:
    return f"The file could not be analyzed: {type(error).__name__}: {error}"


def _without_sound(reason: str) -> SoundResult:
    """The result for a sound that cannot be analyzed: a note says why."""
    import numpy as np

    from tl_data.local.perception.audio import sound
    from tl_data.local.perception.audio.speech import SoundResult

    no_seconds = np.zeros((0, sound.COLUMNS), np.float32)
    return SoundResult((), no_seconds, (f"the sound could not be analyzed: {reason}",))


def _process_video(
    request: dict[str, str],
    report: Callable[[float], None],
    speech_process: _SpeechProcess | _SameProcess,
) -> Any:
    """Process a request to `probe` or analyze a file, or to `reanalyze` it with other models."""
    path = Path(request["path"])
    if request["do"] == "probe":
        from tl_data.local.perception.decode import probe

        return probe(path)
    from tl_data.local.perception.analyzer import Models, analyze, with_new_encoder, with_new_speech
    from tl_data.local.perception.evidence import from_json, to_record

    encoder = None
    if request.get("clip"):
        from tl_data.local.perception.vision.image_encoder import load_encoder

        encoder = load_encoder(Path(request["clip"]), request["encoder"])
    if request["do"] == "reanalyze":
        evidence = from_json(request["evidence"].encode())
        if evidence.encoder != request["encoder"]:
            evidence = with_new_encoder(evidence, Path(request["folder"]), encoder)
        if evidence.speech_model == request["speech_model"]:
            return to_record(evidence)
        if not evidence.probe.audio_codec:
            return to_record(replace(evidence, speech_model=request["speech_model"]))
        with speech_process.started(path, report, request["whisper"], request["speech_model"]) as result:
            return to_record(with_new_speech(evidence, result(), request["speech_model"]))
    models = Models(
        encoder=encoder,
        objects=Path(request["objects"]) if request.get("objects") else None,
        detector=request.get("detector", "on") == "on",
    )
    whisper, speech_model = request.get("whisper", ""), request.get("speech_model", "")
    with speech_process.started(path, report, whisper, speech_model) as result:
        folder = Path(request["folder"])
        return to_record(analyze(path, folder, models=models, on_progress=report, listen=result))


def _analyze_sound(request: dict[str, str], report: Callable[[float], None], _: None) -> Any:
    """Process a request to analyze the sound of a file."""
    from tl_data.local.perception.audio import speech

    return speech.listen(
        Path(request["path"]),
        lambda second: report(float(second)) if second % 5 == 0 else None,
        Path(request["whisper"]) if request.get("whisper") else None,
        request.get("speech_model", ""),
    )


class _SameProcess:
    """Analyzes the sound of a file in this process, when its result is needed."""

    @contextlib.contextmanager
    def started(self, path: Path, report: Callable[[float], None], whisper: str = "", name: str = "") -> Any:
        """Yield a function that analyzes the sound; see `_SpeechProcess.started`."""
        from tl_data.local.perception.audio import speech
        from tl_data.local.perception.evidence import ModelFailed, NotVideo

        def progress(second: int) -> None:
            if second % 5 == 0:
                report(0.95)

        def result() -> SoundResult:
            try:
                return speech.listen(path, progress, Path(whisper) if whisper else None, name)
            except (ModelFailed, MemoryError):
                raise
            except NotVideo as error:
                return _without_sound(str(error))
            except Exception as error:  # noqa: BLE001 - a note of the evidence, as of a speech process
                return _without_sound(_could_not_analyze(error))

        yield result


class _SpeechProcess:
    """The process that analyzes the sound while the worker analyzes the pictures. It starts at first use."""

    def __init__(self, megabytes: int) -> None:
        self._megabytes = megabytes
        self._process: subprocess.Popen[bytes] | None = None

    @contextlib.contextmanager
    def started(self, path: Path, report: Callable[[float], None], whisper: str = "", name: str = "") -> Any:
        """Start the analysis of a file's sound and yield a function that waits for the result.

        That function raises `ModelFailed` if the folder `whisper` has no usable model. If the sound cannot be
        analyzed for another reason, a note of the result says so.

        Args:
            whisper: the folder of a Whisper model; "" selects an installed model.
            name: the name of the speech model, as in the evidence.
        """
        if self._process is None or self._process.poll() is not None:
            command = [
                sys.executable,
                "-m",
                "tl_data.local.perception.worker_pool",
                str(self._megabytes),
                "--speech",
            ]
            self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = self._process
        assert process.stdin is not None
        process.stdin.write(
            orjson.dumps({"do": "listen", "path": str(path), "whisper": whisper, "speech_model": name})
            + b"\n"
        )
        process.stdin.flush()
        finished = False

        def result() -> SoundResult:
            nonlocal finished
            import numpy as np

            from tl_data.local.perception.audio import sound
            from tl_data.local.perception.audio.speech import SoundResult
            from tl_data.local.perception.evidence import ModelFailed, span_of

            assert process.stdout is not None
            for line in process.stdout:
                message = orjson.loads(line)
                if "progress" in message:
                    report(0.95)
                    continue
                finished = True
                if "model" in message:
                    raise ModelFailed(message["model"])
                if "done" not in message:
                    return _without_sound(message.popitem()[1])
                raw = message["done"]
                speech = tuple(span_of(span) for span in raw["speech"])
                seconds = np.array(raw["seconds"], np.float32).reshape(-1, sound.COLUMNS)
                return SoundResult(speech, seconds, tuple(raw["notes"]), raw.get("speech_model", ""))
            return _without_sound("its process crashed")

        try:
            yield result
        finally:
            if not finished:  # the process is still busy with a file whose result nobody reads
                process.kill()
                process.wait()
                self._process = None


def _requests() -> queue.SimpleQueue[dict[str, str]]:
    """The queue of requests, which a thread reads from stdin. The end of stdin ends the process at once."""
    pending: queue.SimpleQueue[dict[str, str]] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin.buffer:
            pending.put(orjson.loads(line))
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return pending


def _limit_resources(megabytes: int) -> None:
    """Lower the priority, limit the address space, use one thread per library, and forbid downloads."""
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no library downloads a model
    with contextlib.suppress(OSError, AttributeError):
        os.nice(10)
    try:
        import resource

        limit = (megabytes + _EXTRA_ADDRESS_SPACE) << 20
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    except (ImportError, ValueError, OSError):
        pass  # this system has no such limits; the server checks the memory in use
    import cv2

    cv2.setNumThreads(1)
