"""The text stage by an OpenAI-compatible endpoint: what it gets, what becomes of its answers and failures."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest

from tests.support import media
from tests.support.known import SALES, SHAPES
from tests.support.llm_server import KEY, MODEL, LanguageServer
from tl_data.cli import doctor
from tl_data.connection import connect
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS
from tl_data.local.errors import EngineError
from tl_data.local.models import Endpoint, Tiers, read_tiers
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.frames import pick
from tl_data.local.text.json_schema import violation
from tl_data.local.text.llm import SPEECH_CHARACTERS, EndpointWriter, ReasoningFilter, answer_of, words_of
from tl_data.local.text.writer import GeneratedText, GenerationOptions, WriterInput
from tl_data.settings import Settings

BGR = {"blue": (200, 0, 0), "green": (0, 200, 0), "red": (0, 0, 200)}
SCHEMA = {
    "type": "object",
    "properties": {"title": {"type": "string"}, "lines": {"type": "array", "items": {"type": "string"}}},
    "required": ["title", "lines"],
    "additionalProperties": False,
}


@pytest.fixture
def language() -> Iterator[LanguageServer]:
    with LanguageServer() as server:
        yield server


@pytest.fixture
def writer_input(tmp_path: Path) -> WriterInput:
    """The sales video with its frames: two blue, one green, one red."""
    for clip, color in zip(SALES.clips, ("blue", "blue", "green", "red"), strict=True):
        picture = np.full((540, 960, 3), BGR[color], np.uint8)
        cv2.imwrite(str(tmp_path / clip.keyframe), picture)
    return WriterInput(SALES, pick(SALES, tmp_path, 16))


@asynccontextmanager
async def writing(language: LanguageServer, **more: Any) -> AsyncIterator[EndpointWriter]:
    writer = EndpointWriter(Endpoint(language.url, **{"model": MODEL, **more}))
    try:
        yield writer
    finally:
        await writer.close()


def analyze(
    language: LanguageServer, writer_input: WriterInput, schema: dict[str, Any] | None = None, **more: Any
) -> GeneratedText:
    async def ask() -> GeneratedText:
        async with writing(language, **more) as writer:
            return await writer.analyze(writer_input, "What is it about?", schema, GenerationOptions(0.3, 77))

    return asyncio.run(ask())


def refused(language: LanguageServer, writer_input: WriterInput, **more: Any) -> EngineError:
    with pytest.raises(EngineError) as caught:
        analyze(language, writer_input, **more)
    return caught.value


def test_frames_texts_and_options_are_sent(language: LanguageServer, writer_input: WriterInput) -> None:
    generated = analyze(language, writer_input)
    spoken = " ".join(span.text for span in SALES.speech)
    assert generated.text == f"4 frames, colours blue, blue, green, red. Spoken: {spoken}"
    assert (generated.reason, generated.input_tokens, generated.output_tokens) == ("stop", 321, 45)
    [asked] = language.asked
    assert (asked["temperature"], asked["max_tokens"], asked["model"]) == (0.3, 77, MODEL)
    texts = [part["text"] for part in asked["messages"][1]["content"] if part["type"] == "text"]
    assert "Frame at 9.0 s:" in texts
    assert "Revenue by region" in texts[-2]  # read on screen
    assert "sound: music, loud" in texts[-2]  # measured
    assert texts[-1] == "What is it about?"


def test_frames_are_few_evenly_spaced_and_small(tmp_path: Path) -> None:
    for clip in SALES.clips:
        cv2.imwrite(str(tmp_path / clip.keyframe), np.zeros((1080, 1920, 3), np.uint8))
    assert [frame.time for frame in pick(SALES, tmp_path, 2)] == [9.0, 21.0]
    clips = tuple(replace(clip, keyframe_sec=clip.start_sec + 0.5) for clip in SALES.clips)
    assert [f.time for f in pick(replace(SALES, clips=clips), tmp_path, 2)] == [6.5, 18.5]
    shared = (clips[0], replace(clips[1], keyframe=clips[0].keyframe, keyframe_sec=clips[0].keyframe_sec))
    assert [f.time for f in pick(replace(SALES, clips=shared), tmp_path, 9)] == [0.5]
    assert pick(SALES, tmp_path, 0) == ()
    assert pick(SHAPES, tmp_path / "nowhere", 9) == ()
    assert max(len(frame.jpeg) for frame in pick(SALES, tmp_path, 9)) < 20_000


def test_long_speech_is_left_out_in_the_middle() -> None:
    span = SALES.speech[0]
    many = tuple(type(span)(n, n + 1.0, f"sentence {n} " + "word " * 20, 0.9) for n in range(1000))
    text = words_of(Evidence(SALES.probe, SALES.clips, many))
    assert "sentence 0 " in text
    assert "sentence 999 " in text
    assert "lines left out)" in text
    assert len(text) < SPEECH_CHARACTERS + 5_000


def test_a_schema_is_sent_and_the_answer_conforms(
    language: LanguageServer, writer_input: WriterInput
) -> None:
    generated = analyze(language, writer_input, SCHEMA)
    assert json.loads(generated.text)["lines"] == [span.text for span in SALES.speech]
    assert language.asked[0]["response_format"]["json_schema"]["schema"] == SCHEMA


@pytest.mark.parametrize("way", ["broken", "fenced"])
def test_an_answer_that_does_not_conform_is_requested_again(
    language: LanguageServer, writer_input: WriterInput, way: str
) -> None:
    language.ways = [way]
    assert json.loads(analyze(language, writer_input, SCHEMA).text)["title"].startswith("4 frames")
    assert len(language.asked) == (2 if way == "broken" else 1)
    if way == "broken":
        assert "it is not JSON" in language.asked[1]["messages"][-1]["content"]


def test_two_answers_that_do_not_conform_are_an_error(
    language: LanguageServer, writer_input: WriterInput
) -> None:
    language.ways = ["broken", "broken", "broken"]
    problem = refused(language, writer_input, schema=SCHEMA)
    assert (problem.status, problem.code) == (502, "text_endpoint_answer_invalid")
    assert language.url in problem.message
    assert len(language.asked) == 2


def test_chapters_highlights_and_gist(language: LanguageServer, writer_input: WriterInput) -> None:
    first = SALES.speech[0].text

    async def ask() -> None:
        async with writing(language) as writer:
            [chapter] = await writer.chapters(writer_input, "short", GenerationOptions())
            assert chapter == {
                "start_sec": 0, "end_sec": 2.5, "chapter_title": first, "chapter_summary": first,
            }  # fmt: skip
            [highlight] = await writer.highlights(writer_input, None, GenerationOptions())
            assert highlight["highlight"] == first
            gist = await writer.gist(writer_input)
            assert gist["title"].startswith("4 frames")
            assert gist["topics"] == [span.text for span in SALES.speech]
            language.ways = ["too long", "too long"]
            with pytest.raises(EngineError, match="lasts from 0 to 1e\\+06 s"):
                await writer.chapters(writer_input, None, GenerationOptions())

    asyncio.run(ask())
    assert "short" in language.asked[0]["messages"][1]["content"][-1]["text"]


def test_a_reasoning_block_is_removed(language: LanguageServer, writer_input: WriterInput) -> None:
    plain, formed = analyze(language, writer_input), analyze(language, writer_input, SCHEMA)
    language.ways = ["thinking"]
    assert analyze(language, writer_input).text == plain.text
    language.ways = ["thinking"]
    assert analyze(language, writer_input, SCHEMA).text == formed.text
    assert len(language.asked) == 4  # none was asked for once more
    language.ways = ["thinking without end"]
    generated = analyze(language, writer_input)
    assert (generated.text, generated.reason) == ("", "length")

    async def streamed() -> str:
        async with writing(language) as writer:
            return "".join(
                [
                    piece.text
                    async for piece in writer.stream(writer_input, "What is it?", GenerationOptions())
                ]
            )

    language.ways = ["thinking"]
    assert asyncio.run(streamed()) == plain.text


@pytest.mark.parametrize("size", [1, 3, 7, 100])
@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<think>so <think> and so</think>\n\n A tag </think> stays.", "A tag </think> stays."),
        ("It shows <think>this</think>.", "It shows <think>this</think>."),
        ("  <thing>", "  <thing>"),
        ("<thi", "<thi"),
        ("<think>without end", "<think>without end"),
        ("<think></think>", ""),
    ],
)
def test_only_a_leading_reasoning_block_is_removed(text: str, answer: str, size: int) -> None:
    assert answer_of(text, cut_off=False) == answer
    thoughts = ReasoningFilter()
    shown = "".join(thoughts.add(text[at : at + size]) for at in range(0, len(text), size))
    assert shown + thoughts.finish(cut_off=False) == answer


def test_a_truncated_answer_has_the_reason_length(
    language: LanguageServer, writer_input: WriterInput
) -> None:
    language.ways = ["cut off", "cut off"]
    assert analyze(language, writer_input).reason == "length"
    assert analyze(language, writer_input, SCHEMA).reason == "length"  # the API gives it as it is


@pytest.mark.parametrize(
    ("way", "status", "code", "words"),
    [
        ("500", 502, "text_endpoint_failed", "out of memory"),
        ("503", 503, "text_endpoint_busy", "Try again later"),
        ("429", 503, "text_endpoint_busy", "Try again later"),
        ("400", 424, "text_endpoint_refused", "out of memory"),
        ("elsewhere", 424, "text_endpoint_refused", "HTTP status 307"),
        ("html", 502, "text_endpoint_answer_invalid", "choices"),
        ("empty", 502, "text_endpoint_answer_invalid", "no text"),
        ("broken off", 502, "text_endpoint_answer_invalid", "incomplete"),
    ],
)
def test_endpoint_failures_have_codes(
    language: LanguageServer, writer_input: WriterInput, way: str, status: int, code: str, words: str
) -> None:
    language.ways = [way]
    problem = refused(language, writer_input)
    assert (problem.status, problem.code) == (status, code)
    assert words in problem.message
    assert language.url in problem.message


def test_an_answer_in_pieces_is_joined(language: LanguageServer, writer_input: WriterInput) -> None:
    whole = analyze(language, writer_input).text
    language.ways = ["in pieces"]
    assert analyze(language, writer_input).text == whole


def test_the_key_is_sent_and_never_shown(language: LanguageServer, writer_input: WriterInput) -> None:
    language.key = KEY
    assert analyze(language, writer_input, key=KEY).text
    language.key = "another"
    problem = refused(language, writer_input, key=KEY)
    assert "TL_LOCAL_LLM_KEY" in problem.message
    language.key = None
    language.ways = ["400"]
    assert KEY not in problem.message + repr(Endpoint(language.url, MODEL, KEY))
    assert KEY not in repr(Settings(local_llm_key=KEY))
    assert KEY not in json.dumps([*Tiers(llm=Endpoint(language.url, MODEL, KEY)).stages()])
    assert "TL_LOCAL_LLM_MODEL" in refused(language, writer_input, model="other").message


def test_an_endpoint_that_is_down_or_slow_is_an_error_with_the_next_step(writer_input: WriterInput) -> None:
    with LanguageServer() as gone:
        pass
    problem = refused(gone, writer_input)
    assert (problem.status, problem.code) == (503, "text_endpoint_unreachable")
    assert gone.url in problem.message
    assert "unset TL_LOCAL_LLM_URL" in problem.message
    with LanguageServer() as silent:
        silent.ways = ["silent"]
        problem = refused(silent, writer_input, timeout=0.3)
    assert (problem.status, problem.code) == (504, "text_endpoint_timeout")
    assert "within 0.3 s. Raise TL_LOCAL_LLM_TIMEOUT" in problem.message


@pytest.mark.parametrize(
    ("value", "schema", "words"),
    [
        ({"a": 1}, {"type": "object", "properties": {"a": {"type": "integer"}}}, None),
        ({"a": "x"}, {"type": "object", "properties": {"a": {"type": "integer"}}}, "$.a: 'x' is not of type"),
        ({}, {"type": "object", "required": ["a"]}, "'a' is a required property"),
        ("2026-13-01", {"type": "string", "format": "date"}, "is not a 'date'"),
        ("AB-12", {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, None),
        ("ab-12", {"type": "string", "pattern": "^[A-Z]{2}-[0-9]+$"}, "does not match"),
        (
            "a" * 40 + "!",
            {"type": "string", "pattern": "^(a+)+$"},
            "does not match",
        ),  # years, by backtracking
        ([1, {"b": 2}], {"$defs": {"n": {"type": "number"}}, "items": {"$ref": "#/$defs/n"}}, "$[1]"),
    ],
)
def test_schema_violations_are_described(value: Any, schema: dict[str, Any], words: str | None) -> None:
    found = violation(value, schema)
    assert found is None if words is None else words in str(found)


def test_invalid_settings_are_refused(tmp_path: Path) -> None:
    for given, words in (
        ({"llm_url": "http://127.0.0.1:1"}, "TL_LOCAL_LLM_MODEL"),
        ({"llm_url": "localhost:11434", "llm_model": "m"}, "must be like http"),
        ({"llm_url": "http://u:secret@h/v1", "llm_model": "m"}, "TL_LOCAL_LLM_KEY"),
        ({"clip": str(tmp_path / "absent")}, "TL_LOCAL_CLIP names"),
        ({"whisper": str(tmp_path / "absent")}, "TL_LOCAL_WHISPER names"),
    ):
        with pytest.raises(SettingsError, match=words) as caught:
            read_tiers(**given, environment={})  # type: ignore[arg-type]
        assert "secret" not in str(caught.value)
    with pytest.raises(SettingsError, match="TL_LOCAL_LLM_FRAMES is 'many'"):
        read_tiers(llm_url="http://h", llm_model="m", environment={"TL_LOCAL_LLM_FRAMES": "many"})
    tiers = read_tiers(llm_url="http://h:1/", llm_model="qwen2.5-vl:7b", environment={})
    assert tiers.llm is not None
    assert tiers.llm.url == "http://h:1/v1"
    assert (tiers.search_model, tiers.analyze_model) == ("tl-local-2", "tl-local-2-llm-qwen2.5-vl-7b")


@pytest.mark.parametrize(
    ("way", "model", "key", "state", "words"),
    [
        ("", MODEL, KEY, "ok", "reachable"),
        ("", "other", KEY, "missing", f"check TL_LOCAL_LLM_MODEL. It lists: {MODEL}"),
        ("", MODEL, None, "wrong", "refuses the key (HTTP status 401): check TL_LOCAL_LLM_KEY"),
        ("", MODEL, f"{KEY}\nx", "wrong", "TL_LOCAL_LLM_KEY contains characters"),
        ("elsewhere", MODEL, KEY, "wrong", "HTTP status 307"),
        ("500", MODEL, KEY, "wrong", "HTTP status 500"),
        ("404", MODEL, KEY, "ok", "no list of models"),
    ],
)
def test_the_doctor_checks_the_endpoint(
    language: LanguageServer, way: str, model: str, key: str | None, state: str, words: str
) -> None:
    language.key, language.ways = KEY, [way]
    found = doctor.text_server(language.url, model, key)
    assert found.state == state
    assert words in found.found
    assert KEY not in found.found
    assert language.asked == []


def test_the_doctor_reports_an_unreachable_endpoint(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with LanguageServer() as gone:
        pass
    settings = {"HOME": str(tmp_path), "LOCAL_LLM_URL": gone.url, "LOCAL_LLM_MODEL": MODEL}
    for name, value in settings.items():
        monkeypatch.setenv(f"TL_{name}", value)
    findings = {finding.what: finding for finding in doctor.examine()}
    assert findings["text server"].state == "wrong"
    assert f"{gone.url} cannot be reached: " in findings["text server"].found
    assert findings["text server"].found.endswith("Start it, or unset TL_LOCAL_LLM_URL")


def test_from_the_settings_to_the_answer(tmp_path: Path) -> None:
    """The whole way: settings, the engine's process, a video, the endpoint, and the stream back."""
    film = media.plain(tmp_path)
    with LanguageServer() as language:
        language.key = KEY
        settings = Settings(
            home=str(tmp_path / "home"), local_llm_url=language.url, local_llm_model=MODEL, local_llm_key=KEY,
            retries=0, poll_interval=0.3, timeout=20,
        )  # fmt: skip
        connection = connect(settings)
        try:
            run = FUNCTIONS
            record = connection.call(run["index_video"], video=str(film))
            video = {"video": record["video_id"]}
            text = connection.call(run["summarize"], **video)
            assert text.startswith("1 frames, colours ")
            chapter = connection.call(run["chapters"], **video)[0]
            assert (chapter["start_sec"], chapter["end_sec"]) == (0, 2.5)
            assert connection.session.analyze_model == f"tl-local-2-llm-{MODEL}"
            assert connection.session.search_model == "tl-local-2"
            ask = {"video_id": record["video_id"], "prompt": "What is it?"}
            url = f"{connection.base_url}/analyze"
            key = {"x-api-key": (tmp_path / "home" / "engine" / "engine.key").read_text()}
            lines = httpx.post(url, json=ask, headers=key, timeout=20).text.splitlines()
            events = [json.loads(line) for line in lines]
            assert [events[0]["event_type"], events[-1]["event_type"]] == ["stream_start", "stream_end"]
            assert "".join(event["text"] for event in events[1:-1]) == text
            assert len(events) > 5  # word by word, as the endpoint wrote them
            assert events[-1]["metadata"]["usage"] == {"output_tokens": 45, "input_tokens": 321}
            language.ways = ["breaks off"]
            lines = httpx.post(url, json=ask, headers=key, timeout=20).text.splitlines()
            assert json.loads(lines[-1])["event_type"] == "stream_error"
            language.ways = ["500"]
            answer = httpx.post(url, json=ask, headers=key, timeout=20)
            assert (answer.status_code, answer.json()["code"]) == (502, "text_endpoint_failed")
            whole = base64.b64encode(film.read_bytes()).decode()  # a video that is in no index
            ask = {"video": {"type": "base64_string", "base64_string": whole}, "prompt": "x", "stream": False}
            answer = httpx.post(url, json=ask, headers=key, timeout=60)
            assert answer.json()["data"] == text
            root = connection.base_url.removesuffix("/v1.3")
            shown = httpx.get(f"{root}/_engine/tiers", headers=key).text
            assert language.url in shown
            with pytest.raises(SettingsError, match="engine with other models"):
                _wait_briefly(Settings(home=settings.home))
        finally:
            connection.close(stop_engine=True)
        everything = [p for p in tmp_path.rglob("*") if p.is_file()]
        assert not [p for p in everything if KEY.encode() in p.read_bytes()]


def _wait_briefly(settings: Settings) -> None:
    from tl_data.client import local_server

    before, local_server.OTHER_ENGINE_SECONDS = local_server.OTHER_ENGINE_SECONDS, 0.5
    try:
        _ = connect(settings).session
    finally:
        local_server.OTHER_ENGINE_SECONDS = before
        connect(settings).close()
