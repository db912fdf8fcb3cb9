"""What is sent again, when, and what is never sent twice."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scripted import KEY, Answer, Server, cut, late, reset, say, too_many
from tl_data import usage
from tl_data.client import Client
from tl_data.errors import (
    APIError,
    BadRequest,
    ConnectionFailed,
    NotAllowed,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
)
from tl_data.settings import Settings

Run = Callable[..., Any]

INDEX = say(200, {"_id": "i"})
FOUND = say(200, {"data": [], "page_info": {}})
HTML = say(502, "<html><title>502 Bad Gateway</title></html>")
LOST: dict[str, Answer] = {
    "reset": reset,
    "cut in the head": cut(INDEX, 40),
    "cut in the body": cut(INDEX, len(INDEX) - 3),
    "closed": cut(b"", 0),
    "502 of a proxy": HTML,
    "504": say(504),
    "a page": say(200, "<p>?"),
}


def read(client: Client) -> Any:
    return client.retrieve_index("i")


async def look(client: Client) -> Any:
    return [hit async for hit in client.search("i", ["visual"], query_text="x")]


def create(client: Client) -> Any:
    return client.create_task("i", video_url="https://e.com/v.mp4")


@pytest.mark.parametrize("shape", range(6))
def test_retry_after_of_a_429_is_honoured_and_costs_no_attempt(server: Server, run: Run, shape: int) -> None:
    at = time.time() + 1.2
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f"{at % 1:.3f}"[1:] + "Z"
    refusal = [
        too_many(retry_after="1"),
        too_many(retry_after=time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(at + 0.8))),
        too_many(x_ratelimit_reset=str(at)),
        too_many(x_ratelimit_request_reset="1"),
        too_many(message=f"You have exceeded the rate limit. Please try again later after {stamp}."),
        say(429),
    ][shape]
    server.tell("GET /indexes/i", refusal, too_many(retry_after="0"), too_many(retry_after="0"), INDEX)
    began = time.monotonic()
    assert run(read, retries=0) == {"_id": "i"}
    if shape in (1, 2, 4):  # these name a time, the first of them in whole seconds
        assert time.time() >= at - 0.2
    else:
        assert time.monotonic() - began >= (0.9 if shape < 5 else 0.1)
    assert len(server.requests) == 4


def test_a_quota_that_resets_tomorrow_fails_now_and_says_when(server: Server, run: Run) -> None:
    server.tell("POST /search", too_many(retry_after="11382"))
    began = time.monotonic()
    with pytest.raises(QuotaExhausted, match=r"The quota resets at 20\d\d-.* UTC, in 3 h 9 min") as caught:
        run(look)
    assert time.monotonic() - began < 2
    assert caught.value.retry_after == 11382
    assert not caught.value.retryable
    assert len(server.requests) == 1


def test_a_429_after_a_lost_response_leaves_open_whether_the_call_was_processed(
    server: Server, run: Run
) -> None:
    for lost, maybe_done in (((HTML,), True), ((), False)):
        server.tell("POST /search", *lost, too_many(retry_after="11382"))
        with pytest.raises(QuotaExhausted) as caught:
            run(look)
        assert caught.value.maybe_done is maybe_done


def test_a_server_that_never_stops_refusing_is_given_up_on(server: Server, run: Run) -> None:
    server.tell("GET /indexes/i", too_many(retry_after="0.05"))
    with pytest.raises(RateLimited):
        run(read, max_wait=0.06)


@pytest.mark.parametrize("status", [500, 502, 503, 504, 529])
def test_reads_are_repeated_after_every_5xx(server: Server, run: Run, status: int) -> None:
    server.tell("GET /indexes/i", say(status), say(status, {"code": "x", "message": "y"}), INDEX)
    assert run(read) == {"_id": "i"}
    server.tell("GET /indexes/i", say(status))
    server.requests.clear()
    with pytest.raises(ServerFailed, match=f"HTTP {status}"):
        run(read)
    assert len(server.requests) == 3


def test_a_503_says_when_to_come_back(server: Server, run: Run) -> None:
    server.tell("GET /indexes/i", say(503, retry_after="1"), INDEX)
    began = time.monotonic()
    assert run(read) == {"_id": "i"}
    assert time.monotonic() - began >= 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 409, 410, 413, 422])
def test_refusals_are_not_repeated(server: Server, run: Run, status: int) -> None:
    server.tell("GET /indexes/i", say(status, {"code": "no", "message": "No."}))
    with pytest.raises(APIError, match=f"No. .*HTTP {status}"):
        run(read)
    assert len(server.requests) == 1


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_lost_answer_of_a_read_is_asked_for_again(server: Server, run: Run, lost: Answer) -> None:
    server.tell("GET /indexes/i", lost, lost, INDEX)
    assert run(read) == {"_id": "i"}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
def test_a_lost_answer_of_a_paid_call_is_asked_for_once_more(server: Server, run: Run, lost: Answer) -> None:
    server.tell("POST /search", lost, FOUND)
    with usage.receipt() as receipt:
        assert run(look) == []
    assert receipt.calls == 2
    server.tell("POST /search", lost, lost, FOUND)
    server.requests.clear()
    with pytest.raises(APIError) as caught:
        run(look)
    assert len(server.requests) == 2
    assert caught.value.retryable
    assert caught.value.maybe_done


def test_a_lost_answer_of_a_paid_call_may_be_done_if_the_wait_is_too_long(server: Server, run: Run) -> None:
    server.tell("POST /search", say(504, retry_after="3600"))
    with pytest.raises(ServerFailed) as caught:
        run(look)
    assert len(server.requests) == 1
    assert caught.value.maybe_done


UNCERTAIN = LOST | {str(status): say(status) for status in (408, 499, 500)}


@pytest.mark.parametrize("lost", UNCERTAIN.values(), ids=UNCERTAIN)
def test_what_creates_is_never_blindly_repeated(server: Server, run: Run, lost: Answer) -> None:
    server.tell("POST /tasks", lost, say(201, {"_id": "second"}))
    with pytest.raises(APIError) as caught:
        run(create)
    assert caught.value.maybe_done
    assert len(server.requests) == 1


@pytest.mark.parametrize("refused", [say(503), too_many(retry_after="0"), say(429)])
def test_what_creates_is_repeated_when_it_was_surely_not_done(
    server: Server, run: Run, refused: Answer
) -> None:
    server.tell("POST /tasks", refused, say(201, {"_id": "t"}))
    assert run(create)["_id"] == "t"
    server.tell("POST /tasks", say(400, {"code": "parameter_invalid", "message": "m"}))
    with pytest.raises(BadRequest) as caught:
        run(create)
    assert not caught.value.maybe_done


def test_what_creates_travels_on_a_new_connection(server: Server, run: Run) -> None:
    server.tell("POST /tasks", say(201, {"_id": "t"}))
    server.tell("GET /indexes/i", INDEX)

    async def story(client: Client) -> None:
        for _ in range(3):
            await read(client)
            await create(client)

    run(story)
    assert server.connections == 4  # one kept for the reads


def test_a_refused_connection_is_tried_again(settings: Settings) -> None:
    async def main() -> None:
        async with Client(settings.but(retries=1), base_url="http://127.0.0.1:9/v1.3") as client:
            with (
                usage.receipt() as receipt,
                pytest.raises(ConnectionFailed, match=r"could not connect to 127.0.0.1:9") as e,
            ):
                await create(client)
            assert receipt.calls == 2
            assert not e.value.maybe_done

    asyncio.run(main())


def test_a_404_after_a_lost_delete_is_success(server: Server, run: Run) -> None:
    gone = say(404, {"code": "resource_not_exists", "message": "gone"})
    server.tell("DELETE /indexes/i", reset, gone)
    run(lambda client: client.delete_index("i"))
    server.tell("DELETE /indexes/i", gone)
    with pytest.raises(APIError, match="gone"):
        run(lambda client: client.delete_index("i"))


def test_an_index_with_a_lost_response_is_found(server: Server, run: Run) -> None:
    models = [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
    exists = say(409, {"code": "index_name_already_exists", "message": "Index name news already exists."})
    named = {"_id": "i", "index_name": "news", "models": [models[0] | {"model_options": ["audio", "visual"]}]}
    listed = [named | {"_id": "j", "index_name": "news2"}, named]
    server.tell("POST /indexes", reset, exists)
    server.tell("GET /indexes", say(200, {"data": listed, "page_info": {"total_page": 1}}))
    assert run(lambda client: client.create_index("news", models)) == "i"
    assert server.asked("GET /indexes")[0].query[0] == ("index_name", "news")
    others = [{"model_name": "pegasus1.2", "model_options": ["visual"]}]
    with pytest.raises(BadRequest, match="already exists"):
        run(lambda client: client.create_index("news", others))


def test_cancelling_ends_a_pause_at_once(server: Server, settings: Settings) -> None:
    server.tell("GET /indexes/i", too_many(retry_after="60"))

    async def main() -> float:
        async with Client(settings.but(max_wait=100), base_url=server.url) as client:
            waiting = asyncio.create_task(client.retrieve_index("i"))
            await asyncio.sleep(0.3)
            began = time.monotonic()
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            return time.monotonic() - began

    assert asyncio.run(main()) < 1


def test_a_cancelled_call_drops_its_connection_and_the_client_lives_on(
    server: Server, settings: Settings
) -> None:
    server.tell("GET /indexes/slow", late(INDEX, 1.0))
    server.tell("GET /indexes/i", INDEX)

    async def main() -> Any:
        async with Client(settings, base_url=server.url) as client:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(client.retrieve_index("slow"), 0.2)
            return await asyncio.gather(*(client.retrieve_index("i") for _ in range(20)))

    assert asyncio.run(main()) == [{"_id": "i"}] * 20


def test_a_revoked_key_ends_it_and_is_in_no_text(server: Server, run: Run) -> None:
    body = {"code": "api_key_invalid", "message": f"API Key {KEY} is either invalid or expired."}
    server.tell("GET /indexes/i", say(401, body))
    with pytest.raises(NotAllowed, match="Set TL_API_KEY") as caught:
        run(read)
    assert KEY not in str(caught.value) + repr(caught.value) + repr(vars(caught.value))
    assert server.requests[0].headers["x-api-key"] == KEY


class Recorder:
    """A limiter that records its calls."""

    def __init__(self) -> None:
        self.calls: list[Any] = []

    async def acquire(self, category: str, video_minutes: float = 0.0, tokens: int = 0) -> None:
        self.calls.append((category, video_minutes, tokens))

    def observe(self, category: str, headers: Any, status: int, retry_after: float | None) -> None:
        self.calls.append((category, headers.get("X-RateLimit-Remaining"), status, retry_after))

    async def aclose(self) -> None:
        self.calls.append("closed")


def test_every_request_passes_the_limiter(server: Server, settings: Settings) -> None:
    server.tell("POST /tasks", too_many(retry_after="0"), say(201, {"_id": "t"}, x_ratelimit_remaining="4"))
    limiter: Any = Recorder()

    async def main() -> None:
        async with Client(settings, base_url=server.url, limiter=limiter) as client:
            await client.create_task("i", video_url="https://e.com/v.mp4", video_minutes=2.5)

    asyncio.run(main())
    assert limiter.calls == [
        ("index", 2.5, 0),
        ("index", None, 429, 0.0),
        ("index", 2.5, 0),
        ("index", "4", 201, None),
        "closed",
    ]
