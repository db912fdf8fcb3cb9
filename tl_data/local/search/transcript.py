"""Times of words in a transcript: finds the time range of words, and splits sentences at pauses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tl_data.local.perception.evidence import Span, Word
from tl_data.local.search.fuzzy import Vocabulary, stem
from tl_data.local.search.parser import tokens

Times = tuple[tuple[float, float], ...]  # start and end in seconds of each token of a text

_PAUSE = 0.3  # the smallest pause between two phrases, in seconds
_MARGIN = 0.25  # margin before and after matched words, in seconds
_SHORTEST = 1.0  # the shortest range in seconds; the range of a shorter sentence is the sentence


def times_of(span: Span) -> Times:
    """The time of each token of the text; () if times are unknown or the words differ from the text."""
    timed_tokens = [
        (word.start_sec, word.end_sec, token) for word in span.words for token in tokens(word.text)
    ]
    if [token for *_, token in timed_tokens] != tokens(span.text):
        return ()
    return tuple((start, end) for start, end, _ in timed_tokens)


def time_range(
    query_words: Sequence[str], words: Sequence[str], times: Times, vocabulary: Vocabulary
) -> tuple[float, float] | None:
    """The time range from the first to the last query word in a sentence, matched by spelling.

    Args:
        query_words: words of the query.
        words: words of the sentence.
        times: the time of each word of the sentence.

    Returns:
        Start and end in seconds, with a margin that stays inside the sentence. None if the sentence lacks a
        word of the query, which was then matched by meaning.
    """
    stems = [stem(word) for word in words]
    positions: list[int] = []
    for word in query_words:
        accepted_stems = {stem(other) for other in (word, *vocabulary.similar_spellings(word))}
        matching_positions = [position for position, other in enumerate(stems) if other in accepted_stems]
        if not matching_positions:
            return None
        positions += matching_positions
    if not positions or len(times) != len(words):
        return None
    start, end = times[min(positions)][0], times[max(positions)][1]
    margin = max(_MARGIN, (_SHORTEST - (end - start)) / 2)
    return max(times[0][0], start - margin), min(times[-1][1], end + margin)


def phrases(span: Span) -> list[Span]:
    """Split a sentence at pauses. The times of its words bound the parts.

    A sentence whose words have no times is returned whole.
    """
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


def part_within(span: Span, start: float, end: float) -> Span | None:
    """The part of a sentence whose words have their middle between two times; None if there is none.

    Words without times are spread evenly over the sentence.
    """
    if start <= span.start_sec and span.end_sec <= end:
        return span
    words = span.words
    if not times_of(span):
        texts = span.text.split()
        step = (span.end_sec - span.start_sec) / max(1, len(texts))
        words = tuple(
            Word(span.start_sec + n * step, span.start_sec + (n + 1) * step, text, span.confidence)
            for n, text in enumerate(texts)
        )
    kept = [word for word in words if start <= (word.start_sec + word.end_sec) / 2 < end]
    if not kept:
        return None
    return replace(
        span,
        start_sec=max(start, kept[0].start_sec),
        end_sec=min(end, kept[-1].end_sec),
        text=" ".join(word.text for word in kept),
        alternatives=(),
        words=tuple(kept) if span.words else (),
    )
