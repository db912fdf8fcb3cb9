"""Answers questions about a video with the facts that match, or says that the evidence gives no answer."""

from __future__ import annotations

import re

from tl_data.local.perception.attributes import color_names, counts, join_names
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.languages import language_ranges
from tl_data.local.search import parser
from tl_data.local.search.query import LOW, MEDIUM
from tl_data.local.search.ranking import evidence_kind
from tl_data.local.search.search import find_in_video
from tl_data.local.text import things
from tl_data.local.text.chapters import truncate
from tl_data.local.text.facts import Fact, clock_range, facts_of, sentence, trait_fact
from tl_data.local.text.prompt import PromptIntent

LIMITS = (
    "This engine recognises people, faces and about a thousand kinds of things, reads text on screen, "
    "transcribes speech and measures colours, motion, light and sound; it does not recognise actions or "
    "identify people, and understands English prompts."
)
NO_ANSWER = "The evidence of this video does not answer"
NO_SURE_ANSWER = "Nothing answers this directly."
YES = "Yes, as far as the evidence shows."
_YES_NO = re.compile(r"^\s*(?:is|are|was|were|does|do|did|has|have|can|could|will)\b", re.IGNORECASE)
_WHEN = re.compile(r"^\s*(?:when|at what time|where in)\b|\btimestamp", re.IGNORECASE)
_WHO = re.compile(r"^\s*(?:who|whose|whom)\b", re.IGNORECASE)
#: Words of a question that are not part of its subject.
_QUESTION_WORDS = re.compile(
    r"\b(?:is|are|was|were|does|do|did|has|have|can|could|will|there|any|ever|video|clip|happens?|called|kind|"
    r"sort|type|exactly|please|tell|say|give|many|much)\b",
    re.IGNORECASE,
)
#: "does it move", which is searched as "it moves".
_DOES = re.compile(r"\b(?:does|do|did)\s+((?:\w+\s+){1,4}?)move\b", re.IGNORECASE)
#: The smallest credit at which a trait decides a yes-or-no question. A smaller credit is only an indication.
_CONCLUSIVE = 0.9
#: Traits that facts about people state.
_PEOPLE_TRAITS = ("person", "people", "alone", "face", "faces")
#: Trait -> the kind of quote that proves it.
_QUOTE_KINDS = {"text": "shown", "sound speech": "said"}


def state_with_time(fact: Fact) -> str:
    """A sentence that states a fact and its time."""
    start, end = clock_range(fact.start_sec, fact.end_sec).split("-")
    return sentence(f"From {start} to {end} {fact.text[0].lower()}{fact.text[1:]}")


#: The phrase that names the whole video in a sentence.
WHOLE = "in this video"


def answer(evidence: Evidence, intent: PromptIntent, where: str = WHOLE) -> str:
    """Answer a prompt that asks for neither a summary, a list nor a title.

    Args:
        where: the phrase that names the scope: `WHOLE`, or for a part the result of `range_phrase`.
    """
    write = {
        "transcript": _transcript,
        "screen": _screen,
        "length": _length,
        "format": _format,
        "colors": _colors,
        "faces": _faces,
        "languages": _languages,
    }.get(intent.kind)
    return (
        format_lines(write(evidence, where), intent) if write else _answer_question(evidence, intent, where)
    )


def find_passages(
    evidence: Evidence, question: str, minimum: float = MEDIUM
) -> list[tuple[float, float, tuple[str, ...]]]:
    """Find the parts of the video that match a question with a score of at least `minimum`.

    Returns:
        Start, end and reasons of each part, best first. Times in seconds.
    """
    subject = _parse_subject(question).text
    if not re.search(r"\w", subject):
        return []
    return [
        (hit.start_sec, hit.end_sec, hit.evidence)
        for hit in find_in_video(evidence, subject)
        if hit.score >= minimum
    ]


def describe_subject(evidence: Evidence, intent: PromptIntent) -> str:
    """Describe what the video shows and says about the subject of the prompt; "" if nothing matches."""
    facts = _facts_matching(evidence, intent.subject, MEDIUM)[: intent.items or intent.sentences or 6]
    lines = [state_with_time(fact) for fact in sorted(facts, key=lambda fact: fact.start_sec)]
    return format_lines(lines, intent) if lines else ""


def describe_range(evidence: Evidence, start: float, end: float, intent: PromptIntent) -> str:
    """Describe a part of the video by its facts, in order. `evidence` is the evidence of that part."""
    facts = sorted(facts_of(evidence, start, end), key=lambda fact: -fact.weight)
    chosen = facts[: intent.items or intent.sentences or (2 if intent.brief else 6)]
    lines = [state_with_time(fact) for fact in sorted(chosen, key=lambda fact: fact.start_sec)]
    return format_lines(lines or [f"Nothing was recognised {range_phrase(start, end)}."], intent)


def is_doubtful(text: str) -> bool:
    """Whether an answer says that the evidence gives no answer, or no certain one."""
    return text.startswith((NO_ANSWER, NO_SURE_ANSWER))


def range_phrase(start: float, end: float) -> str:
    """A phrase for a time range: "from 0:07 to 0:12"."""
    return "from {} to {}".format(*clock_range(start, end).split("-"))


def _answer_question(evidence: Evidence, intent: PromptIntent, where: str) -> str:
    question = intent.subject
    if object_lines := things.answer(evidence, question, where):
        return format_lines(object_lines, intent)
    facts = _facts_matching(evidence, question, MEDIUM)
    decided = bool(facts)
    opening = ""
    if _YES_NO.match(question):
        parts = _parse_subject(question).parts
        if not facts and parts and all(_is_absent(evidence, part) for part in parts):
            return f"No, nothing of the kind was measured {where}."
        decided, opening = _decide(evidence, question, facts)
    if not facts:
        facts = _facts_matching(evidence, question, LOW)
    if _WHO.match(question) and not any(fact.quote for fact in facts):
        facts = []  # a visible face does not identify its person
    if not facts:
        quoted_question = truncate(question.strip().rstrip("?.! "), 300)
        return f'{NO_ANSWER} "{quoted_question}". {LIMITS}'
    limit = intent.items or intent.sentences or (1 if intent.brief else 3)
    facts = sorted(facts[:limit], key=lambda f: f.start_sec)
    lines = [state_with_time(fact) for fact in facts]
    if intent.bullets or intent.numbered:
        return format_lines(lines, intent)
    text = " ".join(lines)
    if not decided:
        return f"{NO_SURE_ANSWER} What comes closest: {text}"
    if opening:
        return f"{opening} {text}"
    if _WHEN.match(question):
        times = join_names(dict.fromkeys(clock_range(f.start_sec, f.end_sec) for f in facts))
        return f"At {times}. {text}"
    return text


def _parse_subject(question: str) -> parser.Question:
    """The parsed subject of a question, without its question words."""
    plain = _DOES.sub(r"\1moves", question)
    return parser.parse(" ".join(_QUESTION_WORDS.sub(" ", plain).split()) or question)


def _decisive_traits(part: parser.Part) -> tuple[str, ...]:
    """The traits that decide a part of the question. "night" is inferred from darkness and decides none."""
    return tuple(trait for trait, credit in part.traits if credit >= _CONCLUSIVE)


def _is_absent(evidence: Evidence, part: parser.Part) -> bool:
    """Whether missing evidence proves that a part of the question is absent.

    A recogniser with one language does not detect the language of speech, so that of the speech is unknown
    and no language can be excluded.
    """
    traits = _decisive_traits(part)
    detects_language = bool(evidence.speech_model) and all(span.language for span in evidence.speech)
    return bool(traits) and (detects_language or not any(trait.startswith("speech ") for trait in traits))


def _decide(evidence: Evidence, question: str, facts: list[Fact]) -> tuple[bool, str]:
    """Whether the facts decide a yes-or-no question, and the first sentence of the answer."""
    subject = _parse_subject(question)
    for _, _, reasons in find_passages(evidence, question):
        if subject.parts and all(
            any(trait in reasons for trait in _decisive_traits(part)) for part in subject.parts
        ):
            return True, YES
    if not facts or not all(fact.quote for fact in facts):
        return False, ""
    return True, YES if subject.hint else "There are only words about it."


def _facts_matching(evidence: Evidence, question: str, minimum: float) -> list[Fact]:
    """The facts of the parts of the video that match a question, best first, without duplicates."""
    matches: list[Fact] = []
    for start, end, reasons in find_passages(evidence, question, minimum):
        facts_in_range = facts_of(evidence, start, end)
        stated = {reason: trait_fact(reason, start, end) for reason in reasons}
        facts = [fact for fact in stated.values() if fact]
        supported = [
            fact
            for fact in facts_in_range
            if any(_supports(fact, reason) for reason in reasons if not stated[reason])
        ]
        facts += supported
        matches += [fact for fact in facts if fact not in matches]
    return matches


def _supports(fact: Fact, reason: str) -> bool:
    """Whether a fact states a reason of a hit: a trait, or a quote such as 'shown: "the line"'."""
    quoted, line = reason.partition(": ")[::2]
    if line and quoted in ("seen", "named"):
        return fact.things
    if line:
        return fact.kind == quoted and (not fact.quote or line.strip('"') in fact.text)
    if reason in _QUOTE_KINDS:
        return fact.kind == _QUOTE_KINDS[reason]
    if fact.kind != evidence_kind(reason) or fact.things != (reason in _PEOPLE_TRAITS):
        return False
    kind, _, language = reason.partition(" ")
    if language and kind in ("text", "speech"):
        return language == "english" or f" in {language.title()}" in fact.text
    return not fact.quote


# ------------------------------------------------------------------------------------ direct answers


def _transcript(evidence: Evidence, where: str) -> list[str]:
    if not evidence.speech:
        return [f"No speech was recognised {where}."]
    return [f"{clock_range(span.start_sec, span.end_sec)} {span.text.strip()}" for span in evidence.speech]


def _screen(evidence: Evidence, where: str) -> list[str]:
    if not evidence.shown:
        return [f"No text was read on screen {where}."]
    return [f'{clock_range(span.start_sec, span.end_sec)} "{span.text.strip()}"' for span in evidence.shown]


def _languages(evidence: Evidence, where: str) -> list[str]:
    lines = []
    for what, spans in (("The text on screen", evidence.shown), ("The speech", evidence.speech)):
        names = [f"{name} ({clock_range(start, end)})" for name, start, end in language_ranges(spans)]
        if names:
            lines.append(f"{what} is in {join_names(names)}.")
        elif spans and what == "The speech" and not any(span.language for span in spans):
            lines.append("The speech was transcribed as English, the only language of its recogniser.")
        elif spans:
            lines.append(f"The language of {what.lower()} is uncertain.")
    return lines or [f"No text and no speech was recognised {where}."]


def _length(evidence: Evidence, where: str) -> list[str]:
    return [f"The video is {evidence.probe.duration_sec:.1f} seconds long."]


def _format(evidence: Evidence, where: str) -> list[str]:
    probe = evidence.probe
    sound = f"{probe.audio_codec} sound" if probe.audio_codec else "no sound"
    if not probe.width:
        return [f"The file has no picture and {sound}."]
    wide = probe.width - probe.height
    form = "landscape" if wide > 0 else "portrait" if wide < 0 else "square"
    return [
        f"The video is {form}, {probe.width} x {probe.height} pixels, with {probe.fps:.5g} frames a second, "
        f"{probe.video_codec} pictures and {sound}."
    ]


def _colors(evidence: Evidence, where: str) -> list[str]:
    total: dict[str, float] = {}
    seconds = sum(clip.end_sec - clip.start_sec for clip in evidence.clips if clip.colors)
    for clip in evidence.clips:
        for color, share in color_names(clip).items():
            total[color] = total.get(color, 0.0) + share * (clip.end_sec - clip.start_sec) / seconds
    main = sorted(total.items(), key=lambda item: -item[1])[:5]
    if not main:
        return [f"No colours were measured {where}."]
    names = join_names(f"{color} ({share:.0%})" for color, share in main)
    return [f"{'Over the whole video' if where == WHOLE else sentence(where)[:-1]} the picture is {names}."]


def _faces(evidence: Evidence, where: str) -> list[str]:
    largest, clip_of_largest, kind = max(
        ((counts(clip).get(name, 0), clip, name) for clip in evidence.clips for name in ("person", "face")),
        key=lambda candidate: candidate[0],
        default=(0, None, ""),
    )
    if not largest or clip_of_largest is None:
        return [f"No face or person was recognised {where}. {LIMITS}"]
    time = clock_range(clip_of_largest.start_sec, clip_of_largest.end_sec)
    names = kind if largest == 1 else {"face": "faces", "person": "people"}[kind]
    return [
        f"At most {largest} {names} at once, in {time}.",
        "It is not known whether they are the same people throughout.",
    ]


def format_lines(lines: list[str], intent: PromptIntent) -> str:
    """Join lines in the form that the prompt asks for: bullets, numbers, or plain text."""
    if intent.items:
        lines = lines[: intent.items]
    if intent.numbered:
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    if intent.bullets:
        return "\n".join(f"- {line}" for line in lines)
    return ("\n" if intent.kind in ("transcript", "screen") else " ").join(lines)
