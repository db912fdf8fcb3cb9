"""Counting of tokens: a word, a number or a punctuation mark is one; a long word is several."""

from __future__ import annotations

import re
from itertools import pairwise

_PIECE = re.compile(r"\w{1,8}|[^\w\s]")


def count(text: str) -> int:
    """The number of tokens of a text."""
    return sum(1 for _ in _PIECE.finditer(text))


def first(text: str, limit: int) -> str:
    """The first `limit` tokens of a text."""
    for number, piece in enumerate(_PIECE.finditer(text), 1):
        if number > limit:
            return text[: piece.start()].rstrip()
    return text


def last(text: str, limit: int) -> str:
    """The last `limit` tokens of a text."""
    starts = [piece.start() for piece in _PIECE.finditer(text)]
    return text[starts[-limit] :] if len(starts) > limit else text


def fragments(text: str, size: int = 4) -> list[str]:
    """The text split after every `size` tokens, as a stream sends it."""
    starts = [piece.start() for piece in _PIECE.finditer(text)][::size]
    edges = [0, *starts[1:], len(text)]
    return [text[a:b] for a, b in pairwise(edges) if b > a]
