"""Languages of screen text and of speech: reported when certain, stored, used by search and texts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.local.perception.vision.test_ocr import blank, read, write
from tests.support.known import SALES, clip
from tl_data.local.perception.attributes import words_of
from tl_data.local.perception.evidence import Evidence, Span, from_json, to_json
from tl_data.local.perception.languages import MIN_LANGUAGE_PROBABILITY, language_of, with_languages
from tl_data.local.search.query import MEDIUM, Query
from tl_data.local.storage.library import Library
from tl_data.local.text import builtin

FIESTA = replace(
    SALES,
    clips=(clip(0, 6), clip(6, 12), clip(12, 18)),
    shown=with_languages(
        (
            Span(0.0, 6.0, "Bienvenidos a nuestra reunión anual", 0.98),
            Span(6.0, 12.0, "Welcome to our annual meeting", 0.98),
            Span(12.0, 18.0, "SONY 4711", 0.98),
        )
    ),
    speech=(
        Span(12.5, 16.0, "Les enfants voyagent gratuitement", 0.9, language="fr", language_confidence=0.97),
    ),
    speech_model="whisper",
)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("Lávese las manos antes de comer", "es"),
        ("VIELEN DANK FÜR IHRE AUFMERKSAMKEIT", "de"),
        ("Please turn off your mobile phone", "en"),
        ("Le train part dans dix minutes", "fr"),
        ("Gracias por su atención", "es"),
        ("Open het raam voor het eten begint", "nl"),
        ("欢迎参加我们的年度会议", "zh"),
    ],
)
def test_the_language_of_a_line(text: str, code: str) -> None:
    found, sure = language_of(text)
    assert found == code
    assert MIN_LANGUAGE_PROBABILITY <= sure <= 1


@pytest.mark.parametrize(
    "text", ["", "12:30", "LH 1907", "Müller GmbH", "Angela Merkel", "Microsoft Excel", "x"]
)
def test_texts_without_a_language_get_none(text: str) -> None:
    assert language_of(text)[1] < MIN_LANGUAGE_PROBABILITY


def test_a_line_that_is_read_has_its_language() -> None:
    spans = with_languages(
        read(lambda _: write(blank(), [("Los clientes viajan gratis en tren", 80, 200, 48)], (0, 0, 0)), 1.5)
    )
    assert [(span.text, span.language) for span in spans] == [("Los clientes viajan gratis en tren", "es")]
    assert spans[0].language_confidence >= MIN_LANGUAGE_PROBABILITY


def test_it_is_kept_with_the_evidence_and_older_evidence_has_none() -> None:
    assert from_json(to_json(FIESTA)) == FIESTA
    raw = json.loads(to_json(FIESTA))
    for span in (*raw["shown"], *raw["speech"]):
        del span["language"], span["language_confidence"]
    old = from_json(json.dumps(raw).encode())
    assert {(span.language, span.language_confidence) for span in (*old.shown, *old.speech)} == {("", 0.0)}
    assert not [trait for trait, _ in words_of(old.clips[0], old).traits if "spanish" in trait]


def test_it_is_searched(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.sqlite")
    library.add("index", "fiesta", FIESTA)
    library.add("index", "sales", replace(SALES, shown=with_languages(SALES.shown)))

    def found(text: str, option: str = "visual") -> list[tuple[str, float]]:
        hits = library.search(Query("index", text, options=(option,), threshold="medium"))
        return [(hit.video_id, hit.start_sec) for hit in hits if hit.score >= MEDIUM]

    assert found("Spanish text") == [("fiesta", 0.0)]
    assert ("fiesta", 6.0) in found("English text")
    assert ("fiesta", 0.0) not in found("English text")
    assert found("German text") == []
    assert found("someone speaking French", "audio") == [("fiesta", 12.0)]
    assert found("someone speaking French", "transcription") == [("fiesta", 12.0)]
    assert found("someone speaking Spanish", "audio") == []
    library.close()


def test_it_is_written_about() -> None:
    answer = builtin.analyze(FIESTA, "Which languages are used in this video?")
    assert "The text on screen is in Spanish (0:00-0:06) and English (0:06-0:12)." in answer
    assert "The speech is in French (0:12-0:16)." in answer
    assert 'anual" in Spanish' in builtin.analyze(FIESTA, "Is there Spanish text?")
    assert builtin.analyze(FIESTA, "Is there English text?").startswith("Yes")
    assert builtin.analyze(FIESTA, "Is there German text?").startswith("No")
    asked = {
        "type": "object",
        "properties": {"language": {"type": "string"}, "text_language": {"type": "string"}},
    }
    assert json.loads(builtin.analyze(FIESTA, "", asked)) == {
        "language": "French",
        "text_language": "English",
    }


def test_the_built_in_recogniser_says_that_it_knows_english_alone() -> None:
    assert all(not span.language for span in SALES.speech)
    assert "only language" in builtin.analyze(SALES, "What language is spoken?")
    silent = Evidence(SALES.probe, SALES.clips)
    assert "No text and no speech" in builtin.analyze(silent, "What language is spoken?")
