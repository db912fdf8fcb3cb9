"""A query, what answers it, and what its scores mean."""

from __future__ import annotations

from dataclasses import dataclass

OPTIONS = ("visual", "audio", "sound", "transcription")

# Scores from which a hit is of a class; `adjust_confidence_level` moves all three. Set on a half of the
# questions of benchmarks/engine_questions.py, where the wrong answers to unanswerable questions score 60 at
# most and 44 at second most, and the right answers to paraphrases mostly 24 to 58.
HIGH, MEDIUM, LOW, LEAST = 70.0, 46.0, 18.0, 10.0
_SHIFT = 40.0  # points between the two ends of the level


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


def least_of(query: Query) -> float:
    """The points that a match must have to be found."""
    floor = {"high": HIGH, "medium": MEDIUM, "low": LOW, "none": None}[query.threshold]
    least = LEAST if floor is None else floor + (query.adjust_confidence_level - 0.5) * _SHIFT
    return max(1.0, least)


def check(query: Query) -> None:
    """Refuse a query that cannot be answered.

    Raises:
        ValueError: an option, operator or threshold that does not exist, or nothing asked.
    """
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
