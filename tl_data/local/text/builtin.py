"""Texts about a video without a language model: summary, chapters, highlights, gist, answers.

A text is a list of facts (facts.py) in the order of the video, each with its time. Speech and on-screen text
are quoted. A text states only what was detected or transcribed. Of the prompt, the kind of text, its length,
its form and its subject are parsed (prompt.py). A question is answered by the passages that match it; if none
does, the text says so. Actions and the names of people are not recognised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tl_data.local.models import first_tokens
from tl_data.local.perception.evidence import Evidence
from tl_data.local.text import answers, structured, things
from tl_data.local.text.chapters import chapters_of, shortened
from tl_data.local.text.facts import ORDER, Fact, between, facts_of, sentence
from tl_data.local.text.prompt import PromptIntent, part_of, read, without
from tl_data.local.text.summaries import gist, lines_of, shortened_to, summary, when

Item = dict[str, Any]


def summarize(evidence: Evidence, prompt: str | None = None) -> str:
    """Summarize a video. The prompt may set length, form and subject."""
    return _write(evidence, prompt, "summary")


def analyze(
    evidence: Evidence,
    prompt: str,
    json_schema: dict[str, Any] | None = None,
    max_tokens: int | None = None,
) -> str:
    """Answer a prompt about a video.

    Args:
        json_schema: the answer is JSON that conforms to it; see `structured.fill`.
        max_tokens: the longest text, as `models.count_tokens` counts.

    Raises:
        Unsupported: the schema is outside of the API's subset.
    """
    if json_schema is not None:
        text = json.dumps(structured.fill(evidence, json_schema, prompt), ensure_ascii=False)
    else:
        text = _write(evidence, prompt)
    return text if max_tokens is None else first_tokens(text, max_tokens)


def _write(evidence: Evidence, prompt: str | None, kind: str | None = None) -> str:
    intent = read(prompt, kind)
    evidence = without(evidence, intent.without)
    free_form = bool(prompt) and kind is None and intent.time_range is None
    if free_form and (lines := things.answered(evidence, str(prompt), answers.WHOLE)):
        return answers.formed(lines, intent)
    if intent.time_range is None:
        return _text_for(evidence, intent)
    times = intent.time_range.within(evidence.probe.duration_sec)
    if times is not None and intent.time_range.ambiguous and intent.kind == "question":
        text = answers.answer(evidence, read(prompt, times=False))
        if not answers.is_doubtful(text):
            return text
    if times is not None:
        return _part(part_of(evidence, *times), *times, intent)
    if intent.kind == "summary" and not intent.subject:
        return f"The video is {evidence.probe.duration_sec:.1f} seconds long and ends before that time."
    return _text_for(evidence, read(prompt, kind, times=False))  # a time that is a subject: "opens at 9:00"


def _part(part: Evidence, start: float, end: float, intent: PromptIntent) -> str:
    """The text about a part of a video. `part` is the evidence of that part alone."""
    if intent.kind == "question" and re.search(r"[^\W\d]", intent.subject):
        return answers.answer(part, intent, answers.from_to(start, end))
    if intent.kind not in ("question", "summary"):
        return _text_for(part, intent, answers.from_to(start, end))
    about = answers.about(part, intent) if intent.subject and intent.kind == "summary" else ""
    return shortened_to(about or answers.during(part, start, end, intent), intent.words)


def _text_for(evidence: Evidence, intent: PromptIntent, where: str = answers.WHOLE) -> str:
    if intent.kind == "chapters":
        return lines_of(
            [_entry(c, "chapter_title", "chapter_summary") for c in _chapters(evidence, intent)], intent
        )
    if intent.kind == "highlights":
        found = _highlights(evidence, intent)
        return lines_of([_entry(h, "highlight", "highlight_summary") for h in found], intent)
    if intent.kind == "titles":
        return _titles(evidence, intent)
    if intent.kind in ("topics", "hashtags"):
        words = gist(evidence, intent.items or 5)[intent.kind]
        if intent.bullets or intent.numbered:
            return lines_of(words, intent)
        return (" " if intent.kind == "hashtags" else ", ").join(words)
    if intent.kind == "summary":
        return summary(evidence, intent)
    return answers.answer(evidence, intent, where)


def _titles(evidence: Evidence, intent: PromptIntent) -> str:
    titles = list(dict.fromkeys([gist(evidence)["title"], *(c.title for c in chapters_of(evidence))]))
    wanted = intent.items or 1
    titles = [shortened_to(title, intent.words) for title in titles]
    return titles[0] if wanted == 1 else lines_of(titles[:wanted], intent)


# ---------------------------------------------------------------------------- chapters and highlights


def chapters(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """Chapters in order: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`."""
    intent = read(prompt, "chapters")
    return _chapters(without(evidence, intent.without), intent)


def _chapters(evidence: Evidence, intent: PromptIntent) -> list[Item]:
    found = []
    used: dict[str, int] = {}
    for chapter in chapters_of(evidence, intent.items):
        used[chapter.title] = used.get(chapter.title, 0) + 1
        again = f" ({used[chapter.title]})" if used[chapter.title] > 1 else ""
        start, end = chapter.start_sec, chapter.end_sec
        main = _main(chapter.facts, 1 if intent.brief else 4)
        text = " ".join(sentence(fact.within(start, end)) for fact in main)
        found.append(
            {
                "start_sec": round(start, 3),
                "end_sec": round(end, 3),
                "chapter_title": chapter.title + again,
                "chapter_summary": text or "Nothing was recognised in this part.",
            }
        )
    return found


def _main(facts: Sequence[Fact], most: int) -> list[Fact]:
    """The facts of the largest weight, in order. At least one of them is visual if there is one."""
    chosen = sorted(facts, key=lambda f: -f.weight)[:most]
    seen = [fact for fact in facts if fact.kind == "seen"]
    if most > 1 and seen and not any(fact.kind == "seen" for fact in chosen):
        chosen = [*chosen[: most - 1], seen[0]]
    return sorted(chosen, key=lambda fact: (ORDER[fact.kind], fact.start_sec))


def highlights(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """Highlights in order: `start_sec`, `end_sec`, `highlight`, `highlight_summary`."""
    intent = read(prompt, "highlights")
    return _highlights(without(evidence, intent.without), intent)


def _highlights(evidence: Evidence, intent: PromptIntent) -> list[Item]:
    duration = evidence.probe.duration_sec
    wanted = intent.items or max(1, min(8, round(duration / 12)))
    if intent.subject and (passages := answers.passages(evidence, intent.subject)):
        facts = [fact for start, end, _ in passages[:wanted] for fact in facts_of(evidence, start, end)[:1]]
    else:
        facts = facts_of(evidence)
    chosen: list[Fact] = []
    for fact in sorted(facts, key=lambda f: (-f.weight, f.start_sec)):
        apart = all(fact.start_sec >= other.end_sec or fact.end_sec <= other.start_sec for other in chosen)
        if len(chosen) < wanted and apart:
            chosen.append(fact)
    found = []
    for fact in sorted(chosen, key=when):
        around = [f for f in facts_of(evidence, fact.start_sec, fact.end_sec) if f.text != fact.text]
        summary = [fact, *sorted(around, key=lambda f: -f.weight)[:1]]
        found.append(
            {
                "start_sec": round(fact.start_sec, 3),
                "end_sec": round(max(fact.end_sec, fact.start_sec + 0.5), 3),
                "highlight": shortened(fact.quote or fact.text.split(". ")[0], 80),
                "highlight_summary": " ".join(sentence(f.text) for f in sorted(summary, key=when)),
            }
        )
    return found


def _entry(item: Item, title: str, text: str) -> str:
    return f"{between(item['start_sec'], item['end_sec'])} {item[title]}: {item[text]}"
