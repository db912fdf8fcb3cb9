"""The client against the strict profiles: a whole story on each account, then every fault there is today."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.support import media
from tests.support.scripted import KEY
from tl_data import usage
from tl_data.client import Client
from tl_data.client.analyze import Video
from tl_data.client.task_poller import TaskWatcher
from tl_data.demo.file_server import FileServer
from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_video
from tl_data.errors import (
    APIError,
    BadRequest,
    ConnectionFailed,
    MediaRefused,
    NotAllowed,
    NotFound,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    StillRunning,
    TaskFailed,
)
from tl_data.settings import Settings

MODEL, MODELS = "marengo3.0", [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
OLD_MODELS = [
    {"model_name": "marengo2.7", "model_options": ["visual", "audio"]},
    {"model_name": "pegasus1.2", "model_options": ["visual", "audio"]},
]
Use = Callable[[Client], Any]


class Server:
    """An engine with a key, and its own controls."""

    def __init__(self, engine: Engine, media: Path) -> None:
        self.url = engine.base_url
        self.media = media
        self.integration = json.loads((engine.home / "engine.json").read_text()).get("integration_id")
        self._control = self.url.removesuffix("/v1.3") + "/_engine"

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        answer = httpx.request(method, self._control + path, json=body, headers={"x-api-key": KEY})
        answer.raise_for_status()
        return answer.json() if answer.content else None

    def faults(self, *rules: dict[str, Any]) -> None:
        self._ask("PUT", "/faults", {"seed": 1, "fault": list(rules)})

    def stats(self) -> dict[str, Any]:
        return dict(self._ask("GET", "/stats"))

    def run(self, use: Use, **changes: Any) -> Any:
        settings = Settings(
            api_key=KEY, timeout=20, retries=2, max_wait=5, poll_interval=0.5, task_deadline=60
        )

        async def main() -> Any:
            async with Client(settings.but(**changes), base_url=self.url) as client:
                return await asyncio.wait_for(use(client), 120)

        return asyncio.run(main())


@pytest.fixture(scope="module")
def shared(start_engine: Callable[..., Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The service of today, with a key and with tokens of pages that expire soon."""
    yield from started(start_engine, tmp_path_factory, "today", "--page-token-seconds", "2")


@pytest.fixture(scope="module")
def old(start_engine: Callable[..., Engine], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """An account of 2025, with a bucket to import from."""
    yield from started(start_engine, tmp_path_factory, "2025")


def started(
    start_engine: Callable[..., Engine], factory: pytest.TempPathFactory, profile: str, *more: str
) -> Iterator[Server]:
    """An engine that ends with the module."""
    folder = factory.mktemp("media")
    options = ["--api-key", KEY, "--allow-private", "--media", str(folder), "--profile", profile, *more]
    engine = start_engine(*options)
    yield Server(engine, folder)
    os.kill(engine.pid, signal.SIGTERM)


@pytest.fixture
def server(shared: Server) -> Iterator[Server]:
    shared.faults()
    yield shared
    shared.faults()


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("films") / "Größe 1 – film.mp4"
    scenes = [
        Scene(5.0, "Blue ship", background="sky", shape="circle", color="blue"),
        Scene(5.0, "Red bus", background="sand", shape="square", color="red"),
    ]
    make_video(path, scenes, width=640, height=360, fps=10, audio=False)
    return path


@pytest.fixture(scope="module")
def indexed(shared: Server, film: Path) -> dict[str, str]:
    """An index with one video in it."""

    async def make(client: Client) -> dict[str, str]:
        index_id = await client.create_index("indexed", MODELS, addons=["thumbnail"])
        task = await client.create_task(index_id, video_file=film, user_metadata={"team": "news"})
        done = await TaskWatcher(client, client.settings).wait(task["_id"], index_id)
        video = await client.retrieve_video(index_id, str(done["video_id"]))
        return {
            "index": index_id,
            "video": str(video["_id"]),
            "asset": str(video["asset_id"]),
            "task": str(task["_id"]),
        }

    return dict(shared.run(make))


async def every(items: AsyncIterator[Any]) -> list[Any]:
    return [item async for item in items]


@pytest.mark.parametrize("account", ["today", "2025"])
def test_the_whole_story(request: pytest.FixtureRequest, film: Path, account: str) -> None:
    server: Server = request.getfixturevalue("server" if account == "today" else "old")
    with FileServer(film.parent) as files:
        size, url = film.stat().st_size, files.url(film.name)
        server.run(lambda client: story(client, film, size, url, today=account == "today"))


async def story(client: Client, film: Path, size: int, url: str, *, today: bool) -> None:
    watcher = TaskWatcher(client, client.settings)
    models = MODELS if today else OLD_MODELS
    assert await client.account_generation() == ("today" if today else "2025")
    index_id = await client.create_index("story", models, addons=["thumbnail"])
    assert await client.create_index("story", models) == index_id
    await client.update_index(index_id, "the story")
    assert (await client.retrieve_index(index_id))["index_name"] == "the story"
    assert [i["_id"] for i in await every(client.list_indexes(index_name="the story"))] == [index_id]
    assert (await client.probe_url(url)).length == size

    sent: list[int] = []
    first = await client.create_task(
        index_id, video_file=film, user_metadata={"n": 1}, on_progress=lambda at, of: sent.append(at)
    )
    second = await client.create_task(index_id, video_url=url, user_metadata={"n": 2, "team": "ü"})
    assert sent[-1] == size
    ends = await asyncio.gather(*(watcher.wait(t["_id"], index_id) for t in (first, second)))
    assert [t["status"] for t in ends] == ["ready", "ready"]
    video_id = str(ends[1]["video_id"])
    listed = await every(client.list_tasks(index_id=index_id, status=["ready", "failed"]))
    assert {t["_id"] for t in listed} == {first["_id"], second["_id"]}
    assert (await client.retrieve_task(first["_id"]))["status"] == "ready"

    videos = await every(client.list_videos(index_id, duration={"gte": 9, "lte": 11}, team="ü"))
    assert [v["_id"] for v in videos] == [video_id]
    await client.update_video(index_id, video_id, {"team": None, "rating": 9.5, "seen": True})
    option = "visual" if today else "visual-text"
    video = await client.retrieve_video(index_id, video_id, embedding_option=[option], transcription=True)
    assert video["user_metadata"] == {"n": 2, "rating": 9.5, "seen": True}
    assert video["embedding"]["video_embedding"]["segments"][0]["float"]

    found = await every(client.search(index_id, ["visual", "audio"], query_text="a blue ship", page_limit=1))
    assert {hit["video_id"] for hit in found} <= {v["_id"] for v in await every(client.list_videos(index_id))}
    assert found
    grouped = client.search(index_id, ["visual"], query_text="ship", group_by="video", filter={"rating": 9.5})
    assert [g["id"] for g in await every(grouped)] == [video_id]

    source: Video = {"type": "asset_id", "asset_id": video["asset_id"]} if today else video_id
    with usage.receipt() as receipt:
        answer = await client.analyze(source, "What is written?")
    assert isinstance(answer["data"], str)
    assert receipt.output_tokens > 0
    assert receipt.model == ("pegasus1.5" if today else "pegasus1.2")
    schema = {
        "type": "object",
        "properties": {"words": {"type": "array", "items": {"type": "string"}}},
        "required": ["words"],
    }
    shaped = {"type": "json_schema", "json_schema": schema}
    assert "words" in json.loads(
        (await client.analyze(source, "Which words?", response_format=shaped))["data"]
    )
    events = await every(client.analyze_stream(source, "What is written?"))
    assert "".join(e.get("text", "") for e in events) == answer["data"]
    with usage.receipt() as receipt:
        assert set(await client.gist(source, ["title", "topic", "hashtag"])) >= {
            "title",
            "topics",
            "hashtags",
        }
    assert receipt.fallback == ("/analyze in place of /gist" if today else None)
    for kind, name in [("summary", "summary"), ("chapter", "chapters"), ("highlight", "highlights")]:
        assert (await client.summarize(source, kind))[name]

    embedder, dimension = ("marengo3.0", 512) if today else ("Marengo-retrieval-2.7", 1024)
    vectors = await client.embed(embedder, text="a blue ship")
    assert len(vectors["text_embedding"]["segments"][0]["float"]) == dimension
    task_id = await client.create_embed_task(
        embedder, video_url=url, video_clip_length=4, video_embedding_scope=["clip", "video"]
    )
    embedded = await watcher.wait_embed(task_id)
    segments = embedded["video_embedding"]["segments"]
    assert {s["embedding_scope"] for s in segments} == {"clip", "video"}
    assert {len(s["float"]) for s in segments} == {dimension}
    assert (await client.embed_task_status(task_id))["status"] == "ready"
    assert task_id in [t["_id"] for t in await every(client.list_embed_tasks(status="ready"))]
    await watcher.aclose()

    await client.delete_video(index_id, video_id)
    await client.delete_task(second["_id"])
    await client.delete_index(index_id)
    with pytest.raises(NotFound):
        await client.retrieve_index(index_id)
    assert client.api_version


def test_imports(old: Server, film: Path) -> None:
    server = old
    if server.integration is None:
        pytest.fail("the engine names no integration")
    (server.media / "import.mp4").write_bytes(film.read_bytes())
    (server.media / "broken.mp4").write_bytes(b"")

    async def use(client: Client) -> None:
        index_id = await client.create_index("imported", OLD_MODELS)
        made = await client.create_import(server.integration, index_id, user_metadata={"from": "import"})
        assert [v["filename"] for v in made["videos"]] == ["import.mp4"]
        assert [f["filename"] for f in made["failed_files"]] == ["broken.mp4"]
        for _ in range(60):
            status = await client.import_status(server.integration, index_id)
            if status.get("ready"):
                break
            await asyncio.sleep(0.5)
        assert [v["filename"] for v in status["ready"]] == ["import.mp4"]
        assert (await client.import_logs(server.integration))[-1]["index_id"] == index_id

    server.run(use)


NOWHERE = "0123456789abcdef01234567"

#: Each error of the API, provoked once: a call, the class, the code.
REFUSALS: dict[str, tuple[Callable[[Client, dict[str, str]], Any], type[Exception], str]] = {
    "unknown index": (lambda c, i: c.retrieve_index(NOWHERE), NotFound, "resource_not_exists"),
    "unknown task": (lambda c, i: c.retrieve_task(NOWHERE), NotFound, "resource_not_exists"),
    "unknown video": (lambda c, i: c.retrieve_video(i["index"], NOWHERE), NotFound, "not_found"),
    "unknown embed task": (lambda c, i: c.retrieve_embed_task(NOWHERE), NotFound, "resource_not_exists"),
    "search nowhere": (
        lambda c, i: every(c.search(NOWHERE, ["visual"], query_text="x")),
        NotFound,
        "resource_not_exists",
    ),
    "taken name": (
        lambda c, i: c.create_index("indexed", [{"model_name": MODEL, "model_options": ["audio"]}]),
        BadRequest,
        "index_name_already_exists",
    ),
    "bad option": (
        lambda c, i: c.create_index("x", [{"model_name": MODEL, "model_options": ["smell"]}]),
        BadRequest,
        "parameter_invalid",
    ),
    "no query": (lambda c, i: every(c.search(i["index"], ["visual"])), BadRequest, "parameter_not_provided"),
    "bad search option": (
        lambda c, i: every(c.search(i["index"], ["smell"], query_text="x")),
        BadRequest,
        "search_option_not_supported",
    ),
    "page too large": (lambda c, i: every(c.list_indexes(page_limit=51)), BadRequest, "parameter_invalid"),
    "bad filter": (
        lambda c, i: every(c.search(i["index"], ["visual"], query_text="x", filter="[1]")),
        BadRequest,
        "search_filter_invalid",
    ),
    "video of another index": (
        lambda c, i: every(c.search(i["index"], ["visual"], query_text="x", filter={"id": [NOWHERE]})),
        BadRequest,
        "search_video_not_in_same_index",
    ),
    "ready task": (lambda c, i: c.delete_task(i["task"]), BadRequest, "task_cannot_be_deleted"),
    "no source": (lambda c, i: c.create_task(i["index"]), BadRequest, "parameter_not_provided"),
    "image that is none": (
        lambda c, i: every(c.search(i["index"], ["visual"], query_media_file=b"no picture")),
        BadRequest,
        "parameter_invalid",
    ),
    "no such asset": (
        lambda c, i: c.analyze({"type": "asset_id", "asset_id": NOWHERE}, "?"),
        NotFound,
        "resource_not_exists",
    ),
    "a video's id": (lambda c, i: c.analyze(i["video"], "?"), BadRequest, "parameter_invalid"),
    "a video's id in place of /gist": (
        lambda c, i: c.gist(i["video"], ["title"]),
        BadRequest,
        "parameter_invalid",
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_each_refusal_has_its_class_and_code(server: Server, indexed: dict[str, str], name: str) -> None:
    ask, kind, code = REFUSALS[name]
    with pytest.raises(kind) as caught:
        server.run(lambda client: ask(client, indexed))
    assert isinstance(caught.value, APIError)
    assert (type(caught.value), caught.value.code) == (kind, code)
    assert caught.value.http_status
    assert caught.value.request_id


def test_an_expired_page_token_is_an_error(server: Server, indexed: dict[str, str]) -> None:
    async def read_slowly(client: Client) -> None:
        found = client.search(indexed["index"], ["visual"], query_text="blue ship, red bus", page_limit=1)
        await anext(found)
        await asyncio.sleep(2.5)
        await anext(found)

    with pytest.raises(BadRequest, match="1 results were read") as caught:
        server.run(read_slowly)
    assert caught.value.code == "search_page_token_expired"


def test_a_wrong_key(server: Server) -> None:
    with pytest.raises(NotAllowed, match="Set TL_API_KEY"):
        server.run(lambda c: every(c.list_indexes()), api_key="tlk_another")


def asset_of(indexed: dict[str, str]) -> dict[str, str]:
    return {"type": "asset_id", "asset_id": indexed["asset"]}


def search_of(indexed: dict[str, str]) -> Use:
    return lambda c: every(c.search(indexed["index"], ["visual"], query_text="ship", limit=1))


ONE = {"count": 1}
PASSING: dict[str, dict[str, Any]] = {
    "latency": {"kind": "latency", "seconds": 0.3},
    "429 retry-after": {"kind": "too_many_requests", "shape": "retry_after", "seconds": 1, "count": 1},
    "429 reset": {"kind": "too_many_requests", "shape": "reset", "seconds": 1, "count": 1},
    "429 text": {"kind": "too_many_requests", "shape": "text", "seconds": 1, "count": 1},
    "429 empty": {"kind": "too_many_requests", "shape": "empty", "count": 2},
    "503": {"kind": "status", "status": 503, "count": 2},
    "500": {"kind": "status", "status": 500, **ONE},
    "reset": {"kind": "reset", **ONE},
    "reset after": {"kind": "reset", "after": True, **ONE},
    "truncate": {"kind": "truncate", "share": 0.5, **ONE},
    "malformed": {"kind": "malformed", **ONE},
    "html": {"kind": "html", **ONE},
    "html with 200": {"kind": "html", "status": 200, **ONE},
    "slow_body": {"kind": "slow_body", "seconds": 1},
    "gzip": {"kind": "gzip"},
    "chunked": {"kind": "chunked"},
}


# A stream that has begun cannot be repeated: what happens to it then is the next test.
PAIRS = [
    (name, call)
    for name in PASSING
    for call in ("read", "search", "stream")
    if call != "stream" or name not in ("truncate", "malformed", "html with 200")
]


@pytest.mark.parametrize(("name", "call"), PAIRS)
def test_what_passes_is_not_seen(server: Server, indexed: dict[str, str], name: str, call: str) -> None:
    asks: dict[str, tuple[str, Use]] = {
        "read": ("/indexes/{index_id}", lambda c: c.retrieve_index(indexed["index"])),
        "search": ("/search", search_of(indexed)),
        "stream": ("/analyze", lambda c: every(c.analyze_stream(asset_of(indexed), "What is written?"))),
    }
    route, ask = asks[call]
    wanted = server.run(ask)
    server.faults({**PASSING[name], "route": route})
    got = server.run(ask)
    assert type(got) is type(wanted)
    assert len(got) == len(wanted)


def test_a_stream_that_is_cut_leaves_what_came(server: Server, indexed: dict[str, str]) -> None:
    server.faults({"kind": "truncate", "share": 0.6, "route": "/analyze"})
    with pytest.raises(ConnectionFailed) as caught:
        server.run(lambda c: every(c.analyze_stream(asset_of(indexed), "What is written?")))
    assert caught.value.partial is not None


@pytest.mark.parametrize(
    ("sent", "kind", "code"),
    [
        ({}, ServerFailed, None),
        ({"code": "too_many_requests", "message": "Too much is asked."}, RateLimited, "too_many_requests"),
        ({"code": "token_limit_exceeded", "message": "It is too long."}, BadRequest, "token_limit_exceeded"),
    ],
)
def test_a_stream_that_ends_in_an_error_says_which(
    server: Server,
    indexed: dict[str, str],
    sent: dict[str, str],
    kind: type[APIError],
    code: str | None,
) -> None:
    whole = server.run(lambda c: every(c.analyze_stream(asset_of(indexed), "What is written?")))
    text = "".join(event.get("text", "") for event in whole)
    server.faults({"kind": "stream_error", "share": 0.7, "route": "/analyze", **sent})
    with pytest.raises(kind) as caught:
        server.run(lambda c: every(c.analyze_stream(asset_of(indexed), "What is written?")))
    error = caught.value
    assert f"ended the stream with an error: {sent.get('message', 'The generation was interrupted')}" in str(
        error
    )
    assert (error.code, type(error)) == (code, kind)
    assert error.partial
    assert text.startswith(error.partial)
    assert error.partial != text
    plain = server.run(lambda c: c.analyze(asset_of(indexed), "What is written?"))  # no stream: as it was
    assert plain["data"] == text


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("kind", ["reset", "html", "truncate"])
def test_what_creates_is_made_at_most_once(server: Server, film: Path, kind: str, after: bool) -> None:
    index_id = server.run(lambda c: c.create_index(f"once {kind} {after}", MODELS))
    before = server.stats()["tasks_created"]
    server.faults({"kind": kind, "route": "/tasks", "method": "POST", "after": after, "count": 1})
    with pytest.raises(APIError) as caught:
        server.run(lambda c: c.create_task(index_id, video_file=film))
    assert caught.value.maybe_done
    assert server.stats()["tasks_created"] - before <= 1
    server.run(lambda c: c.delete_index(index_id))


@pytest.mark.parametrize("kind", ["reset", "html"])
def test_an_index_whose_answer_was_lost_is_found_by_its_name(server: Server, kind: str) -> None:
    server.faults({"kind": kind, "route": "/indexes", "method": "POST", "after": True, "count": 1})
    index_id = server.run(lambda c: c.create_index(f"lost {kind}", MODELS))
    assert server.run(lambda c: c.retrieve_index(index_id))["index_name"] == f"lost {kind}"


def test_a_quota_until_tomorrow_fails_now(server: Server, indexed: dict[str, str]) -> None:
    for shape in ("retry_after", "reset", "text"):
        server.faults({"kind": "too_many_requests", "shape": shape, "seconds": 7200})
        began = time.monotonic()
        with pytest.raises(QuotaExhausted, match=r"in (2 h 0 min|1 h 59 min)"):
            server.run(search_of(indexed))
        assert time.monotonic() - began < 3


def test_a_server_that_stays_broken_is_reported(server: Server, indexed: dict[str, str]) -> None:
    server.faults({"kind": "status", "status": 500, "code": "internal", "message": "It broke."})
    with pytest.raises(ServerFailed, match=r"It broke. \(internal, HTTP 500, request "):
        server.run(search_of(indexed))
    server.faults({"kind": "redirect", "location": "https://elsewhere.example/v1.3/search"})
    with pytest.raises(BadRequest, match=r"redirected to https://elsewhere\.example"):
        server.run(search_of(indexed))
    server.faults({"kind": "latency", "seconds": 5})
    with pytest.raises(ConnectionFailed, match=r"no complete response from .* within 0\.5 s"):
        server.run(lambda c: c.retrieve_index(indexed["index"]), timeout=0.5, retries=0)


def test_presets_take_the_place_of_withdrawn_endpoints(old: Server, film: Path) -> None:
    """An account of 2025 on which /gist and /summarize answer 410: /analyze by the id of the video."""

    def asked(route: str) -> int:
        return sum(old.stats()["requests"].get(route, {}).values())

    async def use(client: Client) -> None:
        index_id = await client.create_index(f"presets-{time.time_ns()}", OLD_MODELS)
        task = await client.create_task(index_id, video_file=film)
        video_id = (await TaskWatcher(client, client.settings).wait(task["_id"], index_id))["video_id"]
        old.faults({"kind": "gone", "route": "/gist"}, {"kind": "gone", "route": "/summarize"})
        with usage.receipt() as receipt:
            gist = await client.gist(video_id, ["title", "topic", "hashtag"])
        assert receipt.fallback == "/analyze in place of /gist"
        assert isinstance(gist["title"], str)
        assert all(tag.startswith("#") for tag in gist["hashtags"])
        assert (await client.summarize(video_id, "summary"))["summary"]
        chapters = (await client.summarize(video_id, "chapter"))["chapters"]
        assert chapters[0]["chapter_number"] == 0
        assert chapters[0]["start_sec"] <= chapters[0]["end_sec"]
        highlights = (await client.summarize(video_id, "highlight"))["highlights"]
        assert all(isinstance(h["start"], int) and h["highlight"] for h in highlights)
        with pytest.raises(BadRequest, match="poem"):
            await client.summarize(video_id, "poem")

    before = asked("POST /gist"), asked("POST /summarize"), asked("POST /analyze")
    try:
        old.run(use)
    finally:
        old.faults()
    after = asked("POST /gist"), asked("POST /summarize"), asked("POST /analyze")
    # Each is asked for once, and after the answer 410 no more.
    assert [b - a for a, b in zip(before, after, strict=True)] == [1, 1, 4]


def test_stuck_and_failed_tasks(server: Server, film: Path) -> None:
    async def use(client: Client) -> None:
        index_id = await client.create_index("fates", MODELS)
        server.faults(
            {"kind": "failed", "route": "/tasks", "code": "video_duration_too_long", "message": "Too long."}
        )
        bad = await client.create_task(index_id, video_file=film)
        server.faults({"kind": "stuck", "route": "/tasks"})
        stuck = await client.create_task(index_id, video_file=film)
        server.faults()
        watcher = TaskWatcher(client, client.settings.but(task_deadline=8))
        ends = await asyncio.gather(
            *(watcher.wait(t["_id"], index_id) for t in (bad, stuck)), return_exceptions=True
        )
        assert isinstance(ends[0], TaskFailed)
        assert ends[0].code == "task_failed"  # the service gives no reason
        assert isinstance(ends[1], StillRunning)

    server.run(use)


def test_a_bad_video_fails(server: Server, tmp_path: Path) -> None:
    short = media.a_blink(tmp_path)

    async def use(client: Client) -> Any:
        index_id = await client.create_index("short", MODELS)
        task = await client.create_task(index_id, video_file=short)
        return await TaskWatcher(client, client.settings).wait(task["_id"], index_id)

    with pytest.raises((TaskFailed, MediaRefused)) as caught:
        server.run(use)
    assert caught.value.code == "task_failed"
