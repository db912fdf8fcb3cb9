"""Patterns of English queries: phrases that name traits, and stop words."""

from __future__ import annotations

import re

from tl_data.local.perception.attributes import CAMERA, COLOR_NAMES, COLORS
from tl_data.local.perception.languages import NAMES

#: Traits that explain a phrase, each with its credit: how well it explains the phrase, 0 to 1.
Traits = tuple[tuple[str, float], ...]
Rules = tuple[tuple[re.Pattern[str], Traits], ...]


def word_set(text: str) -> frozenset[str]:
    """The words of a text."""
    return frozenset(text.split())


#: Words that a search ignores.
STOP_WORDS = word_set(
    """a about after all also am an and any anybody anyone anything anywhere are
    as at be been before being between both but by can clip clips
    contains containing could did do does during each else find for from frame footage get give has have
    having he her here him his how i if in into is it its just let like look looks looking many may me might
    moment moments more most much my near no not now of off on one only onto or other our out over part
    parts per please scene scenes section segment she shot shots should show showing shown shows so some
    somebody someone something stuff such than that the their them then there these they this those through
    time to too under until up upon us very video videos was we were what when where which while who whom
    whose why will with within without would you your visible seen appear appears appearing happens
    happening gets got go goes s t re ve ll d m"""
)
#: Generic nouns. They are not searched if the query also names a trait ("red box") or has another word.
GENERIC = word_set(
    """object objects thing things shape shapes figure figures item items element elements ball balls circle
    circles disc disk dot square squares box boxes block blocks rectangle rectangles bar bars triangle
    triangles star spot patch area region colored coloured color colour colors colours picture image screen
    side background foreground backdrop form blob"""
)

#: Parts of the phrases of the rules, by name.
_GROUPS = {
    "COLOR": "|".join(sorted({*COLORS, *COLOR_NAMES}, key=len, reverse=True)),
    "LANGUAGE": f"({'|'.join(name.lower() for name in NAMES.values())})",
    "TEXT": "(?:text|captions?|subtitles?|titles?|signs?|slides?|words|writing|written|letters|labels?)",
    "SPEECH": "(?:speech|speak(?:s|ing|ers?)?|spoken|talk(?:s|ing)?|voice|narration|audio|conversation)",
    "DIRECTION": "(left|right|up|down)(?:wards?)?",
    "TOWARDS": "(?: \\w+ly)?(?: (?:to|towards?))?(?: the)? ",
    "MOVE": (
        "(?:mov(?:e|es|ed|ing|ements?)|motion|slid(?:e|es|ing)|go(?:es|ing)?|travel(?:s|ling|ing)?"
        "|drift(?:s|ing)?|glid(?:e|es|ing)|fl(?:y|ies|ying)|cross(?:es|ing)?|head(?:s|ing)?|shift(?:s|ing)?"
        "|roll(?:s|ing)?|pass(?:es|ing)?|float(?:s|ing)?|scroll(?:s|ing)?|sweep(?:s|ing)?)"
    ),
    "PERSON": "(?:man|woman|boy|girl|lady|guy|child|toddler|gentleman)",
    "PEOPLE": "(?:men|women|boys|girls|ladies|guys|children)",
    "SEVERAL": "(?:two|three|four|five|six|several|many|both|(?:a )?(?:groups?|crowds?) of)",
    "MOSTLY": "(?:(?:most|main|large|entire|complete|total|ful|whol)ly|(?:almost )?all|solid|dominated by)",
    "AREA": "(?:background|backdrop|screen|picture|frame|image|scene|wall|surface|field|tint|view)",
    "BECOMES": "(?:(?:goes|is|looks|turns|was) )?",
    "SHADE": "(?:(?:light|dark|pale|bright|deep|vivid|neon|pastel|strong) )?",
    # What may follow a colour that is used as a noun. In "on red tiles", the colour describes the tiles.
    "END": "(?=\\s*$|\\s+(?:and|as|at|but|from|in|is|that|to|when|where|which|while|with)\\b)",
}

#: Traits for all movements of the camera.
_CAMERA_MOVES = [f"camera {move}" for move in CAMERA if move != "static"]

# Each line: a phrase => its traits, separated by semicolons, with their credits (without one: 1).
# In a phrase, {NAME} is a group of `_GROUPS`, a space matches any white space, and `[ -]` also a hyphen.
# In a trait, {0} is what the phrase captured; `turn {0}` is the camera movement in this direction, and
# {CAMERA} all of `_CAMERA_MOVES`.
# A match removes its words from the query, so the order matters: "red background" comes before "red".
_MOVEMENT_RULES = """
    {LANGUAGE}[ -]{TEXT}(?: on (?:the )?screen)?\\b        => text {0}
    {TEXT}(?: on (?:the )?screen)? in {LANGUAGE}\\b        => text {0}
    {LANGUAGE}[ -](?:{SPEECH}|voice[ -]?over)\\b           => speech {0}
    (?:someone |somebody )?{SPEECH}(?: in)? {LANGUAGE}\\b  => speech {0}
    in {LANGUAGE}\\b                                       => text {0}; speech {0}
    camera (?:is )?(?:mov|go|travel|sweep|swing|turn)\\w*{TOWARDS}{DIRECTION} => turn {0}
    camera (?:is )?(?:mov|go|get)\\w* (?:closer|in|nearer|forward) => camera zoom in
    camera (?:is )?(?:mov|go|pull)\\w* (?:away|back|out|backwards?) => camera zoom out
    (?:camera )?(?:pans?|panning|panned){TOWARDS}{DIRECTION} => turn {0}
    (?:camera )?(?:pans?|panning|panned)\\b                => camera pan left; camera pan right
    (?:camera )?tilt(?:s|ing|ed)?{TOWARDS}{DIRECTION}      => turn {0}
    (?:camera )?tilt(?:s|ing|ed)?\\b                       => camera tilt up; camera tilt down
    (?:camera )?zoom(?:s|ing|ed)? (in|out)                 => camera zoom {0}
    (?:camera )?zoom(?:s|ing|ed)?\\b                       => camera zoom in; camera zoom out
    camera (?:is )?(?:mov(?:e|es|ed|ing|ements?)|motion)\\b|moving camera => {CAMERA}
    (?:static|still|fixed|steady|locked|unmoving) (?:camera|shot) => camera static
    camera (?:is |stays )?(?:static|still|fixed|steady)    => camera static
    shaky(?: camera)?|hand[ -]?held(?: camera)?|camera shak\\w+ => camera shaky
    (?:{MOVE} )?(?:from )?(?:the )?(?:left|right) to (?:the )?(left|right) => moves {0}
    {MOVE}{TOWARDS}{DIRECTION}(?: side)?                   => moves {0}
    (left|right|up|down)wards?(?: (?:motion|movement))?    => moves {0}
    ris(?:es|ing)\\b|ascend\\w*|climb(?:s|ing)             => moves up
    fall(?:s|ing)\\b|descend\\w*|dropp?(?:s|ing)\\b|sink(?:s|ing)\\b => moves down
    nothing (?:is )?mov\\w+|no (?:motion|movement)|motionless => still
    stationary|stand(?:s|ing) still|still (?:picture|image|frame|scene) => still
    (?:in )?(?:motion|movement)\\b|mov(?:es|ing)\\b(?: (?:around|across))? => moving
    fast(?:er)?\\b|quick(?:ly)?\\b|rapid(?:ly)?\\b         => fast
    slow(?:ly|er)?\\b                                      => slow
"""
_OTHER_RULES = """
    {MOSTLY} (?:\\w+ly )?{SHADE}({COLOR})\\b(?: {AREA})?   => mostly {0}; {0} 0.6
    (?:everything|it all) {BECOMES}(?:\\w+ly )?{SHADE}({COLOR})\\b => mostly {0}; {0} 0.6
    {SHADE}({COLOR}) (?:all over|everywhere|throughout)\\b => mostly {0}; {0} 0.6
    {SHADE}({COLOR}) (?:cover|fill)(?:s|ing)(?: the)?(?: entire| whole)? {AREA}\\b => mostly {0}; {0} 0.6
    (?:nothing but|full of|(?:covered|filled) (?:in|with)) {SHADE}({COLOR}){END} => mostly {0}; {0} 0.6
    (?:on|over|against|in front of)(?: an?| the)?(?: plain)? {SHADE}({COLOR}){END} => mostly {0}; {0} 0.6
    {SHADE}({COLOR}) {AREA}\\b                             => mostly {0}; {0} 0.6
    (?:(?:entire|whole) )?{AREA} (?:is )?(?:\\w+ly )?{SHADE}({COLOR})\\b => mostly {0}; {0} 0.6
    {SHADE}({COLOR})\\b                                    => {0}
    bright(?:ly lit|ness)?\\b|well[ -]lit|sunny|sunlit     => bright
    dark(?:ness)?\\b|dim(?:ly lit)?\\b|gloomy|unlit|shadowy => dark
    night(?:time)?\\b                                      => dark 0.6
    portraits?\\b(?! (?:video|format|mode))                => face
    (?:human )?faces\\b                                    => faces; face 0.8
    (?:human )?face\\b                                     => face
    (?:close[ -]?up|portrait) of (?:a )?(?:person|man|woman) => face
    (?:{SEVERAL} (?:\\w+ )?(?:people|persons|{PEOPLE})|crowds?) => people; faces 0.9; person 0.2; face 0.2
    (?:(?:one|single|lone) (?:person|{PERSON})|alone|by (?:him|her)self)\\b => alone; person 0.3
    (?:people|persons|humans)\\b                           => people; person 0.95; faces 0.9; face 0.9
    {PEOPLE}\\b                                            => people 0.85; person 0.7; faces 0.7; face 0.6
    (?:person|human|presenter|speaker)\\b                  => person; people 0.95; face 0.9
    {PERSON}\\b                                            => person 0.8; people 0.75; face 0.7
    (?:no|without) (?:sound|audio|speech)|silen(?:t|ce)\\b|muted?\\b => sound silence
    (?:background )?music(?:al)?\\b|songs?\\b|melod(?:y|ies) => sound music
    tunes?\\b|jingles?\\b|soundtrack|chords?\\b|harmon(?:y|ies)\\b|instrumental\\b => sound music
    (?:held|long|musical|sustained) (?:notes?|tones?)\\b   => sound music
    nois(?:e|y)\\b|hiss(?:ing)?\\b|rumbl\\w+               => sound noise
    loud(?:ly)?\\b                                         => loud
    quiet(?:ly)?\\b                                        => quiet; sound silence 0.9
    (?:portrait|vertical) (?:video|format|mode)            => portrait
    (?:landscape|horizontal) (?:video|format|mode)         => landscape
"""


def _compile(rules: str) -> Rules:
    compiled = []
    for line in rules.strip().splitlines():
        phrase, _, trait_list = line.partition(" => ")
        pattern = re.sub(r"\{([A-Z]+)\}", lambda match: _GROUPS[match[1]], phrase.strip())
        pattern = pattern.replace("[ -]?", r"[\s-]*").replace("[ -]", r"[\s-]+").replace(" ", r"\s+")
        traits = []
        for item in trait_list.replace("{CAMERA}", "; ".join(_CAMERA_MOVES)).split(";"):
            trait, _, credit = item.strip().rpartition(" ")
            has_credit = re.fullmatch(r"0\.\d+", credit)
            traits.append((trait, float(credit)) if has_credit else (item.strip(), 1.0))
        compiled.append((re.compile(rf"\b(?:{pattern})\b"), tuple(traits)))
    return tuple(compiled)


#: Rules that apply before `PLACE`: "left" in "to the left" is a direction.
MOVEMENT_RULES = _compile(_MOVEMENT_RULES)
#: Rules that apply after `PLACE`.
OTHER_RULES = _compile(_OTHER_RULES)

#: A place in the picture: "on the left", "upper right corner".
PLACE = re.compile(
    r"\b(?:(?:on|in|at|to|near|along|from)\s+(?:the\s+)?|the\s+)(?:(?:far|very)\s+)?"
    r"(left|right|top|bottom|upper|lower|center|centre|middle)(?:[\s-]+(left|right))?(?:[\s-]+hand)?"
    r"(?:\s+(?:side|half|corner|edge|part))?(?:\s+of\s+(?:the\s+)?(?:screen|frame|picture|image|video))?\b"
    r"|\b(left|right|top|bottom)(?:\s+(?:side|half|corner|edge|part))\b"
)
#: Words that ask for speech.
SPEECH_CUE = re.compile(
    r"\b(?:says?|said|saying|talk(?:s|ed|ing)?(?:\s+(?:about|of))?|speak(?:s|ing)?(?:\s+(?:about|of))?|spoken"
    r"|spoke\s+(?:about|of)|mention(?:s|ed|ing)?|discuss(?:es|ed|ing)?|explain(?:s|ed|ing)?|tell(?:s|ing)?|told"
    r"|announc(?:e|es|ed|ing)|narrat(?:or|ion|es|ed)|voice(?:\s?over)?|speech|hear(?:s|d)?|words?\s+spoken"
    r"|conversation|spoken\s+words?)\b"
)
#: The subject of a verb of speaking, as in "the presenter says". It is not searched.
SPEAKER = re.compile(
    r"\b(?:(?:the|a|an)\s+)?(?:speaker|narrator|presenter|voice|man|woman|person|host|lady|guy|people)"
    rf"(?:\s+(?:is|was|are))?(?:\s+\w+ly)?\s+(?={SPEECH_CUE.pattern})"
)
#: Words that ask for text on screen.
SCREEN_TEXT_CUE = re.compile(
    r"\b(?:text|title|titles|captions?|captioned|slides?|signs?|headings?|headlines?|subtitles?|banner|label"
    r"|labels|labell?ed|written|reads|reading|on[\s-]screen|on\s+the\s+screen|displayed|displays?|letters"
    r"|words?\s+shown)\b"
)
#: Words for any text on screen, whatever it reads.
ANY_TEXT = re.compile(r"\b(?:text|letters|writing|print|printed)\b")
QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{1,200})[\"“”«»]|(?<!\w)['‘]([^'‘’]{2,200})['’](?!\w)")
