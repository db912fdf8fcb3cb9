"""Summaries, titles and topics of a video, composed of its facts and chapters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from tl_data.local.perception.attributes import join_names
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.naming import names_of, people_in
from tl_data.local.text import answers
from tl_data.local.text.chapters import Chapter, chapters_of, title_of, topics_of, truncate
from tl_data.local.text.facts import Fact, clock, count_phrase, facts_of, lower_first, sentence
from tl_data.local.text.prompt import PromptIntent


def summary(evidence: Evidence, intent: PromptIntent) -> str:
    """Summarize a video in the order of time, with the length and form that the prompt asks for."""
    if not evidence.clips:
        return sentence(f"No part of this video could be analyzed{analysis_problems(evidence)}")
    if intent.subject and (about := answers.describe_subject(evidence, intent)):
        return about
    chapters = chapters_of(evidence)
    note = (
        f"No match for “{truncate(intent.subject, 100)}” in picture, sound or text. "
        "This is a summary of the whole video. "
        if intent.subject
        else ""
    )
    if intent.bullets or intent.numbered or intent.items:
        return note + format_list(_list_entries(chapters, intent.items or 5), intent)
    if intent.sentences == 1:
        return note + truncate_words(_one_sentence(evidence, chapters), intent.words)
    opening = _opening_sentence(evidence, chapters, intent)
    sentences = [opening, *(text for chapter in chapters if (text := _describe_chapter(chapter)))]
    limit = intent.sentences or (3 if intent.brief else None)
    if limit is not None and limit < sum(_count_sentences(text) for text in sentences):
        sentences = [opening, *_best_facts(chapters, limit - 1)]
    if intent.words is not None and len(" ".join(sentences).split()) > intent.words:
        sentences = _fit_to_words(evidence, chapters, intent, intent.words)
    return note + truncate_words(" ".join(sentences), intent.words)


def _opening_sentence(
    evidence: Evidence, chapters: Sequence[Chapter], intent: PromptIntent, *, plain: bool = False
) -> str:
    """The first sentence of a summary: length, orientation and which kinds of evidence exist.

    With `plain`, only these; else also the number of parts, people, objects and prominent words.
    """
    probe = evidence.probe
    orientation = "portrait " if probe.height > probe.width else ""
    presence = [
        (name, is_present)
        for kind, name, is_present in (
            ("speech", "speech", bool(evidence.speech)),
            ("text", "text on screen", bool(evidence.shown)),
            ("sound", "music", any(clip.sound == "music" for clip in evidence.clips)),
        )
        if kind not in intent.without
    ]
    kinds = [name for name, is_present in presence if is_present]
    missing = [name for name, is_present in presence if not is_present]
    missing_text = " or ".join(filter(None, (", ".join(missing[:-1]), *missing[-1:])))
    medium = "video" if probe.width else "sound recording"
    parts_text = f" in {len(chapters)} parts" if len(chapters) > 1 else ""
    evidence_text = (
        f", with {join_names(kinds)}" if kinds else f", without {missing_text}" if missing_text else ""
    )
    topics = topics_of(evidence, 4, seen=False)
    people = max((people_in(clip) for clip in evidence.clips), default=0)
    object_names = list(dict.fromkeys(name.name for clip in evidence.clips for name in names_of(clip)))[:4]
    people_phrase = [count_phrase(people, "person")] if people else []
    visible = [*people_phrase, *(count_phrase(1, name) for name in object_names)]
    content_text = f"; it shows {join_names(visible)}" if visible else ""
    content_text += f"; the words that stand out are {join_names(topics)}" if len(topics) > 1 else ""
    if plain:
        parts_text = content_text = ""
    length = _length_phrase(probe.duration_sec)
    return sentence(f"A {orientation}{medium} of {length}{parts_text}{evidence_text}{content_text}")


def _length_phrase(seconds: float) -> str:
    """A duration as text: `1 second`, `45 seconds`, `12:30 minutes`, `1:02:03 hours`."""
    if seconds < 120:
        return "1 second" if round(seconds) == 1 else f"{round(seconds)} seconds"
    return f"{clock(seconds)} {'minutes' if seconds < 3600 else 'hours'}"


def _describe_chapter(chapter: Chapter) -> str:
    """Describe a chapter.

    The first sentence has its time range, up to three people and objects, and the best quotes of text on
    screen and of speech. The second one has the best fact about the pictures or, with people or objects, the
    sounds. A chapter without quotes, people and objects has a sentence with its own time for each of its two
    best pictures, then its sound.
    """
    best_of_kind: dict[str, Fact] = {}
    for fact in sorted(chapter.facts, key=lambda fact: -fact.weight):
        # One fact of each kind: a quote and a picture are more informative than two quotes.
        best_of_kind.setdefault(fact.kind, fact)
    start, end = chapter.start_sec, chapter.end_sec
    named_facts = [best_of_kind[kind] for kind in ("shown", "said") if kind in best_of_kind]
    other_facts = [best_of_kind[kind] for kind in ("seen", "heard") if kind in best_of_kind]
    things = [fact for fact in chapter.facts if fact.things]
    if things:  # people and objects are named first
        named_facts = sorted(things, key=lambda fact: fact.start_sec - fact.end_sec)[:3] + named_facts
        named_facts = sorted(named_facts[: len(things[:3])], key=time_order) + named_facts[len(things[:3]) :]
        other_facts = [fact for fact in other_facts if fact.kind != "seen"]
    if not named_facts:  # the pictures of a chapter differ, so each gets its own time
        seen = sorted((f for f in chapter.facts if f.kind == "seen"), key=lambda fact: -fact.weight)[:2]
        sounds = [fact.within(start, end) for fact in other_facts if fact.kind == "heard"]
        if not seen:  # no other sentence names the time
            return " ".join(answers.state_with_time(fact) for fact in other_facts)
        return " ".join(
            [answers.state_with_time(f) for f in sorted(seen, key=time_order)] + [sentence(t) for t in sounds]
        )
    text = "; ".join(lower_first(fact.within(start, end)).rstrip(".") for fact in named_facts)
    first = sentence(f"{answers.range_phrase(start, end).capitalize()} {text}")
    return " ".join([first, *(sentence(fact.within(start, end)) for fact in other_facts[:1])])


def _count_sentences(text: str) -> int:
    """The number of sentences of a text, without those inside quotes."""
    return max(1, len(re.findall(r"[.!?]+(?:\s|$)", re.sub(r'"[^"]*"', '""', text))))


def time_order(fact: Fact) -> tuple[float, str]:
    """The sort key of facts in a text: time, then kind."""
    return fact.start_sec, fact.kind


def _best_facts(chapters: Sequence[Chapter], limit: int) -> list[str]:
    """One sentence for each of the `limit` facts of the largest weight, in order.

    The best fact of each chapter is preferred.
    """
    chapter_bests = [
        max(chapter.facts, key=lambda fact: fact.weight) for chapter in chapters if chapter.facts
    ]
    rest = [fact for chapter in chapters for fact in chapter.facts if fact not in chapter_bests]
    ranked = [*sorted(chapter_bests, key=lambda f: -f.weight), *sorted(rest, key=lambda f: -f.weight)]
    chosen = sorted(dict.fromkeys(ranked[: max(0, limit)]), key=time_order)
    return [answers.state_with_time(fact) for fact in chosen]


def _list_entries(chapters: Sequence[Chapter], limit: int) -> list[str]:
    """List entries: one per chapter, or one per fact if there are fewer chapters than entries."""
    described = [chapter for chapter in chapters if chapter.facts]
    if limit > len(described):
        return _best_facts(chapters, limit)
    ranked = sorted(described, key=lambda chapter: -max(fact.weight for fact in chapter.facts))[:limit]
    return [_describe_chapter(chapter) for chapter in sorted(ranked, key=lambda chapter: chapter.start_sec)]


def _fit_to_words(
    evidence: Evidence, chapters: Sequence[Chapter], intent: PromptIntent, words: int
) -> list[str]:
    """The opening sentence and as many of the best facts as `words` words allow, at most 20.

    If the opening alone is too long, it is shortened. If that is too long, the title takes its place, even if
    it has more than `words` words.
    """
    opening = _opening_sentence(evidence, chapters, intent)
    versions = [
        [opening, *_best_facts(chapters, number)] for number in range(min(20, 3 * len(chapters)), 0, -1)
    ]
    versions += [
        [opening],
        [_opening_sentence(evidence, chapters, intent, plain=True)],
        [sentence(gist(evidence)["title"])],
    ]
    return next((texts for texts in versions if len(" ".join(texts).split()) <= words), versions[-1])


def _one_sentence(evidence: Evidence, chapters: Sequence[Chapter]) -> str:
    facts = [fact for chapter in chapters for fact in chapter.facts]
    shown = list(dict.fromkeys(f.quote for f in facts if f.kind == "shown" and f.quote))[:3]
    said = max((f for f in facts if f.kind == "said"), key=lambda f: f.weight, default=None)
    seen = [f for f in facts if f.kind == "seen"]
    medium = "video" if evidence.probe.width else "sound recording"
    text = f"A {medium} of {_length_phrase(evidence.probe.duration_sec)}"
    if shown:
        text += f" that shows {join_names(f'“{line}”' for line in shown)} on screen"
    if said:
        quote = truncate(said.quote, 120).rstrip(".!?")
        text += (
            f"{' and' if shown else ''} in which speech is recognised as “{quote}” at {clock(said.start_sec)}"
        )
    things = [f for f in seen if f.things] or seen
    if (not shown and not said and seen) or things[:1] != seen[:1]:
        text += (
            f" in which {join_names(lower_first(part) for f in things[:2] for part in f.text.split('. '))}"
        )
    return text + "."


def truncate_words(text: str, words: int | None) -> str:
    """Cut a text to at most `words` words, with an ellipsis at the end."""
    pieces = text.split()
    return text if words is None or len(pieces) <= words else " ".join(pieces[:words]).rstrip(",;:") + "…"


def format_list(items: Sequence[str], intent: PromptIntent) -> str:
    """Format a list as the prompt asks: numbered or with dashes."""
    items = items[: intent.items] if intent.items else items
    if intent.numbered:
        return "\n".join(f"{number}. {item}" for number, item in enumerate(items, 1))
    return "\n".join(f"- {item}" for item in items)


def analysis_problems(evidence: Evidence) -> str:
    """A colon and the reasons why parts could not be analyzed; "" if there are none."""
    return f": {'; '.join(evidence.notes)}" if evidence.notes else ""


def gist(evidence: Evidence, limit: int = 5) -> dict[str, Any]:
    """`title`, `topics` and `hashtags`.

    Topics are words of text and speech and names of objects. Without any, `_visible_topics` are taken.
    """
    topics = topics_of(evidence, limit) or _visible_topics(evidence, limit)
    tags = list(dict.fromkeys("#" + re.sub(r"\W", "", topic.title()) for topic in topics))
    return {
        "title": title_of(facts_of(evidence)),
        "topics": topics,
        "hashtags": [t for t in tags if len(t) > 1],
    }


def _visible_topics(evidence: Evidence, limit: int) -> list[str]:
    """The names of objects, "people", "motion" and "music", by the seconds of the clips that have them.

    Music and moving objects are in most videos, so they say less: their seconds count 0.3 times.
    """
    seconds_of: dict[str, float] = {}
    for clip in evidence.clips:
        length = clip.end_sec - clip.start_sec
        for name, is_present in (("music", clip.sound == "music"), ("motion", clip.direction is not None)):
            if is_present:
                seconds_of[name] = seconds_of.get(name, 0.0) + 0.3 * length
        if people_in(clip):
            seconds_of["people"] = seconds_of.get("people", 0.0) + length
        for name_in_clip in names_of(clip):
            seconds_of[name_in_clip.name] = seconds_of.get(name_in_clip.name, 0.0) + length
    return [name for name, _ in sorted(seconds_of.items(), key=lambda item: (-item[1], item[0]))[:limit]]
