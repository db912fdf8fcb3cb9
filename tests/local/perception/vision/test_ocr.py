"""On-screen text is read correctly, with the time it was there, at the cost of few searches."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageDraw, ImageFont

from tl_data.local.perception.decode import SMALL
from tl_data.local.perception.evidence import Span
from tl_data.local.perception.vision import ocr

Picture = npt.NDArray[np.uint8]


class Frame:
    """A drawn picture in the place of a decoded one."""

    def __init__(self, time: float, drawn: Picture) -> None:
        self.time, self._drawn = time, Image.fromarray(drawn)

    def picture(self, side: int) -> Picture:
        scale = min(1.0, side / max(self._drawn.size))
        size = round(self._drawn.width * scale), round(self._drawn.height * scale)
        return np.asarray(self._drawn.resize(size, Image.Resampling.BOX))


def write(picture: Picture, lines: list[tuple[str, int, int, int]], color: tuple[int, int, int]) -> Picture:
    """(text, left, top, letter height) in pixels of a 1280 x 720 picture."""
    image = Image.fromarray(picture)
    pen = ImageDraw.Draw(image)
    for text, left, top, size in lines:
        pen.text((left, top), text, fill=color, font=ImageFont.load_default(size))
    return np.asarray(image)


def blank(shade: int = 250) -> Picture:
    return np.full((720, 1280, 3), shade, np.uint8)


def read(draw: Callable[[float], Picture], seconds: float, cuts: tuple[float, ...] = ()) -> tuple[Span, ...]:
    reader = ocr.Reader()
    for time in np.arange(0, seconds, 0.25):
        frame = Frame(float(time), draw(float(time)))
        cut = next((cut for cut in cuts if time - 0.25 < cut <= time), None)
        reader.add(frame, frame.picture(SMALL), cut)  # type: ignore[arg-type]
    return reader.finish(seconds)


def test_a_slide_is_read_line_by_line() -> None:
    lines = [
        ("Quarterly results 2026", 80, 60, 64),
        ("Revenue grew 12% to $4.2 million", 80, 200, 40),
        ("Next step: hire 3 engineers", 80, 280, 40),
        ("Contact: sales@example.com", 80, 640, 26),
    ]
    slide = write(blank(), lines, (20, 30, 60))
    shown = read(lambda time: slide, 3)
    assert [span.text for span in shown] == [text for text, *_ in lines]
    assert all((span.start_sec, span.end_sec) == (0, 3) for span in shown)
    assert all(span.confidence > 0.9 for span in shown)


def test_small_text_of_a_full_slide() -> None:
    words = [
        "Project plan for the new harbor bridge",
        "Deliver all steel parts by March",
        "Paint work starts in May",
    ]
    lines = [(words[n % 3], 60 if n < 12 else 680, 40 + 54 * (n % 12), 24) for n in range(24)]
    shown = read(lambda time: write(blank(20), lines, (230, 230, 230)), 1)
    texts = [span.text for span in shown]
    assert sum(text in words for text in texts) >= 3
    assert {text for text in texts if text in words} == set(words)


def test_a_caption_comes_and_goes() -> None:
    noise = np.random.default_rng(2).integers(60, 120, (720, 1280, 3), dtype=np.uint8)
    with_caption = write(noise, [("Anna Berg, chief engineer", 300, 610, 44)], (255, 255, 255))
    shown = read(lambda time: with_caption if 3 <= time < 7 else noise, 10)
    assert [span.text for span in shown] == ["Anna Berg, chief engineer"]
    assert shown[0].start_sec == pytest.approx(3, abs=0.3)
    assert shown[0].end_sec == pytest.approx(7, abs=0.3)


@pytest.mark.parametrize("away", [0.25, 3.0])
def test_text_that_comes_back_is_read_again(away: float) -> None:
    caption = write(blank(), [("Gate closes at noon", 200, 300, 60)], (0, 0, 0))
    shown = read(lambda time: blank(255) if 4 <= time < 4 + away else caption, 10)
    assert {span.text for span in shown} == {"Gate closes at noon"}
    assert (shown[0].start_sec, shown[-1].end_sec) == (0, 10)
    assert len(shown) == (1 if away < 1 else 2)  # a flash does not part what is shown
    if away > 1:
        assert shown[0].end_sec == pytest.approx(4, abs=0.3)
        assert shown[1].start_sec == pytest.approx(7, abs=0.3)


def test_text_of_a_shot_has_its_times() -> None:
    one, other = (
        write(blank(), [(text, 100, 300, 60)], (0, 0, 0)) for text in ("Chapter one", "The long road")
    )
    shown = read(lambda time: one if time < 4.1 else other, 8, cuts=(4.1,))
    assert [(span.text, span.start_sec, span.end_sec) for span in shown] == [
        ("Chapter one", 0, 4.1),
        ("The long road", 4.1, 8),
    ]


def test_text_on_a_moving_picture_is_one_span() -> None:
    wide = np.random.default_rng(4).integers(0, 256, (72, 256, 3), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(wide).resize((2560, 720), Image.Resampling.BICUBIC))

    def draw(time: float) -> Picture:
        picture = ground[:, int(time * 100) :][:, :1280].copy()
        picture[600:] = 25
        return write(picture, [("Breaking news: bridge opens", 200, 630, 52)], (255, 255, 255))

    shown = read(draw, 8)
    assert [span.text for span in shown] == ["Breaking news: bridge opens"]
    assert shown[0].start_sec < 1
    assert shown[0].end_sec == 8


def test_pictures_without_text_are_not_searched() -> None:
    rng = np.random.default_rng(6)
    soft = np.asarray(Image.fromarray(rng.integers(0, 256, (9, 16, 3), dtype=np.uint8)).resize((1280, 720)))
    assert read(lambda time: np.roll(soft, int(time * 40), axis=1), 3) == ()
    assert not ocr._texty(np.asarray(Image.fromarray(soft).convert("L").resize((480, 270)))).any()


def test_the_models_are_those_of_the_wheel() -> None:
    import rapidocr

    folder = Path(rapidocr.__file__).parent / "models"
    assert {path.name for path in folder.glob("PP-OCR*.onnx")} >= {
        "PP-OCRv6_det_small.onnx",
        "PP-OCRv6_rec_small.onnx",
    }


def pairs() -> Iterator[tuple[str, str, bool]]:
    yield "For four people", "for four people", True
    yield "For four people", "For four peop1e", True
    yield "Team A", "Team B", False
    yield "Emergency exit on the left", "Emergency exlt on the left", True
    yield "Page 1", "Page 2", False


@pytest.mark.parametrize(("one", "other", "same"), list(pairs()))
def test_which_readings_are_the_same_line(one: str, other: str, same: bool) -> None:
    assert ocr._close_words(one, other) == same
