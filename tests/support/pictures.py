"""Pictures that are small files and take long to read."""

from __future__ import annotations

import struct


def _segment(marker: int, body: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body


def many_passes(side: int, passes: int) -> bytes:
    """A gray progressive JPEG. Each pass has about 75 bytes and walks over all pixels once."""
    blocks = (-(-side // 8)) ** 2
    runs = [min(32767, max(16384, blocks - start)) for start in range(0, blocks, 32767)]
    bits = "".join("0" + format(run - 16384, "014b") for run in runs)  # codes of "the next blocks are empty"
    bits += "1" * (-len(bits) % 8)
    empty = int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")
    one_code = bytes([1]) + bytes(15)
    return b"".join(
        (
            b"\xff\xd8",
            _segment(0xDB, b"\0" + bytes([16] * 64)),
            _segment(0xC2, struct.pack(">BHHB", 8, side, side, 1) + b"\x01\x11\0"),
            _segment(0xC4, b"\0" + one_code + b"\0"),
            _segment(0xC4, b"\x10" + one_code + b"\xe0"),
            _segment(0xDA, b"\x01\x01\0\0\0\0") + bytes(-(-blocks // 8)),
            _segment(0xDA, b"\x01\x01\0\x01\x3f\x01") + empty,
            (_segment(0xDA, b"\x01\x01\0\x01\x3f\x10") + empty) * passes,
            b"\xff\xd9",
        )
    )
