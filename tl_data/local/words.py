"""Evidence of a clip -> the words a person would use for it, and traits: words with a strength.

Traits are the closed vocabulary of what the engine measures: colours, places, motion, camera, light,
faces and people, sound, format. Search adds them up directly; sentences made of them go into the vectors
and the texts. Words that were shown or spoken are open vocabulary and stay what they are.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tl_data.local.evidence import Clip, Evidence, Span
from tl_data.local.languages import sure_languages
from tl_data.local.traits import (
    BRIGHT,
    DARK,
    FAST,
    LOUD,
    MAIN_SHARE,
    QUIET,
    SOUNDS,
    base_color,
    color_shares,
    counts,
    moves,
    traits_of,
)


@dataclass(frozen=True)
class Words:
    """One clip in words, apart by what they rest on; an empty text where there is no evidence."""

    seen: str  # colours, places, motion, camera, light, faces
    shown: str  # text on screen
    heard: str  # kind of sound
    said: str  # speech
    maybe: str  # other readings, a line each, a paragraph for each span shown and said: never quoted
    named: str  # recognised objects by name
    traits: tuple[tuple[str, float], ...]  # trait, strength 0..1


def words_of(clip: Clip, evidence: Evidence) -> Words:
    """All words of a clip."""
    shown = shown_between(evidence, clip.start_sec, clip.end_sec)
    said = said_between(evidence, clip.start_sec, clip.end_sec)
    traits = traits_of(clip, evidence.probe, bool(shown))
    for kind, spans in (("text", shown), ("speech", said)):
        traits |= {f"{kind} {name}": sure for name, sure in sure_languages(spans).items()}
    maybe = "\n\n".join(map(_readings, (*shown, *said)))
    return Words(
        seen=seen_words(clip),
        shown=joined(shown),
        heard=heard_words(clip),
        said=joined(said),
        maybe=maybe if maybe.strip() else "",
        named=" ".join(name for name, _ in clip.objects),
        traits=tuple(sorted(traits.items())),
    )


def _readings(span: Span) -> str:
    return "\n".join(filter(None, span.alternatives))


# ---------------------------------------------------------------------------------------- sentences


def seen_words(clip: Clip) -> str:
    """What is seen, in a few words: "mostly green picture, red on the left, moves right, bright"."""
    if not (clip.keyframe or clip.colors):
        return ""
    parts = [color_words(clip), *region_words(clip), *object_words(clip), *motion_words(clip)]
    if clip.brightness >= BRIGHT:
        parts.append("bright")
    elif clip.brightness <= DARK:
        parts.append("dark")
    return ", ".join(part for part in parts if part)


def color_words(clip: Clip) -> str:
    """The main colours: "mostly green with red" or "green, white and red"."""
    shares = color_shares(clip)
    names = [name for name, share in shares.items() if share >= 0.01][:4]
    if not names:
        return ""
    if shares[names[0]] >= MAIN_SHARE:
        return f"mostly {names[0]}" + (f" with {listed(names[1:])}" if names[1:] else "")
    return listed(names)


def region_words(clip: Clip) -> list[str]:
    """Colours at places that differ from the main one: ["red on the left"]."""
    shares = color_shares(clip)
    main = next(iter(shares), None)
    by_color: dict[str, list[str]] = {}
    for place, name in clip.regions:
        color = base_color(name)
        if color and color != main:
            by_color.setdefault(color, []).append(place.lower())
    return [
        f"{color} {_at(spots[0])}" if len(spots) == 1 else f"{color} {_at(listed(spots))}"
        for color, spots in by_color.items()
    ]


def _at(place: str) -> str:
    return f"in the {place}" if place.startswith(("center", "middle", "centre")) else f"on the {place}"


def object_words(clip: Clip) -> list[str]:
    """Recognised objects with their number: ["2 faces"]."""
    return [_number(count, name) for name, count in counts(clip).items()]


def _number(count: int, name: str) -> str:
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if not name.endswith("s") else name
    return f"{count} {'people' if name == 'person' else name + 's'}"


def motion_words(clip: Clip) -> list[str]:
    """What moves and how the camera does: ["moves left fast", "camera zooms in"]."""
    parts: list[str] = []
    if moves(clip) and clip.camera in ("static", ""):
        pace = " fast" if clip.motion >= FAST else ""
        parts.append(
            f"something moves {clip.direction}{pace}" if clip.direction else f"something moves{pace}"
        )
    elif clip.camera in ("static", ""):
        parts.append("nothing moves")
    if clip.camera not in ("static", ""):
        parts.append(camera_words(clip.camera))
    return parts


def camera_words(camera: str) -> str:
    """A camera label as a phrase: "zoom in" -> "the camera zooms in"."""
    if camera == "shaky":
        return "the camera shakes"
    verb, _, rest = camera.partition(" ")
    return f"the camera {verb}s {rest}".strip()


def heard_words(clip: Clip) -> str:
    """The kind of sound: "music, loud"; empty when nothing is known of the sound."""
    if clip.sound not in SOUNDS or (clip.sound == "silence" and clip.loudness <= -99.0):
        return ""
    words = "someone speaks" if clip.sound == "speech" else clip.sound
    if clip.sound == "silence":
        return words
    level = "loud" if clip.loudness >= LOUD else "quiet" if clip.loudness <= QUIET else ""
    return f"{words}, {level}" if level else words


def listed(names: Iterable[str]) -> str:
    """Names as a person lists them: "a, b and c"."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


# ---------------------------------------------------------------------------------- shown and spoken


def said_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The sentences spoken in a stretch."""
    return _between(evidence.speech, start, end)


def shown_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The lines of text on screen in a stretch."""
    return _between(evidence.shown, start, end)


def _between(spans: Iterable[Span], start: float, end: float) -> list[Span]:
    """Spans of which a real part lies in the stretch: half a second, or a third of a short span."""
    found = [
        span
        for span in spans
        if span.start_sec < end  # first what is quick: a long video has thousands of spans
        and span.end_sec > start
        and min(end, span.end_sec) - max(start, span.start_sec)
        >= min(0.5, max(0.02, (span.end_sec - span.start_sec) / 3))
    ]
    return sorted(found, key=lambda span: (span.start_sec, span.end_sec))


def joined(spans: Iterable[Span]) -> str:
    """Span texts in order, each once."""
    return " ".join(dict.fromkeys(span.text.strip() for span in spans))
