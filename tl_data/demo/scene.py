"""Describes a scene of a generated video, and draws its frames."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Picture = npt.NDArray[np.uint8]
Color = tuple[int, int, int]

COLORS: dict[str, Color] = {
    "red": (220, 30, 35),
    "orange": (250, 135, 20),
    "yellow": (250, 215, 40),
    "green": (40, 160, 65),
    "blue": (35, 95, 215),
    "purple": (125, 55, 175),
    "pink": (245, 115, 175),
    "brown": (130, 80, 45),
    "white": (248, 248, 248),
    "grey": (140, 145, 150),
    "black": (22, 24, 28),
    "navy": (20, 35, 75),
    "sky": (120, 185, 240),
    "sand": (232, 214, 180),
}

Shape = Literal["circle", "square", "triangle", "star", "rain", "snow", "bars"]
Backdrop = Literal["plain", "field", "shelves", "city", "tiles", "hills"]
Camera = Literal["static", "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out"]


@dataclass(frozen=True)
class Scene:
    """One shot: its picture, on-screen text, sound and duration.

    Colours are names of `COLORS` or (red, green, blue). Positions are fractions of the picture, 0 to 1,
    from its top left corner; `size` is the diameter of the shape as a fraction of its shorter side.
    """

    seconds: float
    caption: str = ""  # the large text; lines are broken to fit
    small: str = ""  # a smaller line below it
    speech: str = ""  # spoken from half a second after the scene's start
    background: str | Color = "navy"
    backdrop: Backdrop = "plain"
    shape: Shape | None = None
    color: str | Color = "red"
    size: float = 0.24
    #: The shape moves along these points, with equal time per segment.
    path: tuple[tuple[float, float], ...] = ((0.5, 0.62),)
    camera: Camera = "static"
    #: Distance of a pan or tilt from the middle to each side, or change of a zoom: a fraction of the picture.
    camera_amount: float = 0.18
    tone: float = 0.0  # Hz of a soft chord under the scene; 0 for none


def painter(scene: Scene, width: int, height: int) -> Callable[[float], Picture]:
    """A function that draws the scene at `progress`, 0 to 1, as a height x width x 3 RGB picture.

    The backdrop and the text are drawn once. The backdrop has a margin for camera movement; the text does not
    move.
    """
    backdrop = _backdrop(scene, width, height)
    band = _text(scene, width, height)

    def draw(progress: float) -> Picture:
        frame = _camera(backdrop, scene, progress, width, height)
        if scene.shape:
            _draw_shape(frame, scene, progress)
        frame[: len(band)] = band
        return frame

    return draw


def _rgb(color: str | Color) -> Color:
    return COLORS[color] if isinstance(color, str) else color


def _shade(color: Color, factor: float) -> Color:
    """Scale the brightness: a factor below 1 is darker."""
    red, green, blue = (max(0, min(255, round(c * factor))) for c in color)
    return red, green, blue


def _backdrop(scene: Scene, width: int, height: int) -> Picture:
    """The background with a margin on each side. It has details, so that camera movement is visible."""
    margin = scene.camera_amount if scene.camera != "static" else 0.0
    w, h = round(width * (1 + 2 * margin)), round(height * (1 + 2 * margin))
    base = _rgb(scene.background)
    ramp = np.linspace(1.06, 0.9, h)[:, None, None]
    picture = np.clip(np.array(base)[None, None] * ramp, 0, 255).astype(np.uint8)
    picture = np.ascontiguousarray(np.broadcast_to(picture, (h, w, 3)))
    unit = height // 12
    _BACKDROPS[scene.backdrop](picture, base, unit)
    return picture


def _plain(picture: Picture, base: Color, unit: int) -> None:
    """Faint diagonal lines, which make camera movement visible."""
    h, w = picture.shape[:2]
    for x in range(-h, w, 3 * unit):
        cv2.line(picture, (x, h), (x + h, 0), _shade(base, 1.1), max(2, unit // 4), cv2.LINE_AA)


def _field(picture: Picture, base: Color, unit: int) -> None:
    """Mown stripes and white lines."""
    h, w = picture.shape[:2]
    for i, x in enumerate(range(0, w, 2 * unit)):
        if i % 2:
            cv2.rectangle(picture, (x, 0), (x + 2 * unit, h), _shade(base, 0.88), -1)
    white, line = (235, 240, 235), max(2, unit // 10)
    cv2.rectangle(picture, (unit, unit), (w - unit, h - unit), white, line, cv2.LINE_AA)
    cv2.line(picture, (w // 2, unit), (w // 2, h - unit), white, line)
    cv2.circle(picture, (w // 2, h // 2), 2 * unit, white, line, cv2.LINE_AA)


def _shelves(picture: Picture, base: Color, unit: int) -> None:
    """Racks with boxes of changing widths."""
    h, w = picture.shape[:2]
    random = np.random.default_rng(7)
    for y in range(3 * unit, h + 3 * unit, 3 * unit):
        x = unit // 2
        while x < w:
            wide, tall = (int(n) for n in random.integers((unit, unit), (2 * unit, 2 * unit + 1)))
            box = _shade(base, float(random.uniform(0.72, 0.95)))
            cv2.rectangle(picture, (x, y - tall), (x + wide, y), box, -1)
            cv2.rectangle(picture, (x, y - tall), (x + wide, y), _shade(box, 0.75), max(1, unit // 24))
            x += wide + unit // 4
        cv2.rectangle(picture, (0, y), (w, y + unit // 6), _shade(base, 0.45), -1)


def _city(picture: Picture, base: Color, unit: int) -> None:
    """Houses with lit windows along the lower edge."""
    h, w = picture.shape[:2]
    random = np.random.default_rng(3)
    x = 0
    while x < w:
        wide, tall = (int(n) for n in random.integers((2 * unit, 3 * unit), (3 * unit, 6 * unit)))
        cv2.rectangle(picture, (x, h - tall), (x + wide, h), _shade(base, 0.6), -1)
        for wx in range(x + unit // 3, x + wide - unit // 2, unit):
            for wy in range(h - tall + unit // 3, h, unit):
                cv2.rectangle(picture, (wx, wy), (wx + unit // 3, wy + unit // 2), _shade(base, 1.5), -1)
        x += wide


def _tiles(picture: Picture, base: Color, unit: int) -> None:
    """A grid of lines."""
    h, w = picture.shape[:2]
    for x in range(0, w, 2 * unit):
        cv2.line(picture, (x, 0), (x, h), _shade(base, 0.85), max(1, unit // 20))
    for y in range(0, h, 2 * unit):
        cv2.line(picture, (0, y), (w, y), _shade(base, 0.85), max(1, unit // 20))


def _hills(picture: Picture, base: Color, unit: int) -> None:
    """A horizon of rolling hills in the lower third."""
    h, w = picture.shape[:2]
    xs = np.arange(0, w + 1, 4)
    for level, (shade, length) in enumerate(((0.75, 5.0), (0.6, 3.4))):
        top = h * (0.72 + 0.12 * level) + unit * 0.8 * np.sin(xs / (unit * length) + level)
        ridge = np.column_stack([xs, top]).astype(np.int32)
        cv2.fillPoly(picture, [np.vstack([ridge, [[w, h], [0, h]]]).astype(np.int32)], _shade(base, shade))


_BACKDROPS: dict[str, Callable[[Picture, Color, int], None]] = {
    "plain": _plain, "field": _field, "shelves": _shelves, "city": _city, "tiles": _tiles, "hills": _hills,
}  # fmt: skip


def _camera(backdrop: Picture, scene: Scene, progress: float, width: int, height: int) -> Picture:
    """The part of the backdrop that the camera sees."""
    if scene.camera == "static":
        return backdrop.copy()
    h, w = backdrop.shape[:2]
    kind, _, direction = scene.camera.partition(" ")
    offset = 2 * progress - 1  # -1 to 1
    scale, x, y = 1.0, 0.0, 0.0
    if kind == "zoom":
        wide, narrow = 1 + 2 * scene.camera_amount, 1 / (1 + scene.camera_amount)
        zoom_progress = progress if direction == "in" else 1 - progress
        scale = wide * (narrow / wide) ** zoom_progress
    elif kind == "pan":
        x = offset * (1 if direction == "right" else -1) * width * scene.camera_amount
    else:
        y = offset * (1 if direction == "down" else -1) * height * scene.camera_amount
    left, top = w / 2 + x - width * scale / 2, h / 2 + y - height * scale / 2
    matrix = np.array([[scale, 0, left], [0, scale, top]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    view: Any = cv2.warpAffine(
        backdrop, matrix, (width, height), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(view, np.uint8)


def _position(path: tuple[tuple[float, float], ...], progress: float) -> tuple[float, float]:
    """The position on the path at `progress`, 0 to 1."""
    if len(path) == 1:
        return path[0]
    point = min(progress, 0.9999) * (len(path) - 1)
    (x0, y0), (x1, y1) = path[int(point)], path[int(point) + 1]
    return x0 + (x1 - x0) * (point % 1), y0 + (y1 - y0) * (point % 1)


def _draw_shape(frame: Picture, scene: Scene, progress: float) -> None:
    h, w = frame.shape[:2]
    fx, fy = _position(scene.path, progress)
    x, y, radius = fx * w, fy * h, scene.size * min(w, h) / 2
    color = _rgb(scene.color)
    if scene.shape == "circle":
        cv2.circle(frame, (round(x), round(y)), round(radius), _shade(color, 0.8), -1, cv2.LINE_AA)
        cv2.circle(frame, (round(x), round(y)), round(radius * 0.93), color, -1, cv2.LINE_AA)
    elif scene.shape in ("rain", "snow"):
        _draw_drops(frame, scene.shape, color, progress * scene.seconds)
    elif scene.shape == "bars":
        for i in range(5):
            tall = radius * 2 * (0.3 + 0.17 * i) * min(1.0, 0.2 + 2 * progress)
            left, bottom = x + (i - 2.5) * radius * 0.62, y + radius
            corner = (round(left + radius * 0.45), round(bottom))
            cv2.rectangle(frame, (round(left), round(bottom - tall)), corner, color, -1)
    else:
        corners = {"square": 4, "triangle": 3, "star": 10}[scene.shape or "square"]
        start_angle = math.pi / 4 if scene.shape == "square" else -math.pi / 2
        angles = [start_angle + 2 * math.pi * i / corners for i in range(corners)]
        radii = [radius * (0.45 if scene.shape == "star" and i % 2 else 1.15) for i in range(corners)]
        points = [(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(angles, radii, strict=True)]
        cv2.fillPoly(frame, [np.array(points, np.int32)], color, cv2.LINE_AA)


def _draw_drops(frame: Picture, what: str, color: Color, seconds: float) -> None:
    """Draw falling rain or snow."""
    h, w = frame.shape[:2]
    random = np.random.default_rng(11)
    speed = 0.9 if what == "rain" else 0.25  # picture heights a second
    for x, y in random.random((70, 2)):
        px, py = round(float(x) * w), round(((float(y) + seconds * speed) % 1) * h)
        if what == "rain":
            cv2.line(frame, (px, py), (px - h // 120, py + h // 20), color, max(2, h // 240), cv2.LINE_AA)
        else:
            cv2.circle(frame, (px, py), h // 110, color, -1, cv2.LINE_AA)


@lru_cache(maxsize=32)
def _font(size: int) -> Any:
    return ImageFont.load_default(size)


def _text(scene: Scene, width: int, height: int) -> Picture:
    """The caption on its band, as wide as the frame; an array of 0 rows if the scene has no text."""
    if not (scene.caption or scene.small):
        return np.zeros((0, width, 3), np.uint8)
    unit = min(width, height)
    big, little = _font(unit // 11), _font(unit // 18)
    lines = [(line, big) for line in _wrapped(scene.caption, big, width * 0.88)]
    lines += [(line, little) for line in _wrapped(scene.small, little, width * 0.88)]
    pad, tall = unit // 20, round(sum(font.size * 1.22 for _, font in lines))
    band = Image.new("RGB", (width, tall + 2 * pad), _shade(_rgb(scene.background), 0.35))
    pen, y = ImageDraw.Draw(band), float(pad)
    for line, font in lines:
        pen.text((width / 2, y), line, font=font, fill=(255, 255, 255), anchor="ma")
        y += font.size * 1.22
    return np.asarray(band, np.uint8)


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        if lines and font.getlength(f"{lines[-1]} {word}") <= width:
            lines[-1] += f" {word}"
        else:
            lines.append(word)
    return lines
