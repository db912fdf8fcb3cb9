"""Colours have the names people use; motion, direction and camera are measured from moving pictures."""

from __future__ import annotations

import colorsys
import itertools
from collections.abc import Callable, Iterator, Sequence

import cv2
import numpy as np
import numpy.typing as npt
import pytest

from tl_data.local.perception.audio import sound, speech
from tl_data.local.perception.vision import colors, descriptors, motion

Picture = npt.NDArray[np.uint8]


@pytest.mark.parametrize(
    ("code", "name"),
    [
        ("ff0000", "red"), ("cc2222", "red"), ("800000", "dark red"), ("ff9020", "orange"),
        ("ffee00", "yellow"), ("00aa00", "green"), ("003c10", "dark green"), ("90ee90", "light green"),
        ("6e9a32", "green"), ("0030ff", "blue"), ("0a1450", "dark blue"), ("87ceeb", "light blue"),
        ("30d0c8", "turquoise"), ("7020a0", "purple"), ("ff50c8", "pink"), ("7a4a20", "brown"),
        ("f0dcbe", "beige"), ("050505", "black"), ("404040", "dark gray"), ("808488", "gray"),
        ("c8c8c8", "light gray"), ("fafafa", "white"),
    ],
)  # fmt: skip
def test_a_color_has_the_name_people_use(code: str, name: str) -> None:
    picture = np.full((32, 32, 3), list(bytes.fromhex(code)), np.uint8)
    named, _ = colors.summary([colors.tones(picture)])
    assert named == ((name, 1.0),)


@pytest.mark.parametrize(
    ("name", "hues"),
    [
        ("red", range(-8, 7)), ("orange", range(26, 37)), ("yellow", range(52, 63)),
        ("green", range(95, 146)), ("blue", range(215, 247)), ("purple", range(272, 283)),
    ],
)  # fmt: skip
def test_strong_colors_are_named_by_their_hue(name: str, hues: range) -> None:
    """600 samples: the hues that everybody calls by one name, as strong and bright as a flag or a shirt."""
    values = (0.8, 0.9, 1.0) if name in ("orange", "yellow") else (0.55, 0.65, 0.75, 0.85, 1.0)
    for hue, saturation, value in itertools.product(hues[::3], (0.75, 0.85, 1.0), values):
        rgb = [round(255 * part) for part in colorsys.hsv_to_rgb(hue % 360 / 360, saturation, value)]
        picture = np.full((8, 8, 3), rgb, np.uint8)
        [(named, _)], _ = colors.summary([colors.tones(picture)])
        assert named.split()[-1] == name, rgb


def test_shares_and_places_of_colors() -> None:
    picture = np.full((270, 480, 3), (250, 250, 250), np.uint8)
    picture[:, 360:] = (20, 40, 200)
    cv2.circle(picture, (60, 135), 30, (220, 20, 20), -1)
    named, regions = colors.summary([colors.tones(picture)])
    shares = dict(named)
    assert shares["blue"] == pytest.approx(0.25, abs=0.01)
    assert shares["red"] == pytest.approx(np.pi * 900 / (270 * 480), rel=0.1)
    assert named[0][0] == "white"
    assert ("right", "blue") in regions
    assert ("left", "red") in regions
    assert ("right", "red") not in regions


def scene(seed: int = 5) -> Picture:
    """A textured picture, larger than what is seen of it."""
    noise = np.random.default_rng(seed).integers(0, 256, (60, 100, 3), dtype=np.uint8)
    large = cv2.resize(noise, (1000, 600), interpolation=cv2.INTER_CUBIC)
    return np.asarray(cv2.GaussianBlur(large, (0, 0), 3))


def watch(draw: Callable[[float], Picture], seconds: float = 3) -> tuple[float, str | None, str]:
    flow = motion.Motion()
    steps = [flow.add(time, draw(time)) for time in np.arange(0, seconds, 0.25)]
    return motion.summary([step for step in steps if step is not None])


def ball(plain: bool, way: Sequence[float], by: float = 0.15) -> Callable[[float], Picture]:
    """A disc that moves by so many picture widths a second."""

    def draw(time: float) -> Picture:
        picture = np.full((270, 480, 3), 90, np.uint8) if plain else scene()[:270, :480].copy()
        at = 240 + way[0] * by * 480 * (time - 1.5), 135 + way[1] * by * 300 * (time - 1.5)
        cv2.circle(picture, (round(at[0]), round(at[1])), 36, (220, 30, 30), -1)
        cv2.circle(picture, (round(at[0]), round(at[1])), 18, (240, 220, 30), -1)
        return picture

    return draw


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "textured"])
@pytest.mark.parametrize(
    ("way", "name"),
    [((1, 0), "right"), ((-1, 0), "left"), ((0, 1), "down"), ((0, -1), "up")],
    ids=str,
)
def test_direction_of_a_moving_thing(way: tuple[int, int], name: str, plain: bool) -> None:
    amount, direction, camera = watch(ball(plain, way))
    assert direction == name
    assert camera == "static"
    assert 0.001 < amount < 0.1


def test_motion_is_found_without_luma_contrast() -> None:
    pink, orange = (245, 115, 175), (250, 135, 20)
    back, front = (int(cv2.cvtColor(np.uint8([[c]]), cv2.COLOR_RGB2GRAY)[0, 0]) for c in (orange, pink))
    assert abs(back - front) < 8  # to brightness alone it is hardly there

    def draw(time: float) -> Picture:
        picture = np.full((270, 480, 3), orange, np.uint8)
        cv2.circle(picture, (round(240 - 70 * (time - 1.5)), 150), 40, pink, -1)
        return encoded_anew(picture, 80, (480, 270))

    amount, direction, camera = watch(draw)
    assert (direction, camera) == ("left", "static")
    assert amount > 0.001


def test_nothing_moves() -> None:
    assert watch(lambda time: scene()[:270, :480]) == (0.0, None, "static")


@pytest.mark.parametrize(
    ("move", "name"),
    [
        (lambda t: (1.0, 200 + 60 * t, 150), "pan right"),
        (lambda t: (1.0, 400 - 60 * t, 150), "pan left"),
        (lambda t: (1.0, 250, 100 + 50 * t), "tilt down"),
        (lambda t: (1.0, 250, 250 - 50 * t), "tilt up"),
        (lambda t: (1.5 - 0.15 * t, 250, 150), "zoom in"),
        (lambda t: (1.0 + 0.15 * t, 250, 150), "zoom out"),
        (lambda t: (1.0, 250 + 12 * (-1) ** int(4 * t), 150), "shaky"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_camera(move: Callable[[float], tuple[float, float, float]], name: str) -> None:
    def draw(time: float) -> Picture:
        scale, left, top = move(time)
        width, height = 480 * scale, 270 * scale
        matrix = np.array([[scale, 0, left + 240 - width / 2], [0, scale, top + 135 - height / 2]])
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return np.asarray(
            cv2.warpAffine(scene(), matrix, (480, 270), flags=flags, borderMode=cv2.BORDER_REFLECT)
        )

    amount, direction, camera = watch(draw)
    assert camera == name
    assert direction is None
    assert amount > 0.02


def encoded_anew(picture: Picture, quality: int, size: tuple[int, int]) -> Picture:
    small = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    data = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR))


def test_a_look_survives_encoding_and_tells_pictures_apart() -> None:
    pictures = [scene(seed)[:540, :960] for seed in range(8)]
    looks = [np.array(descriptors.describe_image(picture)) for picture in pictures]
    assert len({len(one) for one in looks}) == 1
    for picture, one in zip(pictures, looks, strict=True):
        again = np.array(descriptors.describe_image(encoded_anew(picture, 40, (640, 360))))
        assert float(one @ again) > 0.99
        assert np.linalg.norm(one) == pytest.approx(1, abs=1e-3)
        others = [float(one @ other) for other in looks if other is not one]
        assert max(others) < 0.9


def test_kinds_of_sound() -> None:
    rate, rng = 16_000, np.random.default_rng(0)
    clock = np.arange(rate) / rate
    chord = sum(np.sin(2 * np.pi * pitch * clock) for pitch in (262, 330, 392)) * 3000
    waves = {"music": chord, "noise": rng.normal(0, 3000, rate), "silence": rng.normal(0, 3, rate)}
    for kind, wave in waves.items():
        table = _measured(iter([np.tile(wave.astype(np.int16), 4)]))
        assert sound.summary(table, 0, 4, 0.0)[0] == kind
    table = np.stack([sound.measure(chord.astype(np.int16), 0.0, 0.9)] * 4)
    kind, loud, _ = sound.summary(table, 0, 4, 0.6)  # words were recognised
    assert kind == "speech"
    assert loud == pytest.approx(20 * np.log10(chord.std() / 32768), abs=0.2)
    again = np.stack([sound.measure((chord * 0.97 + rng.normal(0, 20, rate)).astype(np.int16), 0.0)] * 4)
    one, other = (np.array(descriptors.describe_sound(part[:, 3:])) for part in (table, again))
    assert float(one @ other) > 0.9
    unknown = np.stack([sound.measure(chord.astype(np.int16), 0.0, sound.UNKNOWN)] * 4)
    assert sound.summary(unknown, 0, 4, 0.0)[0] == ""  # nobody told music from noise


def test_tunes_are_music_and_coloured_noise_is_none() -> None:
    rate, rng = 16_000, np.random.default_rng(3)
    clock = np.arange(rate // 2) / rate
    fade = np.exp(-3 * clock)
    notes = (262, 330, 392, 523, 392, 330, 294, 349)
    tune = np.concatenate(
        [sum(np.sin(2 * np.pi * pitch * part * clock) / part for part in (1, 2, 3)) * fade for pitch in notes]
    )
    white = rng.normal(0, 1, 4 * rate)
    brown = np.cumsum(white)
    waves = {
        "music": (tune, tune + 0.05 * white),
        "noise": (white, brown - brown.mean(), np.convolve(white, np.hanning(64), "same")),
    }
    for kind, some in waves.items():
        for number, wave in enumerate(some):
            table = _measured(iter([(wave / np.abs(wave).max() * 9000).astype(np.int16)]))
            assert sound.summary(table, 0, 4, 0.0)[0] == kind, number


def test_how_sure_a_colour_is() -> None:
    plain = [
        colors.tones(np.full((180, 320, 3), shade, np.uint8)) for shade in ((220, 20, 20), (30, 80, 220))
    ]
    assert colors.confidence(plain) > 0.95
    between = np.full((180, 320, 3), (200, 90, 60), np.uint8)  # neither quite red, nor orange, nor brown
    assert colors.confidence([colors.tones(between)]) < 0.5
    assert colors.confidence([plain[0], colors.tones(between)]) == pytest.approx(0.5, abs=0.25)


def test_how_sure_motion_is() -> None:
    def sure(draw: Callable[[float], Picture]) -> tuple[float | None, float | None, float | None]:
        flow = motion.Motion()
        steps = [flow.add(time, draw(time)) for time in np.arange(0, 3, 0.25)]
        return motion.confidences([step for step in steps if step is not None])

    straight = sure(ball(True, (1, 0)))
    assert min(number for number in straight if number is not None) > 0.9
    still = sure(lambda time: scene()[:270, :480])
    assert still == (1.0, None, 1.0)
    # It turns upwards in the middle: most of the way is still to the right.
    bent = sure(lambda time: ball(True, (1, 0))(time) if time < 2 else ball(True, (1, -2))(time))
    assert bent[1] is None or bent[1] < (straight[1] or 0)

    def pans(time: float) -> Picture:  # for two thirds of the time
        left = 200 + round(60 * min(time, 2.0))
        return np.ascontiguousarray(scene()[150:420, left : left + 480])

    assert 0.5 < (sure(pans)[2] or 0) < 0.8
    assert motion.confidences([]) == (None, None, None)


def test_how_sure_a_sound_is() -> None:
    rate, rng = 16_000, np.random.default_rng(0)
    chord = np.sin(2 * np.pi * 330 * np.arange(rate) / rate) * 3000
    music, noise, silence = (
        sound.measure(wave.astype(np.int16), 0.0, plays)
        for wave, plays in ((chord, 0.9), (rng.normal(0, 3000, rate), 0.0), (rng.normal(0, 3, rate), 0.0))
    )
    assert sound.confidence(np.stack([music] * 4), 0, 4, "music", 0.0) == 1.0
    assert sound.confidence(np.stack([music, music, music, noise]), 0, 4, "music", 0.0) == 0.75
    assert sound.confidence(np.stack([silence, silence, silence, noise]), 0, 4, "noise", 0.0) == 0.25
    voice = sound.measure(chord.astype(np.int16), 0.9, 0.9)
    assert sound.confidence(np.stack([voice, music]), 0, 2, "speech", 0.2) == 0.5
    assert sound.confidence(np.stack([voice, music]), 0, 2, "music", 0.0) == 0.75
    assert sound.confidence(np.zeros((0, sound.COLUMNS), np.float32), 0, 2, "silence", 0.0) is None


def _measured(blocks: Iterator[npt.NDArray[np.int16]]) -> npt.NDArray[np.float32]:
    """The measurements of sound, a row per second, without a transcription."""
    no_recogniser = speech.NoRecogniser()
    return np.stack(
        [
            speech._measure_second(second, probabilities, no_recogniser, True)
            for second, probabilities in speech._seconds(blocks, has_network=True)
        ]
    )
