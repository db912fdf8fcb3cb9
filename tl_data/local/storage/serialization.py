"""What the library keeps of a video: its evidence, the columns that are searched, the words by clip.

Evidence is compressed JSON, which must be readable in years; columns are raw arrays, which can be made anew.
"""

from __future__ import annotations

import io
import json
import zlib
from collections.abc import Sequence

import numpy as np

from tl_data.local.perception.attributes import TRAIT_NUMBER, TRAITS, Words, said_between, shown_between
from tl_data.local.perception.evidence import Clip, Evidence, Span, from_json, to_json
from tl_data.local.search import word_vectors
from tl_data.local.search.clip_index import Pack
from tl_data.local.search.parser import tokens
from tl_data.local.search.transcript import times_of
from tl_data.local.search.vectors import Floats, Texts


def pack(evidence: Evidence) -> bytes:
    """Evidence as compressed JSON."""
    return zlib.compress(to_json(evidence), 3)  # 6 takes three times as long for a tenth less


def unpack(blob: bytes) -> Evidence:
    """The inverse of `pack`."""
    return from_json(zlib.decompress(blob))


def text_row(evidence: Evidence, clip: Clip, words: Words) -> tuple[str, str, str, str, str] | None:
    """The texts of a clip for the full-text table: shown, said, maybe, named, and the spans as JSON.

    The spans are [[kind, start, end, text, times], ...]; times are start and end of each word one after the
    other, and missing where they are not known. None for a clip without any text.
    """
    if not (words.shown or words.said or words.maybe or words.named):
        return None
    shown = shown_between(evidence, clip.start_sec, clip.end_sec)
    said = said_between(evidence, clip.start_sec, clip.end_sec)
    spans = [
        [kind, round(span.start_sec, 3), round(span.end_sec, 3), span.text.strip(), *_times(span)]
        for kind, some in (("shown", shown), ("said", said))
        for span in some
    ]
    return words.shown, words.said, words.maybe, words.named, json.dumps(spans, ensure_ascii=False)


def _times(span: Span) -> list[list[float]]:
    times = [second for word in times_of(span) for second in word]
    return [times] if times else []


_PARTS = ("times", "traits", "looks", "sights", "shown_rows", "shown_vectors", "said_rows", "said_vectors")


def pack_columns(columns: Pack) -> bytes:
    """The columns of a video, one array after the other, compressed: traits are mostly zero."""
    out = io.BytesIO()
    arrays = (
        columns.times, columns.traits, columns.looks.astype(np.float16), columns.sights.astype(np.float16),
        columns.shown.rows, columns.shown.vectors, columns.said.rows, columns.said.vectors,
    )  # fmt: skip
    for array in arrays:
        np.lib.format.write_array(out, np.ascontiguousarray(array), allow_pickle=False)
    return zlib.compress(out.getvalue(), 1)


def unpack_columns(number: int, blob: bytes) -> Pack:
    """The inverse of `pack_columns`."""
    source = io.BytesIO(zlib.decompress(blob))
    arrays = [np.lib.format.read_array(source, allow_pickle=False) for _ in _PARTS]
    times, traits, looks, sights, shown_rows, shown_vectors, said_rows, said_vectors = arrays
    return Pack(
        number,
        times,
        traits,
        Texts(shown_rows, shown_vectors),
        Texts(said_rows, said_vectors),
        looks.astype(np.float32),
        sights.astype(np.float32),
    )


def pack_of(number: int, evidence: Evidence, words: Sequence[Words], sight: str = "") -> Pack:
    """The columns of a video; what another encoder than `sight` saw is left out."""
    clips = evidence.clips
    times = np.array([(c.start_sec, c.end_sec) for c in clips], np.float32).reshape(-1, 2)
    traits = np.zeros((len(clips), len(TRAITS)), np.uint8)
    for row, word in enumerate(words):
        for trait, strength in word.traits:
            traits[row, TRAIT_NUMBER[trait]] = round(255 * strength)
    return Pack(
        number,
        times,
        traits,
        _texts([w.shown for w in words]),
        _texts([w.said for w in words]),
        _rows([clip.look for clip in clips]),
        _rows([clip.sight if evidence.sight == sight else () for clip in clips]),
    )


def _rows(vectors: Sequence[Sequence[float]]) -> Floats:
    """Vectors as rows; zeros for one that is shorter than the others."""
    size = max((len(vector) for vector in vectors), default=0)
    rows = np.zeros((len(vectors), size), np.float32)
    for row, vector in zip(rows, vectors, strict=True):
        if len(vector) == size:
            row[:] = vector
    return rows


def _texts(texts: Sequence[str]) -> Texts:
    rows = [row for row, text in enumerate(texts) if text]
    if not rows:
        return Texts(np.zeros(0, np.int32), np.zeros((0, word_vectors.WORD_DIMENSION), np.float16))
    vectors = word_vectors.word_vectors([texts[row] for row in rows]).astype(np.float16)
    return Texts(np.array(rows, np.int32), vectors)


def vocabulary_of(words: Sequence[Words]) -> list[str]:
    """The distinct words shown and spoken in a video."""
    texts = " ".join(text for word in words for text in (word.shown, word.said, word.maybe, word.named))
    return sorted(set(tokens(texts)))
