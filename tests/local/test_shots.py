"""Cuts are found, flashes and movement are not taken for cuts, and clips are 2 to 10 seconds long."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from tl_data.local.shots import LONGEST, SHORTEST, Cuts, Stretch, Stretches

Trace = npt.NDArray[np.int16]


def still(seed: int) -> Trace:
    return np.random.default_rng(seed).integers(20, 230, 4000).astype(np.int16)


def cuts(look: Callable[[float], Trace], seconds: float, fps: float = 25) -> list[float]:
    rng, finder, found = np.random.default_rng(0), Cuts(), []
    for number in range(round(seconds * fps)):
        noise = rng.integers(-2, 3, 4000)  # what compression does
        cut = finder.add(number / fps, (look(number / fps) + noise).astype(np.int16))
        if cut is not None:
            found.append(cut)
    last = finder.finish()
    return [*found, last] if last is not None else found


def test_a_hard_cut_is_found_at_its_frame() -> None:
    assert cuts(lambda t: still(1) if t < 3 else still(2), 6) == [3.0]


@pytest.mark.parametrize("fps", [1, 5, 24, 60])
def test_cuts_at_any_frame_rate(fps: int) -> None:
    shots = [still(seed) for seed in range(4)]
    assert cuts(lambda t: shots[int(t / 8)], 32, fps) == pytest.approx([8, 16, 24], abs=1 / fps)


def test_a_new_slide_with_the_same_background_is_a_cut() -> None:
    one = np.full(4000, 240, np.int16)
    other = one.copy()
    one[200:700] = 30
    other[900:1500] = 30
    assert cuts(lambda t: one if t < 2 else other, 4) == [2.0]


def test_a_caption_or_a_flash_is_no_cut() -> None:
    plain = still(3)
    caption = plain.copy()
    caption[3000:3150] = 250
    white = np.full(4000, 250, np.int16)
    assert cuts(lambda t: caption if 2 < t < 4 else plain, 6) == []
    assert cuts(lambda t: white if 2 < t < 2.06 else plain, 4) == []


def test_movement_is_no_cut() -> None:
    wide = np.tile(np.repeat(still(4)[:400], 20), 2)
    assert cuts(lambda t: wide[int(t * 400) :][:4000], 8) == []


def test_a_slow_dissolve_is_one_cut() -> None:
    one, other = still(5), still(6)

    def look(t: float) -> Trace:
        share = min(1.0, max(0.0, (t - 4) / 1.5))
        return (one * (1 - share) + other * share).astype(np.int16)

    found = cuts(look, 10)
    assert len(found) == 1
    assert 3.9 < found[0] < 5.8


def stretches(at: list[float], end: float) -> list[Stretch]:
    made: list[Stretch] = []
    maker = Stretches()
    for time in np.arange(0, end, 0.25):
        for cut in [cut for cut in at if time - 0.25 < cut <= time]:
            made += maker.cut(cut)
        made += maker.reach(float(time))
    rest = maker.finish(end, made[-1] if made else None)
    if made and rest and rest[0].start == made[-1].start:
        made.pop()
    return made + rest


@pytest.mark.parametrize(
    ("at", "end"),
    [
        ([], 3),
        ([], 11),
        ([], 61),
        ([1, 2, 3], 9),
        ([5, 5.5, 6, 20], 21),
        ([9.9, 19.9], 20.5),
        (list(range(1, 30)), 30),
    ],
)
def test_clips_fill_the_video_and_have_the_right_length(at: list[float], end: float) -> None:
    made = stretches(at, end)
    assert made[0].start == 0
    assert made[-1].end == end
    assert all(one.end == other.start for one, other in pairwise(made))
    assert all(SHORTEST <= stretch.end - stretch.start <= LONGEST for stretch in made)
    assert made[0].cut
    assert all(stretch.start in at for stretch in made[1:] if stretch.cut)


def test_a_long_shot_is_split_and_says_so() -> None:
    made = stretches([20], 24)
    assert [stretch.cut for stretch in made] == [True, False, False, True]
