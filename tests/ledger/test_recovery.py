"""Embedding tasks whose makers were killed before they could write them down."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.client.conftest import Server, server  # noqa: F401 - the scripted server, as a fixture
from tests.conftest import Engine
from tests.support.processes import kill_when
from tests.support.scripted import say
from tl_data.client import Client
from tl_data.client.task_poller import MAX_CLOCK_DIFFERENCE, TaskWatcher
from tl_data.errors import ConnectionFailed
from tl_data.functions.embed import embed_video
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import AmbiguousTask, Call, Entry
from tl_data.ledger.recovery import V2_TASK, embedding_task, marked_name
from tl_data.ratelimit.limiter import Limiter
from tl_data.session import Session
from tl_data.settings import Settings

PROGRAM = """
import json, sys
from tl_data.functions import FUNCTIONS
from tl_data.connection import connect
from tl_data.settings import Settings
said = json.loads(sys.argv[1])
vectors = FUNCTIONS["video_vectors"]
connect(Settings(**said["settings"])).call(vectors, video=said["video"], **said["given"])
"""

#: The request is carried out, and its answer takes a long time: the process is killed meanwhile.
DRIPS = {"kind": "slow_body", "route": "/embed/tasks", "method": "POST", "count": 1, "seconds": 600}


@pytest.fixture(scope="module")
def own_engine(start_engine: Callable[..., Engine]) -> Engine:
    return start_engine("--allow-private")


@pytest.fixture
def killed(own_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Settings]]:
    """Have a process killed once the server has its task; gives the settings it had."""

    def kill(video: str, **given: Any) -> Settings:
        return kill_while_sending(own_engine, tmp_path, [DRIPS], video, given)

    yield kill
    put_faults(own_engine)


def put_faults(engine: Engine, *rules: dict[str, Any]) -> None:
    """Let requests fail from now on; without rules, none."""
    root = engine.base_url.removesuffix("/v1.3")
    httpx.put(f"{root}/_engine/faults", json={"fault": list(rules)}).raise_for_status()


def kill_while_sending(
    engine: Engine, home: Path, rules: list[dict[str, Any]], video: str, given: dict[str, Any]
) -> Settings:
    """Embed a video in a process that is killed when the server has its task; the settings of the process."""
    settings = {"base_url": engine.base_url, "home": str(home), "poll_interval": 0.2}
    before = created(engine)
    put_faults(engine, *rules)
    said = json.dumps({"video": video, "settings": settings, "given": given})
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, said], env=dict(os.environ), text=True)
    kill_when(lambda: created(engine) > before, process)
    return Settings(**settings)  # type: ignore[arg-type]


def created(engine: Engine) -> int:
    stats = httpx.get(engine.base_url.replace("/v1.3", "/_engine/stats")).raise_for_status().json()
    return int(stats["embed_tasks_created"])


def again(
    settings: Settings, video: str, model: str = "tl-local-2", **given: Any
) -> tuple[list[dict[str, Any]], list[Entry]]:
    """The same call in this process; its rows, and what the ledger holds of embeddings then."""

    async def main() -> tuple[list[dict[str, Any]], list[Entry]]:
        ledger = Ledger.open(settings.ledger_url, settle=0.2)
        client = Client(settings, base_url=str(settings.base_url), limiter=Limiter.of(settings))
        session = Session(settings, client, ledger)
        session.embed_model = model
        try:
            rows = await embed_video(session, video, given)
            return rows, [entry async for entry in ledger.entries(operation="embed_video")]
        finally:
            await session.aclose()

    return asyncio.run(main())


def test_the_lost_task_of_a_url_is_taken_over(
    killed: Callable[..., Settings], put: Callable[..., str], own_engine: Engine
) -> None:
    url = put("lost.mp4")
    settings, before = killed(url, video_clip_length=2), created(own_engine)
    rows, [entry] = again(settings, url, video_clip_length=2)
    assert rows
    assert created(own_engine) == before
    assert (entry.state, entry.attempt, entry.doubt) == ("done", 2, None)


def test_the_lost_task_of_a_file_is_known_by_its_name(
    killed: Callable[..., Settings], quick: Path, own_engine: Engine
) -> None:
    """Whatever the parameters: the ledger's key is in the name."""
    part = {"video_start_offset_sec": 0.0, "video_end_offset_sec": 3.0, "video_clip_length": 2}
    settings, before = killed(str(quick), **part), created(own_engine)
    rows, [entry] = again(settings, str(quick), **part)
    assert rows
    assert created(own_engine) == before
    assert (entry.state, entry.doubt) == ("done", None)
    assert again(settings, str(quick), **part)[0] == rows
    [kept] = Path(settings.ledger_url).rglob("*.result.arrow")  # vectors are large
    assert pa.ipc.open_file(kept).read_all()["vector"].to_pylist() == [row["vector"] for row in rows]


def test_the_lost_task_of_a_part_of_a_url_is_taken_over(
    killed: Callable[..., Settings], put: Callable[..., str], own_engine: Engine
) -> None:
    """The vectors of a task show which part it is about; those of another part are not taken for ours."""
    url = put("part.mp4")
    other = {"video_start_offset_sec": 0.0, "video_end_offset_sec": 2.0, "video_clip_length": 2}
    part = {"video_start_offset_sec": 1.0, "video_end_offset_sec": 4.0, "video_clip_length": 2}
    killed(url, **other)
    settings, before = killed(url, **part), created(own_engine)
    rows, entries = again(settings, url, **part)
    assert {(row["start_sec"], row["end_sec"]) for row in rows} >= {(1.0, 3.0)}
    assert created(own_engine) == before
    [entry] = [entry for entry in entries if entry.state == "done"]
    assert (entry.attempt, entry.doubt) == (2, None)


def test_a_call_that_cannot_be_searched_is_paid_again_with_a_warning(
    killed: Callable[..., Settings],
    put: Callable[..., str],
    own_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A server that does not list its tasks."""
    url = put("unlisted.mp4")
    part = {"video_start_offset_sec": 0.0, "video_end_offset_sec": 3.0, "video_clip_length": 2}
    settings, before = killed(url, **part), created(own_engine)
    root = own_engine.base_url.removesuffix("/v1.3")
    hidden = {"kind": "status", "status": 404, "route": "/embed/tasks", "method": "GET"}
    httpx.put(f"{root}/_engine/faults", json={"fault": [hidden]}).raise_for_status()
    rows, [entry] = again(settings, url, **part)
    assert rows
    assert created(own_engine) == before + 1
    assert "does not list its embedding tasks" in (entry.doubt or "")
    assert "may be paid for twice" in caplog.text
    listed = subprocess.run(
        [sys.executable, "-m", "tl_data", "ledger", "ls"],
        check=True, capture_output=True, text=True, env={**os.environ, "TL_HOME": str(settings.home)},
    )  # fmt: skip
    assert (
        f"1 of them ({entry.video_minutes:.2f} video minutes) may have been paid for twice" in listed.stderr
    )


def test_a_request_that_never_arrived_leaves_no_doubt(
    put: Callable[..., str], own_engine: Engine, tmp_path: Path
) -> None:
    """Another task of the same server, of another video, is not taken for the lost one."""
    settings = Settings(base_url=own_engine.base_url, home=str(tmp_path), poll_interval=0.2)
    again(Settings(base_url=own_engine.base_url, home=str(tmp_path / "b"), poll_interval=0.2), put("b.mp4"))
    url = put("a.mp4")
    root = own_engine.base_url.removesuffix("/v1.3")
    refused = {"kind": "reset", "route": "/embed/tasks", "method": "POST", "count": 9}
    httpx.put(f"{root}/_engine/faults", json={"fault": [refused]}).raise_for_status()
    try:
        with pytest.raises(ConnectionFailed):
            again(settings, url)
    finally:
        httpx.put(f"{root}/_engine/faults", json={}).raise_for_status()
    before = created(own_engine)
    rows, [entry] = again(settings, url)
    assert rows
    assert created(own_engine) == before + 1
    assert (entry.attempt, entry.doubt) == (2, None)


def test_the_lost_task_of_embed_v2_is_found_by_its_url(
    today: Engine, put: Callable[..., str], tmp_path: Path
) -> None:
    """On an account of today. Those of another length of clips are not taken for ours."""
    url = put("lost-v2.mp4")
    try:
        drips = [DRIPS | {"route": "/embed-v2/tasks"}, {"kind": "gone", "route": "/embed/tasks"}]
        segmentation = {"strategy": "fixed", "fixed": {"duration_sec": 4}}
        block = {"media_source": {"url": url}, "segmentation": segmentation}
        body = {"input_type": "video", "model_name": "marengo3.0", "video": block}
        httpx.post(f"{today.base_url}/embed-v2/tasks", json=body).raise_for_status()
        settings = kill_while_sending(today, tmp_path, drips, url, {"video_clip_length": 2})
        before = created(today)
        rows, entries = again(settings, url, "marengo3.0", video_clip_length=2)
    finally:
        put_faults(today)
    assert (rows[0]["start_sec"], rows[0]["end_sec"]) == (0.0, 2.0)
    assert created(today) == before
    [entry] = [entry for entry in entries if entry.state == "done"]
    assert (entry.attempt, entry.doubt) == (2, None)
    assert str(entry.task_id).startswith(V2_TASK)


def test_a_lost_task_of_embed_v2_of_an_asset_leaves_a_doubt(
    today: Engine, quick: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A file is embedded by /embed-v2 only if the older route is withdrawn. Its task does not show it."""
    withdrawn = {"kind": "gone", "route": "/embed/tasks"}
    part = {"video_start_offset_sec": 0.0, "video_end_offset_sec": 3.0, "video_clip_length": 2}
    try:
        drips = [DRIPS | {"route": "/embed-v2/tasks"}, withdrawn]
        settings = kill_while_sending(today, tmp_path, drips, str(quick), part)
        before = created(today)
        rows, [entry] = again(settings, str(quick), "marengo3.0", **part)
        assert again(settings, str(quick), "marengo3.0", **part)[0] == rows
    finally:
        put_faults(today)
    assert created(today) == before + 1
    assert entry.attempt == 2
    assert "which may be" in (entry.doubt or "")
    assert "may be paid for twice" in caplog.text


URL, OTHER = "https://media.example/a.mp4?sv=2024-11-04&sig=1&se=2", "https://media.example/b.mp4"
WHOLE = {"video_clip_length": 6, "video_embedding_scope": ["clip"]}
HERE = {"input_url": "https://media.example/a.mp4?sv=2024-11-04&sig=9&se=8"}


@pytest.mark.parametrize(
    ("shown", "model", "status", "doubtful"),
    [
        (
            {**HERE, **WHOLE},
            "marengo3.0",
            "processing",
            True,
        ),  # nobody says how long it is
        ({**WHOLE}, "marengo3.0", "processing", True),  # no source is shown
        (None, "marengo3.0", "ready", True),  # nothing is shown
        (HERE, "marengo3.0", "ready", True),  # no clip length is shown
        ({**HERE, **WHOLE, "video_clip_length": 4}, "marengo3.0", "ready", False),
        ({**HERE, **WHOLE, "video_embedding_scope": ["video"]}, "marengo3.0", "ready", False),
        ({**HERE, **WHOLE}, "Marengo-retrieval-2.7", "ready", False),
        ({**HERE, **WHOLE}, "marengo3.0", "failed", False),
        ({"input_url": OTHER, **WHOLE}, "marengo3.0", "ready", False),
        ({"input_filename": "a.mp4", **WHOLE}, "marengo3.0", "ready", False),
    ],
)
def test_what_a_listing_shows_decides(
    server: Server,  # noqa: F811
    tmp_path: Path,
    shown: dict[str, Any] | None,
    model: str,
    status: str,
    doubtful: bool,
) -> None:
    task = {"_id": "e1", "model_name": model, "status": status}
    if shown is not None:
        task["video_embedding"] = {"metadata": shown}
    page = {"data": [task], "page_info": {"page": 1, "total_page": 1, "total_results": 1}}
    server.tell("GET /embed/tasks", say(200, page))
    server.tell("GET /embed/tasks/e1", say(200, {**task, "status": "ready", "video_embedding": {}}))
    server.tell("GET /embed/tasks/e1/status", say(200, {**task, "status": "ready"}))
    found = looked_for(server, tmp_path, Call("embed_video", "c", WHOLE, "marengo3.0"))
    assert isinstance(found, AmbiguousTask) is doubtful
    assert found is None or doubtful
    [asked] = [v for r in server.asked("GET /embed/tasks") for n, v in r.query if n == "started_at"][:1]
    assert datetime.fromisoformat(asked) < datetime.now(UTC) - MAX_CLOCK_DIFFERENCE


PART = {"video_start_offset_sec": 10.0, "video_end_offset_sec": 23.0}


@pytest.mark.parametrize(
    ("offsets", "spans", "found"),
    [
        (PART, [(10, 16), (16, 22)], "e1"),  # the last clip is too short to be shown
        (PART, [(10, 16), (16, 22), (10, 23)], "e1"),
        (
            PART,
            [(0, 6), (6, 12)],
            AmbiguousTask,
        ),  # the same, if the server counts from the beginning of the part
        (PART, [(10, 16), (16, 20)], AmbiguousTask),  # nearly the same
        (PART, [(10, 16)], None),
        (PART, [(20, 26), (26, 32)], None),
        (PART, [], AmbiguousTask),
        ({"video_start_offset_sec": 0.0, "video_end_offset_sec": 12.0}, [(0, 6), (6, 12)], "e1"),
        ({}, [(0, 6), (6, 12)], AmbiguousTask),  # nobody says how long the whole is
    ],
)
def test_the_vectors_show_the_part(
    server: Server,  # noqa: F811
    tmp_path: Path,
    offsets: dict[str, float],
    spans: list[tuple[float, float]],
    found: str | type[AmbiguousTask] | None,
) -> None:
    task = {"_id": "e1", "model_name": "marengo3.0", "status": "ready"}
    listed = {**task, "video_embedding": {"metadata": {**HERE, **WHOLE}}}
    segments = [{"start_offset_sec": a, "end_offset_sec": b, "float": [0.5]} for a, b in spans]
    page = {"data": [listed], "page_info": {"page": 1, "total_page": 1, "total_results": 1}}
    server.tell("GET /embed/tasks", say(200, page))
    server.tell("GET /embed/tasks/e1", say(200, {**task, "video_embedding": {"segments": segments}}))
    server.tell("GET /embed/tasks/e1/status", say(200, task))
    got = looked_for(server, tmp_path, Call("embed_video", "c", {**WHOLE, **offsets}, "marengo3.0"))
    assert (type(got) if isinstance(got, AmbiguousTask) else got) == found


@pytest.mark.parametrize(("minutes", "doubtful"), [(2, True), (60, False)])
def test_a_task_from_before_the_claim_is_not_the_lost_one(
    server: Server,  # noqa: F811
    tmp_path: Path,
    minutes: int,
    doubtful: bool,
) -> None:
    """Whatever the server makes of the time it was asked for."""
    created = f"{datetime.now(UTC) - timedelta(minutes=minutes):%Y-%m-%dT%H:%M:%SZ}"
    task = {"_id": "e1", "model_name": "marengo3.0", "status": "processing", "created_at": created}
    page = {"data": [task], "page_info": {"page": 1, "total_page": 1, "total_results": 1}}
    server.tell("GET /embed/tasks", say(200, page))
    found = looked_for(server, tmp_path, Call("embed_video", "c", WHOLE, "marengo3.0"))
    assert isinstance(found, AmbiguousTask) is doubtful


def test_a_server_that_lists_nothing_leaves_a_doubt(server: Server, tmp_path: Path) -> None:  # noqa: F811
    found = looked_for(server, tmp_path, Call("embed_video", "c", WHOLE, "marengo3.0"))
    assert isinstance(found, AmbiguousTask)


V2_ALL = ["visual", "audio", "transcription"]


@pytest.mark.parametrize(
    ("metadata", "option", "found"),
    [
        ({"embedding_options": V2_ALL}, "visual", "e1"),
        ({"embedding_options": V2_ALL, "embedding_dimension": 512}, "visual", "e1"),
        ({"embedding_options": ["visual"]}, "visual", AmbiguousTask),
        ({"embedding_options": [*V2_ALL, "lexical"]}, "visual", None),
        ({"embedding_options": V2_ALL, "embedding_dimension": 256}, "visual", None),
        ({"embedding_options": V2_ALL}, "fused", None),
        ({}, "visual", AmbiguousTask),
    ],
)
def test_a_task_of_embed_v2_with_other_options_is_not_the_lost_one(
    server: Server,  # noqa: F811
    tmp_path: Path,
    metadata: dict[str, Any],
    option: str,
    found: str | type[AmbiguousTask] | None,
) -> None:
    """Another user may have embedded the same URL. Only the list shows the model."""
    task = {"_id": "e1", "status": "ready"}
    listed = {**task, "model_name": "marengo3.0", "video_embedding": {"metadata": HERE}}
    vectors = [
        {"start_sec": a, "end_sec": a + 6, "embedding_option": option, "embedding_scope": "clip"}
        for a in (0, 6)
    ]
    shown = {"clip_length": 6, "embedding_scopes": ["clip"], "input_url": None, **metadata}
    page = {"data": [listed], "page_info": {"page": 1, "total_page": 1, "total_results": 1}}
    server.tell("GET /embed-v2/tasks", say(200, page))
    server.tell("GET /embed-v2/tasks/e1", say(200, {**task, "data": vectors, "metadata": shown}))
    part = {"video_start_offset_sec": 0.0, "video_end_offset_sec": 12.0}
    got = looked_for(server, tmp_path, Call("embed_video", "c", {**WHOLE, **part}, "marengo3.0"), v2=True)
    assert (type(got) if isinstance(got, AmbiguousTask) else got) == found


@pytest.mark.parametrize(("shown", "deadline"), [({}, 60.0), (HERE, 0.3)])
def test_a_task_of_embed_v2_that_does_not_end_leaves_a_doubt(
    server: Server,  # noqa: F811
    tmp_path: Path,
    shown: dict[str, Any],
    deadline: float,
) -> None:
    """It is awaited only if it shows the URL, and no longer than the deadline of a task."""
    task = {"_id": "e1", "status": "processing"}
    listed = {**task, "model_name": "marengo3.0", "video_embedding": {"metadata": shown}}
    page = {"data": [listed], "page_info": {"page": 1, "total_page": 1, "total_results": 1}}
    server.tell("GET /embed-v2/tasks", say(200, page))
    server.tell("GET /embed-v2/tasks/e1", say(200, task))
    call = Call("embed_video", "c", WHOLE, "marengo3.0")
    got = looked_for(server, tmp_path, call, v2=True, task_deadline=deadline)
    assert isinstance(got, AmbiguousTask)
    assert shown or len(server.asked("GET /embed-v2/tasks")) == 1


def looked_for(
    server: Server,  # noqa: F811
    folder: Path,
    call: Call,
    v2: bool = False,
    task_deadline: float = 60.0,
) -> str | AmbiguousTask | None:
    settings = Settings(
        api_key="tlk_x", base_url=server.url, poll_interval=0.05, retries=0, task_deadline=task_deadline
    )

    async def main() -> str | AmbiguousTask | None:
        ledger = Ledger.open(str(folder / "ledger"), settle=0.0)
        client = Client(settings, base_url=server.url, limiter=Limiter.of(settings))
        watcher = TaskWatcher(client, settings)
        found: list[str | AmbiguousTask | None] = []

        async def send() -> str:
            found.append(await embedding_task(client, watcher, ledger, call, URL, {"marengo3.0"}, v2=v2))
            return "e2"

        async def find() -> None:
            return None

        try:
            await ledger.submit(call, send, find)
        finally:
            await watcher.aclose()
            await ledger.aclose()
            await client.aclose()
        return found[0]

    return asyncio.run(main())


def test_a_marked_name_keeps_the_kind_of_file() -> None:
    assert marked_name("https://media.example/a.mp4", "0123") is None
    assert marked_name("/films/a tour.mov", "0123") == "a tour.tl_data_key-0123.mov"
