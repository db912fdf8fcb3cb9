"""Word times: a moment found through speech is as long as its words, and transcripts come in phrases."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.known import SALES, clip
from tl_data.local.perception.evidence import Evidence, Span, Word
from tl_data.local.search.query import Hit, Query
from tl_data.local.search.search import find_in_video
from tl_data.local.search.transcript import phrases, times_of
from tl_data.local.storage.library import Library
from tl_data.local.tasks.inline_video import within_window

TEXT = "The meeting starts at nine. Our revenue grew by twelve percent, and we will hire fifty workers"
# Two words a second, with a pause of half a second after the first sentence.
WORDS = tuple(
    Word(start := 0.5 * place + (0.5 if place > 4 else 0.0), start + 0.45, word, 0.9 if place > 4 else 0.6)
    for place, word in enumerate(TEXT.split())
)
SENTENCE = Span(0.0, WORDS[-1].end_sec, TEXT, 0.8, words=WORDS)
TALK = replace(SALES, clips=(clip(0, 5), clip(5, 10, cut=False)), speech=(SENTENCE,), shown=())


def ask(tmp_path: Path, text: str, evidence: Evidence = TALK) -> list[Hit]:
    library = Library(tmp_path / "library.sqlite")
    library.add("index", "talk", evidence)
    try:
        return library.search(Query("index", text))
    finally:
        library.close()


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("someone says revenue", 3.2, 4.2),  # a second at least, with the words around it
        ("revenue grew by twelve percent", 3.25, 6.2),
        ('"fifty workers"', 7.75, 8.95),  # no longer than the sentence
        ("hire workers", 7.25, 8.95),
        ("meetings", 0.25, 1.25),  # another form of the word, within a second around it
        ("nine percent", 1.75, 6.2),  # from the first to the last word
    ],
)
def test_a_moment_is_as_long_as_the_words(tmp_path: Path, text: str, start: float, end: float) -> None:
    hit = ask(tmp_path, text)[0]
    assert (hit.start_sec, hit.end_sec) == (pytest.approx(start, abs=0.1), pytest.approx(end, abs=0.1))
    assert hit.transcription == TEXT
    alone = find_in_video(TALK, text)[0]
    assert (alone.start_sec, alone.end_sec) == (hit.start_sec, hit.end_sec)


def test_the_thumbnail_is_of_the_clip_with_the_words(tmp_path: Path) -> None:
    assert ask(tmp_path, "meeting")[0].clip_number == 0
    assert ask(tmp_path, "workers")[0].clip_number == 1


def test_without_word_times_and_by_meaning_it_is_the_sentence(tmp_path: Path) -> None:
    whole = (SENTENCE.start_sec, SENTENCE.end_sec)
    untimed = replace(TALK, speech=(replace(SENTENCE, words=()),))
    hit = ask(tmp_path, "revenue grew", untimed)[0]
    assert (hit.start_sec, hit.end_sec) == whole
    hit = ask(tmp_path, "employees")[0]  # near to "workers", and not among the words
    assert (hit.start_sec, hit.end_sec) == whole


def test_a_moment_of_picture_and_words_is_the_clip(tmp_path: Path) -> None:
    red = replace(TALK, clips=tuple(replace(one, colors=(("red", 0.9),)) for one in TALK.clips))
    hit = ask(tmp_path, "someone talks about revenue in a mostly red picture", red)[0]
    assert (hit.start_sec, hit.end_sec) == (0.0, 10.0)


def test_what_a_library_of_before_kept_of_words_is_searched(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.sqlite")
    library.add("index", "talk", TALK)
    with library._writing, library._connection() as db:
        for clip_id, spans in db.execute("SELECT rowid, spans FROM words_1").fetchall():
            old = json.dumps([span[:4] for span in json.loads(spans)])
            db.execute("UPDATE words_1 SET spans = ? WHERE rowid = ?", (old, clip_id))
    hit = library.search(Query("index", "revenue grew"))[0]
    assert (hit.start_sec, hit.end_sec) == (SENTENCE.start_sec, SENTENCE.end_sec)
    library.close()


def test_a_sentence_is_cut_at_its_pauses() -> None:
    parts = phrases(SENTENCE)
    assert [part.text for part in parts] == ["The meeting starts at nine.", TEXT.partition(". ")[2]]
    assert [(part.start_sec, part.end_sec) for part in parts] == [(0.0, 2.45), (3.0, 8.95)]
    assert [part.confidence for part in parts] == [0.6, 0.9]
    assert phrases(parts[0]) == [parts[0]]


@pytest.mark.parametrize("words", [(), WORDS[1:]], ids=["none", "others than the text's"])
def test_times_are_used_if_they_are_of_the_text(words: tuple[Word, ...]) -> None:
    span = replace(SENTENCE, words=words)
    assert times_of(span) == ()
    assert phrases(span) == [span]


def test_a_window_cuts_sentences() -> None:
    [part] = within_window(TALK, 3.0, 4.4).speech
    assert (part.text, part.start_sec, part.end_sec) == ("Our revenue grew", 3.0, 4.4)
    assert part.words == WORDS[5:8]
    assert within_window(TALK, 0.0, 100.0).speech == (SENTENCE,)
    assert within_window(TALK, 2.46, 3.0).speech == ()  # the pause
    # Words without times are spread evenly: nine words in nine seconds.
    even = replace(TALK, speech=(Span(0.0, 9.0, "a b c d e f g h i", 0.8),))
    [part] = within_window(even, 7.0, 20.0).speech
    assert (part.text, part.start_sec, part.end_sec, part.words) == ("h i", 7.0, 9.0, ())
