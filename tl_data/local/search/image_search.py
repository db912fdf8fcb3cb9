"""Finds clips that are similar to a picture, by traits, image descriptors, objects, and the image encoder."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from tl_data.local.perception.attributes import TRAIT_NUMBER
from tl_data.local.perception.vision.image_encoder import ImageEncoder
from tl_data.local.perception.vision.objects import ObjectModels
from tl_data.local.search.clip_index import ClipIndex
from tl_data.local.search.query import Query
from tl_data.local.search.ranking import Match
from tl_data.local.search.vectors import Bools

if TYPE_CHECKING:
    from tl_data.local.search.embeddings import ImageQuery

_MOST = 300  # most clips of a result
_SAME = 0.985  # least cosine of descriptors of the same picture
# Maps raw scores to the scale of all hits. Frames of five films were searched in an index of the other four:
# 40 % had a clip above 0.46 and 9 % above 0.56, which is `medium`. With their own film in the index, 93 %
# found it at `medium` or above.
_RAW, _SCORES = (0.0, 0.56, 0.7, 1.0), (0.0, 0.46, 0.7, 1.0)
_MOST_OF_NOISE = 0.4  # largest score of an image of noise: `low`
_SURE = 0.3  # least probability of an object in a clip that is also in the picture
_KIND = 0.75  # score of the same class of object at probabilities of 1
_APART, _ALIKE = 0.6, 0.95  # encoder cosines of pictures of different objects, and of nearly the same picture


def search_images(
    index: ClipIndex,
    query: Query,
    allowed: Bools,
    asked: dict[int, Match] | None,
    encoder: ImageEncoder | None,
    object_models: ObjectModels | None = None,
) -> dict[int, Match]:
    """Clips that are similar to the images. With a text, the score is the mean of both searches.

    Args:
        asked: the matches of the text; None without one.
    """
    from tl_data.local.search import embeddings

    best: dict[int, Match] = {}
    for image in query.images:
        for match in _similar(index, embeddings.image_query(image, encoder, object_models), allowed):
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
        reasons = (
            *(image_match.evidence if image_match else ()),
            *(text_match.evidence if text_match else ()),
        )
        both[row] = replace(base, score=score, evidence=reasons, only_words=False)
    return both


def _similar(index: ClipIndex, asked: ImageQuery, allowed: Bools) -> list[Match]:
    count = len(allowed)
    cosines = None if asked.noise else index.descriptor_cosines(asked.look, count)
    wanted = {TRAIT_NUMBER[trait]: strength for trait, strength in asked.traits.items()}
    shared = np.zeros(count, np.float32)
    either = np.full(count, 1e-6, np.float32)
    for number, strength in wanted.items():
        column = index.trait(number, count).astype(np.float32) / 255
        shared += np.minimum(column, strength)
        either += np.maximum(column, strength)
    # Traits alone cannot prove that a picture is the same: their scores stay below `high`.
    scores = 0.6 * shared / either
    if cosines is not None:
        scores = np.where(cosines > 0.6, np.maximum(scores, 0.3 * scores + 0.6 * cosines), scores)
        scores = np.where(cosines >= _SAME, 0.9 + 0.1 * np.minimum(cosines, 1.0), scores)
    scores = np.interp(scores, _RAW, _SCORES)
    for number, sure in asked.concepts.items():  # the same class of object in another picture
        here = index.concept(number, count)
        scores = np.maximum(scores, _KIND * sure * here * (here >= _SURE))
    if asked.noise:  # its colours and descriptor are those of a uniform gray
        scores = np.minimum(scores, _MOST_OF_NOISE)
    if len(asked.encoder_vector) and (near := index.encoder_cosines(asked.encoder_vector, count)) is not None:
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
