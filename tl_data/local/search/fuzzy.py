"""Words that are the same, spelled alike, sound alike or mean alike.

Recognisers slip: a speech recogniser writes a word that sounds alike, a text recogniser takes 0 for O or
loses a blank. Short words allow no slip, because "ball" and "call" are both words.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
import snowballstemmer
from numpy.typing import NDArray
from rapidfuzz.distance import OSA

from tl_data.local.search import word_vectors
from tl_data.local.search.vectors import TextRows, Texts

_REMEMBERED = 2_000  # answers that are kept: a search asks for each of its words twice
_COMPARED = 400  # words, for their meaning: of 2,639 near ones of 400 words 2,638 are among them
_MOST_WORDS = 120_000  # in a vocabulary; the rest are rare misreadings
_LOOKALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "8": "b", "6": "b", "2": "z", "j": "l"})
_SOUNDS = str.maketrans(
    {"b": "p", "d": "t", "g": "k", "c": "k", "q": "k", "z": "s", "v": "f", "w": "u", "j": "k", "x": "s"}
)


_english = snowballstemmer.stemmer("english")


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """The word without its ending: "moving", "moved" and "moves" give the same."""
    return str(_english.stemWord(word))


def has_meaning(word: str) -> bool:
    """Whether a word can stand for another: a number or a letter is near its kind and means none of it."""
    return len(word) > 2 and word.isalpha()


def resemblance(asked: str, found: str) -> float:
    """How surely `found` is `asked` with a slip of a recogniser in it: 0..0.9; 1.0 for the same."""
    if asked == found:
        return 1.0
    if looks(asked) == looks(found):
        return 0.9
    size = min(len(asked), len(found))
    if size >= 5 and asked.isalpha() and found.isalpha():
        allowed = 1 if size < 8 else 2
        if (
            abs(len(asked) - len(found)) <= allowed
            and (slips := OSA.distance(asked, found, score_cutoff=allowed)) <= allowed
        ):
            return 0.85 - 0.1 * slips
        if sounds(asked) == sounds(found):
            return 0.65
    if len(asked) >= 5 and asked in found:
        return 0.75 if len(asked) * 2 >= len(found) or found.startswith(asked) else 0.6
    return 0.0


@lru_cache(maxsize=200_000)
def looks(word: str) -> str:
    """A form that is equal for words that look alike on a screen."""
    return word.replace("rn", "m").replace("vv", "w").translate(_LOOKALIKE)


@lru_cache(maxsize=200_000)
def sounds(word: str) -> str:
    """A form that is equal for words that sound alike: first sound and the consonants after it."""
    word = word.replace("ph", "f").replace("ck", "k").replace("gh", "g").replace("th", "t").replace("sh", "s")
    first = "a" if word[0] in "aeiou" else word[0].translate(_SOUNDS)
    rest = re.sub(r"(.)\1+", r"\1", re.sub("[aeiouyhw]", "", word[1:].translate(_SOUNDS)))
    return first + rest if len(rest) >= 2 else word  # too little is left to compare


class Vocabulary:
    """The distinct words of an index, found by spelling, sound or meaning."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._known: set[str] = set()
        self._bits: NDArray[np.uint64] = np.zeros(1024, np.uint64)
        self._by_sound: dict[str, list[str]] = {}
        self._meanings = TextRows()
        self._alike: dict[str, tuple[int, dict[str, float]]] = {}  # answers, with the words known by then

    def add(self, words: list[str]) -> None:
        """Take in words; those known already change nothing."""
        for word in words:
            if word in self._known or len(word) < 3 or len(self._words) >= _MOST_WORDS:
                continue
            at = len(self._words)
            if at == len(self._bits):
                self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)])
            self._bits[at] = _pairs(word)
            self._known.add(word)
            if len(word) >= 5 and word.isalpha():
                self._by_sound.setdefault(sounds(word), []).append(word)
            self._words.append(word)

    def alike(self, word: str) -> dict[str, float]:
        """Words that may be `word` misread or misheard, with how surely; at most 8, not the word itself."""
        count = len(self._words)
        if not count or len(word) < 3:
            return {}
        if (known := self._alike.get(word)) and known[0] == count:
            return known[1]
        if len(self._alike) >= _REMEMBERED:
            self._alike.clear()
        found = self._look_up(word, count)
        self._alike[word] = (count, found)
        return found

    def _look_up(self, word: str, count: int) -> dict[str, float]:
        bits = _pairs(word)
        shared = np.bitwise_count(self._bits[:count] & bits)
        # Each slip breaks up to three pairs of letters; two slips are allowed in long words only.
        pairs = int(bits).bit_count()
        near = np.flatnonzero(shared >= max(pairs - 6, (pairs + 1) // 2))
        near = near[np.argsort(-shared[near].astype(np.int16), kind="stable")[:150]]
        tries = {self._words[i] for i in near} | set(self._by_sound.get(sounds(word), ()))
        found = {other: sure for other in tries if other != word and (sure := resemblance(word, other))}
        return dict(sorted(found.items(), key=lambda item: (-item[1], item[0]))[:8])

    def meaning(self, word: str, least: float = 0.5, most: int = 6) -> list[str]:
        """Words of like meaning, nearest first."""
        count = len(self._words)
        if (known := self._meanings.count) < count:
            fresh = self._words[known:count]
            vectors = word_vectors.word_vectors(fresh).astype(np.float16)
            self._meanings.add(known, Texts(np.arange(len(fresh), dtype=np.int32), vectors))
        vector = word_vectors.word_vector(word)
        if not count or not vector.any() or not has_meaning(word):
            return []
        rows, cosines = self._meanings.nearest(vector, most + 2, np.ones(count, bool), _COMPARED)
        return [
            self._words[row]
            for row, cosine in zip(rows, cosines, strict=True)
            if cosine >= least and self._words[row] != word
        ][:most]


def _pairs(word: str) -> np.uint64:
    """The pairs of neighbouring letters as a set of bits."""
    bits = 0
    for a, b in zip(f" {word}", word, strict=False):
        bits |= 1 << ((ord(a) * 31 + ord(b) * 7) % 64)
    return np.uint64(bits)
