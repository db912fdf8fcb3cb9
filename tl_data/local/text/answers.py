"""Answers to questions about a video: the matching passages with their times, or a refusal to answer."""

from __future__ import annotations

import re

from tl_data.local.perception.attributes import color_names, counts, listed
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.languages import stretches
from tl_data.local.search import parser
from tl_data.local.search.query import LOW, MEDIUM
from tl_data.local.search.ranking import evidence_kind
from tl_data.local.search.search import moments
from tl_data.local.text import things
from tl_data.local.text.chapters import shortened
from tl_data.local.text.facts import Fact, between, facts_of, sentence, stated_trait
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
_QUESTION_WORDS = re.compile(  # words of a question that are not its subject
    r"\b(?:is|are|was|were|does|do|did|has|have|can|could|will|there|any|ever|video|clip|happens?|called|kind|"
    r"sort|type|exactly|please|tell|say|give|many|much)\b",
    re.IGNORECASE,
)
_DOES = re.compile(r"\b(?:does|do|did)\s+((?:\w+\s+){1,4}?)move\b", re.IGNORECASE)  # "does it move"
_CONCLUSIVE = 0.9  # credit from which a trait decides a yes-or-no question; below it is only an indication
_OF_PEOPLE = ("person", "people", "alone", "face", "faces")  # traits that facts about people state
_ANY_WORDS = {"text": "shown", "sound speech": "said"}  # trait -> kind of quote that proves it


def timed(fact: Fact) -> str:
    """A fact as a sentence with its time."""
    start, end = between(fact.start_sec, fact.end_sec).split("-")
    return sentence(f"From {start} to {end} {fact.text[0].lower()}{fact.text[1:]}")


WHOLE = "in this video"


def answer(evidence: Evidence, intent: PromptIntent, where: str = WHOLE) -> str:
    """The answer to a prompt that is not a summary, list or title.

    Args:
        where: the scope named in sentences: the video, or a part of it as `from_to` names it.
    """
    direct = {
        "transcript": _transcript,
        "screen": _screen,
        "length": _length,
        "format": _format,
        "colors": _colors,
        "faces": _faces,
        "languages": _languages,
    }.get(intent.kind)
    return formed(direct(evidence, where), intent) if direct else _question(evidence, intent, where)


def passages(
    evidence: Evidence, question: str, least: float = MEDIUM
) -> list[tuple[float, float, tuple[str, ...]]]:
    """The moments that match a question, best first."""
    asked = _asked(question).text
    if not re.search(r"\w", asked):
        return []
    return [
        (hit.start_sec, hit.end_sec, hit.evidence) for hit in moments(evidence, asked) if hit.score >= least
    ]


def about(evidence: Evidence, intent: PromptIntent) -> str:
    """What the video shows and says about a subject; "" if nothing matches."""
    facts = _fitting(evidence, intent.subject, MEDIUM)[: intent.items or intent.sentences or 6]
    lines = [timed(fact) for fact in sorted(facts, key=lambda fact: fact.start_sec)]
    return formed(lines, intent) if lines else ""


def during(evidence: Evidence, start: float, end: float, intent: PromptIntent) -> str:
    """The facts of a part of the video, in order. `evidence` is that of the part."""
    facts = sorted(facts_of(evidence, start, end), key=lambda fact: -fact.weight)
    chosen = facts[: intent.items or intent.sentences or (2 if intent.brief else 6)]
    lines = [timed(fact) for fact in sorted(chosen, key=lambda fact: fact.start_sec)]
    return formed(lines or [f"Nothing was recognised {from_to(start, end)}."], intent)


def is_doubtful(text: str) -> bool:
    """Whether an answer states that it found nothing, or nothing certain."""
    return text.startswith((NO_ANSWER, NO_SURE_ANSWER))


def from_to(start: float, end: float) -> str:
    """A part of a video in words: "from 0:07 to 0:12"."""
    return "from {} to {}".format(*between(start, end).split("-"))


def _question(evidence: Evidence, intent: PromptIntent, where: str) -> str:
    question = intent.subject
    if found := things.answered(evidence, question, where):
        return formed(found, intent)
    facts = _fitting(evidence, question, MEDIUM)
    sure = bool(facts)
    yes = ""
    if _YES_NO.match(question):
        parts = _asked(question).parts
        if not facts and parts and all(_denies(evidence, part) for part in parts):
            return f"No, nothing of the kind was measured {where}."
        sure, yes = _yes(evidence, question, facts)
    if not facts:
        facts = _fitting(evidence, question, LOW)
    if _WHO.match(question) and not any(fact.quote for fact in facts):
        facts = []  # a visible face does not identify its person
    if not facts:
        asked = shortened(question.strip().rstrip("?.! "), 300)
        return f'{NO_ANSWER} "{asked}". {LIMITS}'
    most = intent.items or intent.sentences or (1 if intent.brief else 3)
    facts = sorted(facts[:most], key=lambda f: f.start_sec)
    lines = [timed(fact) for fact in facts]
    if intent.bullets or intent.numbered:
        return formed(lines, intent)
    text = " ".join(lines)
    if not sure:
        return f"{NO_SURE_ANSWER} What comes closest: {text}"
    if yes:
        return f"{yes} {text}"
    if _WHEN.match(question):
        times = listed(dict.fromkeys(between(f.start_sec, f.end_sec) for f in facts))
        return f"At {times}. {text}"
    return text


def _asked(question: str) -> parser.Question:
    """The parsed subject of a question, without its question words."""
    plain = _DOES.sub(r"\1moves", question)
    return parser.parse(" ".join(_QUESTION_WORDS.sub(" ", plain).split()) or question)


def _conclusive(part: parser.Part) -> tuple[str, ...]:
    """The traits that decide a part. "night" is inferred from darkness: it does not decide."""
    return tuple(trait for trait, credit in part.traits if credit >= _CONCLUSIVE)


def _denies(evidence: Evidence, part: parser.Part) -> bool:
    """Whether the absence of a part can be concluded. Without Whisper the language of speech is unknown."""
    traits = _conclusive(part)
    return bool(traits) and (
        bool(evidence.speech_model) or not any(trait.startswith("speech ") for trait in traits)
    )


def _yes(evidence: Evidence, question: str, facts: list[Fact]) -> tuple[bool, str]:
    """Whether the facts decide a yes-or-no question, and how the answer begins."""
    asked = _asked(question)
    for _, _, reasons in passages(evidence, question):
        if asked.parts and all(any(trait in reasons for trait in _conclusive(part)) for part in asked.parts):
            return True, YES
    if not facts or not all(fact.quote for fact in facts):
        return False, ""
    return True, YES if asked.hint else "There are only words about it."


def _fitting(evidence: Evidence, question: str, least: float) -> list[Fact]:
    """The facts behind the matching passages, best first, without duplicates."""
    found: list[Fact] = []
    for start, end, reasons in passages(evidence, question, least):
        here = facts_of(evidence, start, end)
        stated = {item: stated_trait(item, start, end) for item in reasons}
        facts = [fact for fact in stated.values() if fact]
        backed = [fact for fact in here if any(_backs(fact, item) for item in reasons if not stated[item])]
        facts += backed
        found += [fact for fact in facts if fact not in found]
    return found


def _backs(fact: Fact, reason: str) -> bool:
    """Whether a fact states a reason of a hit: 'shown: "the line"', or a trait."""
    quoted, line = reason.partition(": ")[::2]
    if line and quoted in ("seen", "named"):
        return fact.things
    if line:
        return fact.kind == quoted and (not fact.quote or line.strip('"') in fact.text)
    if reason in _ANY_WORDS:
        return fact.kind == _ANY_WORDS[reason]
    if fact.kind != evidence_kind(reason) or fact.things != (reason in _OF_PEOPLE):
        return False
    kind, _, language = reason.partition(" ")
    if language and kind in ("text", "speech"):
        return language == "english" or f" in {language.title()}" in fact.text
    return not fact.quote


# ------------------------------------------------------------------------------------ direct answers


def _transcript(evidence: Evidence, where: str) -> list[str]:
    if not evidence.speech:
        return [f"No speech was recognised {where}."]
    return [f"{between(span.start_sec, span.end_sec)} {span.text.strip()}" for span in evidence.speech]


def _screen(evidence: Evidence, where: str) -> list[str]:
    if not evidence.shown:
        return [f"No text was read on screen {where}."]
    return [f'{between(span.start_sec, span.end_sec)} "{span.text.strip()}"' for span in evidence.shown]


def _languages(evidence: Evidence, where: str) -> list[str]:
    lines = []
    for what, spans in (("The text on screen", evidence.shown), ("The speech", evidence.speech)):
        names = [f"{name} ({between(start, end)})" for name, start, end in stretches(spans)]
        if names:
            lines.append(f"{what} is in {listed(names)}.")
        elif spans and what == "The speech" and not evidence.speech_model:
            lines.append(
                "The speech was transcribed as English, the only language of the built-in recogniser."
            )
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
    names = listed(f"{color} ({share:.0%})" for color, share in main)
    return [f"{'Over the whole video' if where == WHOLE else sentence(where)[:-1]} the picture is {names}."]


def _faces(evidence: Evidence, where: str) -> list[str]:
    most, there, kind = max(
        ((counts(clip).get(name, 0), clip, name) for clip in evidence.clips for name in ("person", "face")),
        key=lambda found: found[0],
        default=(0, None, ""),
    )
    if not most or there is None:
        return [f"No face or person was recognised {where}. {LIMITS}"]
    names = kind if most == 1 else {"face": "faces", "person": "people"}[kind]
    return [
        f"At most {most} {names} at once, in {between(there.start_sec, there.end_sec)}.",
        "It is not known whether they are the same people throughout.",
    ]


def formed(lines: list[str], intent: PromptIntent) -> str:
    """Lines in the form of the intent: bullets, numbers, or text."""
    if intent.items:
        lines = lines[: intent.items]
    if intent.numbered:
        return "\n".join(f"{number}. {line}" for number, line in enumerate(lines, 1))
    if intent.bullets:
        return "\n".join(f"- {line}" for line in lines)
    return ("\n" if intent.kind in ("transcript", "screen") else " ").join(lines)
