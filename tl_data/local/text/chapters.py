"""Divides a video into chapters where it changes most, and titles them."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from tl_data.local.perception.attributes import color_shares, screen_text_between, speech_between
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.naming import names_of
from tl_data.local.search import word_vectors
from tl_data.local.search.fuzzy import stem
from tl_data.local.search.parser import tokens
from tl_data.local.search.patterns import GENERIC, STOP_WORDS
from tl_data.local.text.facts import Fact, facts_of


@dataclass(frozen=True)
class Chapter:
    """A part of the video with its title and facts. Times in seconds."""

    start_sec: float
    end_sec: float
    title: str
    facts: tuple[Fact, ...]


def chapters_of(evidence: Evidence, limit: int | None = None) -> list[Chapter]:
    """The chapters of a video in order, at most `limit` of them.

    A new chapter begins where picture, on-screen text and speech change most.
    """
    clips = evidence.clips
    if not clips:
        return []
    duration = clips[-1].end_sec - clips[0].start_sec
    number = limit or int(np.clip(round(1.5 * (duration / 3.5) ** 0.5), 1, 16))
    minimum_length = max(2.0, duration / (4 * number))
    edges: list[float] = []
    for strength, time in sorted(_edges(evidence), key=lambda edge: (-edge[0], edge[1])):
        if len(edges) + 1 >= number or strength < 0.8:
            break
        distances_suffice = (
            abs(time - other) >= minimum_length for other in (*edges, clips[0].start_sec, clips[-1].end_sec)
        )
        if all(distances_suffice):
            edges.append(time)
    bounds = [clips[0].start_sec, *sorted(edges), clips[-1].end_sec]
    chapters = []
    for start, end in pairwise(bounds):
        facts = tuple(facts_of(evidence, start, end))
        chapters.append(Chapter(start, end, title_of(facts), facts))
    return chapters


def _edges(evidence: Evidence) -> list[tuple[float, float]]:
    """The strength and the time of the change between each two adjacent clips."""
    clips = evidence.clips
    shown_lines = [
        {span.text for span in screen_text_between(evidence, c.start_sec, c.end_sec)} for c in clips
    ]
    speech_texts = [
        " ".join(span.text for span in speech_between(evidence, c.start_sec, c.end_sec)) for c in clips
    ]
    edges = []
    for i in range(1, len(clips)):
        before, after = clips[i - 1], clips[i]
        strength = 0.6 if after.cut else 0.0
        if shown_lines[i] != shown_lines[i - 1]:
            strength += 0.8 * (
                1
                - len(shown_lines[i] & shown_lines[i - 1]) / max(1, len(shown_lines[i] | shown_lines[i - 1]))
            )
        colors = color_shares(before), color_shares(after)
        shared = sum(min(colors[0].get(name, 0.0), share) for name, share in colors[1].items())
        strength += 0.5 * (1 - min(1.0, shared))
        spoken_around = " ".join(speech_texts[max(0, i - 4) : i]), " ".join(speech_texts[i : i + 4])
        if all(spoken_around):
            vector_before, vector_after = word_vectors.word_vectors(spoken_around)
            strength += 0.6 * max(0.0, 1 - float(vector_before @ vector_after))
        if before.sound != after.sound:
            strength += 0.2
        time = after.start_sec
        if any(span.start_sec + 0.7 < time < span.end_sec - 0.7 for span in evidence.speech):
            strength -= 0.7  # the change is inside a sentence
        edges.append((strength, time))
    return edges


def title_of(facts: Sequence[Fact]) -> str:
    """A title from the facts: the first line on screen, else speech, else people and objects; else "".

    Colours and motion make no title.
    """
    for fact in facts:
        if fact.kind == "shown" and any(char.isalpha() for char in fact.quote):
            return truncate(fact.quote, 60)
    speech_facts = [fact for fact in facts if fact.kind == "said"]
    if speech_facts:
        best = max(speech_facts, key=lambda fact: fact.weight)
        return truncate(best.quote[0].upper() + best.quote[1:], 60)
    things = [fact for fact in facts if fact.things]
    if not things:
        return ""
    best = max(things, key=lambda fact: fact.end_sec - fact.start_sec)
    name = re.sub(r" (?:is|are) in view\b|\bthe place looks like ", "", best.text, flags=re.I)
    return truncate(name[:1].upper() + name[1:], 60)


def truncate(text: str, length: int) -> str:
    """Cut a text between two words to at most `length` characters, with an ellipsis at the end."""
    text = " ".join(text.split())
    return text if len(text) <= length else text[: length - 1].rsplit(" ", 1)[0].rstrip(",;:. ") + "…"


def topics_of(evidence: Evidence, limit: int = 5, *, seen: bool = True) -> list[str]:
    """The `limit` content words that are shown or spoken most, largest score first.

    With `seen`, the names of recognised objects count too.
    """
    score_of: defaultdict[str, float] = defaultdict(float)
    word_of: dict[str, str] = {}
    for clip in evidence.clips if seen else ():
        for name in names_of(clip):
            word_of.setdefault(name.name, name.name)
            score_of[name.name] += 0.5 * name.probability * (clip.end_sec - clip.start_sec)
    for weight, spans in ((2.0, evidence.shown), (1.0, evidence.speech)):
        for span in spans:
            for word in dict.fromkeys(tokens(span.text)):
                if len(word) > 3 and word.isalpha() and word not in STOP_WORDS and word not in GENERIC:
                    key = stem(word)
                    word_of.setdefault(key, word)
                    score_of[key] += weight * (0.3 + span.confidence) * word_vectors.word_weight(word)
    return [word_of[key] for key, _ in sorted(score_of.items(), key=lambda item: (-item[1], item[0]))[:limit]]
