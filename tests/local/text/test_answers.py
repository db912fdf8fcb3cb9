"""Answers state no more than was measured: yes, no, or unknown."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.support.known import PLANT, PROBE, SALES, SHAPES, SILENT, clip
from tl_data.local.perception.evidence import Evidence
from tl_data.local.text import builtin
from tl_data.local.text.prompt import parse_prompt

YES, NO, UNSURE, NONE, WORDS = "Yes, as", "No, nothing", "Nothing answers", "The evidence", "There are only"
DARK = Evidence(
    replace(PROBE, duration_sec=10.0),
    (
        clip(0, 5, colors=(("black", 0.9),), brightness=0.05),
        clip(5, 10, colors=(("beige", 0.7), ("brown", 0.2)), direction="left"),
    ),
)
ENGLISH = replace(
    SALES,
    speech=tuple(replace(span, language="en", language_confidence=0.95) for span in SALES.speech),
    speech_model="whisper-base",
)


@pytest.mark.parametrize(
    ("evidence", "question", "begins", "expected"),
    [
        (SALES, "Is there any speech?", YES, "Welcome to the quarterly review"),
        (SALES, "Does anyone talk?", YES, "Welcome to the quarterly review"),
        (SHAPES, "Is there any speech?", NO, ""),
        (SALES, "Is there text on screen?", YES, 'the screen shows "Quarterly review"'),
        (SHAPES, "Are there subtitles?", NO, ""),
        (SHAPES, "Is there silence?", YES, "From 0:00 to 0:10 there is silence"),
        (SHAPES, "Is it quiet at the start?", YES, "there is silence"),
        (SHAPES, "Is it loud?", YES, "From 0:15 to 0:20 the sound is loud"),
        (SALES, "Is the picture bright?", YES, "From 0:06 to 0:18 the picture is bright"),
        (SHAPES, "Does the camera move?", YES, "camera pans right"),
        (DARK, "Does the camera move?", NO, ""),
        (SHAPES, "Does anything move?", YES, "Something moves left"),
        (SHAPES, "Is there something red moving left?", YES, "red"),
        (SHAPES, "Is there something yellow that moves right?", NO, ""),
        # Of what is only a sign of it, nothing is claimed either way.
        (DARK, "Was it filmed at night?", UNSURE, "the picture is dark"),
        (SHAPES, "Was it filmed at night?", NONE, ""),
        (SHAPES, "Is there a woman?", NONE, ""),
        (PLANT, "Is there a woman?", UNSURE, "face"),
        (SALES, "Is German spoken?", NONE, ""),
        (replace(SALES, speech_model="whisper-tiny.en"), "Is German spoken?", NONE, ""),  # knows one language
        (ENGLISH, "Is German spoken?", NO, ""),
        (replace(SHAPES, speech_model="whisper-tiny.en"), "Is German spoken?", NO, ""),  # without speech
        (SALES, "Is there German text?", NO, ""),
        # That a word was said does not make it so.
        (PLANT, "Is there a fire?", WORDS, "In case of fire"),
        (PLANT, "Does the video mention a fire?", YES, "In case of fire"),
    ],
)
def test_yes_and_no_need_conclusive_evidence(
    evidence: Evidence, question: str, begins: str, expected: str
) -> None:
    text = builtin.analyze(evidence, question)
    assert text.startswith(begins)
    assert expected in text


def test_speech_of_a_recogniser_with_one_language_is_said_to_be_english() -> None:
    question = "Which languages are spoken?"
    assert "the only language" in builtin.analyze(replace(SALES, speech_model="whisper-tiny.en"), question)
    assert "in English" in builtin.analyze(ENGLISH, question)


def test_the_time_of_a_statement_covers_all_of_it() -> None:
    one = Evidence(PROBE, (DARK.clips[0], DARK.clips[1], replace(DARK.clips[1], start_sec=10, end_sec=18)))
    assert "From 0:05 to 0:18 the picture is mostly beige. Something moves left." in builtin.summarize(one)
    chapter = builtin.chapters(one, "in one chapter")[0]["chapter_summary"]
    assert "he picture is mostly beige; something moves left (0:05-0:18)" in chapter


def test_colours_have_common_names() -> None:
    assert "mostly beige" in builtin.summarize(DARK)
    assert "beige (90%)" in builtin.analyze(DARK, "Which colours are there in the last 5 seconds?")


@pytest.mark.parametrize(
    ("prompt", "kind", "items", "bullets", "subject"),
    [
        ("Give me a bullet list of the 3 key points", "highlights", 3, True, ""),
        ("Give me a few bullet points", "summary", None, True, ""),
        ("Do not use bullets; summarize in one paragraph", "summary", None, False, ""),
        ("Summarize without mentioning colors", "summary", None, False, ""),
        ("Summarize in exactly 20 words", "summary", None, False, ""),
        ("tl;dr", "summary", None, False, ""),
        ("Summarize how to work without gloves", "summary", None, False, "work gloves"),
        ("What must not include bullets?", "question", None, True, "What must not include bullets?"),
    ],
)
def test_words_of_the_form_are_not_the_subject(
    prompt: str, kind: str, items: int | None, bullets: bool, subject: str
) -> None:
    intent = parse_prompt(prompt)
    assert (intent.kind, intent.items, intent.bullets) == (kind, items, bullets)
    assert " ".join(word for word in intent.subject.split() if word not in ("how", "to")) == subject


@pytest.mark.parametrize(
    "prompt",
    [
        "Describe this video in detail. Include what happens visually, what is said (transcribe the audio), "
        "any on-screen text, and the overall topic.",
        "Provide a detailed description of the video, focusing on the style, lighting, camera movement.",
        "Generate a detailed text based on this video.",
        "What happened?",
        "Write a short summary for a marketing audience of engineers",
        "Summarize this video in a friendly and casual tone for our customers",
        "Summarize the video to be used as serving metadata.",
    ],
)
def test_default_prompts_of_other_tools_ask_for_a_summary_of_all(prompt: str) -> None:
    intent = parse_prompt(prompt)
    assert (intent.kind, intent.subject) == ("summary", "")


@pytest.mark.parametrize(
    ("prompt", "kind", "subject"),
    [
        ("Describe this video in chapters", "chapters", ""),
        ("Summarize this video, focusing on the dog", "summary", "dog"),
        ("What happened to the dog?", "question", "What happened to the dog?"),
        ("Transcribe the video", "transcript", "transcribe"),
    ],
)
def test_a_subject_is_still_one(prompt: str, kind: str, subject: str) -> None:
    intent = parse_prompt(prompt)
    assert (intent.kind, intent.subject) == (kind, subject)


def test_a_one_liner_is_one_sentence() -> None:
    assert parse_prompt("Write a one-line summary").sentences == 1


@pytest.mark.parametrize(
    ("evidence", "question", "expected"),
    [
        (
            SALES,
            "What is the resolution?",
            "The video is landscape, 1280 x 720 pixels, with 30 frames a second",
        ),
        (SILENT, "Is the video in portrait orientation?", "The video is portrait, 720 x 1280 pixels"),
        (SILENT, "What is the orientation of the video?", "h264 pictures and no sound"),
        (SILENT, "Is it a vertical video?", "The video is portrait"),
        (SALES, "Is there a landscape?", "does not answer"),
        (SALES, "What is the new year's resolution?", "What comes closest"),
        (SALES, "Who " + "really " * 3000 + "won?", "really…"),
        (SALES, "Summarize the " + "penguin " * 3000, "penguin…"),
    ],
    ids=lambda value: value[:30] if isinstance(value, str) else "",
)
def test_answers_name_the_format_and_shorten_long_prompts(
    evidence: Evidence, question: str, expected: str
) -> None:
    text = builtin.analyze(evidence, question)
    assert expected in text
    assert len(text) < 1500


def test_a_title_has_the_requested_length() -> None:
    talk = replace(PLANT, shown=())
    assert len(builtin.analyze(talk, "Write a title").split()) > 5
    assert len(builtin.analyze(talk, "Write a title, under 5 words").split()) <= 5
