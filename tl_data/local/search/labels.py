"""How well recognised things explain the words of a question: by what they are kinds of, else by meaning.

"animal" is explained by the summed probability of all classes below it; a word that names no concept by the
classes whose names mean something alike.
"""

from __future__ import annotations

from functools import cache

import numpy as np

from tl_data.local.perception.vision import concepts
from tl_data.local.search import word_vectors
from tl_data.local.search.clip_index import Shelf
from tl_data.local.search.fuzzy import has_meaning
from tl_data.local.search.parser import Question
from tl_data.local.search.vectors import Floats

# Probability of a concept -> how well it explains the word. A hit at 0.2 is right about six times of seven.
_FROM, _TO = (0.0, 0.05, 0.2, 0.4, 0.7, 1.0), (0.0, 0.0, 0.3, 0.5, 0.75, 0.95)
_STRANGER = 0.3  # cosine of two words up to which they have nothing in common
_ALIKE = (
    1.2  # what a class of like meaning explains, times the cosine above that and the root of its probability
)
_ALIKE_MOST = 0.44  # below `medium`: it is a guess
_NEAREST = 12  # classes of like meaning that are added up


def label_credits(shelf: Shelf, question: Question, count: int) -> Floats | None:
    """For each part of the question (rows) and each clip, how well recognised things explain it, 0..1.

    None if no part can be explained so.
    """
    if not shelf.has_labels:
        return None
    opened = [n for n, part in enumerate(question.parts) if len(part.words) == 1 and not part.traits]
    words = [question.parts[number].words[0] for number in opened]
    found = np.zeros((len(question.parts), count), np.float32)
    any_found = False
    for places, meant in concepts.table().pieces(words):
        best = np.zeros(count, np.float32)
        for concept in meant:
            np.maximum(best, shelf.concept(concept.number, count), out=best)
        if best.any():
            found[[opened[place] for place in places]] = np.interp(best, _FROM, _TO)
            any_found = True
    for place, word in enumerate(words):
        if not has_meaning(word):
            continue
        numbers, table = _names()
        cosines = table @ word_vectors.word_vector(word)
        near = [at for at in np.argsort(-cosines)[:_NEAREST] if cosines[at] > _STRANGER]
        alike = np.zeros(count, np.float32)
        for at in near:
            alike += (cosines[at] - _STRANGER) * np.sqrt(shelf.concept(numbers[at], count))
        if alike.any():
            found[opened[place]] = np.maximum(found[opened[place]], np.minimum(_ALIKE * alike, _ALIKE_MOST))
            any_found = True
    return found if any_found else None


@cache
def _names() -> tuple[list[int], Floats]:
    """The classes of both models as concepts, and the vectors of their names."""
    table = concepts.table()
    known = [concept for concept in table.concepts if concept.leaf is not None or concept.things]
    texts = [" ".join(dict.fromkeys((*concept.names[:2], *concept.things))) for concept in known]
    return [concept.number for concept in known], word_vectors.word_vectors(texts)
