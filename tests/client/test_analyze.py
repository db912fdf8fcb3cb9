"""Text from video: whole, structured, streamed, broken off, and from endpoints that are gone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scripted import Server, cut, late, reset, say, too_many
from tl_data import usage
from tl_data.client import Client
from tl_data.errors import APIError, BadRequest, ConnectionFailed, NotFound, RateLimited, ServerFailed
from tl_data.settings import Settings

Run = Callable[..., Any]

SCHEMA = {"type": "json_schema", "json_schema": {"type": "object", "properties": {"n": {"type": "integer"}}}}
GONE = say(410, {"code": "endpoint_deprecated", "message": "This endpoint is gone."})

START = {"event_type": "stream_start", "metadata": {"generation_id": "g"}}
END = {"event_type": "stream_end", "finish_reason": "stop", "metadata": {"usage": {"output_tokens": 9}}}


def text(fragment: str) -> dict[str, str]:
    return {"event_type": "text_generation", "text": fragment}


def lines(*events: Any, between: str = "\n") -> bytes:
    body = between.join(e if isinstance(e, str) else json.dumps(e, ensure_ascii=False) for e in events)
    return body.encode() + b"\n"


def stream(*events: Any) -> bytes:
    return say(200, lines(*events), content_type="application/x-ndjson")


async def streamed(client: Client) -> tuple[str, list[str]]:
    events = [e async for e in client.analyze_stream("v", "what?", max_tokens=50)]
    return "".join(e.get("text", "") for e in events), [e["event_type"] for e in events]


def test_a_text_as_it_is_written(server: Server, settings: Settings) -> None:
    answer = stream(START, text("Ein r"), text("otes "), {"event_type": "heartbeat"}, text("Auto ü"), END)
    server.tell("POST /analyze", answer)

    async def main() -> None:
        async with Client(settings, base_url=server.url) as client:
            with usage.receipt() as receipt:
                received, kinds = await streamed(client)
            assert received == "Ein rotes Auto ü"
            assert (kinds[0], kinds[-1]) == ("stream_start", "stream_end")
            assert (receipt.calls, receipt.output_tokens) == (1, 9)

    asyncio.run(main())
    assert server.requests[0].json == {"video_id": "v", "prompt": "what?", "stream": True, "max_tokens": 50}


@pytest.mark.parametrize("size", [1, 7, 40])
def test_events_may_break_anywhere(server: Server, run: Run, size: int) -> None:
    body = lines(START, text("grün"), "", text("e Äpfel"), END)
    pieces = [body[i : i + size] for i in range(0, len(body), size)]
    chunked = b"".join(b"%x\r\n%s\r\n" % (len(p), p) for p in pieces) + b"0\r\n\r\n"
    server.tell("POST /analyze", say(200, chunked, transfer_encoding="chunked", content_length=""))
    assert run(streamed)[0] == "grüne Äpfel"


def test_events_come_when_they_are_sent(server: Server, settings: Settings) -> None:
    answer = stream(START, text("first"), text("second"), END)
    server.tell(
        "POST /analyze",
        late(answer, 1.0, first=answer.index(b'{"event_type": "text_generation", "text": "sec')),
    )

    async def main() -> list[float]:
        at = []
        loop = asyncio.get_running_loop()
        async with Client(settings, base_url=server.url) as client:
            async for event in client.analyze_stream("v", "?"):
                if "text" in event:
                    at.append(loop.time())
        return at

    first, second = asyncio.run(main())
    assert second - first > 0.8


def test_a_slow_reader_is_not_timed_out(server: Server, settings: Settings) -> None:
    server.tell("POST /analyze", stream(START, text("a"), text("b"), END))

    async def main() -> str:
        received = ""
        async with Client(settings.but(timeout=0.3), base_url=server.url) as client:
            async for event in client.analyze_stream("v", "?"):
                await asyncio.sleep(0.2)
                received += event.get("text", "")
        return received

    assert asyncio.run(main()) == "ab"


def test_what_comes_before_the_stream_is_retried(server: Server, run: Run) -> None:
    server.tell("POST /analyze", too_many(retry_after="0"), say(503), reset, stream(START, text("x"), END))
    assert run(streamed)[0] == "x"
    server.tell("POST /analyze", say(400, {"code": "video_not_ready", "message": "Still indexing."}))
    with pytest.raises(BadRequest, match=r"Still indexing. Wait until"):
        run(streamed)


WHOLE = stream(START, text("The red "), text("car"), END)
AFTER_RED = WHOLE.index(b'{"event_type": "text_generation", "text": "car')


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (
            stream(START, text("The red "), {"event_type": "stream_error", "error": {"message": "no GPU"}}),
            ServerFailed,
            "no GPU",
        ),
        (
            stream(START, text("The red "), {"event_type": "stream_error"}),
            ServerFailed,
            "ended the stream with an error",
        ),
        (
            stream(START, text("The red "), {"code": "too_many_requests", "message": "later"}),
            RateLimited,
            "later",
        ),
        (
            stream(START, text("The red "), {"code": "token_limit_exceeded", "message": "too long"}),
            BadRequest,
            "too long",
        ),
        (stream(START, text("The red ")), ConnectionFailed, "closed before the response was complete"),
        (stream(START, text("The red "), "<html>"), ServerFailed, "not an event"),
        (cut(WHOLE, AFTER_RED), ConnectionFailed, "closed before the response was complete"),
        (cut(WHOLE, AFTER_RED + 30), ConnectionFailed, "closed before the response was complete"),
    ],
)
def test_a_text_that_breaks_off_leaves_what_came(
    server: Server, run: Run, answer: Any, kind: type[APIError], words: str
) -> None:
    server.tell("POST /analyze", answer)
    with pytest.raises(kind, match=words) as caught:
        run(streamed)
    assert caught.value.partial == "The red "
    assert len(server.requests) == 1


def test_leaving_a_stream_early_leaves_nothing_open(server: Server, settings: Settings) -> None:
    server.tell("POST /analyze", late(WHOLE, 0.5, first=AFTER_RED))

    async def main() -> None:
        async with Client(settings, base_url=server.url) as client:
            events = client.analyze_stream("v", "?")
            assert (await anext(events))["event_type"] == "stream_start"
            await events.aclose()  # type: ignore[attr-defined]

    asyncio.run(main())


def test_a_structured_answer_that_was_cut_off_says_what_to_do(server: Server, run: Run) -> None:
    def ask(client: Client) -> Any:
        return client.analyze("v", "?", response_format=SCHEMA, max_tokens=5)

    server.tell("POST /analyze", say(200, {"data": '{"n": 1', "finish_reason": "length"}))
    with pytest.raises(BadRequest, match="raise max_tokens") as caught:
        run(ask)
    assert (caught.value.code, caught.value.partial, caught.value.retryable) == (
        "answer_truncated",
        '{"n": 1',
        False,
    )
    server.tell("POST /analyze", say(200, {"data": "Here it is: {}", "finish_reason": "stop"}))
    with pytest.raises(ServerFailed, match="is not JSON: 'Here it is"):
        run(ask)
    server.tell("POST /analyze", say(200, {"data": '{"n": 1}', "finish_reason": "length"}))
    assert run(ask)["data"] == '{"n": 1}'
    assert server.requests[0].json["response_format"] == SCHEMA


FALLBACKS = {
    "gist": (
        lambda c: c.gist("v", ["title", "topic", "hashtag"]),
        {"title": "T", "topics": ["a"], "hashtags": ["x", "#y"]},
        {"title": "T", "topics": ["a"], "hashtags": ["#x", "#y"]},
    ),
    "summary": (
        lambda c: c.summarize("v", "summary", prompt="In Latin."),
        {"summary": "S"},
        {"summary": "S"},
    ),
    "chapters": (
        lambda c: c.summarize("v", "chapter"),
        {"chapters": [{"start_sec": 0.5, "end_sec": 9.5, "chapter_title": "t", "chapter_summary": "s"}]},
        {
            "chapters": [
                {
                    "chapter_number": 0,
                    "start": 0,
                    "end": 10,
                    "start_sec": 0.5,
                    "end_sec": 9.5,
                    "chapter_title": "t",
                    "chapter_summary": "s",
                }
            ]
        },
    ),
    "highlights": (
        lambda c: c.summarize("v", "highlight", temperature=0.1),
        {"highlights": [{"start_sec": 1, "end_sec": 2, "highlight_title": "h", "highlight_summary": "s"}]},
        {
            "highlights": [
                {
                    "start": 1,
                    "end": 2,
                    "start_sec": 1,
                    "end_sec": 2,
                    "highlight": "h",
                    "highlight_summary": "s",
                }
            ]
        },
    ),
}


def test_a_summary_by_schema_is_answered_by_analyze_with_this_schema(server: Server, run: Run) -> None:
    form = {"type": "json_schema", "json_schema": {"type": "object", "properties": {"a": {"type": "string"}}}}
    server.tell("POST /summarize", GONE)
    server.tell("POST /analyze", say(200, {"id": "g", "data": '{"a": "x"}', "finish_reason": "stop"}))
    answer = run(lambda c: c.summarize("v", "summary", "Briefly.", max_tokens=50, response_format=form))
    assert answer == {"id": "g", "summary": '{"a": "x"}'}
    first, second = [request.json for request in server.requests]
    assert (first["response_format"], first["max_tokens"], first["type"]) == (form, 50, "summary")
    assert (second["response_format"], second["max_tokens"], second["prompt"]) == (form, 50, "Briefly.")


@pytest.mark.parametrize("name", FALLBACKS)
def test_withdrawn_endpoints_are_answered_by_analyze(server: Server, settings: Settings, name: str) -> None:
    ask, received, wanted = FALLBACKS[name]
    server.tell("POST /gist", GONE)
    server.tell("POST /summarize", GONE)
    server.tell(
        "POST /analyze", say(200, {"id": "1", "data": json.dumps(received), "usage": {"output_tokens": 3}})
    )

    async def main() -> None:
        async with Client(settings, base_url=server.url) as client:
            for _ in range(2):
                with usage.receipt() as receipt:
                    answer = await ask(client)
                assert answer == {"id": "1", **wanted, "usage": {"output_tokens": 3}}
                where = "/gist" if name == "gist" else "/summarize"
                assert receipt.fallback == f"/analyze in place of {where}"
                assert receipt.output_tokens == 3

    asyncio.run(main())
    assert [r.path.removeprefix("/v1.3") for r in server.requests[1:]] == ["/analyze", "/analyze"]
    body = server.requests[1].json
    schema = body["response_format"]["json_schema"]
    assert set(schema["required"]) == set(received)
    assert body["stream"] is False
    if name == "summary":
        assert body["prompt"].endswith("In Latin.")


@pytest.mark.parametrize("data", ["[]", '{"chapters": [1]}', '{"chapters": [{"start_sec": 1}]}', '"text"'])
def test_an_answer_that_ignores_its_schema_is_an_error(server: Server, run: Run, data: str) -> None:
    server.tell("POST /summarize", GONE)
    server.tell("POST /analyze", say(200, {"data": data}))
    with pytest.raises(ServerFailed, match="does not match its schema"):
        run(lambda c: c.summarize("v", "chapter"))


def test_a_missing_video_is_no_withdrawn_endpoint(server: Server, run: Run) -> None:
    server.tell("POST /gist", say(404, {"code": "resource_not_exists", "message": "No video v."}))
    with pytest.raises(NotFound, match="No video v"):
        run(lambda c: c.gist("v", ["title"]))
    assert not server.asked("POST /analyze")


def test_a_kind_that_neither_endpoint_knows_is_refused(server: Server, run: Run) -> None:
    server.tell("POST /summarize", GONE)
    with pytest.raises(BadRequest, match="type parameter is invalid: poem"):
        run(lambda c: c.summarize("v", "poem"))


def test_an_empty_answer_is_not_asked_for_again_elsewhere(server: Server, run: Run) -> None:
    """It was paid for: only an endpoint that is gone has another in its place."""
    server.tell("POST /gist", say(200, {}))
    assert run(lambda c: c.gist("v", ["title"])) == {}
    assert server.asked("POST /analyze") == []
