"""Texts about a video without a language model: summary, chapters, highlights, gist, answers.

A text is a list of facts (facts.py) in the order of the video, each with its time. Speech and on-screen text
are quoted. A text states only what was detected or transcribed. The prompt determines the kind, length, form
and subject of the text (prompt.py). A question is answered by the parts of the video that match it; if none
matches, the text says so. Actions and the names of people are not recognised.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from typing import Any

from tl_data.local.models import first_tokens
from tl_data.local.perception.evidence import Evidence
from tl_data.local.text import answers, structured, things
from tl_data.local.text.chapters import chapters_of, truncate
from tl_data.local.text.facts import ORDER, Fact, clock_range, facts_of, sentence
from tl_data.local.text.prompt import PromptIntent, parse_prompt, part_of, remove_evidence
from tl_data.local.text.summaries import format_list, gist, summary, time_order, truncate_words

Item = dict[str, Any]


def summarize(evidence: Evidence, prompt: str | None = None) -> str:
    """Summarize a video. The prompt may set length, form and subject."""
    return _write(evidence, prompt, "summary")


def analyze(
    evidence: Evidence,
    prompt: str,
    json_schema: dict[str, Any] | None = None,
    max_tokens: int | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
) -> str:
    """Answer a prompt about a video.

    Args:
        json_schema: if given, the answer is JSON that conforms to this schema; see `structured.fill`.
        max_tokens: the largest length of the text, as `models.count_tokens` counts it.
        is_cancelled: see `structured.fill`.

    Raises:
        Unsupported: the schema is outside of the API's subset.
    """
    if json_schema is not None:
        text = json.dumps(structured.fill(evidence, json_schema, prompt, is_cancelled), ensure_ascii=False)
    else:
        text = _write(evidence, prompt)
    return text if max_tokens is None else first_tokens(text, max_tokens)


def _write(evidence: Evidence, prompt: str | None, kind: str | None = None) -> str:
    """Write the text that a prompt asks for, about the whole video or the time range in the prompt."""
    intent = parse_prompt(prompt, kind)
    evidence = remove_evidence(evidence, intent.without)
    free_form = bool(prompt) and kind is None and intent.time_range is None
    if free_form and (lines := things.answer(evidence, str(prompt), answers.WHOLE)):
        return answers.format_lines(lines, intent)
    if intent.time_range is None:
        return _write_text(evidence, intent)
    times = intent.time_range.within(evidence.probe.duration_sec)
    if times is not None and intent.time_range.ambiguous and intent.kind == "question":
        text = answers.answer(evidence, parse_prompt(prompt, times=False))
        if not answers.is_doubtful(text):
            return text
    if times is not None:
        return _write_part(part_of(evidence, *times), *times, intent)
    if intent.kind == "summary" and not intent.subject:
        return f"The video is {evidence.probe.duration_sec:.1f} seconds long and ends before that time."
    # The time in the prompt is part of the question ("it opens at 9:00"), not a time in the video.
    return _write_text(evidence, parse_prompt(prompt, kind, times=False))


def _write_part(part: Evidence, start: float, end: float, intent: PromptIntent) -> str:
    """Write about a part of a video. `part` is the evidence of that part alone."""
    if intent.kind == "question" and re.search(r"[^\W\d]", intent.subject):
        return answers.answer(part, intent, answers.range_phrase(start, end))
    if intent.kind not in ("question", "summary"):
        return _write_text(part, intent, answers.range_phrase(start, end))
    about = answers.describe_subject(part, intent) if intent.subject and intent.kind == "summary" else ""
    return truncate_words(about or answers.describe_range(part, start, end, intent), intent.words)


def _write_text(evidence: Evidence, intent: PromptIntent, where: str = answers.WHOLE) -> str:
    """Write the kind of text that the prompt asks for, regardless of its time range."""
    if intent.kind == "chapters":
        return format_list(
            [
                _format_item(chapter, "chapter_title", "chapter_summary")
                for chapter in _chapter_items(evidence, intent)
            ],
            intent,
        )
    if intent.kind == "highlights":
        items = _highlight_items(evidence, intent)
        return format_list(
            [_format_item(highlight, "highlight", "highlight_summary") for highlight in items], intent
        )
    if intent.kind == "titles":
        return _write_titles(evidence, intent)
    if intent.kind in ("topics", "hashtags"):
        words = gist(evidence, intent.items or 5)[intent.kind]
        if intent.bullets or intent.numbered:
            return format_list(words, intent)
        return (" " if intent.kind == "hashtags" else ", ").join(words)
    if intent.kind == "summary":
        return summary(evidence, intent)
    return answers.answer(evidence, intent, where)


def _write_titles(evidence: Evidence, intent: PromptIntent) -> str:
    titles = list(
        dict.fromkeys([gist(evidence)["title"], *(chapter.title for chapter in chapters_of(evidence))])
    )
    number = intent.items or 1
    titles = [truncate_words(title, intent.words) for title in titles]
    return titles[0] if number == 1 else format_list(titles[:number], intent)


# ---------------------------------------------------------------------------- chapters and highlights


def chapters(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """Chapters in order: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`."""
    intent = parse_prompt(prompt, "chapters")
    return _chapter_items(remove_evidence(evidence, intent.without), intent)


def _chapter_items(evidence: Evidence, intent: PromptIntent) -> list[Item]:
    items = []
    title_uses: dict[str, int] = {}
    for chapter in chapters_of(evidence, intent.items):
        title_uses[chapter.title] = title_uses.get(chapter.title, 0) + 1
        suffix = f" ({title_uses[chapter.title]})" if title_uses[chapter.title] > 1 else ""
        start, end = chapter.start_sec, chapter.end_sec
        main_facts = _main_facts(chapter.facts, 1 if intent.brief else 4)
        text = " ".join(sentence(fact.within(start, end)) for fact in main_facts)
        items.append(
            {
                "start_sec": round(start, 3),
                "end_sec": round(end, 3),
                "chapter_title": chapter.title + suffix,
                "chapter_summary": text or "Nothing was recognised in this part.",
            }
        )
    return items


def _main_facts(facts: Sequence[Fact], limit: int) -> list[Fact]:
    """The `limit` facts of the largest weight, in order, with a visual one among them if there is any."""
    chosen = sorted(facts, key=lambda f: -f.weight)[:limit]
    visual = [fact for fact in facts if fact.kind == "seen"]
    if limit > 1 and visual and not any(fact.kind == "seen" for fact in chosen):
        chosen = [*chosen[: limit - 1], visual[0]]
    return sorted(chosen, key=lambda fact: (ORDER[fact.kind], fact.start_sec))


def highlights(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """Highlights in order: `start_sec`, `end_sec`, `highlight`, `highlight_summary`."""
    intent = parse_prompt(prompt, "highlights")
    return _highlight_items(remove_evidence(evidence, intent.without), intent)


def _highlight_items(evidence: Evidence, intent: PromptIntent) -> list[Item]:
    duration = evidence.probe.duration_sec
    number = intent.items or max(1, min(8, round(duration / 12)))
    if intent.subject and (matches := answers.find_passages(evidence, intent.subject)):
        facts = [fact for start, end, _ in matches[:number] for fact in facts_of(evidence, start, end)[:1]]
    else:
        facts = facts_of(evidence)
    chosen: list[Fact] = []
    for fact in sorted(facts, key=lambda f: (-f.weight, f.start_sec)):
        is_separate = all(
            fact.start_sec >= other.end_sec or fact.end_sec <= other.start_sec for other in chosen
        )
        if len(chosen) < number and is_separate:
            chosen.append(fact)
    items = []
    for fact in sorted(chosen, key=time_order):
        nearby = [f for f in facts_of(evidence, fact.start_sec, fact.end_sec) if f.text != fact.text]
        summary = [fact, *sorted(nearby, key=lambda f: -f.weight)[:1]]
        items.append(
            {
                "start_sec": round(fact.start_sec, 3),
                "end_sec": round(max(fact.end_sec, fact.start_sec + 0.5), 3),
                "highlight": truncate(fact.quote or fact.text.split(". ")[0], 80),
                "highlight_summary": " ".join(sentence(f.text) for f in sorted(summary, key=time_order)),
            }
        )
    return items


def _format_item(item: Item, title: str, text: str) -> str:
    return f"{clock_range(item['start_sec'], item['end_sec'])} {item[title]}: {item[text]}"
