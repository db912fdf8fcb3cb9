"""Texts from evidence: faithful, in order, with times, and as the prompt asks as far as patterns go."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from tests.support.known import EMPTY, PLANT, SALES, SHAPES, SILENT, VIDEOS
from tl_data.local.perception.evidence import Confidences, Evidence, Span
from tl_data.local.text import builtin, summaries
from tl_data.local.text.facts import clock, facts_of
from tl_data.local.text.prompt import parse_prompt, parse_time_range

EVERY = pytest.mark.parametrize("evidence", list(VIDEOS.values()), ids=list(VIDEOS))


def quotes(text: str) -> list[str]:
    return re.findall(r'[“"]([^”"]+)[”"]', text)


def seconds(time: str) -> int:
    total = 0
    for part in time.split(":"):
        total = 60 * total + int(part)
    return total


@EVERY
def test_every_quote_is_in_the_evidence(evidence: Evidence) -> None:
    known = " | ".join(span.text for span in (*evidence.shown, *evidence.speech))
    texts = [
        builtin.summarize(evidence),
        builtin.summarize(evidence, "in one sentence"),
        json.dumps(builtin.chapters(evidence)).replace('\\"', '"'),
        builtin.analyze(evidence, "List the chapters"),
        builtin.analyze(evidence, "What is said?"),
    ]
    for text in texts[:2] + texts[3:]:
        for quote in quotes(text):
            assert quote.rstrip("…") in known


@EVERY
def test_every_time_is_inside_the_video(evidence: Evidence) -> None:
    for prompt in ("Summarize the video", "List the highlights", "Make a timeline", "What is said in it?"):
        for time in re.findall(r"\b\d+:\d\d(?::\d\d)?\b", builtin.analyze(evidence, prompt)):
            assert 0 <= seconds(time) <= evidence.probe.duration_sec + 1


@EVERY
def test_chapters_cover_the_video_in_order(evidence: Evidence) -> None:
    chapters = builtin.chapters(evidence)
    assert chapters[0]["start_sec"] == 0
    assert chapters[-1]["end_sec"] == pytest.approx(evidence.clips[-1].end_sec)
    for before, after in pairwise(chapters):
        assert before["end_sec"] == after["start_sec"]
    for chapter in chapters:
        assert chapter["start_sec"] < chapter["end_sec"]
        assert chapter["chapter_summary"]
        assert not re.search("picture is|moves", chapter["chapter_title"])  # colours and motion are no title
    titles = [title for chapter in chapters if (title := chapter["chapter_title"])]
    assert len(set(titles)) == len(titles)


@EVERY
def test_highlights_are_ordered_and_do_not_overlap(evidence: Evidence) -> None:
    found = builtin.highlights(evidence)
    for item in found:
        assert 0 <= item["start_sec"] < item["end_sec"] <= evidence.probe.duration_sec + 0.5
        assert item["highlight"]
        assert item["highlight_summary"]
    for before, after in pairwise(found):
        assert before["end_sec"] <= after["start_sec"]


def test_chapters_begin_where_the_screen_text_changes() -> None:
    assert [(c["start_sec"], c["chapter_title"]) for c in builtin.chapters(SALES)] == [
        (0.0, "Quarterly review"),
        (6.0, "Revenue by region"),
        (18.0, "Thank you"),
    ]


def test_a_summary_lists_the_parts_in_order_with_times() -> None:
    text = builtin.summarize(SALES)
    places = [text.index(words) for words in ("Quarterly review", "Revenue by region", "Thank you")]
    assert places == sorted(places)
    assert "0:06" in text
    assert "24 seconds" in text


def test_a_fact_of_part_of_a_chapter_has_its_own_time() -> None:
    for chapter in builtin.chapters(SALES):
        for quote in re.findall(
            r'recognised as: "[^"]+" \((\d+:\d\d)-(\d+:\d\d)\)', chapter["chapter_summary"]
        ):
            assert chapter["start_sec"] - 1 <= seconds(quote[0]) < seconds(quote[1]) <= chapter["end_sec"] + 1


@pytest.mark.parametrize(
    ("prompt", "check"),
    [
        ("Summarize the video in one sentence.", lambda t: t.count(". ") == 0 and t.endswith(".")),
        ("Give me 3 bullet points", lambda t: len(t.splitlines()) == 3 and t.startswith("- ")),
        ("Summarize in two sentences", lambda t: len(re.findall(r"[.!?]\"?(?:\s|$)", t)) == 2),
        ("Summarize this in at most 15 words", lambda t: len(t.split()) <= 15),
        ("A numbered list of two highlights", lambda t: t.startswith("1. ") and len(t.splitlines()) == 2),
        ("Suggest a title", lambda t: t == "Quarterly review"),
        ("List 3 hashtags", lambda t: len(re.findall(r"#\w+", t)) == 3),
        ("Transcribe the speech", lambda t: "Our revenue grew by twelve percent compared to last year." in t),
        ("What text is shown on screen?", lambda t: '"Thank you"' in t and "twelve" not in t),
        ("How long is the video?", lambda t: "24.0 seconds" in t),
        ("Which colours are there?", lambda t: "white" in t and "%" in t),
        ("Break it into chapters", lambda t: len(t.splitlines()) == 3),
    ],
)
def test_prompts_are_respected(prompt: str, check: object) -> None:
    text = builtin.analyze(SALES, prompt)
    assert check(text), text  # type: ignore[operator]


@pytest.mark.parametrize(
    ("evidence", "question", "words"),
    [
        (SALES, "When does someone talk about revenue?", "0:07"),
        (SALES, "How much did the revenue grow?", "twelve percent"),
        (PLANT, "What must visitors wear?", "helmet"),
        (PLANT, "What should I do in case of fire?", "call the police"),
        (SHAPES, "Is there music?", "Yes"),
        (PLANT, "Is there music?", "No"),
        (SHAPES, "Does the camera zoom in?", "0:15"),
        (PLANT, "How many faces are visible?", "2 faces"),
    ],
)
def test_questions_are_answered_from_passages(evidence: Evidence, question: str, words: str) -> None:
    assert words in builtin.analyze(evidence, question)


@pytest.mark.parametrize(
    "question",
    ["Is there a dog?", "Who is the speaker?", "What brand is the car?", "What is the capital of France?"],
)
def test_an_unanswerable_question_is_declined(question: str) -> None:
    text = builtin.analyze(PLANT, question)
    assert "does not answer" in text
    assert "does not recognise actions" in text
    assert quotes(text) == [question.rstrip("?")]


@pytest.mark.parametrize(
    ("evidence", "prompt", "present", "absent"),
    [
        (SALES, "What happens at 0:20?", ["Thank you", "0:18"], ["Revenue", "Quarterly"]),
        (SALES, "Describe the first 5 seconds", ["Quarterly review", "Welcome"], ["Norway", "Thank"]),
        (SALES, "Summarize from 0:06 to 0:12 in one bullet point", ["- From 0:07"], ["Welcome", "\n"]),
        (SALES, "What is said in the last 10 seconds?", ["Norway"], ["twelve percent"]),
        (SALES, "What is said at the end?", ["No speech was recognised from 0:19 to 0:24"], ["this video"]),
        (SALES, "List the text on screen between 6 and 12 seconds", ["Revenue"], ["Quarterly", "Thank"]),
        (SALES, "What's on screen at 0:08?", ["Revenue"], ["Thank"]),
        (SALES, "Is there music after 0:17?", ["Yes", "0:18"], []),
        (SALES, "Is there music in the first five seconds?", ["No, nothing of the kind", "0:05"], []),
        (SALES, "What colours are in the first second?", ["From 0:00 to 0:01 the picture is blue"], []),
        (PLANT, "How many people are visible before 0:05?", ["At most 1 face"], ["2"]),
        (SALES, "What happens at 5:00?", ["24.0 seconds long and ends before that time"], ["Revenue"]),
        (SALES, "What is shown?", ["Quarterly review", "Thank you"], ["does not answer"]),
    ],
    ids=str,
)
def test_a_time_in_a_prompt_selects_a_part_of_the_video(
    evidence: Evidence, prompt: str, present: list[str], absent: list[str]
) -> None:
    text = builtin.analyze(evidence, prompt)
    assert [part for part in present if part not in text] == [], text
    assert [part for part in absent if part in text] == [], text


def test_a_time_beyond_the_end_is_part_of_the_question() -> None:
    opens = replace(SALES, shown=(*SALES.shown, Span(6.0, 12.0, "The shop opens at 9:00", 0.98)))
    assert 'shows "' in (text := builtin.analyze(opens, "What opens at 9:00?"))
    assert "opens at 9:00" in text
    cooks = replace(SALES, speech=(*SALES.speech, Span(1.0, 5.0, "After six seconds add the salt.", 0.9)))
    assert "add the salt" in builtin.analyze(cooks, "What is added after six seconds?")
    assert "0:07" in builtin.analyze(cooks, "When is revenue mentioned after six seconds?")


@pytest.mark.parametrize(
    ("prompt", "start", "end", "rest"),
    [
        ("at 1:02:03", 3723.0, 3723.5, ""),
        ("Who speaks in the first two minutes?", 0.0, 120.0, "Who speaks?"),
        ("the last minute", 3940.0, 4000.0, ""),
        ("1:00-2:30 in bullets", 60.0, 150.0, "in bullets"),
        ("between 90 s and minute 2", 90.0, 120.0, ""),
        ("What happens after 1.5 hours?", None, None, "What happens?"),
        ("At the very beginning, what is it?", 0.0, 400.0, ", what is it?"),
        ("the end of the world", None, None, "the end of the world"),
        ("Who waits at the start line?", None, None, "Who waits at the start line?"),
        ("Is a car at the end of the street?", None, None, "Is a car at the end of the street?"),
        ("What is said at the end of the video?", 3600.0, 4000.0, "What is said?"),
        ("Cook for 20 minutes, in three steps", None, None, "Cook for 20 minutes, in three steps"),
    ],
)
def test_time_ranges_are_parsed(prompt: str, start: float | None, end: float | None, rest: str) -> None:
    time_range, without = parse_time_range(prompt)
    times = time_range.within(4000.0) if time_range else None
    assert (times, without) == (None if start is None else (start, end), rest)


def test_a_subject_selects_facts_and_an_unknown_one_is_reported() -> None:
    text = builtin.summarize(SALES, "Focus on the customers in Norway")
    assert "Norway" in text
    assert "Thank you" not in text
    assert "No match for “penguins” in picture, sound or text." in builtin.summarize(
        SALES, "Summarize what it says about penguins"
    )


@pytest.mark.parametrize(
    ("prompt", "kinds", "absent"),
    [
        ("Summarize without mentioning colors", "colors", r"\b(?:blue|white|green|black)\b|picture"),
        ("Do not mention the color, the music or camera movement. Summarize.", "colors motion sound",
         r"blue|music|camera|moves"),
        ("Summarize the video; don't quote the speech", "speech", r"[Ss]peech|Norway"),
        ("A summary, no on-screen text or speech please", "speech text", r"Norway|screen|[Ss]peech"),
        ("Summarize in two sentences, leaving out captions and speech", "speech text", r"Norway|screen"),
        ("List the chapters but ignore the music", "sound", r"[Mm]usic"),
        ("Do not mention colors but summarize the video", "colors", r"blue|white"),
    ],
)  # fmt: skip
def test_a_kind_of_evidence_is_left_out(prompt: str, kinds: str, absent: str) -> None:
    assert parse_prompt(prompt).without == frozenset(kinds.split())
    assert parse_prompt(prompt).subject == ""
    present = builtin.analyze(SALES, prompt)
    assert re.search(absent, present) is None
    kept = {"speech": "Norway", "text": "Revenue by region", "colors": "green"}
    for kind, word in kept.items():
        assert kind in kinds.split() or "two sentences" in prompt or word in present, kind
    assert re.search(
        absent, builtin.analyze(SALES, "List the chapters" if "List" in prompt else "Summarize.")
    )
    assert builtin.analyze(SHAPES, prompt)  # of which hardly anything is left


@pytest.mark.parametrize(
    "prompt",
    ["Is there a part without speech?", "Which scenes have no music?", "Summarize the scenes with no speech",
     "Summarize how to work without gloves", "Do not use more than 30 words of text. Summarize."],
)  # fmt: skip
def test_prompts_without_an_omission_omit_nothing(prompt: str) -> None:
    assert parse_prompt(prompt).without == frozenset()


def test_chapters_and_highlights_omit_kinds_of_evidence() -> None:
    for items in (
        builtin.chapters(SALES, "without colors"),
        builtin.highlights(SALES, "do not mention colors"),
    ):
        assert items
        assert "green" not in json.dumps(items)
    assert "green" in json.dumps(builtin.chapters(SALES))
    assert ", without speech or text on screen." in builtin.summarize(SHAPES, "Leave out the sound")
    assert ", with music." in builtin.summarize(SHAPES, "do not mention the speech or the colors")


def test_gist_has_title_topics_and_hashtags() -> None:
    found = summaries.gist(SALES)
    assert found["title"] == "Quarterly review"
    assert "revenue" in found["topics"]
    assert all(re.fullmatch(r"#\w+", tag) for tag in found["hashtags"])
    assert summaries.gist(SHAPES)["title"] == summaries.gist(EMPTY)["title"] == ""


def test_a_video_without_evidence_is_reported() -> None:
    assert "could be analyzed" in builtin.summarize(
        Evidence(SILENT.probe, (), notes=("the file ends early",))
    )
    assert builtin.chapters(Evidence(SILENT.probe, ())) == []
    assert "No speech" in builtin.analyze(SILENT, "Transcribe it")


def test_uncertain_speech_is_marked() -> None:
    unsure = replace(SALES, speech=tuple(replace(span, confidence=0.2) for span in SALES.speech))
    assert "unsure" in builtin.summarize(unsure)
    assert "unsure" not in builtin.summarize(SALES)


def test_uncertain_measurements_are_marked() -> None:
    clips = (
        SHAPES.clips[0],
        replace(SHAPES.clips[2], confidences=Confidences(colors=0.8, camera=0.3, sound=0.9)),
    )
    unsure = replace(SHAPES, clips=clips)
    assert "he camera pans right (unsure)" in builtin.analyze(unsure, "Does the camera pan?")
    assert "(unsure)" not in builtin.analyze(SHAPES, "Does the camera pan?")
    by_kind = {fact.kind: fact.confidence for fact in facts_of(unsure, 10, 15)}
    assert by_kind == {"seen": 0.3, "heard": 0.9}
    assert {fact.confidence for fact in facts_of(SHAPES)} == {None}  # of an older version
    asked = {"type": "object", "properties": {"confidence": {"type": "number"}}}
    assert json.loads(builtin.analyze(unsure, "", asked)) == {"confidence": 0.6}
    assert json.loads(builtin.analyze(SHAPES, "", asked)) == {}


def test_facts_are_sorted_and_timed() -> None:
    facts = facts_of(SALES)
    assert [f.start_sec for f in facts] == sorted(f.start_sec for f in facts)
    assert {fact.kind for fact in facts} == {"shown", "said", "seen", "heard"}
    assert (clock(7.9), clock(61), clock(3723)) == ("0:07", "1:01", "1:02:03")


def test_max_tokens_cuts_the_text() -> None:
    assert len(builtin.analyze(SALES, "Summarize", max_tokens=5).split()) <= 5


def test_intents_are_parsed() -> None:
    intent = parse_prompt("Write three short bullet points about the budget")
    assert (intent.items, intent.bullets, intent.brief) == (3, True, True)
    assert parse_prompt("Summarize this").kind == "summary"
    assert parse_prompt("Summarize the part about solar panels").subject == "solar panels"
    assert parse_prompt(None).kind == "summary"
    assert parse_prompt("Where is the exit?").kind == "question"
    lengths = (
        "Summarize in fifty words",
        "In one word: what is it about?",
        "a 20-word summary",
        "What words?",
    )
    assert [parse_prompt(prompt).words for prompt in lengths] == [50, 1, 20, None]


def test_the_same_in_every_process() -> None:
    code = (
        "import json; from tests.support.known import VIDEOS;"
        "from tl_data.local.text import builtin, summaries;"
        "print(json.dumps([[builtin.summarize(e), builtin.chapters(e), builtin.highlights(e), "
        "summaries.gist(e)] "
        "for e in VIDEOS.values()]))"
    )
    root = Path(__file__).parents[3]
    runs = [
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=root,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PATH": "/usr/bin:/bin"},
        ).stdout
        for seed in ("1", "2")
    ]  # fmt: skip
    assert runs[0] == runs[1] != ""


@pytest.mark.parametrize(
    ("seconds", "length"),
    [(1.2, "1 second"), (59.6, "60 seconds"), (150.0, "2:30 minutes"), (3723.0, "1:02:03 hours")],
)
def test_both_forms_of_a_summary_name_the_length_alike(seconds: float, length: str) -> None:
    video = replace(SALES, probe=replace(SALES.probe, duration_sec=seconds))
    for prompt in ("Summarize the video", "Summarize the video in one sentence"):
        assert re.match(rf"A (?:portrait )?video of {length}\b", builtin.summarize(video, prompt)), prompt
