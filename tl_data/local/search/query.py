"""Queries, hits, and the classes of confidence of scores."""

from __future__ import annotations

from dataclasses import dataclass

OPTIONS = ("visual", "audio", "sound", "transcription")

# HIGH, MEDIUM and LOW are the smallest scores of the classes; `adjust_confidence_level` shifts them.
# MIN_SCORE is the smallest score of a hit without a threshold. They were set on one half of the questions of
# benchmarks/engine_questions.py. There, the two best wrong answers to unanswerable questions score 60 and 44,
# and most right answers to paraphrases score 24 to 58.
HIGH, MEDIUM, LOW, MIN_SCORE = 70.0, 46.0, 18.0, 1.0
_SHIFT = 40.0  # points by which the scores differ between the confidence levels 0 and 1


@dataclass(frozen=True)
class Query:
    """A search of an index by `text`, `images` or both."""

    index_id: str
    text: str | None = None
    images: tuple[bytes, ...] = ()  # JPEG or PNG files
    options: tuple[str, ...] = ("visual", "audio")
    operator: str = "or"  # "and": the evidence of each option must explain a part of the query
    threshold: str = "low"  # high, medium, low, none
    adjust_confidence_level: float = 0.5  # 0 (lax) to 1 (strict)
    video_ids: frozenset[str] | None = None  # the videos to search; None means all
    transcription_options: tuple[str, ...] = ("lexical", "semantic")  # by spelling and traits; by meaning
    limit: int = 300  # the largest number of hits


@dataclass(frozen=True)
class Hit:
    """A part of a video that matches the query. Times in seconds."""

    video_id: str
    start_sec: float
    end_sec: float
    score: float  # 0..100
    confidence: str  # high, medium, low, none
    rank: int  # 1 is best
    clip_number: int  # position of the best clip in the evidence of the video
    transcription: str | None  # the speech in this part
    keyframe: str = ""  # file name of the thumbnail in the video's folder; "" without a picture
    evidence: tuple[str, ...] = ()  # the reasons: ("red", 'shown: "Welcome"')


def confidence(score: float, level: float = 0.5) -> str:
    """The class of a score (0 to 100) at a confidence level."""
    shift = (level - 0.5) * _SHIFT
    if score >= min(HIGH + shift, 100.0):
        return "high"
    if score >= MEDIUM + shift:
        return "medium"
    return "low" if score >= LOW + shift else "none"


def minimum_score(query: Query) -> float:
    """The smallest score that a hit of a query may have, 1 to 100."""
    floor = {"high": HIGH, "medium": MEDIUM, "low": LOW, "none": None}[query.threshold]
    minimum = MIN_SCORE if floor is None else floor + (query.adjust_confidence_level - 0.5) * _SHIFT
    return max(1.0, minimum)


def check(query: Query) -> None:
    """Validate a query.

    Raises:
        ValueError: an unknown option, operator or threshold, or a query without text and image.
    """
    if unknown := [option for option in query.options if option not in OPTIONS]:
        raise ValueError(f"unknown search option {unknown[0]!r}")
    if not query.options:
        raise ValueError("at least one search option must be given")
    if query.operator not in ("or", "and"):
        raise ValueError(f"unknown operator {query.operator!r}")
    if query.threshold not in ("high", "medium", "low", "none"):
        raise ValueError(f"unknown threshold {query.threshold!r}")
    if not (query.text and query.text.strip()) and not query.images:
        raise ValueError("neither text nor image is given")
