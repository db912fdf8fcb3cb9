"""Serializes what the engine stores of a video: its evidence, and the columns that searches scan.

Evidence is compressed JSON, which later versions must be able to read. Columns are compressed NumPy arrays,
which can be rebuilt from the evidence.
"""

from __future__ import annotations

import io
import zlib

import numpy as np

from tl_data.local.perception.evidence import MAX_JSON_BYTES, Evidence, from_json, to_json
from tl_data.local.search.clip_index import ClipColumns
from tl_data.local.search.vectors import Texts


def pack(evidence: Evidence) -> bytes:
    """Evidence as compressed JSON."""
    return zlib.compress(to_json(evidence), 3)  # level 6 takes three times as long and saves 10 %


def unpack(blob: bytes) -> Evidence:
    """The inverse of `pack`.

    Raises:
        ValueError: `blob` is damaged or truncated, has more than `MAX_JSON_BYTES` when decompressed, or is
            not the JSON of evidence.
    """
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(blob, MAX_JSON_BYTES)
    except zlib.error as error:
        raise ValueError(str(error)) from error
    if not reader.eof:
        raise ValueError(f"the evidence is truncated, or longer than {MAX_JSON_BYTES >> 20} MB")
    return from_json(data)


#: Number of arrays that `pack_columns` writes.
ARRAYS = 9


def pack_columns(columns: ClipColumns) -> bytes:
    """The columns of a video as a compressed sequence of arrays in the NPY format.

    Descriptors and encoder vectors are stored as float16, and the number of the video is not stored.
    Compression pays, because most traits are zero.
    """
    out = io.BytesIO()
    arrays = (
        columns.times, columns.traits, columns.descriptors.astype(np.float16),
        columns.encoder_vectors.astype(np.float16),
        columns.shown.rows, columns.shown.vectors, columns.said.rows, columns.said.vectors,
        columns.concepts,
    )  # fmt: skip
    for array in arrays:
        np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return zlib.compress(out.getvalue(), 1)


def unpack_columns(number: int, blob: bytes) -> ClipColumns:
    """The columns that `pack_columns` stored. Descriptors and encoder vectors have the precision of float16.

    Args:
        number: the number of the video; see `clip_id`.
        blob: a result of `pack_columns`.

    Raises:
        zlib.error: `blob` is damaged.
        ValueError: an array is truncated or not an array.
    """
    source = io.BytesIO(zlib.decompress(blob))
    arrays = [np.lib.format.read_array(source, allow_pickle=False) for _ in range(ARRAYS)]
    (
        times,
        traits,
        descriptors,
        encoder_vectors,
        shown_rows,
        shown_vectors,
        said_rows,
        said_vectors,
        concepts,
    ) = arrays
    return ClipColumns(
        number,
        times,
        traits,
        Texts(shown_rows, shown_vectors),
        Texts(said_rows, said_vectors),
        descriptors.astype(np.float32),
        encoder_vectors.astype(np.float32),
        concepts,
    )
