"""Compares words by spelling, look, sound and meaning.

Recognisers make errors: a speech recogniser writes a word that sounds similar, and a text recogniser confuses
0 with O or drops a space. No error is tolerated in short words, because "ball" and "call" are both words.
"""

from __future__ import annotations

import re
import threading
from functools import lru_cache

import numpy as np
import snowballstemmer
from numpy.typing import NDArray
from rapidfuzz.distance import OSA

from tl_data.local.search import word_vectors
from tl_data.local.search.vectors import TextRows, Texts

#: Cached results of `Vocabulary.similar_spellings`: a search looks up each of its words twice.
_MOST_CACHED = 2_000
#: Vocabulary words that are compared exactly with a query word for their meaning. For 400 query words, these
#: contained 2,638 of the 2,639 words of similar meaning.
_COMPARED = 400
_MOST_WORDS = 120_000  # the largest vocabulary; further words are mostly rare misreadings
#: Character -> the character that stands for all that look like it on a screen.
_LOOKALIKE = str.maketrans({"0": "o", "1": "l", "i": "l", "5": "s", "8": "b", "6": "b", "2": "z", "j": "l"})
#: Consonant -> the consonant that stands for all that sound like it.
_SOUNDS = str.maketrans(
    {"b": "p", "d": "t", "g": "k", "c": "k", "q": "k", "z": "s", "v": "f", "w": "u", "j": "k", "x": "s"}
)


_stemmer = snowballstemmer.stemmer("english")
_STEMMING = threading.Lock()  # a stemmer keeps its word in itself, and searches run in threads


@lru_cache(maxsize=200_000)
def stem(word: str) -> str:
    """The word without its ending: "moving", "moved" and "moves" have the same stem."""
    with _STEMMING:
        return str(_stemmer.stemWord(word))


def has_meaning(word: str) -> bool:
    """Whether the meaning of a word can be compared.

    The vectors of numbers and of single letters are similar to one another without a similar meaning.
    """
    return len(word) > 2 and word.isalpha()


def resemblance(query_word: str, found: str) -> float:
    """The probability that `found` is `query_word` with recognition errors: 0 to 0.9, or 1.0 if equal."""
    if query_word == found:
        return 1.0
    if visual_key(query_word) == visual_key(found):
        return 0.9
    shorter_length = min(len(query_word), len(found))
    if shorter_length >= 5 and query_word.isalpha() and found.isalpha():
        allowed = 1 if shorter_length < 8 else 2
        if (
            abs(len(query_word) - len(found)) <= allowed
            and (errors := OSA.distance(query_word, found, score_cutoff=allowed)) <= allowed
        ):
            return 0.85 - 0.1 * errors
        if sound_key(query_word) == sound_key(found):
            return 0.65
    if len(query_word) >= 5 and query_word in found:
        return 0.75 if len(query_word) * 2 >= len(found) or found.startswith(query_word) else 0.6
    return 0.0


@lru_cache(maxsize=200_000)
def visual_key(word: str) -> str:
    """A key that is equal for words that look alike on a screen."""
    return word.replace("rn", "m").replace("vv", "w").translate(_LOOKALIKE)


@lru_cache(maxsize=200_000)
def sound_key(word: str) -> str:
    """A key that is equal for words that sound alike: the first sound and the consonants after it."""
    word = word.replace("ph", "f").replace("ck", "k").replace("gh", "g").replace("th", "t").replace("sh", "s")
    first = "a" if word[0] in "aeiou" else word[0].translate(_SOUNDS)
    rest = re.sub(r"(.)\1+", r"\1", re.sub("[aeiouyhw]", "", word[1:].translate(_SOUNDS)))
    return first + rest if len(rest) >= 2 else word  # too few consonants to compare


class Vocabulary:
    """The distinct words of an index. They can be searched by spelling, sound and meaning."""

    def __init__(self) -> None:
        self._words: list[str] = []
        self._known: set[str] = set()
        self._bits: NDArray[np.uint64] = np.zeros(1024, np.uint64)  # `_pair_bits` of each word
        self._by_sound: dict[str, list[str]] = {}  # `sound_key` -> words
        self._meanings = TextRows()
        # Word -> the size of the vocabulary when the word was looked up, and the result.
        self._similar_words: dict[str, tuple[int, dict[str, float]]] = {}

    def add(self, words: list[str]) -> None:
        """Add words. Words that the vocabulary contains already are ignored."""
        for word in words:
            if word in self._known or len(word) < 3 or len(self._words) >= _MOST_WORDS:
                continue
            position = len(self._words)
            if position == len(self._bits):
                self._bits = np.concatenate([self._bits, np.zeros_like(self._bits)])
            self._bits[position] = _pair_bits(word)
            self._known.add(word)
            if len(word) >= 5 and word.isalpha():
                self._by_sound.setdefault(sound_key(word), []).append(word)
            self._words.append(word)

    def similar_spellings(self, word: str) -> dict[str, float]:
        """Words that may be a misreading or mishearing of `word`, with their probabilities.

        At most 8 words are returned, without the word itself.
        """
        count = len(self._words)
        if not count or len(word) < 3:
            return {}
        if (cached := self._similar_words.get(word)) and cached[0] == count:
            return cached[1]
        if len(self._similar_words) >= _MOST_CACHED:
            self._similar_words.clear()
        similar_words = self._look_up(word, count)
        self._similar_words[word] = (count, similar_words)
        return similar_words

    def _look_up(self, word: str, count: int) -> dict[str, float]:
        bits = _pair_bits(word)
        shared = np.bitwise_count(self._bits[:count] & bits)
        # Each error changes up to three pairs of letters; two errors are allowed in long words only.
        pairs = int(bits).bit_count()
        near = np.flatnonzero(shared >= max(pairs - 6, (pairs + 1) // 2))
        near = near[np.argsort(-shared[near].astype(np.int16), kind="stable")[:150]]
        candidates = {self._words[i] for i in near} | set(self._by_sound.get(sound_key(word), ()))
        similar_words = {
            other: probability
            for other in candidates
            if other != word and (probability := resemblance(word, other))
        }
        return dict(sorted(similar_words.items(), key=lambda item: (-item[1], item[0]))[:8])

    def similar_meanings(self, word: str, minimum: float = 0.5, limit: int = 6) -> list[str]:
        """The words of similar meaning, most similar first.

        Args:
            minimum: the smallest cosine.
            limit: the largest number of words.
        """
        count = len(self._words)
        if (known_count := self._meanings.count) < count:
            new_words = self._words[known_count:count]
            vectors = word_vectors.word_vectors(new_words).astype(np.float16)
            self._meanings.add(known_count, Texts(np.arange(len(new_words), dtype=np.int32), vectors))
        vector = word_vectors.word_vector(word)
        if not count or not vector.any() or not has_meaning(word):
            return []
        rows, cosines = self._meanings.nearest(vector, limit + 2, np.ones(count, bool), _COMPARED)
        return [
            self._words[row]
            for row, cosine in zip(rows, cosines, strict=True)
            if cosine >= minimum and self._words[row] != word
        ][:limit]


def _pair_bits(word: str) -> np.uint64:
    """The pairs of adjacent letters of a word, hashed into 64 bits."""
    bits = 0
    for a, b in zip(f" {word}", word, strict=False):
        bits |= 1 << ((ord(a) * 31 + ord(b) * 7) % 64)
    return np.uint64(bits)
