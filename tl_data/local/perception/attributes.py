"""Traits and words of a clip.

Traits are a closed vocabulary of measurements: colours, places, motion, camera, light, faces and people,
sound, format. Each has a strength, which search adds up. Phrases of traits are part of the vectors and texts.
Words on screen and in speech are open vocabulary.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tl_data.local.perception.evidence import Clip, Evidence, Probe, Span
from tl_data.local.perception.languages import NAMES, sure_languages
from tl_data.local.perception.vision.naming import names_of, people_in

COLORS = (
    "red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white", "gray", "black",
)  # fmt: skip
PLACES = ("left", "right", "top", "bottom", "center")
DIRECTIONS = ("left", "right", "up", "down")
CAMERA = ("static", "pan left", "pan right", "tilt up", "tilt down", "zoom in", "zoom out", "shaky")
SOUNDS = ("speech", "music", "noise", "silence")

TRAITS: tuple[str, ...] = (
    *COLORS,
    *(f"mostly {color}" for color in COLORS),
    *(f"{place} {color}" for place in PLACES for color in COLORS),
    *(f"moves {direction}" for direction in DIRECTIONS),
    *(f"camera {move}" for move in CAMERA),
    *(f"sound {sound}" for sound in SOUNDS),
    *("moving", "still", "fast", "slow", "bright", "dark", "loud", "quiet", "cut"),
    *("face", "faces", "person", "people", "alone", "text", "portrait", "landscape"),
    *(f"{kind} {name.lower()}" for kind in ("text", "speech") for name in NAMES.values()),
)  # fmt: skip
TRAIT_NUMBER = {trait: number for number, trait in enumerate(TRAITS)}

# Other names of the twelve colours.
COLOR_NAMES = {
    "crimson": "red", "scarlet": "red", "maroon": "red", "ruby": "red", "burgundy": "red", "reddish": "red",
    "vermilion": "red", "amber": "orange", "tangerine": "orange", "golden": "yellow", "gold": "yellow",
    "yellowish": "yellow", "lemon": "yellow", "greenish": "green", "lime": "green", "emerald": "green",
    "olive": "green", "turquoise": "cyan", "teal": "cyan", "aqua": "cyan", "navy": "blue", "azure": "blue",
    "bluish": "blue", "cobalt": "blue", "indigo": "blue", "violet": "purple", "lilac": "purple",
    "lavender": "purple", "magenta": "pink", "fuchsia": "pink", "rose": "pink", "tan": "brown",
    "beige": "brown", "chocolate": "brown", "grey": "gray", "silver": "gray", "grayish": "gray",
    "whitish": "white", "ivory": "white", "cream": "white", "jet": "black", "skin": "brown",
}  # fmt: skip
PLACE_NAMES = {"middle": "center", "centre": "center", "upper": "top", "lower": "bottom"}

# Mean flow over the picture, in widths per second. An object that fills a twentieth of the picture and
# crosses it in three seconds gives 0.015. Smaller motion is recognised by its direction.
MOVING = 0.015
FAST = 0.08
DARK, BRIGHT = 0.25, 0.65  # mean luma
LOUD, QUIET = -16.0, -38.0  # dBFS
LARGE_FACE = 0.35  # height of a face in a portrait, share of the picture's
TALL = 0.35  # height of a person who is the subject of a picture
MAIN_SHARE = 0.35  # of the picture, for "mostly green"


def base_color(name: str) -> str | None:
    """The base colour of a colour name: "dark blue" -> "blue"; None if it is no colour."""
    for word in reversed(name.lower().replace("-", " ").split()):
        if word in COLORS:
            return word
        if word in COLOR_NAMES:
            return COLOR_NAMES[word]
    return None


def places(place: str) -> list[str]:
    """The places that a name covers: "top left" -> top, left."""
    words = [PLACE_NAMES.get(word, word) for word in place.lower().replace("-", " ").split()]
    return [word for word in words if word in PLACES]


def color_shares(clip: Clip) -> dict[str, float]:
    """Share of the picture by base colour, largest first: shades of one colour add up."""
    shares: dict[str, float] = {}
    for name, share in clip.colors:
        if color := base_color(name):
            shares[color] = shares.get(color, 0.0) + share
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def color_names(clip: Clip) -> dict[str, float]:
    """As `color_shares`, by the common name of its largest shade: "beige" for a brown that is beige."""
    named: dict[str, float] = {}
    for color, share in color_shares(clip).items():
        most, part = max(((n, s) for n, s in clip.colors if base_color(n) == color), key=lambda own: own[1])
        word = most.split()[-1]
        named[word if word not in COLORS and part > share / 2 else color] = share
    return named


def counts(clip: Clip) -> dict[str, int]:
    """The number of recognised objects by name."""
    found: dict[str, int] = {}
    for name, _ in clip.objects:
        found[name.lower()] = found.get(name.lower(), 0) + 1
    return found


def traits_of(clip: Clip, probe: Probe | None = None, has_text: bool = False) -> dict[str, float]:
    """The traits of a clip with their strengths, 0 to 1."""
    found: dict[str, float] = {}
    if clip.keyframe or clip.colors:
        _picture(clip, found)
        if has_text:
            found["text"] = 1.0
        if probe and probe.width and probe.height:
            found["portrait" if probe.height > probe.width else "landscape"] = 1.0
    if clip.sound in SOUNDS:
        found[f"sound {clip.sound}"] = _surely(clip.confidences.sound)
        if clip.sound != "silence":
            if clip.loudness >= LOUD:
                found["loud"] = 1.0
            elif clip.loudness <= QUIET:
                found["quiet"] = 1.0
    return found


def _surely(sure: float | None) -> float:
    """The strength of a trait by its confidence. Uncertain traits stay, and rank lower."""
    return 1.0 if sure is None else 0.8 + 0.2 * sure


def moves(clip: Clip) -> bool:
    """Whether an object moves, apart from the camera."""
    return clip.direction is not None or (clip.motion >= MOVING and clip.camera in ("static", "shaky"))


def _picture(clip: Clip, found: dict[str, float]) -> None:
    for number, (color, share) in enumerate(color_shares(clip).items()):
        if share >= 0.005:  # a small object is as certain as a large one
            found[color] = min(1.0, 0.6 + 1.6 * share)
        if share >= MAIN_SHARE and number == 0:
            found[f"mostly {color}"] = min(1.0, 0.6 + 0.5 * share)
    for place, name in clip.regions:
        if there := base_color(name):
            for spot in places(place):
                found[f"{spot} {there}"] = 1.0
            found.setdefault(there, 0.6)
    if moves(clip):
        found["moving"] = 1.0
        if clip.direction in DIRECTIONS:
            found[f"moves {clip.direction}"] = _surely(clip.confidences.direction)
        found["fast" if clip.motion >= FAST else "slow"] = 1.0
    elif clip.camera == "static":
        found["still"] = 1.0
    if clip.camera in CAMERA:
        found[f"camera {clip.camera}"] = _surely(clip.confidences.camera)
    if clip.brightness >= BRIGHT:
        found["bright"] = 0.8 + 0.2 * (clip.brightness - BRIGHT) / (1 - BRIGHT)
    elif clip.brightness <= DARK:
        found["dark"] = 0.8 + 0.2 * (DARK - clip.brightness) / DARK
    if clip.cut:
        found["cut"] = 1.0
    for name, sure in clip.objects:
        if name in ("face", "person"):
            found[name] = max(found.get(name, 0.0), min(1.0, 0.5 + 0.5 * sure))
    if clip.face_height and "face" in found:  # a query for a face prefers large ones
        found["face"] *= min(1.0, max(0.6, clip.face_height / LARGE_FACE))
    number_of = counts(clip)
    if number_of.get("person") == 1 and any(
        thing.name == "person" and thing.box[3] > TALL for thing in clip.things
    ):
        found["alone"] = 1.0
    if number_of.get("face", 0) > 1 or number_of.get("faces"):
        found["faces"] = found["people"] = 1.0
    if number_of.get("person", 0) > 1 or number_of.get("people"):
        found["people"] = 1.0


@dataclass(frozen=True)
class Words:
    """The words of a clip by kind of evidence; "" without evidence."""

    seen: str  # colours, places, motion, camera, light, faces
    shown: str  # text on screen
    heard: str  # kind of sound
    said: str  # speech
    maybe: str  # other readings, a line each, a paragraph per span of text and speech; never quoted
    named: str  # recognised objects by name
    traits: tuple[tuple[str, float], ...]  # trait, strength 0..1


def words_of(clip: Clip, evidence: Evidence) -> Words:
    """All words of a clip."""
    shown = screen_text_between(evidence, clip.start_sec, clip.end_sec)
    said = speech_between(evidence, clip.start_sec, clip.end_sec)
    traits = traits_of(clip, evidence.probe, bool(shown))
    for kind, spans in (("text", shown), ("speech", said)):
        traits |= {f"{kind} {name}": sure for name, sure in sure_languages(spans).items()}
    maybe = "\n\n".join(map(_readings, (*shown, *said)))
    return Words(
        seen=visual_words(clip),
        shown=joined(shown),
        heard=audio_words(clip),
        said=joined(said),
        maybe=maybe if maybe.strip() else "",
        named=" ".join(dict.fromkeys([name for name, _ in clip.objects] + _names(clip))),
        traits=tuple(sorted(traits.items())),
    )


def _names(clip: Clip) -> list[str]:
    """The names of recognised objects."""
    return [word for found in names_of(clip) for word in (found.name, found.kind) if word]


def _readings(span: Span) -> str:
    return "\n".join(filter(None, span.alternatives))


# ---------------------------------------------------------------------------------------- sentences


def visual_words(clip: Clip) -> str:
    """The visual traits: "mostly green picture, red on the left, moves right, bright"."""
    if not (clip.keyframe or clip.colors):
        return ""
    parts = [*object_words(clip), color_words(clip), *region_words(clip), *motion_words(clip)]
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
    """People and objects with their number: ["2 people", "a dog"]; faces if there are no people."""
    found = counts(clip)
    people = people_in(clip)
    words = [_number(people, "person")] if people else []
    words += [_number(name.count, name.name) for name in names_of(clip)]
    if not people:
        words += [_number(count, name) for name, count in found.items() if name not in ("person",)]
    return words


def _number(count: int, name: str) -> str:
    if count == 1:
        return f"{'an' if name[0] in 'aeiou' else 'a'} {name}" if not name.endswith("s") else name
    return f"{count} {'people' if name == 'person' else name + 's'}"


def motion_words(clip: Clip) -> list[str]:
    """Motion of objects and of the camera: ["moves left fast", "camera zooms in"]."""
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


def audio_words(clip: Clip) -> str:
    """The class of the sound: "music, loud"; "" if unknown."""
    if clip.sound not in SOUNDS or (clip.sound == "silence" and clip.loudness <= -99.0):
        return ""
    words = "someone speaks" if clip.sound == "speech" else clip.sound
    if clip.sound == "silence":
        return words
    level = "loud" if clip.loudness >= LOUD else "quiet" if clip.loudness <= QUIET else ""
    return f"{words}, {level}" if level else words


def listed(names: Iterable[str]) -> str:
    """Names as a list in words: "a, b and c"."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


# ---------------------------------------------------------------------------------- shown and spoken


def speech_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The sentences spoken between two times."""
    return _between(evidence.speech, start, end)


def screen_text_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The lines of text on screen between two times."""
    return _between(evidence.shown, start, end)


def _between(spans: Iterable[Span], start: float, end: float) -> list[Span]:
    """Spans that overlap the range by at least half a second, or a third of a short span."""
    found = [
        span
        for span in spans
        if span.start_sec < end  # the cheap test first: a long video has thousands of spans
        and span.end_sec > start
        and min(end, span.end_sec) - max(start, span.start_sec)
        >= min(0.5, max(0.02, (span.end_sec - span.start_sec) / 3))
    ]
    return sorted(found, key=lambda span: (span.start_sec, span.end_sec))


def joined(spans: Iterable[Span]) -> str:
    """The distinct texts of spans, in order."""
    return " ".join(dict.fromkeys(span.text.strip() for span in spans))
