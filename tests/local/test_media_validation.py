"""Pictures are judged by their headers: kind, size, and whether decoding them would take too much."""

from __future__ import annotations

import struct
import time
import zlib

import cv2
import numpy as np
import pytest

from tests.support.pictures import many_passes
from tl_data.local.errors import MediaError
from tl_data.local.media_validation import check_image


def picture(kind: str, width: int, height: int) -> bytes:
    return bytes(cv2.imencode(kind, np.zeros((height, width, 3), np.uint8))[1])


def header(width: int, height: int) -> bytes:
    """A PNG that ends after its header."""
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 9) + b"IDAT"


@pytest.mark.parametrize("kind", [".jpg", ".png"])
def test_jpeg_and_png_of_an_allowed_size_are_taken(kind: str) -> None:
    check_image(picture(kind, 64, 200), 64, 1 << 20)
    with pytest.raises(MediaError, match="63x200"):
        check_image(picture(kind, 63, 200), 64, 1 << 20)
    with pytest.raises(MediaError, match="0 MB"):
        check_image(picture(kind, 640, 480), 64, 100)


@pytest.mark.parametrize(
    "data",
    [b"", b"GIF89a" + bytes(100), b"\xff\xd8\xff", picture(".jpg", 64, 64)[:20], picture(".png", 64, 64)[:20],
     picture(".png", 64, 64).replace(b"IHDR", b"IHDX"), picture(".webp", 64, 64)],
    ids=["nothing", "gif", "start", "cut jpeg", "cut png", "damaged", "webp"],
)  # fmt: skip
def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(MediaError, match="JPEG or PNG"):
        check_image(data, 1, 1 << 20)


@pytest.mark.parametrize("side", [7_100, 9_500, 20_000, 60_000])
def test_a_picture_that_is_large_only_once_decoded_is_refused(side: int) -> None:
    """Whether this package or Pillow judges it."""
    with pytest.raises(MediaError, match="too large"):
        check_image(header(side, side), 1, 1 << 20)


def test_a_jpeg_of_many_passes_is_refused() -> None:
    check_image(many_passes(640, 400), 1, 1 << 24)
    with pytest.raises(MediaError, match="500 passes"):
        check_image(many_passes(640, 600), 1, 1 << 24)


def test_a_header_of_many_parts_is_refused_soon() -> None:
    began = time.process_time()
    with pytest.raises(MediaError, match="JPEG or PNG"):
        check_image(b"\xff\xd8" + b"\xff\xe5\x00\x02" * 2_000_000, 1, 1 << 24)
    with pytest.raises(MediaError, match="JPEG or PNG"):
        check_image(
            header(64, 64)[:33] + (bytes(4) + b"abCd" + struct.pack(">I", zlib.crc32(b"abCd"))) * 500_000,
            1,
            1 << 24,
        )
    assert time.process_time() - began < 1.5  # 5 s if all parts are read
