"""Texts about a video, put together from its evidence: summary, chapters, highlights, gist, answers.

There is no language model here. A text is made of facts (facts.py), in the order of the video, each with
its time; what was spoken or shown is quoted. Nothing is said that was not measured, read or heard. The
prompt is followed as far as that allows: kind, length, form and subject are understood, questions are
answered by the passages that fit them, and where there are none the text says so. What happens, who
somebody is, or what an object is called, this engine cannot see.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from tl_data.local.perception.evidence import Evidence
from tl_data.local.text import answers, structured, things
from tl_data.local.text.chapters import chapters_of, shortened
from tl_data.local.text.facts import ORDER, Fact, between, facts_of, sentence
from tl_data.local.text.prompt import Wish, part_of, read, without
from tl_data.local.text.summaries import gist, lines_of, shortened_to, summary, when
from tl_data.local.tokens import first

Item = dict[str, Any]


def summarize(evidence: Evidence, prompt: str | None = None) -> str:
    """A summary in the order of the video, as long and in the form that the prompt asks for."""
    return _write(evidence, prompt, "summary")


def analyze(
    evidence: Evidence,
    prompt: str,
    json_schema: dict[str, Any] | None = None,
    max_tokens: int | None = None,
) -> str:
    """Answer a prompt about a video.

    Args:
        json_schema: the answer is then JSON text that conforms to it; see `schema.fill`.
        max_tokens: the text is cut after so many, as `tokens.count` counts them.

    Raises:
        schema_check.Unsupported: the schema uses what the API's subset does not have.
    """
    if json_schema is not None:
        text = json.dumps(structured.fill(evidence, json_schema, prompt), ensure_ascii=False)
    else:
        text = _write(evidence, prompt)
    return text if max_tokens is None else first(text, max_tokens)


def _write(evidence: Evidence, prompt: str | None, kind: str | None = None) -> str:
    wish = read(prompt, kind)
    evidence = without(evidence, wish.without)
    asks = bool(prompt) and kind is None and wish.stretch is None
    if asks and (lines := things.answered(evidence, str(prompt), answers.WHOLE)):
        return answers.formed(lines, wish)
    if wish.stretch is None:
        return _written(evidence, wish)
    times = wish.stretch.within(evidence.probe.duration_sec)
    if times is not None and wish.stretch.loose and wish.kind == "question":
        text = answers.answer(evidence, read(prompt, times=False))
        if not answers.is_doubtful(text):
            return text
    if times is not None:
        return _part(part_of(evidence, *times), *times, wish)
    if wish.kind == "summary" and not wish.subject:
        return f"The video is {evidence.probe.duration_sec:.1f} seconds long: nothing of it is there."
    return _written(evidence, read(prompt, kind, times=False))  # "the shop opens at 9:00"


def _part(part: Evidence, start: float, end: float, wish: Wish) -> str:
    """A text about a part of a video, from the evidence of that part."""
    if wish.kind == "question" and re.search(r"[^\W\d]", wish.subject):
        return answers.answer(part, wish, answers.from_to(start, end))
    if wish.kind not in ("question", "summary"):
        return _written(part, wish, answers.from_to(start, end))
    about = answers.about(part, wish) if wish.subject and wish.kind == "summary" else ""
    return shortened_to(about or answers.during(part, start, end, wish), wish.words)


def _written(evidence: Evidence, wish: Wish, where: str = answers.WHOLE) -> str:
    if wish.kind == "chapters":
        return lines_of(
            [_entry(c, "chapter_title", "chapter_summary") for c in _chapters(evidence, wish)], wish
        )
    if wish.kind == "highlights":
        found = _highlights(evidence, wish)
        return lines_of([_entry(h, "highlight", "highlight_summary") for h in found], wish)
    if wish.kind == "titles":
        return _titles(evidence, wish)
    if wish.kind in ("topics", "hashtags"):
        words = gist(evidence, wish.items or 5)[wish.kind]
        if wish.bullets or wish.numbered:
            return lines_of(words, wish)
        return (" " if wish.kind == "hashtags" else ", ").join(words)
    if wish.kind == "summary":
        return summary(evidence, wish)
    return answers.answer(evidence, wish, where)


def _titles(evidence: Evidence, wish: Wish) -> str:
    titles = list(dict.fromkeys([gist(evidence)["title"], *(c.title for c in chapters_of(evidence))]))
    wanted = wish.items or 1
    titles = [shortened_to(title, wish.words) for title in titles]
    return titles[0] if wanted == 1 else lines_of(titles[:wanted], wish)


# ---------------------------------------------------------------------------- chapters and highlights


def chapters(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """The video in chapters: `start_sec`, `end_sec`, `chapter_title`, `chapter_summary`, in order."""
    wish = read(prompt, "chapters")
    return _chapters(without(evidence, wish.without), wish)


def _chapters(evidence: Evidence, wish: Wish) -> list[Item]:
    found = []
    used: dict[str, int] = {}
    for chapter in chapters_of(evidence, wish.items):
        used[chapter.title] = used.get(chapter.title, 0) + 1
        again = f" ({used[chapter.title]})" if used[chapter.title] > 1 else ""
        start, end = chapter.start_sec, chapter.end_sec
        main = _main(chapter.facts, 1 if wish.brief else 4)
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
    """The facts that tell most, in order, one picture among them if there is one."""
    chosen = sorted(facts, key=lambda f: -f.weight)[:most]
    seen = [fact for fact in facts if fact.kind == "seen"]
    if most > 1 and seen and not any(fact.kind == "seen" for fact in chosen):
        chosen = [*chosen[: most - 1], seen[0]]
    return sorted(chosen, key=lambda fact: (ORDER[fact.kind], fact.start_sec))


def highlights(evidence: Evidence, prompt: str | None = None) -> list[Item]:
    """The moments that tell most: `start_sec`, `end_sec`, `highlight`, `highlight_summary`, in order."""
    wish = read(prompt, "highlights")
    return _highlights(without(evidence, wish.without), wish)


def _highlights(evidence: Evidence, wish: Wish) -> list[Item]:
    duration = evidence.probe.duration_sec
    wanted = wish.items or max(1, min(8, round(duration / 12)))
    if wish.subject and (passages := answers.passages(evidence, wish.subject)):
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
