"""Searching a single video that need not be in any library: the passages that answer a question."""

from __future__ import annotations

import numpy as np

from tl_data.local import packing, questions, search
from tl_data.local.evidence import Evidence
from tl_data.local.judging import Judge, TextRow
from tl_data.local.query import Hit, Query
from tl_data.local.shelf import Shelf, clip_id
from tl_data.local.words import words_of

_NUMBER = 1  # of the only video


def moments(evidence: Evidence, text: str, options: tuple[str, ...] = ("visual", "audio")) -> list[Hit]:
    """The moments of a video that answer a question in words, best first; see `search.find`."""
    words = [words_of(clip, evidence) for clip in evidence.clips]
    shelf = Shelf()
    shelf.add(packing.pack_of(_NUMBER, evidence, words), "")
    shelf.vocabulary.add(packing.vocabulary_of(words))
    rows: list[TextRow] = []
    for position, (clip, word) in enumerate(zip(evidence.clips, words, strict=True)):
        if row := packing.text_row(evidence, clip, word):
            rows.append((clip_id(_NUMBER, position), row[2], row[3], row[4]))
    judge = Judge(shelf, lambda _: rows, questions.parse(text), options)
    matches = judge.judge(np.arange(shelf.count, dtype=np.int64))
    return search.hits_of(shelf, matches, Query("", text, options=options))
