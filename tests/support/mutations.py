"""Damaged copies of media files, made from a seed: `mutated(seed, files)` gives a name and the bytes."""

from __future__ import annotations

import random
import re
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

from tests.support import media

#: Small files of many containers; mutations of each reach the parser of its format.
BASES: tuple[Callable[[Path], Path], ...] = (
    media.no_audio,
    media.index_at_end,
    media.fragmented,
    media.matroska,
    media.webm,
    media.quicktime,
    media.avi,
    media.transport_stream,
    media.rotated,
)
BOXES = (
    b"moov mvhd trak tkhd mdia mdhd hdlr stbl stsd stts stsc stsz stco ctts elst avc1 avcC esds moof trun "
    b"mdat hvcC Segment"
).split()
NUMBERS = (0, 1, 0x7F, 0xFF, 0xFFFF, 0x10000, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)


def bases(folder: Path) -> list[Path]:
    """The undamaged files, made in a folder."""
    folder.mkdir(exist_ok=True)
    return [make(folder) for make in BASES]


def unknown_codec(path: Path) -> bytes:
    """An MP4 whose pictures are in a codec that nobody knows."""
    return path.read_bytes().replace(b"avc1", b"brxq")


def mutated(seed: int, files: Sequence[Path]) -> tuple[str, bytes]:
    """A damaged copy of one of the files; the same seed gives the same bytes."""
    dice = random.Random(seed)
    base = dice.choice(files)
    data = bytearray(base.read_bytes())
    kind, change = dice.choice(list(CHANGES.items()))
    change(dice, data)
    return f"{seed:05d}-{kind}-{base.stem}{base.suffix}", bytes(data)


def _bytes(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice((1, 10, 100, 500))):
        data[dice.randrange(len(data))] = dice.randrange(256)


def _header(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice((1, 3, 10, 40))):
        data[dice.randrange(min(len(data), 2048))] = dice.randrange(256)


def _box(dice: random.Random, data: bytearray) -> None:
    found = [match.start() for box in BOXES for match in re.finditer(re.escape(box), bytes(data))]
    for _ in range(dice.choice((1, 2, 4))):
        at = dice.choice(found) if found else dice.randrange(4, len(data) - 64)
        at += dice.choice((-4, 0, 4 + 4 * dice.randrange(8)))
        if 0 <= at <= len(data) - 4:
            struct.pack_into(">I", data, at, dice.choice(NUMBERS))


def _number(dice: random.Random, data: bytearray) -> None:
    for _ in range(dice.choice((1, 3, 8))):
        at = dice.randrange(min(len(data) - 4, dice.choice((512, 8192, len(data) - 4))))
        struct.pack_into(dice.choice((">I", "<I")), data, at, dice.choice(NUMBERS))


def _cut(dice: random.Random, data: bytearray) -> None:
    del data[dice.randrange(1, len(data)) :]


def _hole(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data))
    del data[at : at + dice.randrange(1, 20_000)]


def _zeros(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data))
    size = min(len(data) - at, dice.randrange(1, 20_000))
    data[at : at + size] = bytes(size)


def _twice(dice: random.Random, data: bytearray) -> None:
    at = dice.randrange(len(data))
    data[at:at] = data[at : at + dice.randrange(1, 20_000)] * dice.choice((1, 3, 20))


def _fourcc(dice: random.Random, data: bytearray) -> None:
    for code in (b"avc1", b"H264", b"h264", b"mp4a", b"V_MPEG4/ISO/AVC", b"V_VP9", b"V_VP8"):
        if code in data:
            new = bytes(dice.choice(b"abcdXYZ09_") for _ in range(4))
            data[:] = data.replace(code, new.ljust(len(code), b"_"))


CHANGES: dict[str, Callable[[random.Random, bytearray], None]] = {
    "bytes": _bytes,
    "header": _header,
    "box": _box,
    "number": _number,
    "cut": _cut,
    "hole": _hole,
    "zeros": _zeros,
    "twice": _twice,
    "fourcc": _fourcc,
}
