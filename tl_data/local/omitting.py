"""Kinds of evidence that a prompt wants left out: "without mentioning colors", "don't quote the speech"."""

from __future__ import annotations

import re
from dataclasses import replace

from tl_data.local.evidence import Clip, Evidence

_KINDS = {
    "colors": r"colou?rs?",
    "motion": r"motions?|movements?|camera(?: (?:work|moves?|movements?|motions?))?",
    "sound": r"sounds?|music|audio",
    "speech": r"speech|spoken (?:words|text)|what is (?:said|spoken)|dialog(?:ue)?s?",
    "text": r"(?:on[- ]?screen |screen )?text(?: on (?:the )?screen)?|captions?|subtitles?",
}
_KIND = rf"(?:(?:the|any|all|of)\s+)*(?:{'|'.join(_KINDS.values())})\b"
_LIST = rf"{_KIND}(?:(?:\s*,\s*(?:(?:and|or|nor)\s+)?|\s+(?:and|or|nor)\s+){_KIND})*"
_TELLING = (
    r"(?:mention(?:ing)?|includ(?:e|ing)|describ(?:e|ing)|nam(?:e|ing)|quot(?:e|ing)|list(?:ing)?"
    r"|tell(?:ing)?(?: me)? (?:of|about)|talk(?:ing)? about|refer(?:ring)? to)"
)
_OMIT = re.compile(
    # What follows a verb belongs to it, up to the next mark or "but"; what follows a bare noun does not.
    rf"\b(?:without|avoid|no|not|never|don['’]?t)\s+{_TELLING}\s+(?P<told>{_LIST})(?:(?!\bbut\b)[^.,;:!?])*"
    rf"|\b(?:leav(?:e|ing) out|omit(?:ting)?|skip(?:ping)?|ignor(?:e|ing)|exclud(?:e|ing)|avoid(?:ing)?)\s+"
    rf"(?P<left>{_LIST})"
    # "a scene with no sound" is about a scene, and not about the text that is wished for.
    rf"|(?<!\bis )(?<!\bare )(?<!\bhas )(?<!\bhave )(?<!\bwith )(?:\bwithout|\bno)\s+(?P<bare>{_LIST})",
    re.IGNORECASE,
)


def omitted(prompt: str) -> tuple[frozenset[str], str]:
    """The kinds of evidence that a prompt wants left out, and the prompt without saying so."""
    kinds: set[str] = set()
    for match in _OMIT.finditer(prompt):
        named = match["told"] or match["left"] or match["bare"]
        kinds |= {kind for kind, words in _KINDS.items() if re.search(rf"\b(?:{words})\b", named, re.I)}
    return frozenset(kinds), _OMIT.sub(" ", prompt)


def without(evidence: Evidence, kinds: frozenset[str]) -> Evidence:
    """The evidence as if these kinds had not been measured, for a text that leaves them out."""
    if not kinds:
        return evidence
    return replace(
        evidence,
        clips=tuple(_without(clip, kinds) for clip in evidence.clips),
        speech=() if "speech" in kinds else evidence.speech,
        shown=() if "text" in kinds else evidence.shown,
    )


def _without(clip: Clip, kinds: frozenset[str]) -> Clip:
    if "colors" in kinds:
        clip = replace(clip, colors=(), regions=(), sure=replace(clip.sure, colors=None))
    if "motion" in kinds:
        sure = replace(clip.sure, motion=None, direction=None, camera=None)
        clip = replace(clip, motion=0.0, direction=None, camera="", sure=sure)
    if "sound" in kinds:
        clip = replace(clip, sound="silence", audio_look=(), sure=replace(clip.sure, sound=None))
    return clip
