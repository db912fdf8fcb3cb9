"""Clips that look like a picture: by what is measured in both, by their looks, and by an encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.perception.vision.image_encoder import Sight
from tl_data.local.perception.vision.objects import Eyes
from tl_data.local.search.clip_index import Shelf
from tl_data.local.search.query import Query
from tl_data.local.search.ranking import Match
from tl_data.local.search.vectors import Bools

if TYPE_CHECKING:
    from tl_data.local.search.embeddings import Asked

_MOST = 300  # clips that are given back
_SAME = 0.985  # cosine of looks from which two pictures are the same
# Raw scores, and what they are on the scale of all hits. Of frames of five films, each asked in an index of
# the other four, 40 % had a clip above 0.46 and 9 % one above 0.56, which becomes `medium`; with their own
# film there as well, 93 % still found it at `medium` or above.
_RAW, _SCORES = (0.0, 0.56, 0.7, 1.0), (0.0, 0.46, 0.7, 1.0)
_MOST_OF_NOISE = 0.4  # what an image of noise alone scores at most: `low`
_SURE = 0.3  # probability of a thing in a clip from which it counts as the one of the picture
_KIND = 0.75  # what the same kind of thing scores, both pictures being sure of it
_APART, _ALIKE = 0.6, 0.95  # cosines of an encoder: of pictures of different things, of nearly the same one


def with_images(
    shelf: Shelf,
    query: Query,
    allowed: Bools,
    asked: dict[int, Match] | None,
    sight: Sight | None,
    eyes: Eyes | None = None,
) -> dict[int, Match]:
    """Clips that look like the images; with a text besides, both count."""
    from tl_data.local.search import embeddings

    best: dict[int, Match] = {}
    for image in query.images:
        for match in _alike(shelf, embeddings.asked(image, sight, eyes), allowed):
            if match.row not in best or best[match.row].score < match.score:
                best[match.row] = match
    if asked is None:
        return best
    both: dict[int, Match] = {}
    for row in best.keys() | asked.keys():
        image_match, text_match = best.get(row), asked.get(row)
        score = 0.5 * sum(match.score for match in (image_match, text_match) if match)
        base = image_match or text_match
        assert base is not None
        told = (*(image_match.evidence if image_match else ()), *(text_match.evidence if text_match else ()))
        both[row] = replace(base, score=score, evidence=told, only_words=False)
    return both


def _alike(shelf: Shelf, asked: Asked, allowed: Bools) -> list[Match]:
    count = len(allowed)
    cosines = None if asked.noise else shelf.look_cosines(asked.look, count)
    wanted = {TRAIT_NUMBER[trait]: strength for trait, strength in asked.traits.items()}
    shared = np.zeros(count, np.float32)
    either = np.full(count, 1e-6, np.float32)
    for number, strength in wanted.items():
        column = shelf.trait(number, count).astype(np.float32) / 255
        shared += np.minimum(column, strength)
        either += np.maximum(column, strength)
    # The words alone cannot say "the same": they stop below `high`.
    scores = 0.6 * shared / either
    if cosines is not None:
        scores = np.where(cosines > 0.6, np.maximum(scores, 0.3 * scores + 0.6 * cosines), scores)
        scores = np.where(cosines >= _SAME, 0.9 + 0.1 * np.minimum(cosines, 1.0), scores)
    scores = np.interp(scores, _RAW, _SCORES)
    for number, sure in asked.concepts.items():  # the same kind of thing, in another picture
        here = shelf.concept(number, count)
        scores = np.maximum(scores, _KIND * sure * here * (here >= _SURE))
    if asked.noise:  # its gray is a mean
        scores = np.minimum(scores, _MOST_OF_NOISE)
    if len(asked.sight) and (near := shelf.sight_cosines(asked.sight, count)) is not None:
        scores = np.maximum(scores, 0.9 * np.clip((near - _APART) / (_ALIKE - _APART), 0, 1))
    scores[~allowed] = 0
    rows = np.argsort(-scores, kind="stable")[:_MOST]
    return [
        Match(
            int(row),
            float(scores[row]),
            ("same picture" if cosines is not None and cosines[row] >= _SAME else "alike picture",),
        )
        for row in rows
        if scores[row] > 0
    ]
