"""Evidence and columns as bytes, and back: compressed JSON for what must be readable in years, raw arrays
for what can be made anew."""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence

import numpy as np

from tl_data.local.columns import Texts
from tl_data.local.evidence import Evidence, Span, from_json, to_json
from tl_data.local.shelf import Pack


def pack(evidence: Evidence) -> bytes:
    """Evidence as compressed JSON."""
    return zlib.compress(to_json(evidence), 6)


def unpack(blob: bytes) -> Evidence:
    """The inverse of `pack`."""
    return from_json(zlib.decompress(blob))


def spans(shown: Sequence[Span], said: Sequence[Span]) -> str:
    """The spans of one clip as JSON: [[kind, start, end, text], ...]."""
    found = [("shown", span) for span in shown] + [("said", span) for span in said]
    return json.dumps(
        [[kind, round(span.start_sec, 3), round(span.end_sec, 3), span.text.strip()] for kind, span in found],
        ensure_ascii=False,
    )


_PARTS = ("times", "traits", "looks", "shown_rows", "shown_vectors", "said_rows", "said_vectors")


def pack_columns(columns: Pack) -> bytes:
    """The columns of a video, one array after the other, compressed: traits are mostly zero."""
    out = io.BytesIO()
    arrays = (
        columns.times, columns.traits, columns.looks.astype(np.float16),
        columns.shown.rows, columns.shown.vectors, columns.said.rows, columns.said.vectors,
    )  # fmt: skip
    for array in arrays:
        np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return zlib.compress(out.getvalue(), 1)


def unpack_columns(number: int, blob: bytes) -> Pack:
    """The inverse of `pack_columns`."""
    source = io.BytesIO(zlib.decompress(blob))
    arrays = [np.lib.format.read_array(source, allow_pickle=False) for _ in _PARTS]
    times, traits, looks, shown_rows, shown_vectors, said_rows, said_vectors = arrays
    return Pack(
        number,
        times,
        traits,
        Texts(shown_rows, shown_vectors),
        Texts(said_rows, said_vectors),
        looks.astype(np.float32),
    )
