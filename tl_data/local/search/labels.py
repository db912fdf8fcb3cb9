"""Scores of recognised objects for the words of a query.

A word that names a concept is explained by the summed probability of all classes below the concept: "animal"
by "dog", "cat" and so on. Less certainly it is explained by the concepts just above it: a "fedora" may be
what the classifier calls a hat. Any word is also explained by classes with names of similar meaning.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.perception.vision import concepts
from tl_data.local.search import broader, word_vectors
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.fuzzy import has_meaning
from tl_data.local.search.parser import Question
from tl_data.local.search.vectors import Floats

# Probabilities of a concept, and the scores of a word that names it. About 6 of 7 hits at 0.2 are right. The
# scores of small probabilities only order what would otherwise not be found.
_PROBABILITIES = (0.0, 0.005, 0.05, 0.2, 0.4, 0.7, 1.0)
_SCORES_OF_PROBABILITIES = (0.0, 0.01, 0.1, 0.3, 0.5, 0.75, 0.95)
_UNRELATED = 0.3  # a class whose name has a smaller cosine does not count as similar
_SIMILAR = 1.2  # factor of the score of a similar class: (cosine - _UNRELATED) * sqrt(probability)
_MAX_SIMILAR = 0.44  # the largest such score: below `medium`, because similarity is only an indication
_NEAREST = 12  # the number of similar classes whose scores are added
#: Weights of the concepts above a word, by the number of steps. Their scores are at most `_MAX_SIMILAR`.
_ABOVE = {1: 0.5, 2: 0.35}
_WORD = 0.5  # weight of one word of a name of several words
_PARENT = 0.3  # weight of the concepts directly above a concept that the query names
_MAX_CLASSES_OF_PARENT = 60  # a parent with more classes says too little
_PERSON = 0.3  # weight of a person for a word that means a kind of people


@dataclass(frozen=True)
class LabelScores:
    """How well the objects of each clip explain each part of the query."""

    scores: Floats  # parts x clips, 0 to 1
    named: frozenset[int]  # numbers of the parts that name a concept; only `scores` explain them by objects


def label_scores(index: ClipIndex, question: Question, count: int) -> LabelScores | None:
    """Score the objects of each clip; None if no object explains any part."""
    if not index.has_labels:
        return None
    part_numbers = [n for n, part in enumerate(question.parts) if len(part.words) == 1 and not part.traits]
    words = [question.parts[number].words[0] for number in part_numbers]
    scores = np.zeros((len(question.parts), count), np.float32)
    named: set[int] = set()
    pieces = concepts.table().pieces(words)
    for positions, named_concepts in pieces:
        values = _concept_scores(index, named_concepts, count)
        if len(positions) > 1:  # "monarch butterfly" is a class; less certainly, it is any butterfly
            for position in positions:
                if one_word := concepts.table().named([words[position]]):
                    values = np.maximum(values, _WORD * _concept_scores(index, one_word, count))
        named.update(part_numbers[position] for position in positions)
        scores[[part_numbers[position] for position in positions]] = values
    free = set(range(len(words))) - {position for positions, _ in pieces for position in positions}
    for positions in broader.phrases(words, free):
        values = _broader_scores(index, [words[position] for position in positions], count)
        for position in positions:
            np.maximum(scores[part_numbers[position]], values, out=scores[part_numbers[position]])
    for position, word in enumerate(words):
        if has_meaning(word):
            row = scores[part_numbers[position]]
            similarity = _similarity_scores(index, word, count)
            if position in free and broader.is_person([word]):
                person = _PERSON * index.trait(TRAIT_NUMBER["person"], count).astype(np.float32) / 255
                similarity = np.minimum(similarity + person, _MAX_SIMILAR)
            np.maximum(row, similarity, out=row)
    return LabelScores(scores, frozenset(named)) if named or scores.any() else None


def _concept_scores(index: ClipIndex, named_concepts: list[concepts.Concept], count: int) -> Floats:
    """The scores of clips for a name: by its concepts, and less by those directly above them."""
    table = concepts.table()
    direct, parents = np.zeros(count, np.float32), np.zeros(count, np.float32)
    for concept in named_concepts:
        np.maximum(direct, index.concept(concept.number, count), out=direct)
        for number in concept.parents:
            if table.concepts[number].leaves <= _MAX_CLASSES_OF_PARENT:
                np.maximum(parents, index.concept(number, count), out=parents)
    return np.asarray(np.maximum(_score(direct), _PARENT * _score(parents)), np.float32)


def _broader_scores(index: ClipIndex, words: list[str], count: int) -> Floats:
    """The scores of clips for a word or phrase that names no concept, by the concepts above it."""
    best = np.zeros(count, np.float32)
    for concept, steps in broader.concepts_above(words):
        np.maximum(best, _ABOVE[steps] * _score(index.concept(concept.number, count)), out=best)
    return np.minimum(best, np.float32(_MAX_SIMILAR))


def _similarity_scores(index: ClipIndex, word: str, count: int) -> Floats:
    """The scores of clips for a word by the similar names of their classes."""
    numbers, table = _class_names()
    cosines = table @ word_vectors.word_vector(word)
    nearest = [row for row in np.argsort(-cosines)[:_NEAREST] if cosines[row] > _UNRELATED]
    similarity = np.zeros(count, np.float32)
    for row in nearest:
        similarity += (cosines[row] - _UNRELATED) * np.sqrt(index.concept(numbers[row], count))
    # The limit is soft, so that it keeps the order.
    return np.asarray(_MAX_SIMILAR * np.tanh(_SIMILAR / _MAX_SIMILAR * similarity), np.float32)


def _score(probabilities: Floats) -> Floats:
    """The scores of a word that names a concept with these probabilities."""
    scores = np.zeros(len(probabilities), np.float32)
    rows = np.flatnonzero(probabilities)  # few clips of a large index show a concept at all
    scores[rows] = np.interp(probabilities[rows], _PROBABILITIES, _SCORES_OF_PROBABILITIES)
    return scores


@cache
def _class_names() -> tuple[list[int], Floats]:
    """The numbers of the concepts that a model recognises, and the vectors of their names."""
    table = concepts.table()
    known = [concept for concept in table.concepts if concept.leaf is not None or concept.things]
    texts = [" ".join(dict.fromkeys((*concept.names[:2], *concept.things))) for concept in known]
    return [concept.number for concept in known], word_vectors.word_vectors(texts)
