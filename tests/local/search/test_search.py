"""Searching hand-made evidence: the right moment first, nothing where there is nothing."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.known import PROBE, VIDEOS, clip
from tl_data.local.perception.evidence import Evidence, Span
from tl_data.local.search.query import Hit, Query, confidence
from tl_data.local.storage.library import Library


@pytest.fixture(scope="module")
def library(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Library]:
    made = Library(tmp_path_factory.mktemp("search") / "library.db")
    for video_id, evidence in VIDEOS.items():
        made.add("index", video_id, evidence)
    yield made
    made.close()


def ask(library: Library, text: str, **options: object) -> list[Hit]:
    return library.search(Query("index", text, **options))  # type: ignore[arg-type]


FIRST = [
    # spoken
    ("revenue grew by twelve percent", "sales", 7.0),
    ("someone says our revenue grew", "sales", 7.0),
    ("visitors must wear a helmet", "plant", 0.5),
    ("new customers in Norway", "sales", 12.5),
    # shown
    ("Thank you", "sales", 18.5),
    ("slide with the title Revenue by region", "sales", 6.0),
    ("safety briefing", "plant", 0.2),
    ("call extension 112", "plant", 12.1),
    # visible
    ("a red object moving to the left", "shapes", 0.0),
    ("crimson ball rolling leftwards on a green background", "shapes", 0.0),
    ("something yellow rising", "shapes", 5.0),
    ("the camera pans to the right", "shapes", 10.0),
    ("zoom in on a purple picture", "shapes", 15.0),
    ("mostly navy screen", "sales", 0.0),
    ("everything is blue", "sales", 0.0),
    ("blue all over", "sales", 0.0),
    ("a red ball on green", "shapes", 0.0),
    ("red on the left side", "shapes", 0.0),
    ("two faces", "plant", 6.0),
    ("a very dark scene", "sales", 18.0),
    ("vertical video", "silent", 0.0),
    # heard
    ("loud music with an orange thing", "shapes", 15.0),
    ("dark picture with music", "sales", 18.0),
]


@pytest.mark.parametrize(("text", "video", "start"), FIRST)
def test_the_right_moment_comes_first(library: Library, text: str, video: str, start: float) -> None:
    hits = ask(library, text)
    assert hits, "nothing found"
    assert (hits[0].video_id, hits[0].confidence) != (video, "none")
    assert hits[0].video_id == video
    assert hits[0].start_sec == pytest.approx(start, abs=0.01)
    assert hits[0].confidence in ("high", "medium")
    assert hits[0].evidence


@pytest.mark.parametrize(
    ("text", "video"),
    [
        ("the police should be phoned", "plant"),
        ("leaving the building when it burns", "plant"),
        ("guests have to put on helmets", "plant"),
        ("clients in Norway", "sales"),
        ("growth compared with the previous year", "sales"),
    ],
)
def test_paraphrases_find_their_video(library: Library, text: str, video: str) -> None:
    hits = ask(library, text)
    assert hits
    assert hits[0].video_id == video


def library_of(path: Path, *spans: Span) -> Library:
    """A library of videos that say one thing each; they are called "0", "1" ..."""
    made = Library(path / "library.db")
    for number, span in enumerate(spans):
        made.add("index", str(number), Evidence(PROBE, (clip(0, 6, sound="speech"),), speech=(span,)))
    return made


@pytest.mark.parametrize(
    ("text", "meant", "strangers"),
    [
        (
            "visiting hours of the art gallery at the weekend",
            "the museum opens on sunday afternoon",
            ("gallery of winners", "the next weekend we will hire workers"),
        ),
        (
            "kids do not pay for the journey",
            "young people travel for free",
            ("the teacher listens to the children", "how would you like to pay"),
        ),
    ],
)
def test_a_sentence_that_is_near_as_a_whole_beats_a_word_of_the_question(
    text: str, meant: str, strangers: tuple[str, ...], tmp_path: Path
) -> None:
    library = library_of(tmp_path, *(Span(0.5, 4.0, said, 0.8) for said in (*strangers, meant)))
    assert ask(library, text)[0].video_id == str(len(strangers))
    library.close()


def test_each_reading_of_the_recogniser_is_a_sentence_of_its_own(tmp_path: Path) -> None:
    """Run together they would be about everything, and so about nothing."""
    readings = ("that loom is on the dock or", "the river is in the dark", "a lawyer asked the witness")
    library = library_of(
        tmp_path,
        Span(0.5, 4.0, "the lawn is wet and green", 0.8),
        Span(0.5, 4.0, "the law of the fitness", 0.4, readings),
    )
    hits = ask(library, "attorney questions somebody in court")
    assert [hit.video_id for hit in hits][:1] == ["1"]
    assert all(part.startswith("maybe: ") for part in hits[0].evidence)
    assert (hits[0].start_sec, hits[0].end_sec) == (0.5, 4.0)
    assert hits[0].transcription == "the law of the fitness"  # what it only considered is not quoted
    library.close()


def test_readings_as_an_earlier_version_wrote_them_are_searched(tmp_path: Path) -> None:
    """Without paragraphs it is unknown of whose time they are: the moment is the clip."""
    said = Span(0.5, 4.0, "the law of the fitness", 0.4, ("a lawyer asked the witness",))
    shown = Span(0.0, 6.0, "Hall 4", 0.9)
    path = tmp_path / "library.db"
    found = []
    for older in (False, True):
        library = Library(path)
        if older:
            with closing(sqlite3.connect(path)) as db, db:
                db.execute("UPDATE words_1 SET maybe = trim(replace(maybe, char(10), ' '))")
        else:
            library.add("index", "trial", Evidence(PROBE, (clip(0, 6),), speech=(said,), shown=(shown,)))
        found += ask(library, "attorney questions somebody in court")
        library.close()
    assert [(hit.video_id, hit.start_sec, hit.end_sec) for hit in found] == [
        ("trial", 0.5, 4.0),
        ("trial", 0.0, 6.0),
    ]


@pytest.mark.parametrize(
    "text",
    [
        "xqzt blorf wug",
        "a dog running on the beach",
        "pouring coffee into a cup",
        "penguins in Antarctica",
        "a red sports car chase at the harbour",
        "the violin concerto of Sibelius",
        "chess tournament final",
        "how to repair a bicycle tyre",
        "????",
        "42",
    ],
)
def test_absent_things_stay_below_medium(library: Library, text: str) -> None:
    assert ask(library, text, threshold="medium") == []


@pytest.mark.parametrize(
    "text", ["reveneu grew", "revenue by regi0n", "saftey brieflng", "helmut inside the building", "thankyou"]
)
def test_misspellings_and_recognition_errors_match(library: Library, text: str) -> None:
    hits = ask(library, text)
    assert hits
    assert hits[0].video_id in ("sales", "plant")
    assert hits[0].confidence in ("high", "medium")


def test_options_select_the_evidence(library: Library) -> None:
    shown = ask(library, "revenue by region", options=("visual",))[0]
    assert (shown.start_sec, shown.end_sec) == (6.0, 18.0)
    assert all("said" not in library_of for library_of in shown.evidence)
    spoken = ask(library, "revenue", options=("audio",))[0]
    assert (spoken.start_sec, spoken.end_sec) == (7.0, 11.5)
    assert ask(library, "loud music", options=("visual",)) == []
    assert ask(library, "loud music", options=("transcription",)) == []
    assert ask(library, "mostly green picture", options=("audio",), threshold="medium") == []
    assert ask(library, "Thank you", options=("audio",), threshold="medium") == []
    assert ask(library, "helmet", options=("transcription",))[0].video_id == "plant"
    # "mostly the growth" is what the recogniser also considered: heard at best, never seen
    assert ask(library, "'mostly the growth'", options=("audio",))[0].video_id == "sales"
    assert ask(library, "'mostly the growth'", options=("visual",)) == []


def test_and_needs_every_option_and_or_is_a_superset(library: Library) -> None:
    for text in (
        "revenue",
        "mostly white picture while someone speaks of revenue",
        "dark picture with music",
    ):
        both = {
            (hit.video_id, hit.clip_number) for hit in ask(library, text, operator="and", threshold="none")
        }
        either = {(hit.video_id, hit.clip_number) for hit in ask(library, text, threshold="none")}
        assert both <= either
    assert ask(library, "revenue", operator="and")[0].video_id == "sales"
    assert ask(library, "helmet", operator="and") == []  # spoken, never seen


def test_neighbouring_clips_with_the_same_evidence_are_one_moment(library: Library) -> None:
    hits = ask(library, "revenue by region", options=("visual",))
    assert len([hit for hit in hits if hit.video_id == "sales" and hit.confidence == "high"]) == 1
    white = ask(library, "mostly white picture with green")[0]
    assert (white.start_sec, white.end_sec) == (6.0, 18.0)


def test_scores_fall_and_ranks_rise(library: Library) -> None:
    hits = ask(library, "red", threshold="none")
    assert [hit.rank for hit in hits] == list(range(1, len(hits) + 1))
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)
    assert all(0 < hit.score <= 100 for hit in hits)


def test_the_confidence_level_shifts_the_borders(library: Library) -> None:
    text = "a red thing with a sail"
    counts = [
        len(ask(library, text, threshold="medium", adjust_confidence_level=level))
        for level in (0.0, 0.5, 1.0)
    ]
    assert counts == sorted(counts, reverse=True)
    assert counts[0] > counts[2]
    assert [confidence(65, level) for level in (0.0, 0.5, 1.0)] == ["high", "medium", "low"]


def test_only_the_given_videos_are_searched(library: Library) -> None:
    assert {hit.video_id for hit in ask(library, "red", video_ids=frozenset({"plant"}))} == {"plant"}
    assert ask(library, "red", video_ids=frozenset()) == []
    assert ask(library, "red", video_ids=frozenset({"nobody"})) == []


def test_a_hit_has_its_transcription(library: Library) -> None:
    hit = ask(library, "helmet")[0]
    assert hit.transcription == "All visitors must wear a helmet inside the building."
    assert ask(library, "a red object moving to the left")[0].transcription is None


def test_a_question_that_no_clip_is_a_candidate_for_has_no_hits(tmp_path: Path) -> None:
    library = Library(tmp_path / "library.db")
    library.add("index", "silent", Evidence(PROBE, (clip(0, 6, colors=(("gray", 1.0),)),)))
    for text in ("a purple thing", "loud music", "zoom in", '"purple"', "purple helmets"):
        assert ask(library, text, threshold="none") == []
    library.close()


def test_lexical_alone_does_not_guess_meanings(library: Library) -> None:
    assert ask(library, "clients", transcription_options=("lexical",), threshold="low") == []
    assert ask(library, "customers", transcription_options=("lexical",))[0].video_id == "sales"


@pytest.mark.parametrize(
    "query",
    [
        Query("index", "x", options=("smell",)),
        Query("index", "x", options=()),
        Query("index", "x", operator="xor"),
        Query("index", "x", threshold="sure"),
        Query("index", "  "),
        Query("index"),
    ],
)
def test_what_cannot_be_asked_is_refused(library: Library, query: Query) -> None:
    with pytest.raises(ValueError, match=r"unknown|must be given|is given"):
        library.search(query)


@pytest.mark.parametrize(
    "text",
    ['"', '""', "' OR 1=1 --", "NEAR(a b)", "*", "a AND (", "ünïcödé", "说话", "🎬", "x" * 5000, "a\0b"],
)
def test_odd_queries_do_no_harm(library: Library, text: str) -> None:
    assert ask(library, text, threshold="medium") == []
