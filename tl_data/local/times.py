"""A prompt -> the part of the video that it names: "at 0:15", "the first 10 seconds", "from 1:00 to 2:00"."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from tl_data.local.evidence import Clip, Evidence, Span

MOMENT = 0.5  # seconds that "at 0:15" is taken for
EDGE, LEAST = 0.1, 5.0  # share of a video that its beginning and its end are, and seconds at least

NUMBERS = {
    "a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "fifteen": 15, "twenty": 20, "fifty": 50, "hundred": 100,
}  # fmt: skip

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}
_LENGTH = (
    r"(?:\d+(?:\.\d+)?[\s-]*(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b"
    rf"|(?:{'|'.join(NUMBERS)})[\s-]+(?:seconds?|minutes?|hours?)\b)"
)
_CLOCK = r"\d{1,3}:\d\d(?::\d\d)?"
_TIME = rf"(?:{_CLOCK}|(?:second|minute)\s+\d+|{_LENGTH})"
_EDGE = r"(?:\s+of\s+(?:the|this)\s+(?:video|clip|film|recording)\b|(?=\W*$|[,.;:?!]))"  # not "of the street"
_PHRASES = tuple(
    (name, re.compile(rf"(?:\b(?:in|during|within|of|for)\s+)?{pattern}", re.IGNORECASE))
    for name, pattern in (
        ("between", rf"\b(?:between|from)\s+({_TIME})\s+(?:and|to|till|until|-|–)\s+({_TIME})"),
        ("between", rf"\b({_CLOCK})\s*[-–]\s*({_CLOCK})"),
        ("both", r"\b(?:between|from)\s+(\d+)\s*(?:and|to|till|until|-|–)\s*(\d+)\s*(s|seconds|minutes)\b"),
        ("first", rf"\b(?:the\s+)?(?:very\s+)?(?:first|opening)\s+({_LENGTH}|second\b|minute\b|hour\b)"),
        ("last", rf"\b(?:the\s+)?(?:very\s+)?(?:last|final|closing)\s+({_LENGTH}|second\b|minute\b|hour\b)"),
        ("after", rf"\b(?:after|since|from)\s+({_TIME})(?:\s+on(?:wards?)?\b)?"),
        ("before", rf"\b(?:before|until|till|up to)\s+({_TIME})"),
        (
            "at",
            rf"\b(?:at|around|about)\s+(?:about\s+)?({_CLOCK}|(?:second|minute)\s+\d+|\d+\s*(?:s|seconds?|minutes?)\b)",
        ),
        ("start", rf"\b(?:at|in)\s+the\s+(?:very\s+)?(?:beginning|start){_EDGE}"),
        ("end", rf"\b(?:at|in|towards)\s+the\s+(?:very\s+)?end{_EDGE}"),
    )
)
T = TypeVar("T", Clip, Span)


@dataclass(frozen=True)
class Stretch:
    """A part of a video, in seconds from its start; counted from its end where they are negative."""

    start_sec: float = 0.0
    end_sec: float = float("inf")
    edge: str = ""  # "start" or "end": how long that is depends on the video
    loose: bool = False  # "after 20 minutes": may as well be said of something in the video

    def within(self, duration: float) -> tuple[float, float] | None:
        """Its times in a video of so many seconds; None if it lies behind the end."""
        edge = min(duration, max(LEAST, EDGE * duration))
        if self.edge:
            return (0.0, edge) if self.edge == "start" else (duration - edge, duration)
        start = max(0.0, self.start_sec + duration) if self.start_sec < 0 else self.start_sec
        return (start, min(self.end_sec, duration)) if start < min(self.end_sec, duration) else None


def stretch_of(text: str) -> tuple[Stretch | None, str]:
    """The stretch that a prompt names, and the prompt without it."""
    for name, pattern in _PHRASES:
        if match := pattern.search(text):
            said = match.groups()
            times = (
                [seconds(time + said[2]) for time in said[:2]] if name == "both" else list(map(seconds, said))
            )
            made = _MADE[name](*times)
            if name in ("after", "before"):
                made = replace(made, loose=":" not in said[0])
            rest = " ".join((text[: match.start()] + " " + text[match.end() :]).split())
            return made, re.sub(r"\s+([?.!,])", r"\1", rest)
    return None, text


_MADE: dict[str, Callable[..., Stretch]] = {
    **dict.fromkeys(("between", "both"), lambda start, end: Stretch(min(start, end), max(start, end))),
    "first": lambda length: Stretch(0.0, length),
    "last": lambda length: Stretch(-length),
    "after": Stretch,
    "before": lambda end: Stretch(0.0, end),
    "at": lambda at: Stretch(at, at + MOMENT),
    "start": lambda: Stretch(edge="start"),
    "end": lambda: Stretch(edge="end"),
}


def seconds(time: str) -> float:
    """Seconds of "1:02:03", "90 s", "two minutes", "minute 3" (from its beginning)."""
    if ":" in time:
        total = 0.0
        for part in time.split(":"):
            total = 60 * total + float(part)
        return total
    words = re.findall(r"[a-z]+|\d+(?:\.\d+)?", time.lower())
    numbers = [float(NUMBERS.get(word, word)) for word in words if word[0].isdigit() or word in NUMBERS]
    unit = next(word for word in words if word[0] in _UNITS and word not in NUMBERS)
    return (numbers[0] if numbers else 1.0) * _UNITS[unit[0]]


def part_of(evidence: Evidence, start: float, end: float) -> Evidence:
    """The evidence of a stretch: whole clips, sentences and lines that have a part in it."""
    return replace(
        evidence,
        clips=_inside(evidence.clips, start, end),
        speech=_inside(evidence.speech, start, end),
        shown=_inside(evidence.shown, start, end),
    )


def _inside(some: tuple[T, ...], start: float, end: float) -> tuple[T, ...]:
    """Those of which more than a moment, or all, lies in the stretch."""
    return tuple(
        one
        for one in some
        if min(one.end_sec, end) - max(one.start_sec, start)
        > min(0.3, 0.3 * (end - start), 0.3 * (one.end_sec - one.start_sec))
    )
