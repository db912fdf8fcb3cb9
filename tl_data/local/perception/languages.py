"""Detects the language of texts with the model in the py3langid wheel.

On-screen lines are short. In a test, 145 lines of one to eight words in ten languages were rendered and
recognised. Two thirds of them reach `MIN_LANGUAGE_PROBABILITY`, all with the correct language. Names, brands
and numbers almost always stay below it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

from tl_data.local.perception.evidence import Span

#: The detected languages by ISO 639-1 code. Fewer languages give higher confidences for short lines.
NAMES = {
    "ar": "Arabic", "cs": "Czech", "da": "Danish", "de": "German", "el": "Greek", "en": "English",
    "es": "Spanish", "fi": "Finnish", "fr": "French", "hi": "Hindi", "hu": "Hungarian", "id": "Indonesian",
    "it": "Italian", "ja": "Japanese", "ko": "Korean", "nl": "Dutch", "no": "Norwegian", "pl": "Polish",
    "pt": "Portuguese", "ro": "Romanian", "ru": "Russian", "sv": "Swedish", "tr": "Turkish",
    "uk": "Ukrainian", "vi": "Vietnamese", "zh": "Chinese",
}  # fmt: skip
#: Smallest probability at which a language is certain: it is searched, and named in texts.
MIN_LANGUAGE_PROBABILITY = 0.9
_LIKELY = 0.5  # smallest probability of a language that is stored


def language_of(text: str) -> tuple[str, float]:
    """The code of a text's language and its probability; ("", 0.0) if the language is uncertain."""
    if sum(letter.isalpha() for letter in text) < 2:
        return "", 0.0
    # Lower case, because the model fails on text in capitals.
    code, probability = _identifier().classify(text.lower())
    return (code, round(float(probability), 3)) if probability >= _LIKELY else ("", 0.0)


def with_languages(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Set the language of each line of text."""
    detected = []
    for span in spans:
        code, confidence = language_of(span.text)
        detected.append(replace(span, language=code, language_confidence=confidence))
    return tuple(detected)


def sure_languages(spans: Iterable[Span]) -> dict[str, float]:
    """The lower-case names of the languages that are certain, each with its largest confidence."""
    confidences: dict[str, float] = {}
    for span in spans:
        if span.language_confidence >= MIN_LANGUAGE_PROBABILITY and span.language in NAMES:
            name = NAMES[span.language].lower()
            confidences[name] = max(confidences.get(name, 0.0), span.language_confidence)
    return confidences


def language_ranges(spans: Sequence[Span]) -> list[tuple[str, float, float]]:
    """The languages that are certain, each as (name, start of its first span, end of its last), by start."""
    ranges: dict[str, tuple[float, float]] = {}
    for span in spans:
        if span.language_confidence >= MIN_LANGUAGE_PROBABILITY and span.language in NAMES:
            start, end = ranges.get(NAMES[span.language], (span.start_sec, span.end_sec))
            ranges[NAMES[span.language]] = min(start, span.start_sec), max(end, span.end_sec)
    return sorted(((name, *times) for name, times in ranges.items()), key=lambda item: item[1])


@cache
def _identifier() -> Any:
    from py3langid.langid import MODEL_FILE, LanguageIdentifier

    identifier = LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)
    identifier.set_languages(list(NAMES))
    return identifier
