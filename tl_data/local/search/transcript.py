"""Times of words in a transcript: the time range of some words, and sentences split at pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tl_data.local.perception.evidence import Span
from tl_data.local.search.fuzzy import Vocabulary, stem
from tl_data.local.search.parser import tokens

Times = tuple[tuple[float, float], ...]  # start and end in seconds, one for each token of a text

_PAUSE = 0.3  # least seconds between two phrases
_RIM = 0.25  # seconds of margin before and after matched words
_SHORTEST = 1.0  # least seconds of a range, if the sentence is as long


def times_of(span: Span) -> Times:
    """The time of each token of the text; () if unknown, or if the words differ from the text."""
    found = [(word.start_sec, word.end_sec, token) for word in span.words for token in tokens(word.text)]
    if [token for *_, token in found] != tokens(span.text):
        return ()
    return tuple((start, end) for start, end, _ in found)


def time_range(
    asked: Sequence[str], words: Sequence[str], times: Times, vocabulary: Vocabulary
) -> tuple[float, float] | None:
    """The time range from the first to the last query word in a sentence, matched by spelling.

    Args:
        asked: words of the query.
        words: words of the sentence, with their `times`.

    Returns:
        Start and end in seconds, with a margin, inside the sentence; None if a word is missing, because it
        was matched by meaning.
    """
    stems = [stem(word) for word in words]
    places: list[int] = []
    for word in asked:
        same = {stem(other) for other in (word, *vocabulary.alike(word))}
        here = [place for place, other in enumerate(stems) if other in same]
        if not here:
            return None
        places += here
    if not places or len(times) != len(words):
        return None
    start, end = times[min(places)][0], times[max(places)][1]
    rim = max(_RIM, (_SHORTEST - (end - start)) / 2)
    return max(times[0][0], start - rim), min(times[-1][1], end + rim)


def phrases(span: Span) -> list[Span]:
    """A sentence split at pauses, each part with the times of its words; the sentence if they are unknown."""
    if len(span.words) < 2 or not times_of(span):
        return [span]
    parts = [[span.words[0]]]
    for word in span.words[1:]:
        if word.start_sec - parts[-1][-1].end_sec >= _PAUSE:
            parts.append([])
        parts[-1].append(word)
    return [
        replace(
            span,
            start_sec=part[0].start_sec,
            end_sec=part[-1].end_sec,
            text=" ".join(word.text for word in part),
            confidence=round(sum(word.confidence for word in part) / len(part), 3),
            alternatives=(),
            words=tuple(part),
        )
        for part in parts
    ]
