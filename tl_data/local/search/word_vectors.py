"""Static word embeddings (WordLlama, 16 MB of weights in its wheel), and the weights of words."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

WORD_DIMENSION = 256

Vector = NDArray[np.float32]


class _Encoder:
    """The word embeddings, loaded at first use."""

    def __init__(self) -> None:
        import wordllama

        # The loader reads the weights from its package, but the tokenizer from a cache folder, and downloads
        # it if it is missing. The package folder contains the tokenizer and so serves as the cache.
        home = Path(wordllama.__file__).parent
        model = wordllama.WordLlama.load(cache_dir=home, dim=WORD_DIMENSION, disable_download=True)
        self.table: Vector = np.asarray(model.embedding, np.float32)
        self.tokenizer: Any = model.tokenizer

    def sums(self, texts: Sequence[str]) -> Vector:
        """The sum of the token vectors of each text; zeros for a text without tokens."""
        out = np.zeros((len(texts), WORD_DIMENSION), np.float32)
        lowered = [text.lower() for text in texts]  # the table has separate, worse rows for capital letters
        for row, encoded in enumerate(self.tokenizer.encode_batch(lowered, add_special_tokens=False)):
            # The tokenizer may pad; padding is ignored.
            ids = [i for i, kept in zip(encoded.ids, encoded.attention_mask, strict=True) if kept]
            if ids:
                out[row] = self.table[ids].sum(axis=0)
        return out


_lock = threading.Lock()
_loaded: list[_Encoder] = []


def _encoder() -> _Encoder:
    if not _loaded:
        with _lock:
            if not _loaded:
                _loaded.append(_Encoder())
    return _loaded[0]


def word_vectors(texts: Sequence[str]) -> Vector:
    """The word embeddings of texts as unit vectors (n x 256); zeros for an empty text."""
    return unit(_encoder().sums(texts))


_MOST_SUMS = 100_000
_sums: dict[str, Vector] = {}


def word_sums(words: Sequence[str]) -> Vector:
    """The vectors (n x 256) of single words, not normalised, from a cache.

    The normalised sum over the words of a text is the vector of the text.
    """
    # Another thread may clear the cache, so this call keeps its own references.
    vectors = {word: _sums.get(word) for word in words}
    if new_words := [word for word, vector in vectors.items() if vector is None]:
        if len(_sums) > _MOST_SUMS:
            _sums.clear()
        new_vectors = dict(zip(new_words, _encoder().sums(new_words), strict=True))
        _sums.update(new_vectors)
        vectors |= new_vectors
    if not vectors:
        return np.zeros((0, WORD_DIMENSION), np.float32)
    return np.array([vectors[word] for word in words], np.float32)


def word_vector(word: str) -> Vector:
    """The unit vector of a single word."""
    return np.asarray(unit(word_sums([word]))[0], np.float32)


@lru_cache(maxsize=100_000)
def word_weight(word: str) -> float:
    """The weight of a word: about 0.1 for "the", 1 for "car", at most 1.5.

    The embeddings were trained with mean pooling, so frequent words have short vectors. The norm is
    used instead of an inverse document frequency and needs no corpus.
    """
    length = float(np.linalg.norm(word_sums([word])[0]))
    return min(1.5, max(0.1, length / 13.0))


def unit(vectors: Vector) -> Vector:
    """Normalise rows to norm 1. Rows of zeros stay zeros."""
    lengths = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(np.divide(vectors, lengths, out=np.zeros_like(vectors), where=lengths > 0), np.float32)
