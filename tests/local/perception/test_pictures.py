"""Pictures are decoded in a process of their own, within limits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import FrameType

import cv2
import numpy as np
import pytest

from tests.support.pictures import many_passes
from tl_data.local.config import Config
from tl_data.local.perception import pictures
from tl_data.local.perception.pictures import DecoderClosed, NotPicture, PictureDecoder
from tl_data.local.service import Stages

SIDES = 96, 32


@pytest.fixture(scope="module")
def decoder() -> Iterator[PictureDecoder]:
    decoder = PictureDecoder(cpu_seconds=1)
    yield decoder
    decoder.close()


def child(decoder: PictureDecoder) -> int:
    """The process of a decoder."""
    assert decoder._process is not None
    return decoder._process.pid


def png(seed: int = 0, height: int = 120, width: int = 200) -> tuple[bytes, np.ndarray]:
    rgb = np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)
    return cv2.imencode(".png", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR))[1].tobytes(), rgb


def test_pixels_in_two_sizes(decoder: PictureDecoder) -> None:
    data, rgb = png()
    large, small = decoder.decode(data, (300, 100))
    assert np.array_equal(large, rgb)
    assert np.array_equal(small, cv2.resize(rgb, (100, 60), interpolation=cv2.INTER_AREA))


def test_threads_share_a_decoder(decoder: PictureDecoder) -> None:
    made = [png(seed) for seed in range(12)]
    with ThreadPoolExecutor(6) as pool:
        decoded = list(pool.map(lambda item: decoder.decode(item[0], (300, 32))[0], made))
    assert all(np.array_equal(pixels, rgb) for pixels, (_, rgb) in zip(decoded, made, strict=True))


def test_a_picture_of_many_passes_ends_its_process_only(decoder: PictureDecoder) -> None:
    began = time.monotonic()
    with pytest.raises(NotPicture, match="more than 1 s"):
        decoder.decode(many_passes(3000, 20_000), SIDES)  # 1.5 minutes without a limit
    assert time.monotonic() - began < 30
    assert decoder.decode(png()[0], SIDES)[1].shape == (19, 32, 3)


def test_a_crash_of_the_decoder_is_an_error_of_its_picture(decoder: PictureDecoder) -> None:
    decoder.decode(png()[0], SIDES)
    process = child(decoder)
    os.kill(process, signal.SIGSTOP)  # so that the crash happens while the request waits
    crash = threading.Timer(0.2, os.kill, (process, signal.SIGSEGV))
    resume = threading.Timer(0.3, os.kill, (process, signal.SIGCONT))
    crash.start()
    resume.start()
    with pytest.raises(NotPicture, match="SIGSEGV"):
        decoder.decode(png(height=60, width=100)[0], SIDES)  # a pipe holds it, so it is sent as a whole
    assert decoder.decode(png()[0], SIDES)[0].shape == (58, 96, 3)
    assert child(decoder) != process


@pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError])
def test_the_answer_to_an_interrupted_request_is_not_the_next_one(
    decoder: PictureDecoder, error: type[BaseException]
) -> None:
    def interrupt(number: int, frame: FrameType | None) -> None:
        raise error

    (first, _), (second, pixels) = png(1, 60, 100), png(2, 60, 100)
    decoder.decode(first, SIDES)
    process = child(decoder)
    os.kill(process, signal.SIGSTOP)  # so that the interrupt comes before the answer
    previous = signal.signal(signal.SIGUSR1, interrupt)
    timer = threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        with pytest.raises(error):
            decoder.decode(first, (100, 32))
    finally:
        timer.join()
        signal.signal(signal.SIGUSR1, previous)
        with contextlib.suppress(ProcessLookupError):
            os.kill(process, signal.SIGCONT)
    assert np.array_equal(decoder.decode(second, (100, 32))[0], pixels)


@pytest.mark.parametrize("cause", [signal.SIGINT, signal.SIGKILL])
def test_a_process_that_ended_while_idle_is_replaced(decoder: PictureDecoder, cause: signal.Signals) -> None:
    data, rgb = png()
    decoder.decode(data, SIDES)
    process = child(decoder)
    assert os.getsid(process) == process  # signals to the group of this process do not reach it
    os.kill(process, cause)
    os.waitid(os.P_PID, process, os.WEXITED | os.WNOWAIT)
    assert np.array_equal(decoder.decode(data, (300, 32))[0], rgb)
    assert child(decoder) != process


def test_a_process_that_ends_before_it_has_the_request_is_replaced(decoder: PictureDecoder) -> None:
    data, rgb = png()
    assert len(data) > 1 << 16  # more than a pipe holds: it is still being sent when the process ends
    decoder.decode(data, SIDES)
    process = child(decoder)
    os.kill(process, signal.SIGSTOP)
    timer = threading.Timer(0.2, os.kill, (process, signal.SIGKILL))
    timer.start()
    assert np.array_equal(decoder.decode(data, (300, 32))[0], rgb)
    timer.join()
    assert child(decoder) != process


def test_close_ends_running_and_waiting_requests_at_once(decoder: PictureDecoder) -> None:
    data, rgb = png()
    decoder.decode(data, SIDES)
    process = child(decoder)
    os.kill(process, signal.SIGSTOP)
    with ThreadPoolExecutor(4) as pool:
        requests = [pool.submit(decoder.decode, data, SIDES) for _ in range(4)]
        time.sleep(0.3)  # one of them runs, and the others wait
        began = time.monotonic()
        decoder.close()
        errors = [request.exception(timeout=5) for request in requests]
    assert time.monotonic() - began < 5
    assert [type(error) for error in errors] == [DecoderClosed] * 4
    assert decoder._process is None  # none of them started another one
    assert np.array_equal(decoder.decode(data, (300, 32))[0], rgb)


def test_the_last_user_closes_a_decoder(decoder: PictureDecoder) -> None:
    decoder.acquire()
    decoder.acquire()
    decoder.decode(png()[0], SIDES)
    process = child(decoder)
    decoder.release()
    decoder.decode(png()[0], SIDES)
    assert child(decoder) == process
    decoder.release()
    assert not Path(f"/proc/{process}").exists()


def test_an_engine_that_closes_leaves_the_picture_of_another_one(tmp_path: Path) -> None:
    async def run() -> None:
        one, other = (Stages(Config(home=tmp_path / name)) for name in ("one", "other"))
        try:
            await other.measured_image(png()[0])
            process = child(pictures.decoder)
            os.kill(process, signal.SIGSTOP)
            clip = asyncio.create_task(other.measured_image(png(height=60, width=100)[0]))
            await asyncio.sleep(0.3)
            await one.close()
            await one.close()  # a second call changes nothing
            os.kill(process, signal.SIGCONT)
            assert (await clip).colors
            assert child(pictures.decoder) == process
        finally:
            await one.close()
            await other.close()

    asyncio.run(run())


def test_a_process_that_answers_nothing_is_replaced() -> None:
    decoder = PictureDecoder(seconds=0.5)
    try:
        decoder._start()
        os.kill(child(decoder), signal.SIGSTOP)
        with pytest.raises(NotPicture, match="too long"):
            decoder.decode(png()[0], SIDES)
    finally:
        decoder.close()


def test_the_process_has_no_secrets_and_is_limited(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_API_KEY", "planted-secret")
    decoder = PictureDecoder()
    try:
        decoder.decode(png()[0], SIDES)
        folder = Path(f"/proc/{child(decoder)}")
        environment, limits = (folder / "environ").read_bytes(), (folder / "limits").read_text()
    finally:
        decoder.close()
    assert b"planted-secret" not in environment
    soft = {line[:26].strip(): line[26:].split()[0] for line in limits.splitlines()[1:]}
    assert soft["Max core file size"] == "0"
    assert int(soft["Max cpu time"]) <= 20
    assert int(soft["Max address space"]) == 4000 << 20
    assert not folder.exists()


@pytest.mark.parametrize("side", [7100, 60_000])
def test_the_decoder_counts_pixels_itself(decoder: PictureDecoder, side: int) -> None:
    with pytest.raises(NotPicture):
        decoder.decode(many_passes(side, 0), SIDES)
