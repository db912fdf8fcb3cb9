"""Analyses are paid once: lost answers, batches that end badly, answers cut off, old ledgers."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.support.replay_server import INDEX_ID, ReplayServer
from tests.support.scripted import KEY, reset, say
from tl_data.analysis import TextRequest, TextResult, VideoRef, parts_of, summary_part
from tl_data.connection import Connection
from tl_data.errors import (
    BadRequest,
    ConnectionFailed,
    MediaRefused,
    SchemaMismatch,
    ServerFailed,
    TaskFailed,
    TLDataError,
)
from tl_data.functions import FUNCTIONS
from tl_data.ledger.models import Call
from tl_data.settings import Settings

TODAY = {"data": [], "page_info": {"total_page": 0}}
SUMMARY = {"summary": "S.", "title": "T", "topics": ["a"], "hashtags": ["x"], "chapters": []}


@pytest.fixture
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as it:
        it.say("GET /analyze/tasks", TODAY)
        yield it


@pytest.fixture
def connection(server: ReplayServer, tmp_path: Path) -> Iterator[Connection]:
    settings = Settings(
        api_key=KEY, base_url=server.url, index=INDEX_ID, home=str(tmp_path), retries=1, poll_interval=0.1
    )
    it = Connection(settings)
    yield it
    it.close()


def video(number: int) -> VideoRef:
    return VideoRef(video_id=f"{number:024x}", asset_id=f"a{number:023x}", duration_sec=60.0)


def ready(task_id: str, data: str, **more: Any) -> dict[str, Any]:
    result = {"generation_id": "g", "data": data, "finish_reason": "stop", "usage": {"output_tokens": 7}}
    return {"task_id": task_id, "status": "ready", "result": result | more}


def one(connection: Connection, request: TextRequest) -> TextResult:
    session = connection.session

    async def run() -> TextResult:
        return await session.analyses.run(request)

    return connection.run(run())


def many(connection: Connection, *requests: TextRequest) -> list[TextResult]:
    session = connection.session

    async def run() -> list[TextResult]:
        return await session.analyze_many(requests)

    return connection.run(run())


def test_a_task_whose_answer_was_lost_is_found_by_its_key(
    server: ReplayServer, connection: Connection
) -> None:
    part = summary_part()
    request = TextRequest(video(1), (part,))
    key = connection.session.analyses.call(part, video(1)).key
    server.tell("POST /analyze/tasks", reset)
    listed = {"task_id": "t1", "custom_id": key, "status": "processing", "created_at": "2026-11-30T00:00:00Z"}
    server.routes["GET /analyze/tasks"] = [say(200, TODAY), say(200, {"data": [listed]})]
    server.say("GET /analyze/tasks/t1", ready("t1", "A summary."))
    assert one(connection, request).raised().answers[0]["summary"] == "A summary."
    assert len(server.asked("POST /analyze/tasks")) == 1
    [sent] = server.bodies("POST /analyze/tasks")
    assert (sent["custom_id"], len(key)) == (key, 32)
    assert one(connection, request).answers[0]["summary"] == "A summary."
    assert len(server.asked("GET /analyze/tasks/t1")) == 1


def test_a_task_that_was_lost_for_a_day_is_found_behind_newer_ones(
    server: ReplayServer, connection: Connection
) -> None:
    """Its response was lost, no process looked for it, and a day passes. Webhooks are not used."""
    part, day = summary_part(), 86_400.0
    request = TextRequest(video(1), (part,))
    call = connection.session.analyses.call(part, video(1))
    server.tell("POST /analyze/tasks", reset)
    server.routes["GET /analyze/tasks"] = [say(200, TODAY), say(503, {"message": "No."})]
    assert {type(e) for e in one(connection, request).errors.values()} == {ConnectionFailed}
    for record in Path(connection.settings.ledger_url, call.folder).iterdir():
        written = json.loads(record.read_text())
        written |= {name: written[name] - day for name in ("begun", "at") if name in written}
        record.write_text(json.dumps(written))
        os.utime(record, (time.time() - day, time.time() - day))

    def listed(number: int, hours: float, **more: Any) -> dict[str, Any]:
        created = datetime.now(UTC) - timedelta(hours=hours)
        task = {
            "task_id": f"t{number}",
            "status": "ready",
            "created_at": created.isoformat(),
            "custom_id": "x",
        }
        return task | more

    newer = [listed(n, n / 10) for n in range(1, 200)]
    own, older = listed(0, 24, custom_id=call.key, status="processing"), listed(200, 26)
    pages = [newer[:100], [*newer[100:], own, older]]
    server.say("GET /analyze/tasks", *({"data": p, "page_info": {"total_page": 9}} for p in pages))
    server.say("GET /analyze/tasks/t0", ready("t0", "A summary."))
    assert one(connection, request).raised().answers[0]["summary"] == "A summary."
    assert len(server.asked("POST /analyze/tasks")) == 1
    assert "&page=2&" in server.asked("GET /analyze/tasks")[-1].target


def test_a_batch_of_which_a_part_fails_keeps_the_others(server: ReplayServer, connection: Connection) -> None:
    items = [{"task_id": f"t{n}", "custom_id": None} for n in range(4)]
    server.say("POST /analyze/batches", {"batch_id": "b1", "status": "pending", "items": items}, status=201)
    counts = {"ready_items": 1, "failed_items": 1, "canceled_items": 1}
    server.say("GET /analyze/batches/b1", {"status": "processing"}, {"status": "expired", **counts})
    lines = [
        {"task_id": "t0", "status": "ready", "data": ready("t0", json.dumps(SUMMARY))["result"]},
        {"task_id": "t1", "status": "failed", "error": {"code": "asset_unavailable", "message": "Gone."}},
        {"task_id": "t2", "status": "canceled", "error": {"code": "batch_expired"}},
    ]
    body = "\n".join(json.dumps(line) for line in lines).encode()
    server.tell("GET /analyze/batches/b1/results", say(200, body, content_type="application/jsonl"))
    requests = [TextRequest(video(n), parts_of(["summary", "title", "chapters"])) for n in range(4)]
    results = many(connection, *requests)
    # They go in the order in which they are ready to go: which of them is which task is the server's.
    codes = [frozenset(str(error.code) for error in result.errors.values()) for result in results]
    assert sorted(map(sorted, codes)) == [[], ["asset_unavailable"], ["batch_expired"], ["batch_expired"]]
    assert all(isinstance(error, TaskFailed) for r in results for error in r.errors.values())
    [good] = [result for result in results if not result.errors]
    assert {n: answer["model_name"] for n, answer in good.answers.items()} == dict.fromkeys(
        range(3), "pegasus1.5"
    )
    assert good.answers[1]["hashtags"] == ["#x"]
    [batch] = server.bodies("POST /analyze/batches")
    assert (batch["model_name"], len(batch["requests"])) == ("pegasus1.5", 4)
    assert {len(item["custom_id"]) for item in batch["requests"]} == {32}
    assert set(batch["requests"][0]["prompt"]) == {"input_text"}
    # What expired goes again; what failed for its own reason does not, nor what is known.
    server.say("POST /analyze/tasks", {"task_id": "t9", "status": "queued"}, status=202)
    server.say("GET /analyze/tasks/t9", ready("t9", json.dumps(SUMMARY)))
    server.tell("POST /analyze/batches", say(404, {"code": "endpoint_not_exists"}))
    again = many(connection, *requests)
    answered = {code: len(result.answers) for code, result in zip(codes, again, strict=True)}
    assert answered == {frozenset(): 3, frozenset({"asset_unavailable"}): 0, frozenset({"batch_expired"}): 3}
    assert len(server.asked("POST /analyze/tasks")) == 2
    second, _ = server.asked("POST /analyze/tasks")
    assert second.headers["idempotency-key"].endswith("-1")


def test_the_halves_of_a_batch_that_was_too_large_wait_for_a_free_one(
    server: ReplayServer, connection: Connection
) -> None:
    """Five batches may be active at the same time; HTTP 504 says that a batch was too large."""
    session, route = connection.session, "POST /analyze/batches"
    numbers = iter(range(100))

    def created(count: int) -> bytes:
        items = [{"task_id": f"t{next(numbers)}", "custom_id": None} for _ in range(count)]
        batch_id = items[0]["task_id"]
        return say(201, {"batch_id": batch_id, "status": "pending", "items": items})

    answers = [created(1) for _ in range(4)] + [say(504, {"code": "too_large"}), created(1), created(1)]
    server.routes[route] = answers
    for number in range(6):
        server.say(f"GET /analyze/batches/t{number}", {"status": "processing"})
        line = {"task_id": f"t{number}", "status": "ready", "data": ready("t", "S.")["result"]}
        server.tell(f"GET /analyze/batches/t{number}/results", say(200, json.dumps(line).encode()))

    async def sent_at_least(count: int) -> None:
        while len(server.asked(route)) < count:  # noqa: ASYNC110 - the server is a thread
            await asyncio.sleep(0.02)

    async def run() -> list[int]:
        tasks = []
        for number in range(6):  # four batches of one, then one of two
            request = TextRequest(video(number), (summary_part(),))
            tasks.append(asyncio.create_task(session.analyze_many([request])))
            if number < 4:
                await sent_at_least(number + 1)
        await sent_at_least(6)
        await asyncio.sleep(1.0)
        sent = [len(server.asked(route))]
        for number in range(6):
            server.say(f"GET /analyze/batches/t{number}", {"status": "completed", "ready_items": 1})
        results = await asyncio.gather(*tasks)
        assert all(not result.errors for [result] in results)
        return [*sent, len(server.asked(route))]

    # Four, the one that was refused, and one half: the other half waits until a batch has ended.
    assert connection.run(run()) == [6, 7]


def test_a_truncated_answer_keeps_complete_parts_and_is_not_paid_again(
    server: ReplayServer, connection: Connection
) -> None:
    text = '{"summary": "S.", "title": "T", "topics": [], "hashtags": [], "chapters": [{"start_sec": 1'
    server.say("POST /analyze/tasks", {"task_id": "t1", "status": "queued"}, status=202)
    server.say("GET /analyze/tasks/t1", ready("t1", text, finish_reason="length"))
    request = TextRequest(video(1), parts_of(["summary", "title", "chapters"]))
    for _ in range(2):
        result = one(connection, request)
        assert result.answers[0]["summary"] == "S."
        assert result.answers[1]["title"] == "T"
        assert result.errors[2].code == "answer_truncated"
        assert not result.errors[2].retryable
    assert len(server.asked("POST /analyze/tasks")) == 1
    assert server.bodies("POST /analyze/tasks")[0]["max_tokens"] == 3 * 4096


def test_garbage_behind_the_json_is_passed_over(server: ReplayServer, connection: Connection) -> None:
    server.say("POST /analyze/tasks", {"task_id": "t1", "status": "queued"}, status=202)
    server.say("GET /analyze/tasks/t1", ready("t1", "\n\n" + json.dumps(SUMMARY) + '"}]}"}]}'))
    request = TextRequest(video(1), parts_of(["title", "chapters"]))
    assert one(connection, request).raised().answers[0]["title"] == "T"


def test_an_answer_of_an_earlier_release_is_found_and_kept_under_its_new_name(
    server: ReplayServer, connection: Connection
) -> None:
    session = connection.session
    old = Call("chapter", f"video:{video(1).video_id}", {}, "pegasus1.2")
    chapters = [{"chapter_number": 0, "start": 0, "end": 9, "chapter_title": "t", "chapter_summary": "s"}]

    async def write() -> None:
        async def paid() -> Any:
            return {"chapters": chapters}

        await session.ledger.once(old, paid)

    connection.run(write())
    result = one(connection, TextRequest(video(1), parts_of(["chapters"]))).raised()
    assert result.answers[0]["chapters"] == chapters
    assert result.models == {0: "pegasus1.2"}
    assert server.asked("POST /analyze/tasks") == []


def test_a_refusal_of_the_requests_form_in_the_ledger_heals(
    server: ReplayServer, connection: Connection
) -> None:
    """Releases before wrote it down as final."""
    session, part = connection.session, summary_part()
    call = session.analyses.call(part, video(1))
    message = "video_id is not supported for pegasus1.5, use video object (url, asset_id, or base64_string)"

    async def write() -> str:
        async def refused() -> Any:
            raise BadRequest(message, "parameter_invalid", 400)

        with pytest.raises(BadRequest):
            await session.ledger.once(call, refused)
        return call.folder

    folder = connection.run(write())
    record = Path(connection.settings.ledger_url, folder, "0001.failed")
    record.write_text(record.read_text().replace('"retryable": true', '"retryable": false'))
    assert '"retryable": false' in record.read_text()
    server.say("POST /analyze/tasks", {"task_id": "t1", "status": "queued"}, status=202)
    server.say("GET /analyze/tasks/t1", ready("t1", "A summary."))
    assert one(connection, TextRequest(video(1), (part,))).raised().answers[0]["summary"] == "A summary."


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (say(400, {"error": {"code": "parameter_invalid", "message": "The prompt is bad."}}), BadRequest,
         "parameter_invalid"),
        (say(500, {"error": {"code": "internal_server_error", "message": "No."}}), ServerFailed,
         "internal_server_error"),
    ],
)  # fmt: skip
def test_a_refusal_is_the_error_of_every_part(
    server: ReplayServer, connection: Connection, answer: bytes, kind: type[TLDataError], code: str
) -> None:
    server.tell("POST /analyze/tasks", answer)
    result = one(connection, TextRequest(video(1), parts_of(["summary", "chapters"])))
    assert [type(error) for error in result.errors.values()] == [kind, kind]
    assert {error.code for error in result.errors.values()} == {code}
    assert len(server.asked("POST /analyze/tasks")) == 1


def test_a_video_longer_than_every_limit_is_refused_before_it_is_sent(
    server: ReplayServer, connection: Connection
) -> None:
    film = VideoRef(asset_id="a" * 24, video_id="b" * 24, duration_sec=3 * 3600.0)
    result = one(connection, TextRequest(film, (summary_part(),)))
    assert isinstance(result.errors[0], MediaRefused)
    assert result.errors[0].code == "video_duration_too_long"
    assert server.asked("POST /analyze/tasks") == []


def test_an_account_of_2025_is_known_by_its_missing_tasks(
    server: ReplayServer, connection: Connection
) -> None:
    server.tell("GET /analyze/tasks", say(404, {"code": "endpoint_not_exists", "message": "No."}))
    server.say(f"GET /indexes/{INDEX_ID}/videos/{video(1).video_id}", {"_id": video(1).video_id})
    server.say("POST /summarize", {"id": "g", "summary": "Old.", "usage": {"output_tokens": 3}})
    [row] = connection.map(FUNCTIONS["summarize"], [{"video": video(1).video_id}])
    assert row.value == "Old."
    assert row.receipt.model == "pegasus1.2"
    assert connection.session.search_model == "marengo2.7"
    [row] = connection.map(FUNCTIONS["summarize"], [{"video": video(1).video_id, "start_sec": 3.0}])
    assert isinstance(row.error, SchemaMismatch)
