"""Traits and words of a clip.

A trait is one of a fixed list of properties (`TRAITS`): colours, places, motion, camera, light, faces and
people, sound, format. Each trait of a clip has a strength. Search adds the strengths up. Vectors and texts
contain the traits as phrases. Words on screen and in speech can be any words.
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

#: Other colour names -> one of the twelve colours.
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
#: Other names of places -> one of `PLACES`.
PLACE_NAMES = {"middle": "center", "centre": "center", "upper": "top", "lower": "bottom"}

# Mean optical flow from which a clip counts as moving or fast, in picture widths per second. An object that
# fills a twentieth of the picture and crosses it in three seconds gives 0.015. Smaller motion counts only if
# it has a direction.
MOVING = 0.015
FAST = 0.08
DARK, BRIGHT = 0.25, 0.65  # largest mean luma of a dark clip, smallest of a bright one
LOUD, QUIET = -16.0, -38.0  # smallest loudness of a loud clip, largest of a quiet one, in dBFS
LARGE_FACE = 0.35  # height of a face in a portrait, as a share of the picture's height
TALL = 0.35  # smallest height of a person who is the subject, as a share of the picture's height
MAIN_SHARE = 0.35  # smallest share of the picture for "mostly green"


def base_color(name: str) -> str | None:
    """The base colour of a colour name: "dark blue" -> "blue"; None if the name has no colour."""
    for word in reversed(name.lower().replace("-", " ").split()):
        if word in COLORS:
            return word
        if word in COLOR_NAMES:
            return COLOR_NAMES[word]
    return None


def places(place: str) -> list[str]:
    """The places that a name consists of: "top left" -> ["top", "left"]."""
    words = [PLACE_NAMES.get(word, word) for word in place.lower().replace("-", " ").split()]
    return [word for word in words if word in PLACES]


def color_shares(clip: Clip) -> dict[str, float]:
    """The share of the picture by base colour, largest first. Shades of one colour are added up."""
    shares: dict[str, float] = {}
    for name, share in clip.colors:
        if color := base_color(name):
            shares[color] = shares.get(color, 0.0) + share
    return dict(sorted(shares.items(), key=lambda item: (-item[1], item[0])))


def color_names(clip: Clip) -> dict[str, float]:
    """As `color_shares`, but a shade that makes up most of its base colour gives the name: "beige"."""
    shares: dict[str, float] = {}
    for color, share in color_shares(clip).items():
        shade, shade_share = max(
            ((n, s) for n, s in clip.colors if base_color(n) == color), key=lambda item: item[1]
        )
        word = shade.split()[-1]
        shares[word if word not in COLORS and shade_share > share / 2 else color] = share
    return shares


def counts(clip: Clip) -> dict[str, int]:
    """The number of people and faces of a clip, by `person` and `face`; see `Clip.objects`."""
    counts_by_name: dict[str, int] = {}
    for name, _ in clip.objects:
        counts_by_name[name.lower()] = counts_by_name.get(name.lower(), 0) + 1
    return counts_by_name


def traits_of(clip: Clip, probe: Probe | None = None, has_text: bool = False) -> dict[str, float]:
    """The traits of a clip with their strengths, 0 to 1."""
    traits: dict[str, float] = {}
    if clip.keyframe or clip.colors:
        _add_picture_traits(clip, traits)
        if has_text:
            traits["text"] = 1.0
        if probe and probe.width and probe.height:
            traits["portrait" if probe.height > probe.width else "landscape"] = 1.0
    if clip.sound in SOUNDS:
        traits[f"sound {clip.sound}"] = _strength(clip.confidences.sound)
        if clip.sound != "silence":
            if clip.loudness >= LOUD:
                traits["loud"] = 1.0
            elif clip.loudness <= QUIET:
                traits["quiet"] = 1.0
    return traits


def _strength(confidence: float | None) -> float:
    """The strength of a trait from its confidence. Uncertain traits are kept and rank lower."""
    return 1.0 if confidence is None else 0.8 + 0.2 * confidence


def moves(clip: Clip) -> bool:
    """Whether an object moves, not only the camera."""
    return clip.direction is not None or (clip.motion >= MOVING and clip.camera in ("static", "shaky"))


def _add_picture_traits(clip: Clip, traits: dict[str, float]) -> None:
    """Add the traits of a clip's pictures to `traits`."""
    for number, (color, share) in enumerate(color_shares(clip).items()):
        if share >= 0.005:  # 0.5 %: small objects count
            traits[color] = min(1.0, 0.6 + 1.6 * share)
        if share >= MAIN_SHARE and number == 0:
            traits[f"mostly {color}"] = min(1.0, 0.6 + 0.5 * share)
    for place, name in clip.regions:
        if region_color := base_color(name):
            for position in places(place):
                traits[f"{position} {region_color}"] = 1.0
            traits.setdefault(region_color, 0.6)
    if moves(clip):
        traits["moving"] = 1.0
        if clip.direction in DIRECTIONS:
            traits[f"moves {clip.direction}"] = _strength(clip.confidences.direction)
        traits["fast" if clip.motion >= FAST else "slow"] = 1.0
    elif clip.camera == "static":
        traits["still"] = 1.0
    if clip.camera in CAMERA:
        traits[f"camera {clip.camera}"] = _strength(clip.confidences.camera)
    if clip.brightness >= BRIGHT:
        traits["bright"] = 0.8 + 0.2 * (clip.brightness - BRIGHT) / (1 - BRIGHT)
    elif clip.brightness <= DARK:
        traits["dark"] = 0.8 + 0.2 * (DARK - clip.brightness) / DARK
    if clip.cut:
        traits["cut"] = 1.0
    for name, score in clip.objects:
        if name in ("face", "person"):
            traits[name] = max(traits.get(name, 0.0), min(1.0, 0.5 + 0.5 * score))
    if clip.face_height and "face" in traits:  # a query for a face ranks large faces first
        traits["face"] *= min(1.0, max(0.6, clip.face_height / LARGE_FACE))
    number_of = counts(clip)
    if number_of.get("person") == 1 and any(
        thing.name == "person" and thing.box[3] > TALL for thing in clip.things
    ):
        traits["alone"] = 1.0
    if number_of.get("face", 0) > 1 or number_of.get("faces"):
        traits["faces"] = traits["people"] = 1.0
    if number_of.get("person", 0) > 1 or number_of.get("people"):
        traits["people"] = 1.0


@dataclass(frozen=True)
class Words:
    """The words of a clip by kind of evidence. A field is "" if there is no such evidence."""

    seen: str  # objects, people, colours, places, motion, camera, light
    shown: str  # text on screen
    sound: str  # class and level of the sound
    said: str  # speech
    #: Alternative readings of text and speech: one per line, one paragraph per span. They are never quoted.
    maybe: str
    named: str  # names of recognised objects
    traits: tuple[tuple[str, float], ...]  # (trait, strength 0..1)


def words_of(clip: Clip, evidence: Evidence) -> Words:
    """All words of a clip."""
    screen_text = screen_text_between(evidence, clip.start_sec, clip.end_sec)
    spoken = speech_between(evidence, clip.start_sec, clip.end_sec)
    traits = traits_of(clip, evidence.probe, bool(screen_text))
    for kind, spans in (("text", screen_text), ("speech", spoken)):
        traits |= {f"{kind} {name}": confidence for name, confidence in sure_languages(spans).items()}
    alternatives = "\n\n".join(map(_readings, (*screen_text, *spoken)))
    return Words(
        seen=visual_words(clip),
        shown=join_texts(screen_text),
        sound=audio_words(clip),
        said=join_texts(spoken),
        maybe=alternatives if alternatives.strip() else "",
        named=" ".join(dict.fromkeys([name for name, _ in clip.objects] + _names(clip))),
        traits=tuple(sorted(traits.items())),
    )


def _names(clip: Clip) -> list[str]:
    """The names of recognised objects."""
    return [word for recognised in names_of(clip) for word in (recognised.name, recognised.kind) if word]


def _readings(span: Span) -> str:
    """The alternative readings of a span, one per line."""
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
        return f"mostly {names[0]}" + (f" with {join_names(names[1:])}" if names[1:] else "")
    return join_names(names)


def region_words(clip: Clip) -> list[str]:
    """The colours of places whose colour differs from the main colour: ["red on the left"]."""
    shares = color_shares(clip)
    main = next(iter(shares), None)
    by_color: dict[str, list[str]] = {}
    for place, name in clip.regions:
        color = base_color(name)
        if color and color != main:
            by_color.setdefault(color, []).append(place.lower())
    return [
        f"{color} {_with_preposition(positions[0])}"
        if len(positions) == 1
        else f"{color} {_with_preposition(join_names(positions))}"
        for color, positions in by_color.items()
    ]


def _with_preposition(place: str) -> str:
    """A place with its preposition: "left" -> "on the left"."""
    return f"in the {place}" if place.startswith(("center", "middle", "centre")) else f"on the {place}"


def object_words(clip: Clip) -> list[str]:
    """People and objects with their number: ["2 people", "a dog"]. Without people, faces are counted."""
    numbers = counts(clip)
    people = people_in(clip)
    words = [_counted_name(people, "person")] if people else []
    words += [_counted_name(name.count, name.name) for name in names_of(clip)]
    if not people:
        words += [_counted_name(count, name) for name, count in numbers.items() if name not in ("person",)]
    return words


def _counted_name(count: int, name: str) -> str:
    """A number of things in words: "a dog", "2 people"."""
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
    """Class and level of the sound: "music, loud"; "" if the class is unknown."""
    if clip.sound not in SOUNDS or (clip.sound == "silence" and clip.loudness <= -99.0):
        return ""
    words = "someone speaks" if clip.sound == "speech" else clip.sound
    if clip.sound == "silence":
        return words
    level = "loud" if clip.loudness >= LOUD else "quiet" if clip.loudness <= QUIET else ""
    return f"{words}, {level}" if level else words


def join_names(names: Iterable[str]) -> str:
    """Names as an enumeration: "a, b and c"."""
    items = list(names)
    if len(items) < 2:
        return "".join(items)
    return f"{', '.join(items[:-1])} and {items[-1]}"


# ---------------------------------------------------------------------------- text on screen and speech


def speech_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The sentences spoken between two times."""
    return _between(evidence.speech, start, end)


def screen_text_between(evidence: Evidence, start: float, end: float) -> list[Span]:
    """The lines of text on screen between two times."""
    return _between(evidence.shown, start, end)


def _between(spans: Iterable[Span], start: float, end: float) -> list[Span]:
    """The spans that overlap a range by half a second, or by a third of their length if that is less."""
    overlapping = [
        span
        for span in spans
        if span.start_sec < end  # this cheap test comes first, because a long video has thousands of spans
        and span.end_sec > start
        and min(end, span.end_sec) - max(start, span.start_sec)
        >= min(0.5, max(0.02, (span.end_sec - span.start_sec) / 3))
    ]
    return sorted(overlapping, key=lambda span: (span.start_sec, span.end_sec))


def join_texts(spans: Iterable[Span]) -> str:
    """The distinct texts of spans, in order."""
    return " ".join(dict.fromkeys(span.text.strip() for span in spans))
