"""Cuts are found, flashes and movement are not taken for cuts, and clips are 2 to 10 seconds long."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest

from tl_data.local.perception.vision.shots import (
    LONGEST,
    SHORTEST,
    ClipDivider,
    ClipSpan,
    ShotBoundaryDetector,
)

Trace = npt.NDArray[np.int16]


def still(seed: int) -> Trace:
    return np.random.default_rng(seed).integers(20, 230, 4000).astype(np.int16)


def cuts(look: Callable[[float], Trace], seconds: float, fps: float = 25) -> list[float]:
    rng, finder, found = np.random.default_rng(0), ShotBoundaryDetector(), []
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


def tint_cuts(look: Callable[[float], tuple[int, int]]) -> list[float]:
    """Cuts of flat pictures of one brightness, whose colour is `look(time)` in Cb and Cr."""
    rng, finder, found = np.random.default_rng(0), ShotBoundaryDetector(), []
    for number in range(150):
        tint = np.repeat(np.array(look(number / 25)), 240) + rng.integers(-2, 3, 480)
        trace = np.concatenate((170 + rng.integers(-2, 3, 3600), tint)).astype(np.int16)
        cut = finder.add(number / 25, trace, trace[3600:])
        if cut is not None:
            found.append(cut)
    return found


def test_a_change_of_hue_alone_is_a_cut() -> None:
    orange, pink = (50, 180), (130, 182)
    assert tint_cuts(lambda t: orange if t < 3 else pink) == [3.0]
    assert tint_cuts(lambda t: pink if 3 < t < 3.1 else orange) == []  # a flash
    assert tint_cuts(lambda t: orange if t < 3 else (58, 174)) == []  # the light grows colder
    assert tint_cuts(lambda t: (round(50 + 13 * t), 180)) == []


def test_a_tilt_that_comes_to_rest_is_no_cut() -> None:
    rows = np.random.default_rng(4).normal(0, 1, 900).cumsum()
    wide = np.repeat(20 + 210 * (rows - rows.min()) / np.ptp(rows), 40)

    def look(t: float) -> Trace:  # 6 seconds of movement, the last two ever slower
        moved = min(max(0.0, t - 2), 6.0)
        slow = max(0.0, moved - 4)
        at = 1600 * min(moved, 4) + 1600 * slow - 400 * slow**2
        return wide[round(at) :][:4000].astype(np.int16)

    assert cuts(look, 10) == []

    def dissolves(t: float) -> Trace:  # while it still moves
        share = min(1.0, max(0.0, (t - 7) / 1.5))
        return (look(min(t, 7.0)) * (1 - share) + still(8) * share).astype(np.int16)

    assert len(cuts(dissolves, 10)) == 1


def spans(at: list[float], end: float) -> list[ClipSpan]:
    made: list[ClipSpan] = []
    maker = ClipDivider()
    for time in np.arange(0, end, 0.25):
        for cut in [cut for cut in at if time - 0.25 < cut <= time]:
            made += maker.end_shot(cut)
        made += maker.split_long(float(time))
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
    made = spans(at, end)
    assert made[0].start == 0
    assert made[-1].end == end
    assert all(one.end == other.start for one, other in pairwise(made))
    assert all(SHORTEST <= span.end - span.start <= LONGEST for span in made)
    assert made[0].at_boundary
    assert all(span.start in at for span in made[1:] if span.at_boundary)


def test_a_long_shot_is_split_without_a_cut() -> None:
    made = spans([20], 24)
    assert [span.at_boundary for span in made] == [True, False, False, True]
