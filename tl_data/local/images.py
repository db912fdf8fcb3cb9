"""Pictures that come with a request: JPEG or PNG, measured by their headers before anything decodes them."""

from __future__ import annotations

import struct
from pathlib import Path

from tl_data.local.errors import MediaProblem

MAX_PIXELS = 64_000_000
MAX_BYTES = 32 << 20  # of any picture
_SIZES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that carry the size


def check_image(data: bytes, smallest: int, max_bytes: int) -> None:
    """Refuse what the API does not take.

    Raises:
        MediaProblem: not a JPEG or PNG, too small a side, too many bytes or pixels.
    """
    if len(data) > max_bytes:
        raise MediaProblem(
            "parameter_invalid", f"The image has {len(data)} bytes; allowed are {max_bytes >> 20} MB."
        )
    size = _png(data) or _jpeg(data)
    if size is None:
        raise MediaProblem("parameter_invalid", "It is not an image: it must be a JPEG or PNG file.")
    width, height = size
    if min(size) < smallest:
        raise MediaProblem(
            "parameter_invalid", f"The image must be at least {smallest}x{smallest}, but is {width}x{height}."
        )
    if width * height > MAX_PIXELS:
        raise MediaProblem("parameter_invalid", f"The image is too large: {width}x{height}.")


def _png(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\x89PNG\r\n\x1a\n") or data[12:16] != b"IHDR" or len(data) < 24:
        return None
    width, height = struct.unpack(">II", data[16:24])
    return width, height


def _jpeg(data: bytes) -> tuple[int, int] | None:
    if not data.startswith(b"\xff\xd8"):
        return None
    at = 2
    while at + 9 < len(data):
        if data[at] != 0xFF:
            return None
        marker = data[at + 1]
        if marker == 0xFF:
            at += 1
            continue
        if marker in _SIZES:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + struct.unpack(">H", data[at + 2 : at + 4])[0]
    return None


def is_image(path: Path) -> bool:
    """Whether a file is a picture that requests may use."""
    try:
        with path.open("rb") as file:
            check_image(file.read(MAX_BYTES + 1), 1, MAX_BYTES)
    except (MediaProblem, OSError):
        return False
    return True
