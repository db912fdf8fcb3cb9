"""Pictures are decoded in a process of their own, within limits."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from tests.support.pictures import many_passes
from tl_data.local.perception.pictures import NotPicture, PictureDecoder

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
        decoder.decode(png()[0], SIDES)
    assert decoder.decode(png()[0], SIDES)[0].shape == (58, 96, 3)
    assert child(decoder) != process


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
