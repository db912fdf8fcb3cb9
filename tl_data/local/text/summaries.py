"""Summaries, titles and topics of a video, composed of its facts and chapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tl_data.local.perception.attributes import listed
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.naming import names_of, people_in
from tl_data.local.text import answers
from tl_data.local.text.chapters import Chapter, chapters_of, shortened, title_of, topics_of
from tl_data.local.text.facts import Fact, clock, counted, facts_of, sentence
from tl_data.local.text.prompt import PromptIntent


def summary(evidence: Evidence, intent: PromptIntent) -> str:
    """A summary in the order of the video, with the length and form of the intent."""
    if not evidence.clips:
        return sentence(f"No part of this video could be analysed{why(evidence)}")
    if intent.subject and (about := answers.about(evidence, intent)):
        return about
    chapters = chapters_of(evidence)
    note = (
        f'Nothing in the evidence is about "{shortened(intent.subject, 100)}"; this is the whole video. '
        if intent.subject
        else ""
    )
    if intent.bullets or intent.numbered or intent.items:
        return note + lines_of(_points(chapters, intent.items or 5), intent)
    if intent.sentences == 1:
        return note + shortened_to(_one_sentence(evidence, chapters), intent.words)
    opening = _opening(evidence, chapters, intent)
    sentences = [opening, *(text for chapter in chapters if (text := _chapter_text(chapter)))]
    limit = intent.sentences or (3 if intent.brief else None)
    if limit is not None and limit < sum(_count(text) for text in sentences):
        sentences = [opening, *_best(chapters, limit - 1)]
    if intent.words is not None and len(" ".join(sentences).split()) > intent.words:
        sentences = _within(evidence, chapters, intent, intent.words)
    return note + shortened_to(" ".join(sentences), intent.words)


def _opening(
    evidence: Evidence, chapters: Sequence[Chapter], intent: PromptIntent, *, plain: bool = False
) -> str:
    """The first sentence: length, orientation, and which kinds of evidence exist."""
    probe = evidence.probe
    form = "portrait " if probe.height > probe.width else ""
    present = [
        (name, there)
        for kind, name, there in (
            ("speech", "speech", bool(evidence.speech)),
            ("text", "text on screen", bool(evidence.shown)),
            ("sound", "music", any(clip.sound == "music" for clip in evidence.clips)),
        )
        if kind not in intent.without
    ]
    kinds, missing = ([name for name, there in present if there is which] for which in (True, False))
    none = " or ".join(filter(None, (", ".join(missing[:-1]), *missing[-1:])))
    what = "video" if probe.width else "sound recording"
    parts = f" in {len(chapters)} parts" if len(chapters) > 1 else ""
    having = f", with {listed(kinds)}" if kinds else f", without {none}" if none else ""
    topics = topics_of(evidence, 4, seen=False)
    people = max((people_in(clip) for clip in evidence.clips), default=0)
    named = list(dict.fromkeys(name.name for clip in evidence.clips for name in names_of(clip)))[:4]
    who = [counted(people, "person")] if people else []
    seen = [*who, *(counted(1, name) for name in named)]
    about = f"; it shows {listed(seen)}" if seen else ""
    about += f"; the words that stand out are {listed(topics)}" if len(topics) > 1 else ""
    length = "1 second" if round(probe.duration_sec) == 1 else f"{round(probe.duration_sec)} seconds"
    if probe.duration_sec >= 120:
        length = (
            f"{clock(probe.duration_sec)} minutes"
            if probe.duration_sec < 3600
            else f"{clock(probe.duration_sec)} hours"
        )
    return sentence(f"A {form}{what} of {length}{'' if plain else parts}{having}{'' if plain else about}")


def _chapter_text(chapter: Chapter) -> str:
    """A chapter in one or two sentences: its time, quotes, then what is visible."""
    best: dict[str, Fact] = {}
    for fact in sorted(chapter.facts, key=lambda fact: -fact.weight):
        best.setdefault(
            fact.kind, fact
        )  # one of each kind: a quote and a picture inform more than two quotes
    start, end = chapter.start_sec, chapter.end_sec
    words = [best[kind] for kind in ("shown", "said") if kind in best]
    rest = [best[kind] for kind in ("seen", "heard") if kind in best]
    things = [fact for fact in chapter.facts if fact.things]
    if things:  # people and objects come first
        words = sorted(things, key=lambda fact: fact.start_sec - fact.end_sec)[:3] + words
        words = sorted(words[: len(things[:3])], key=when) + words[len(things[:3]) :]
        rest = [fact for fact in rest if fact.kind != "seen"]
    if not words:  # pictures differ within a chapter: each with its own time
        seen = sorted((f for f in chapter.facts if f.kind == "seen"), key=lambda fact: -fact.weight)[:2]
        sounds = [fact.within(start, end) for fact in rest if fact.kind == "heard"]
        if not seen:  # no sentence before it names the time
            return " ".join(answers.timed(fact) for fact in rest)
        return " ".join([answers.timed(f) for f in sorted(seen, key=when)] + [sentence(t) for t in sounds])
    text = "; ".join(_lower(fact.within(start, end)).rstrip(".") for fact in words)
    first = sentence(f"{answers.from_to(start, end).capitalize()} {text}")
    return " ".join([first, *(sentence(fact.within(start, end)) for fact in rest[:1])])


def _count(text: str) -> int:
    """The number of sentences of a text, without those inside quotes."""
    return max(1, len(re.findall(r"[.!?]+(?:\s|$)", re.sub(r'"[^"]*"', '""', text))))


def when(fact: Fact) -> tuple[float, str]:
    """The sort key of facts in a text."""
    return fact.start_sec, fact.kind


def _lower(text: str) -> str:
    return text[0].lower() + text[1:] if text else text


def _best(chapters: Sequence[Chapter], most: int) -> list[str]:
    """The facts of the largest weight in order, a sentence each, from as many chapters as possible."""
    leaders = [max(chapter.facts, key=lambda fact: fact.weight) for chapter in chapters if chapter.facts]
    rest = [fact for chapter in chapters for fact in chapter.facts if fact not in leaders]
    ranked = [*sorted(leaders, key=lambda f: -f.weight), *sorted(rest, key=lambda f: -f.weight)]
    chosen = sorted(dict.fromkeys(ranked[: max(0, most)]), key=when)
    return [answers.timed(fact) for fact in chosen]


def _points(chapters: Sequence[Chapter], most: int) -> list[str]:
    """List entries: one per chapter, or single facts if the list is longer than the chapters."""
    described = [chapter for chapter in chapters if chapter.facts]
    if most > len(described):
        return _best(chapters, most)
    ranked = sorted(described, key=lambda chapter: -max(fact.weight for fact in chapter.facts))[:most]
    return [_chapter_text(chapter) for chapter in sorted(ranked, key=lambda chapter: chapter.start_sec)]


def _within(evidence: Evidence, chapters: Sequence[Chapter], intent: PromptIntent, words: int) -> list[str]:
    """The longest version that has at most `words` words."""
    opening = _opening(evidence, chapters, intent)
    tries = [[opening, *_best(chapters, most)] for most in range(min(20, 3 * len(chapters)), 0, -1)]
    tries += [
        [opening],
        [_opening(evidence, chapters, intent, plain=True)],
        [sentence(gist(evidence)["title"])],
    ]
    return next((texts for texts in tries if len(" ".join(texts).split()) <= words), tries[-1])


def _one_sentence(evidence: Evidence, chapters: Sequence[Chapter]) -> str:
    facts = [fact for chapter in chapters for fact in chapter.facts]
    shown = list(dict.fromkeys(f.quote for f in facts if f.kind == "shown" and f.quote))[:3]
    said = max((f for f in facts if f.kind == "said"), key=lambda f: f.weight, default=None)
    seen = [f for f in facts if f.kind == "seen"]
    form = "video" if evidence.probe.width else "sound recording"
    text = f"A {form} of {round(evidence.probe.duration_sec)} seconds"
    if shown:
        text += f" that shows {listed(f'“{line}”' for line in shown)} on screen"
    if said:
        quote = shortened(said.quote, 120).rstrip(".!?")
        text += (
            f"{' and' if shown else ''} in which speech is recognised as “{quote}” at {clock(said.start_sec)}"
        )
    things = [f for f in seen if f.things] or seen
    if (not shown and not said and seen) or things[:1] != seen[:1]:
        text += f" in which {listed(_lower(part) for f in things[:2] for part in f.text.split('. '))}"
    return text + "."


def shortened_to(text: str, words: int | None) -> str:
    """A text of at most `words` words; a longer one ends with an ellipsis."""
    pieces = text.split()
    return text if words is None or len(pieces) <= words else " ".join(pieces[:words]).rstrip(",;:") + "…"


def lines_of(items: Sequence[str], intent: PromptIntent) -> str:
    """A list in the form of the intent: numbered or with dashes."""
    items = items[: intent.items] if intent.items else items
    if intent.numbered:
        return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return "\n".join(f"- {item}" for item in items)


def why(evidence: Evidence) -> str:
    """Why parts could not be analysed, after a colon; "" without notes."""
    return f": {'; '.join(evidence.notes)}" if evidence.notes else ""


def gist(evidence: Evidence, most: int = 5) -> dict[str, Any]:
    """`title`, `topics` and `hashtags`, from text and speech, else from what is visible."""
    topics = topics_of(evidence, most) or _visible_topics(evidence, most)
    tags = list(dict.fromkeys("#" + re.sub(r"\W", "", topic.title()) for topic in topics))
    return {
        "title": title_of(facts_of(evidence)),
        "topics": topics,
        "hashtags": [t for t in tags if len(t) > 1],
    }


def _visible_topics(evidence: Evidence, most: int) -> list[str]:
    seen: dict[str, float] = {}
    for clip in evidence.clips:
        length = clip.end_sec - clip.start_sec
        for name, there in (("music", clip.sound == "music"), ("motion", clip.direction is not None)):
            if there:
                seen[name] = seen.get(name, 0.0) + 0.3 * length
        if people_in(clip):
            seen["people"] = seen.get("people", 0.0) + length
        for named in names_of(clip):
            seen[named.name] = seen.get(named.name, 0.0) + length
    return [name for name, _ in sorted(seen.items(), key=lambda item: (-item[1], item[0]))[:most]]
