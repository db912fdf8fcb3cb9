"""Traits of a clip: words of a closed vocabulary for what was measured, each with a strength."""

from __future__ import annotations

from tl_data.local.evidence import Clip, Probe
from tl_data.local.languages import NAMES

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
    *("face", "faces", "person", "people", "text", "portrait", "landscape"),
    *(f"{kind} {name.lower()}" for kind in ("text", "speech") for name in NAMES.values()),
)  # fmt: skip
TRAIT_NUMBER = {trait: number for number, trait in enumerate(TRAITS)}

# Other names of the twelve, as people and other colour tables say them.
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

# Mean flow over the picture, widths per second. A thing that fills a twentieth of it and crosses it in
# three seconds gives 0.015, so whether anything moves is told by a direction as well.
MOVING = 0.015
FAST = 0.08
DARK, BRIGHT = 0.25, 0.65  # mean luma
LOUD, QUIET = -16.0, -38.0  # dBFS
MAIN_SHARE = 0.35  # of the picture, for "mostly green"


def base_color(name: str) -> str | None:
    """The one of the twelve that a colour name means: "dark blue" -> "blue"; None if it is no colour."""
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
    """As `color_shares`, by the word that people have for most of it: "beige" for a brown that is beige."""
    named: dict[str, float] = {}
    for color, share in color_shares(clip).items():
        most, part = max(((n, s) for n, s in clip.colors if base_color(n) == color), key=lambda own: own[1])
        word = most.split()[-1]
        named[word if word not in COLORS and part > share / 2 else color] = share
    return named


def counts(clip: Clip) -> dict[str, int]:
    """How often each kind of object was recognised, by name."""
    found: dict[str, int] = {}
    for name, _ in clip.objects:
        found[name.lower()] = found.get(name.lower(), 0) + 1
    return found


def traits_of(clip: Clip, probe: Probe | None = None, has_text: bool = False) -> dict[str, float]:
    """The measured words that hold for a clip, each with a strength 0..1."""
    found: dict[str, float] = {}
    if clip.keyframe or clip.colors:
        _picture(clip, found)
        if has_text:
            found["text"] = 1.0
        if probe and probe.width and probe.height:
            found["portrait" if probe.height > probe.width else "landscape"] = 1.0
    if clip.sound in SOUNDS:
        found[f"sound {clip.sound}"] = _surely(clip.sure.sound)
        if clip.sound != "silence":
            if clip.loudness >= LOUD:
                found["loud"] = 1.0
            elif clip.loudness <= QUIET:
                found["quiet"] = 1.0
    return found


def _surely(sure: float | None) -> float:
    """The strength of a trait that is so sure: it holds all the same, the surer moment comes first."""
    return 1.0 if sure is None else 0.8 + 0.2 * sure


def moves(clip: Clip) -> bool:
    """Whether something in the picture moves by itself."""
    return clip.direction is not None or (clip.motion >= MOVING and clip.camera in ("static", "shaky"))


def _picture(clip: Clip, found: dict[str, float]) -> None:
    for number, (color, share) in enumerate(color_shares(clip).items()):
        if share >= 0.005:  # a small thing is there as surely as a large one, it only fills less
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
            found[f"moves {clip.direction}"] = _surely(clip.sure.direction)
        found["fast" if clip.motion >= FAST else "slow"] = 1.0
    elif clip.camera == "static":
        found["still"] = 1.0
    if clip.camera in CAMERA:
        found[f"camera {clip.camera}"] = _surely(clip.sure.camera)
    if clip.brightness >= BRIGHT:
        found["bright"] = 0.8 + 0.2 * (clip.brightness - BRIGHT) / (1 - BRIGHT)
    elif clip.brightness <= DARK:
        found["dark"] = 0.8 + 0.2 * (DARK - clip.brightness) / DARK
    if clip.cut:
        found["cut"] = 1.0
    for name, sure in clip.objects:
        if name in ("face", "person"):
            found[name] = max(found.get(name, 0.0), min(1.0, 0.5 + 0.5 * sure))
    number_of = counts(clip)
    if number_of.get("face", 0) > 1 or number_of.get("faces"):
        found["faces"] = found["people"] = 1.0
    if number_of.get("person", 0) > 1 or number_of.get("people"):
        found["people"] = 1.0
