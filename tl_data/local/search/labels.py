"""Scores of recognised objects for the words of a query.

A word that names a concept is explained by the summed probability of all classes below the concept: "animal"
by "dog", "cat" and so on. Any other word is explained by classes with names of similar meaning.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tl_data.local.perception.vision import concepts
from tl_data.local.search import word_vectors
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.fuzzy import has_meaning
from tl_data.local.search.parser import Question
from tl_data.local.search.vectors import Floats

# Probabilities of a concept, and the scores of a word that names it. About 6 of 7 hits at 0.2 are right.
_FROM, _TO = (0.0, 0.05, 0.2, 0.4, 0.7, 1.0), (0.0, 0.0, 0.3, 0.5, 0.75, 0.95)
_UNRELATED = 0.3  # the largest cosine of unrelated words
_SIMILAR = 1.2  # factor of the score of a similar class: (cosine - _UNRELATED) * sqrt(probability)
_SIMILAR_MOST = 0.44  # the largest such score: below `medium`, because similarity is only an indication
_NEAREST = 12  # the number of similar classes whose scores are added


def label_scores(index: ClipIndex, question: Question, count: int) -> Floats | None:
    """How well the objects of each clip explain each part of the query: parts x clips, 0 to 1.

    The result is None if no object explains any part.
    """
    if not index.has_labels:
        return None
    part_numbers = [n for n, part in enumerate(question.parts) if len(part.words) == 1 and not part.traits]
    words = [question.parts[number].words[0] for number in part_numbers]
    scores = np.zeros((len(question.parts), count), np.float32)
    any_found = False
    for places, named_concepts in concepts.table().pieces(words):
        best = np.zeros(count, np.float32)
        for concept in named_concepts:
            np.maximum(best, index.concept(concept.number, count), out=best)
        if best.any():
            scores[[part_numbers[place] for place in places]] = np.interp(best, _FROM, _TO)
            any_found = True
    for place, word in enumerate(words):
        if not has_meaning(word):
            continue
        numbers, table = _class_names()
        cosines = table @ word_vectors.word_vector(word)
        nearest = [row for row in np.argsort(-cosines)[:_NEAREST] if cosines[row] > _UNRELATED]
        similarity = np.zeros(count, np.float32)
        for row in nearest:
            similarity += (cosines[row] - _UNRELATED) * np.sqrt(index.concept(numbers[row], count))
        if similarity.any():
            scores[part_numbers[place]] = np.maximum(
                scores[part_numbers[place]], np.minimum(_SIMILAR * similarity, _SIMILAR_MOST)
            )
            any_found = True
    return scores if any_found else None


@cache
def _class_names() -> tuple[list[int], Floats]:
    """The numbers of the concepts that a model recognises, and the vectors of their names."""
    table = concepts.table()
    known = [concept for concept in table.concepts if concept.leaf is not None or concept.things]
    texts = [" ".join(dict.fromkeys((*concept.names[:2], *concept.things))) for concept in known]
    return [concept.number for concept in known], word_vectors.word_vectors(texts)
