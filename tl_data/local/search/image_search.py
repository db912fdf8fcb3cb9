"""Finds clips that are similar to an image, by traits, image descriptors, objects and the image encoder."""

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

_MOST = 300  # the largest number of clips of a result
_SAME = 0.985  # the smallest cosine of the descriptors of two copies of a picture
# Raw scores, and the scores of hits that they are mapped to. Frames of each of five films were searched in an
# index of the other four: 40 % had a clip above 0.46 and 9 % above 0.56, which is `medium`. With their own
# film in the index, 93 % found it at `medium` or above.
_RAW, _SCORES = (0.0, 0.56, 0.7, 1.0), (0.0, 0.46, 0.7, 1.0)
_MOST_OF_NOISE = 0.4  # the largest score for an image of noise: `low`
_SURE = 0.3  # the smallest probability at which an object in a clip counts
_KIND = 0.75  # the score of an object of the same class if both probabilities are 1
_APART, _ALIKE = 0.6, 0.95  # encoder cosines of pictures of different objects, and of nearly equal pictures


def search_images(
    index: ClipIndex,
    query: Query,
    allowed: Bools,
    text_matches: dict[int, Match] | None,
    encoder: ImageEncoder | None,
    object_models: ObjectModels | None = None,
) -> dict[int, Match]:
    """Find clips that are similar to the images of a query.

    If the query also has a text, a score is the mean of the scores of image and text.

    Args:
        text_matches: the matches of the text; None if the query has no text.
    """
    from tl_data.local.search import embeddings

    best: dict[int, Match] = {}
    for image in query.images:
        for match in _find_similar(index, embeddings.image_query(image, encoder, object_models), allowed):
            if match.row not in best or best[match.row].score < match.score:
                best[match.row] = match
    if text_matches is None:
        return best
    both: dict[int, Match] = {}
    for row in best.keys() | text_matches.keys():
        image_match, text_match = best.get(row), text_matches.get(row)
        score = 0.5 * sum(match.score for match in (image_match, text_match) if match)
        base = image_match or text_match
        assert base is not None
        reasons = (
            *(image_match.evidence if image_match else ()),
            *(text_match.evidence if text_match else ()),
        )
        both[row] = replace(base, score=score, evidence=reasons, only_words=False)
    return both


def _find_similar(index: ClipIndex, image: ImageQuery, allowed: Bools) -> list[Match]:
    count = len(allowed)
    cosines = None if image.noise else index.descriptor_cosines(image.descriptor, count)
    strengths = {TRAIT_NUMBER[trait]: strength for trait, strength in image.traits.items()}
    minima = np.zeros(count, np.float32)
    maxima = np.full(count, 1e-6, np.float32)
    for number, strength in strengths.items():
        column = index.trait(number, count).astype(np.float32) / 255
        minima += np.minimum(column, strength)
        maxima += np.maximum(column, strength)
    # Traits alone cannot prove that a picture is the same: their scores stay below `high`.
    scores = 0.6 * minima / maxima
    if cosines is not None:
        scores = np.where(cosines > 0.6, np.maximum(scores, 0.3 * scores + 0.6 * cosines), scores)
        scores = np.where(cosines >= _SAME, 0.9 + 0.1 * np.minimum(cosines, 1.0), scores)
    scores = np.interp(scores, _RAW, _SCORES)
    for number, probability in image.concepts.items():  # other pictures with an object of the same class
        probabilities = index.concept(number, count)
        scores = np.maximum(scores, _KIND * probability * probabilities * (probabilities >= _SURE))
    if image.noise:  # noise has the colours and descriptor of a uniform gray
        scores = np.minimum(scores, _MOST_OF_NOISE)
    if (
        len(image.encoder_vector)
        and (encoder_cosines := index.encoder_cosines(image.encoder_vector, count)) is not None
    ):
        scores = np.maximum(scores, 0.9 * np.clip((encoder_cosines - _APART) / (_ALIKE - _APART), 0, 1))
    scores[~allowed] = 0
    rows = np.argsort(-scores, kind="stable")[:_MOST]
    return [
        Match(
            int(row),
            float(scores[row]),
            ("same picture" if cosines is not None and cosines[row] >= _SAME else "similar picture",),
        )
        for row in rows
        if scores[row] > 0
    ]
