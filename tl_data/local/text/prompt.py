"""Parses prompts for the built-in writer, with patterns for English.

- `parse_omissions`: evidence to leave out ("without mentioning colors", "don't quote the speech").
- `parse_time_range`: the part of the video ("at 0:15", "the first 10 seconds", "from 1:00 to 2:00").
- `parse_prompt`: the kind, length, form and subject of the text.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

from tl_data.local.perception.evidence import Clip, Evidence, Span
from tl_data.local.search.parser import tokens
from tl_data.local.search.patterns import SCREEN_TEXT_CUE, SPEECH_CUE, STOP_WORDS, word_set

#: Kind of evidence -> pattern of its names in prompts.
_EVIDENCE_KINDS = {
    "colors": r"colou?rs?",
    "motion": r"motions?|movements?|camera(?: (?:work|moves?|movements?|motions?))?",
    "sound": r"sounds?|music|audio",
    "speech": r"speech|spoken (?:words|text)|what is (?:said|spoken)|dialog(?:ue)?s?",
    "text": r"(?:on[- ]?screen |screen )?text(?: on (?:the )?screen)?|captions?|subtitles?",
}
_KIND = rf"(?:(?:the|any|all|of)\s+)*(?:{'|'.join(_EVIDENCE_KINDS.values())})\b"
_LIST = rf"{_KIND}(?:(?:\s*,\s*(?:(?:and|or|nor)\s+)?|\s+(?:and|or|nor)\s+){_KIND})*"
_MENTION = (
    r"(?:mention(?:ing)?|includ(?:e|ing)|describ(?:e|ing)|nam(?:e|ing)|quot(?:e|ing)|list(?:ing)?"
    r"|tell(?:ing)?(?: me)? (?:of|about)|talk(?:ing)? about|refer(?:ring)? to)"
)
#: Instructions to leave out evidence: "without mentioning colors", "skip the music", "no sound".
_OMIT = re.compile(
    # After "without mentioning", all words up to the next punctuation mark or "but" are removed from the
    # prompt. After a bare "without" or "no", only the nouns are removed.
    rf"\b(?:without|avoid|no|not|never|don['’]?t)\s+{_MENTION}\s+(?P<verb>{_LIST})(?:(?!\bbut\b)[^.,;:!?])*"
    rf"|\b(?:leav(?:e|ing) out|omit(?:ting)?|skip(?:ping)?|ignor(?:e|ing)|exclud(?:e|ing)|avoid(?:ing)?)\s+"
    rf"(?P<left>{_LIST})"
    # "a scene with no sound" describes a scene and leaves nothing out.
    rf"|(?<!\bis )(?<!\bare )(?<!\bhas )(?<!\bhave )(?<!\bwith )(?:\bwithout|\bno)\s+(?P<bare>{_LIST})",
    re.IGNORECASE,
)


def parse_omissions(prompt: str) -> tuple[frozenset[str], str]:
    """The kinds of evidence to leave out, and the prompt without the words that name them."""
    kinds: set[str] = set()
    for match in _OMIT.finditer(prompt):
        kind_words = match["verb"] or match["left"] or match["bare"]
        kinds |= {
            kind
            for kind, words in _EVIDENCE_KINDS.items()
            if re.search(rf"\b(?:{words})\b", kind_words, re.I)
        }
    return frozenset(kinds), _OMIT.sub(" ", prompt)


def remove_evidence(evidence: Evidence, kinds: frozenset[str]) -> Evidence:
    """Remove these kinds of evidence."""
    if not kinds:
        return evidence
    return replace(
        evidence,
        clips=tuple(_clip_without(clip, kinds) for clip in evidence.clips),
        speech=() if "speech" in kinds else evidence.speech,
        shown=() if "text" in kinds else evidence.shown,
    )


def _clip_without(clip: Clip, kinds: frozenset[str]) -> Clip:
    if "colors" in kinds:
        clip = replace(clip, colors=(), regions=(), confidences=replace(clip.confidences, colors=None))
    if "motion" in kinds:
        without_motion = replace(clip.confidences, motion=None, direction=None, camera=None)
        clip = replace(clip, motion=0.0, direction=None, camera="", confidences=without_motion)
    if "sound" in kinds:
        clip = replace(
            clip, sound="silence", sound_descriptor=(), confidences=replace(clip.confidences, sound=None)
        )
    return clip


MOMENT = 0.5  # length in seconds of the range that "at 0:15" names
EDGE, LEAST = 0.1, 5.0  # the length of "the beginning": a share of the video, but at least these seconds

NUMBERS = {
    "a": 1, "an": 1, "one": 1, "single": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7,
    "eight": 8, "nine": 9, "ten": 10, "twelve": 12, "fifteen": 15, "twenty": 20, "fifty": 50, "hundred": 100,
}  # fmt: skip

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}  # first letter of a unit -> seconds
_LENGTH = (
    r"(?:\d+(?:\.\d+)?[\s-]*(?:s|secs?|seconds?|m|mins?|minutes?|h|hours?)\b"
    rf"|(?:{'|'.join(NUMBERS)})[\s-]+(?:seconds?|minutes?|hours?)\b)"
)
_CLOCK = r"\d{1,3}:\d\d(?::\d\d)?"
_TIME = rf"(?:{_CLOCK}|(?:second|minute)\s+\d+|{_LENGTH})"
#: What must follow "the beginning" or "the end" of the video: "the end of the street" names no time.
_EDGE = r"(?:\s+of\s+(?:the|this)\s+(?:video|clip|film|recording)\b|(?=\W*$|[,.;:?!]))"
#: Phrases that name a time range. The names are the keys of `_RANGE_BUILDERS`; the groups are the times.
#: In "both", one unit follows two numbers: "from 5 to 10 seconds".
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
class TimeRange:
    """A part of a video, in seconds from its start; negative values count from its end."""

    start_sec: float = 0.0
    end_sec: float = float("inf")
    edge: str = ""  # "start" or "end" of the video; the length of the range then depends on the video
    ambiguous: bool = False  # whether the time may belong to an event: "what happens after 20 minutes"

    def within(self, duration: float) -> tuple[float, float] | None:
        """Start and end in a video of `duration` seconds; None if the range begins after its end."""
        edge = min(duration, max(LEAST, EDGE * duration))
        if self.edge:
            return (0.0, edge) if self.edge == "start" else (duration - edge, duration)
        start = max(0.0, self.start_sec + duration) if self.start_sec < 0 else self.start_sec
        return (start, min(self.end_sec, duration)) if start < min(self.end_sec, duration) else None


def parse_time_range(text: str) -> tuple[TimeRange | None, str]:
    """The time range that a prompt names (None if it names none), and the prompt without it."""
    for name, pattern in _PHRASES:
        if match := pattern.search(text):
            groups = match.groups()
            times = (
                [seconds(time + groups[2]) for time in groups[:2]]
                if name == "both"
                else list(map(seconds, groups))
            )
            time_range = _RANGE_BUILDERS[name](*times)
            if name in ("after", "before"):
                time_range = replace(time_range, ambiguous=":" not in groups[0])
            rest = " ".join((text[: match.start()] + " " + text[match.end() :]).split())
            return time_range, re.sub(r"\s+([?.!,])", r"\1", rest)
    return None, text


#: Name of a phrase -> the function that makes a time range of its times.
_RANGE_BUILDERS: dict[str, Callable[..., TimeRange]] = {
    **dict.fromkeys(("between", "both"), lambda start, end: TimeRange(min(start, end), max(start, end))),
    "first": lambda length: TimeRange(0.0, length),
    "last": lambda length: TimeRange(-length),
    "after": TimeRange,
    "before": lambda end: TimeRange(0.0, end),
    "at": lambda at: TimeRange(at, at + MOMENT),
    "start": lambda: TimeRange(edge="start"),
    "end": lambda: TimeRange(edge="end"),
}


def seconds(time: str) -> float:
    """Convert a time to seconds: "1:02:03", "90 s", "two minutes" or "minute 3"."""
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
    """The evidence of a time range: the whole clips, sentences and lines that overlap it."""
    return replace(
        evidence,
        clips=_overlapping(evidence.clips, start, end),
        speech=_overlapping(evidence.speech, start, end),
        shown=_overlapping(evidence.shown, start, end),
    )


def _overlapping(items: tuple[T, ...], start: float, end: float) -> tuple[T, ...]:
    """The items that overlap the range by more than 0.3 s, or by 30 % of the shorter of the two."""
    return tuple(
        item
        for item in items
        if min(item.end_sec, end) - max(item.start_sec, start)
        > min(0.3, 0.3 * (end - start), 0.3 * (item.end_sec - item.start_sec))
    )


_NUMBER = rf"(\d{{1,4}}|{'|'.join(NUMBERS)})"

#: Kind of text -> pattern. The first pattern that matches the prompt decides the kind.
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
        r"(?: shown| seen| visible| displayed| see| happen(?:ing|ed|s))?(?: here)?\W*$",
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
_VAGUE = (
    r"(?!few\b|couple\b|number\b|set\b|series\b|(?:\w+\s+)?list\b)"  # "a few points" does not mean one point
)

#: Words of a prompt that belong to the instruction and not to the subject.
_ORDERS = word_set(
    """summarize summarise summary summaries describe description detail detailed details detailing write
    give create generate list make provide short brief briefly long concise concisely simple plain
    english sentence sentences bullet bullets point points paragraph paragraphs word words line
    lines form format style use using tone focus focusing especially mainly key main important
    chapter chapters highlight highlights title titles topic topics hashtag hashtags overview
    content contents video videos clip film recording explain tell please maximum minimum most least
    than fewer within each every happens happen happened going doing audience person reader text following
    numbered items order based answer question transcript transcription about executive professional
    friendly report statement caption best good suitable catchy suggest propose break split divide
    timeline outline timestamps timestamp time times starts ends start end takeaways takeaway
    few several couple list lists listing return output exactly precisely roughly approximately less under
    only very extremely tl dr tldr moments moment gist abstract synopsis recap whole entire full complete
    scene scenes section sections part parts step steps single mention include including"""
) | frozenset(NUMBERS)


#: An instruction about the whole video. Sentences after it, as in "Describe this video. Include what is
#: said", say what to look at and name no subject.
_WHOLE = re.compile(
    r"^\W*(?:please\s+)?(?:describe|summari[sz]e|(?:give|provide|generate|write|create)(?: me)? an?"
    r"(?: (?:very|detailed|long|short|brief|full|complete))* (?:description|summary|text|overview))"
    r"(?: (?:of|for|about|from|based on))? (?:the|this)(?: (?:whole|entire|following))? "
    r"(?:video|clip|film|recording)\b(?!['’]s)"
    r"(?!.*\b(?:chapters?|timeline|timestamps?|outline|highlights?|titles?|hashtags?|keywords?|step[- ]by)"
    r"\b)",
    re.IGNORECASE | re.DOTALL,
)
#: "with a focus on the camera work": aspects of film making, which are not the subject.
_CRAFT = re.compile(
    r",? *\b(?:with a )?focus(?:ing|ed)? on (?:(?:the|its|visual|style|lighting"
    r"|camera (?:work|movements?|angles?)"
    r"|composition|cinematography|mood|atmosphere|settings?|subjects?|actions?|and)\b[ ,]*)+",
    re.IGNORECASE,
)
#: A sentence that lists the evidence to use, which is not the subject: "Include the spoken words".
_EVIDENCE_LIST = re.compile(r"[.:;!?]\s+(?:please )?include\b.*", re.IGNORECASE | re.DOTALL)
#: Phrases for the readers, the tone and the purpose of a text, which are not its subject.
_READERS = re.compile(
    r"\b(?:for|aimed at|meant for|addressed to) (?:an? |the |our |my )?(?:[\w-]+ ){0,3}"
    r"(?:audiences?|readers?|viewers?|customers?|teams?|public|kids|children|students|beginners|experts|engineers"
    r"|managers|executives|developers|marketers|investors)\b(?: of [\w-]+)?"
    r"|\b(?:in|with) an? (?:[\w-]+(?:,| and)? ){1,3}(?:tone|style|voice|manner|language)\b"
    r"|\b(?:to be |that (?:can|will) be )used? (?:as|for|in) [^.,;:!?]*",
    re.IGNORECASE,
)


#: Negated instructions: "without bullets", "do not mention colors".
_NOT = re.compile(
    r"\b(?:without|avoid|no|not|never|don['’]?t)\s+"
    r"(?:(?:use|using|mention(?:ing)?|includ(?:e|ing)|writ(?:e|ing)|add(?:ing)?)\b[^.,;:!?]*"
    r"|(?:any\s+)?(?:bullets?(?:\s+points?)?|numbers|numbering|lists?|chapters|timestamps?|titles?|colou?rs)\b)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class PromptIntent:
    """What a prompt asks for."""

    kind: str  # a name in `_KINDS`, or "question"
    sentences: int | None = None
    words: int | None = None
    items: int | None = None  # bullets or list entries
    bullets: bool = False
    numbered: bool = False
    brief: bool = False
    subject: str = ""  # the subject, as a query; "" for the whole video
    time_range: TimeRange | None = None  # the part of the video to write about
    without: frozenset[str] = frozenset()  # kinds of evidence to leave out; see `parse_omissions`


def parse_prompt(prompt: str | None, kind: str | None = None, *, times: bool = True) -> PromptIntent:
    """Parse a prompt.

    Args:
        kind: the kind of text, if the request determines it.
        times: whether a time in the prompt is parsed as a part of the video.
    """
    text = " ".join((prompt or "").split())
    if not text:
        return PromptIntent(kind or "summary")
    time_range, text = parse_time_range(text) if times else (None, text)
    omitted_kinds, plain = parse_omissions(text)
    plain = _NOT.sub(" ", plain)
    if kind or _kind(plain) != "question":
        text = plain
    else:  # a question that contains a negation: "which scenes have no sound"
        omitted_kinds = frozenset()
    is_whole_video = kind is None and _WHOLE.match(text) is not None
    resolved_kind = kind or ("summary" if is_whole_video else _kind(text))
    subject_text = text
    if is_whole_video:
        subject_text = _EVIDENCE_LIST.sub("", _CRAFT.sub(" ", text))
    if resolved_kind != "question":
        subject_text = _READERS.sub(" ", subject_text)
    if (
        resolved_kind == "question"
        and not _subject(text)
        and _has(r"^\W*(?:please\b)?\W*(?:give|write|make|list|tell)\b", text)
    ):
        resolved_kind = "summary"  # the prompt names only a form: "give me three bullets"
    items = _count(rf"{_NUMBER}\s+{_VAGUE}(?:\w+\s+){{0,2}}?{_ITEMS}", text)
    return PromptIntent(
        kind=resolved_kind,
        sentences=_count(rf"{_NUMBER}[\s-]+(?:\w+\s+){{0,1}}?(?:sentences?\b|line(?:r|\s+summary)\b)", text),
        words=_count(rf"{_NUMBER}[\s-]+words?\b", text),
        items=items,
        bullets=_has(r"\bbullet|\bas a list\b", text),
        numbered=_has(r"\bnumbered\b", text),
        brief=_has(r"\b(?:brief|short|concise|tl;?dr|quick)", text),
        subject=_subject(subject_text) if resolved_kind != "question" else text,
        time_range=time_range,
        without=omitted_kinds,
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
    """The words of a prompt that are neither stop words, numbers nor words of the instruction."""
    plain = SPEECH_CUE.sub(" ", SCREEN_TEXT_CUE.sub(" ", text.lower()))
    rest = [word for word in tokens(plain) if word not in STOP_WORDS and word not in _ORDERS]
    return " ".join(word for word in rest if not word.isdigit())
