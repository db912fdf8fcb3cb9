"""A prompt -> what is wanted of the text: its kind, its length, its form, its subject."""

from __future__ import annotations

import re
from dataclasses import dataclass

from tl_data.local.cues import EMPTY, SAID, SHOWN, word_set
from tl_data.local.omitting import omitted
from tl_data.local.questions import tokens
from tl_data.local.times import NUMBERS, Stretch, stretch_of

_NUMBER = rf"(\d{{1,4}}|{'|'.join(NUMBERS)})"

# Patterns of each kind; the first kind that matches is meant.
_KINDS: tuple[tuple[str, str], ...] = (
    ("languages", r"\b(?:what|which)\b.{0,30}\blanguages?\b"),
    ("transcript", r"\btranscri\w+|verbatim"),
    ("transcript", r"\b(?:everything|all|what|words)\b.{0,25}\b(?:said|spoken|says)\s*(?:in|$|\?|during|\.)"),
    ("hashtags", r"\bhash ?tags?\b"),
    (
        "titles",
        r"\b(?:suggest|give|write|find|create|generate|propose|need)\b.{0,30}\btitles?\b(?! of| says)",
    ),
    ("titles", r"\b(?:best|good|catchy)\b.{0,20}\btitles?\b|^\s*titles?\b"),
    ("topics", r"\b(?:topics?|keywords?|key words|tags|themes?|subjects?)\b"),
    (
        "chapters",
        r"\bchapters?\b|\btimeline\b|\boutline\b|\btable of contents\b|\btimestamps?\b|step[- ]by[- ]step",
    ),
    ("chapters", r"(?:list|break|split|divide).{0,30}\b(?:scenes|sections|parts|segments)\b|\bin order\b"),
    ("highlights", r"\bhighlights?\b|\btakeaways?\b"),
    (
        "highlights",
        r"\b(?:key|main|important|best|interesting|memorable)\s+(?:moment|point|part|message|fact)s?\b",
    ),
    ("screen", r"\b(?:what|which|all|list|read|extract|every)\b.{0,30}\b(?:text|captions?|slides?|signs?)\b"),
    (
        "screen",
        r"\bwhat(?:'s| is)\b.{0,15}\bon (?:the )?screen\W*$"
        r"|\b(?:words|titles|lines)\b.{0,30}\b(?:shown|screen|displayed|written)\b|\bon-?screen text\b",
    ),
    ("length", r"\bhow long\b.{0,20}\b(?:video|clip|it|film|recording)\b|\b(?:duration|running time)\b"),
    (
        "format",
        r"\b(?:the|its|what|which|video|picture|file) "
        r"(?:resolution|orientation|aspect ratio|frame rate|fps|codec)"
        r"(?:\W*$| (?:of|does|has|is) (?:the|this|it)\b)"
        r"|\bin (?:portrait|landscape|vertical|horizontal)(?: (?:format|mode|orientation|video))?\W*$"
        r"|\b(?:a|what|which|file|video) (?:(?:portrait|landscape|vertical|horizontal) )(?:format|video)\b",
    ),
    ("colors", r"\b(?:what|which|main|dominant|list)\b.{0,20}\bcolou?rs?\b"),
    ("faces", r"\bhow many\b.{0,20}\b(?:people|persons|faces|humans)\b"),
    (
        "summary",
        r"\bsummar\w*|\bdescri(?:be|ption)\b|\boverview\b|\bsynopsis\b|\brecap\b|\btl;?dr\b|\bgist\b",
    ),
    (
        "summary",
        r"\bwhat(?:'s| is| happens| does| do)?\b.{0,30}\b(?:video|clip|film|recording)\b|\babstract\b",
    ),
    (
        "summary",
        r"^\W*what(?:'s| is| was| can be| can you| do you| do we| are)?(?: there)?(?: to be)?"
        r"(?: shown| seen| visible| displayed| see| happening)?\W*$",
    ),
    (
        "summary",
        r"\babout\?*$|\bwhat (?:is going on|happens|do you see)\b|\b(?:explain|about) (?:the|this) video\b",
    ),
)
_COMPILED = tuple((kind, re.compile(pattern, re.IGNORECASE | re.DOTALL)) for kind, pattern in _KINDS)
_ITEMS = (
    r"(?:bullets?|points?|items?|takeaways?|highlights?|chapters?|titles?|hashtags?|topics?|keywords?|moments?"
    r"|entries|facts?|things|lines|sections?|parts?)\b"
)
_VAGUE = r"(?!few\b|couple\b|number\b|set\b|series\b|(?:\w+\s+)?list\b)"  # "a few points" are not one

# Words of a prompt that say what to do and not what it is about.
_ORDERS = word_set(
    """summarize summarise summary summaries describe description detail detailed details detailing write
    give create generate list make provide short brief briefly long concise concisely simple plain
    english sentence sentences bullet bullets point points paragraph paragraphs word words line
    lines form format style use using tone focus focusing especially mainly key main important
    chapter chapters highlight highlights title titles topic topics hashtag hashtags overview
    content contents video videos clip film recording explain tell please maximum minimum most least
    than fewer within each every happens happen going doing audience person reader text following
    numbered items order based answer question transcript transcription about executive professional
    friendly report statement caption best good suitable catchy suggest propose break split divide
    timeline outline timestamps timestamp time times starts ends start end takeaways takeaway
    few several couple list lists listing return output exactly precisely roughly approximately less under
    only very extremely tl dr tldr moments moment gist abstract synopsis recap whole entire full complete
    scene scenes section sections part parts step steps single mention include including"""
) | frozenset(NUMBERS)


_NOT = re.compile(  # "without bullets", "do not mention colors": what is not wished for
    r"\b(?:without|avoid|no|not|never|don['’]?t)\s+"
    r"(?:(?:use|using|mention(?:ing)?|includ(?:e|ing)|writ(?:e|ing)|add(?:ing)?)\b[^.,;:!?]*"
    r"|(?:any\s+)?(?:bullets?(?:\s+points?)?|numbers|numbering|lists?|chapters|timestamps?|titles?|colou?rs)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Wish:
    """What a prompt asks for."""

    kind: str  # summary, chapters, highlights, titles, topics, hashtags, transcript, screen, ..., or question
    sentences: int | None = None
    words: int | None = None
    items: int | None = None  # bullets or list entries
    bullets: bool = False
    numbered: bool = False
    brief: bool = False
    subject: str = ""  # what it should be about, as a query; "" for the whole video
    stretch: Stretch | None = None  # the part of the video that it should be about
    without: frozenset[str] = frozenset()  # kinds of evidence to leave out; see omitting.py


def read(prompt: str | None, kind: str | None = None, *, times: bool = True) -> Wish:
    """Understand a prompt as far as patterns can.

    Args:
        kind: given where the request itself names it.
        times: whether a time in it means a part of the video, and not something shown or said.
    """
    text = " ".join((prompt or "").split())
    if not text:
        return Wish(kind or "summary")
    stretch, text = stretch_of(text) if times else (None, text)
    without, plain = omitted(text)
    plain = _NOT.sub(" ", plain)
    if kind or _kind(plain) != "question":
        text = plain
    else:  # a question about what is not there
        without = frozenset()
    found = kind or _kind(text)
    if (
        found == "question"
        and not _subject(text)
        and _has(r"^\W*(?:please\b)?\W*(?:give|write|make|list|tell)\b", text)
    ):
        found = "summary"  # an order that names only a form: "give me three bullets"
    items = _count(rf"{_NUMBER}\s+{_VAGUE}(?:\w+\s+){{0,2}}?{_ITEMS}", text)
    return Wish(
        kind=found,
        sentences=_count(rf"{_NUMBER}[\s-]+(?:\w+\s+){{0,1}}?(?:sentences?\b|line(?:r|\s+summary)\b)", text),
        words=_count(rf"{_NUMBER}[\s-]+words?\b", text),
        items=items,
        bullets=_has(r"\bbullet|\bas a list\b", text),
        numbered=_has(r"\bnumbered\b", text),
        brief=_has(r"\b(?:brief|short|concise|tl;?dr|quick)", text),
        subject=_subject(text) if found != "question" else text,
        stretch=stretch,
        without=without,
    )


def _kind(text: str) -> str:
    return next((name for name, pattern in _COMPILED if pattern.search(text)), "question")


def _has(pattern: str, text: str) -> bool:
    return re.search(pattern, text, re.IGNORECASE) is not None


def _count(pattern: str, text: str) -> int | None:
    match = re.search(rf"\b{pattern}", text, re.IGNORECASE)
    if not match:
        return None
    word = match.group(1).lower()
    return max(1, min(200, NUMBERS.get(word) or int(word)))


def _subject(text: str) -> str:
    """What an order is about: its words without those that give the order."""
    plain = SAID.sub(" ", SHOWN.sub(" ", text.lower()))
    rest = [word for word in tokens(plain) if word not in EMPTY and word not in _ORDERS]
    return " ".join(word for word in rest if not word.isdigit())
