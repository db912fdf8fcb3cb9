"""A query -> the moments that answer it, best first.

Three ways to find candidates: measured traits added up over all clips, full-text search with BM25 and
word stems, and nearest vectors for paraphrases. Every candidate is then judged part by part: which share
of what was asked does its evidence explain, by a trait, by a word shown or spoken, by a word that is
spelled or meant alike? That share, not a similarity, becomes the score, and so a question about things
that are not in the evidence stays below `medium`.

Without an encoder of pictures (sight.py) the engine does not recognise objects and actions: "a dog
running" finds where these words are shown or said, and where nothing else explains them, nothing. With
one, a part of the question that is no measured trait is also explained by how well the question fits the
clip's picture.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tl_data.local import meaning, questions
from tl_data.local.columns import Bools, Floats, Rows
from tl_data.local.judging import SIGHTS, Judge, Match, TextRow, sight_of
from tl_data.local.questions import Question
from tl_data.local.shelf import Shelf
from tl_data.local.sight import NEUTRAL, Sight, fitting
from tl_data.local.words import TRAIT_NUMBER

Fetch = Callable[[str, Sequence[str | int]], list[tuple[Any, ...]]]  # SQL and values -> rows

OPTIONS = ("visual", "audio", "transcription")

# Scores from which a hit is of a class; `adjust_confidence_level` moves all three. Set on one half of the
# questions of benchmarks/engine_quality.py, where the wrong answers to unanswerable questions score 56 at
# most and 41 at second most, and the right answers to paraphrases mostly 20 to 60.
HIGH, MEDIUM, LOW, LEAST = 70.0, 46.0, 18.0, 10.0
_SHIFT = 40.0  # points between the two ends of the level

_BY_TRAIT, _BY_WORD, _BY_VECTOR = 300, 300, 80  # candidates of each way
_COMMON = 5_000  # a query that matches more clips than this is not ranked by BM25: it costs too long
_SAME = 0.985  # cosine of looks from which two pictures are the same
_APART, _ALIKE = 0.6, 0.95  # cosines of an encoder: of pictures of different things, of nearly the same one


@dataclass(frozen=True)
class Query:
    """What is asked of an index.

    `text`, `images` or both must be given. `ways` are the API's transcription options, `lexical` (words as
    they are spelled, and traits) and `semantic` (meaning); both by default.
    """

    index_id: str
    text: str | None = None
    images: tuple[bytes, ...] = ()  # JPEG or PNG files
    options: tuple[str, ...] = ("visual", "audio")
    operator: str = "or"  # "and": every option's own evidence must explain a part
    threshold: str = "low"  # high, medium, low, none
    adjust_confidence_level: float = 0.5  # 0 lax .. 1 strict
    video_ids: frozenset[str] | None = None  # only these
    ways: tuple[str, ...] = ("lexical", "semantic")
    limit: int = 300


@dataclass(frozen=True)
class Hit:
    """A moment: a stretch of a video that answers the query."""

    video_id: str
    start_sec: float
    end_sec: float
    score: float  # 0..100
    confidence: str  # high, medium, low, none
    rank: int  # 1 is best
    clip_number: int  # of the clip that answers best, in the video's evidence
    transcription: str | None  # what is said in the moment
    keyframe: str = ""  # file name of the thumbnail in the video's folder; "" without a picture
    evidence: tuple[str, ...] = ()  # what explains it: ("red", 'shown: "Welcome"')


def confidence(score: float, level: float = 0.5) -> str:
    """The class of a score of 0..100 at a confidence level."""
    shift = (level - 0.5) * _SHIFT
    if score >= min(HIGH + shift, 100.0):
        return "high"
    if score >= MEDIUM + shift:
        return "medium"
    return "low" if score >= LOW + shift else "none"


def find(shelf: Shelf, fetch: Fetch, query: Query, sight: Sight | None = None) -> list[Hit]:
    """Answer a query from one index.

    Args:
        shelf: the columns of the index.
        fetch: runs SQL on the index's full-text table, called `words` in it.
        sight: the encoder of pictures that is at work, if there is one.

    Raises:
        ValueError: an option, operator or threshold that does not exist, or nothing asked.
    """
    _check(query)
    allowed = shelf.allowed(query.video_ids)
    if not allowed.any():
        return []
    question = questions.parse(query.text) if query.text and query.text.strip() else None
    found: dict[int, Match] = {}
    if question:
        pictures = _fitting(shelf, sight, question, query, len(allowed))
        rows = _candidates(shelf, fetch, question, query, allowed, pictures)
        judge = Judge(
            shelf,
            lambda ids: _texts(fetch, ids),
            question,
            query.options,
            both=query.operator == "and",
            lexical="lexical" in query.ways,
            semantic="semantic" in query.ways,
            pictures=pictures,
        )
        found = {
            match.row: match for match in judge.judge(rows, 0.0 if query.images else _least(query) / 100)
        }
    if query.images:
        found = _with_images(shelf, query, allowed, found if question else None, sight)
    least = _least(query)
    return hits_of(shelf, [match for match in found.values() if 100 * match.score >= least], query)


def _least(query: Query) -> float:
    """The points that a match must have to be found."""
    floor = {"high": HIGH, "medium": MEDIUM, "low": LOW, "none": None}[query.threshold]
    least = LEAST if floor is None else floor + (query.adjust_confidence_level - 0.5) * _SHIFT
    return max(1.0, least)


def _check(query: Query) -> None:
    if bad := [option for option in query.options if option not in OPTIONS]:
        raise ValueError(f"unknown search option {bad[0]!r}")
    if not query.options:
        raise ValueError("at least one search option must be given")
    if query.operator not in ("or", "and"):
        raise ValueError(f"unknown operator {query.operator!r}")
    if query.threshold not in ("high", "medium", "low", "none"):
        raise ValueError(f"unknown threshold {query.threshold!r}")
    if not (query.text and query.text.strip()) and not query.images:
        raise ValueError("neither text nor image is given")


# ---------------------------------------------------------------------------------------- candidates


def _fitting(
    shelf: Shelf, sight: Sight | None, question: Question, query: Query, count: int
) -> Floats | None:
    """How well the question fits the picture of each clip, 0..1, by an encoder; None if none is asked."""
    if sight is None or "visual" not in query.options or "semantic" not in query.ways:
        return None
    asked, *neutral = sight.texts([question.text, *NEUTRAL])
    cosines = shelf.sight_cosines(asked, count)
    if cosines is None:
        return None
    plain = [found for vector in neutral if (found := shelf.sight_cosines(vector, count)) is not None]
    return fitting(cosines, np.asarray(np.max(plain, axis=0), np.float32))


def _candidates(
    shelf: Shelf,
    fetch: Fetch,
    question: Question,
    query: Query,
    allowed: Bools,
    pictures: Floats | None,
) -> Rows:
    """Rows worth judging, each once."""
    sights = {sight for option in query.options for sight in SIGHTS[option]}
    groups: list[Rows] = []
    if "lexical" in query.ways:
        groups.append(_by_traits(shelf, question, sights, allowed))
        groups.append(_by_words(shelf, fetch, question, sights, allowed, "semantic" in query.ways))
    if "semantic" in query.ways:
        vector = meaning.word_vectors([question.text])[0]
        if vector.any():
            texts = [t for s, t in (("shown", shelf.shown), ("said", shelf.said)) if s in sights]
            groups += [text.nearest(vector, _BY_VECTOR, allowed)[0] for text in texts]
    if pictures is not None:
        best = np.argsort(-np.where(allowed, pictures, 0), kind="stable")[:_BY_VECTOR]
        groups.append(np.asarray(best[allowed[best] & (pictures[best] > 0)], np.int64))
    return np.unique(np.concatenate(groups)) if groups else np.zeros(0, np.int64)


def _by_traits(shelf: Shelf, question: Question, sights: set[str], allowed: Bools) -> Rows:
    total = trait_scores(shelf, question, sights, len(allowed))
    if total is None:
        return np.zeros(0, np.int64)
    total[~allowed] = 0
    most = min(_BY_TRAIT, len(total))
    best = np.argpartition(-total, most - 1)[:most]
    return np.asarray(best[total[best] > 0], np.int64)


def trait_scores(shelf: Shelf, question: Question, sights: Iterable[str], count: int) -> Floats | None:
    """How much of the question the traits of each clip explain; None if it asks for no trait."""
    total: Floats | None = None
    for part in question.parts:
        best: Floats | None = None
        for trait, credit in part.traits:
            if sight_of(trait) in sights and trait in TRAIT_NUMBER:
                column = shelf.trait(TRAIT_NUMBER[trait], count) * np.float32(credit * part.weight / 255)
                best = column if best is None else np.maximum(best, column)
        if best is not None:
            total = best if total is None else total + best
    return total


def _by_words(
    shelf: Shelf, fetch: Fetch, question: Question, sights: set[str], allowed: Bools, by_meaning: bool
) -> Rows:
    words = question.words
    if not words:
        return np.zeros(0, np.int64)
    columns = ["maybe", *(sight for sight in ("shown", "said") if sight in sights)]
    if "seen" in sights:
        columns.append("named")
    groups = []
    for word in words:
        group = [word, *shelf.vocabulary.alike(word)]
        if by_meaning:
            group += shelf.vocabulary.meaning(word)
        groups.append(" OR ".join(_quoted(one) for one in dict.fromkeys(group)))
    where = f"{{{' '.join(columns)}}} : "
    select = "SELECT rowid FROM words WHERE words MATCH ?"
    # What holds everything asked is found whatever else the index holds; then what holds a part of it.
    every = where + "(" + " AND ".join(f"({group})" for group in groups) + ")"
    ids = fetch(f"{select} LIMIT ?", (every, _BY_WORD)) if len(groups) > 1 else []
    if len(ids) < _BY_WORD:
        # Run together as well: recognised text often loses or gains a blank.
        together = [_quoted(a + b) for a, b in pairwise(words)]
        some = f"{where}({' OR '.join([*groups, *together])})"
        partly = fetch(f"{select} LIMIT ?", (some, _COMMON))
        if _BY_WORD < len(partly) < _COMMON:
            partly = fetch(f"{select} ORDER BY rank LIMIT ?", (some, _BY_WORD))
        ids = list(dict.fromkeys([*ids, *partly]))
    rows = shelf.rows_of(np.array([row[0] for row in ids], np.int64))
    rows = rows[(rows >= 0) & (rows < len(allowed))]
    return rows[allowed[rows]][:_BY_WORD]


def _texts(fetch: Fetch, ids: list[int]) -> list[TextRow]:
    """The texts of clips, as `judging` wants them."""
    found: list[TextRow] = []
    for at in range(0, len(ids), 500):
        some = ids[at : at + 500]
        marks = ",".join("?" * len(some))
        sql = f"SELECT rowid, maybe, named, spans FROM words WHERE rowid IN ({marks})"
        found += [(row[0], row[1], row[2], row[3]) for row in fetch(sql, some)]
    return found


def _quoted(word: str) -> str:
    return '"' + word.replace('"', '""') + '"'


# -------------------------------------------------------------------------------------------- images


def _with_images(
    shelf: Shelf, query: Query, allowed: Bools, asked: dict[int, Match] | None, sight: Sight | None
) -> dict[int, Match]:
    """Clips that look like the images; with a text besides, both count."""
    from tl_data.local.pictures import look_and_traits

    best: dict[int, Match] = {}
    for image in query.images:
        look, traits, seen = look_and_traits(image, sight)
        for match in _alike(shelf, look, traits, seen, allowed):
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


def _alike(shelf: Shelf, look: Floats, traits: dict[str, float], seen: Floats, allowed: Bools) -> list[Match]:
    count = len(allowed)
    cosines = shelf.look_cosines(look, count)
    wanted = {TRAIT_NUMBER[trait]: strength for trait, strength in traits.items()}
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
    if len(seen) and (near := shelf.sight_cosines(seen, count)) is not None:
        scores = np.maximum(scores, 0.9 * np.clip((near - _APART) / (_ALIKE - _APART), 0, 1))
    scores[~allowed] = 0
    rows = np.argsort(-scores, kind="stable")[:_BY_TRAIT]
    return [
        Match(
            int(row),
            float(scores[row]),
            ("same picture" if cosines is not None and cosines[row] >= _SAME else "alike picture",),
        )
        for row in rows
        if scores[row] > 0
    ]


# ------------------------------------------------------------------------------------------- moments


def hits_of(shelf: Shelf, matches: Iterable[Match], query: Query) -> list[Hit]:
    """Matches as moments: neighbours with the same evidence are one, with its exact start and end."""
    ids = shelf.ids
    moments: list[list[Match]] = []
    for match in sorted(matches, key=lambda match: match.row):
        if moments and _one_moment(moments[-1][-1], match, ids):
            moments[-1].append(match)
        else:
            moments.append([match])
    found: list[tuple[float, float, float, str, Match, list[Match]]] = []
    for moment in moments:
        start, end = shelf.times(moment[0].row)[0], shelf.times(moment[-1].row)[1]
        spans = [span for match in moment for span in match.spans]
        if spans and all(match.only_words for match in moment):
            start, end = min(span[0] for span in spans), max(span[1] for span in spans)
        best = max(moment, key=lambda match: (match.score, _shared(shelf.times(match.row), start, end)))
        video = shelf.videos.get(int(ids[best.row]) >> 16)
        if video is not None:
            found.append((best.score, start, end, video, best, moment))
    found.sort(key=lambda item: (-round(item[0], 4), item[3], item[1]))
    hits: list[Hit] = []
    for rank, (score, start, end, video, best, moment) in enumerate(found[: query.limit], 1):
        said = sorted({span for match in moment for span in match.said if span[0] < end and span[1] > start})
        points = round(min(100.0, 100 * score), 2)
        hits.append(
            Hit(
                video_id=video,
                start_sec=round(start, 3),
                end_sec=round(end, 3),
                score=points,
                confidence=confidence(points, query.adjust_confidence_level),
                rank=rank,
                clip_number=int(ids[best.row]) & 0xFFFF,
                transcription=" ".join(text for _, _, text in said) or None,
                evidence=best.evidence,
            )
        )
    return hits


def _shared(times: tuple[float, float], start: float, end: float) -> float:
    """Seconds of a clip that lie in a stretch."""
    return min(times[1], end) - max(times[0], start)


def _one_moment(before: Match, after: Match, ids: NDArray[np.int64]) -> bool:
    """Whether two matches are neighbouring clips of a video that carry the same evidence."""
    if int(ids[after.row]) - int(ids[before.row]) != 1:  # ids of one video count up, videos lie far apart
        return False
    if before.only_words and after.only_words:
        return bool(set(before.spans) & set(after.spans)) or before.evidence == after.evidence
    return before.evidence == after.evidence and abs(before.score - after.score) < 0.2
