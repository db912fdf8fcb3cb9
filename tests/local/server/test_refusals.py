"""Every refusal, once by HTTP and once through the client: status, code, and a message that helps."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API, BOTH
from tests.support import media
from tests.support.odd_server import OddServer
from tests.support.refusal_codes import DOCUMENTED, ELSEWHERE, KIND, KINDS, STATUS
from tests.support.refusals import NOWHERE, Refusal
from tests.support.refusals_media import ROWS
from tl_data.client import OPERATIONS, Client
from tl_data.client.multipart import Form
from tl_data.client.request import Request, path
from tl_data.errors import TLDataError
from tl_data.settings import Settings

FORMS = ("/tasks", "/search", "/embed", "/embed/tasks")
KEY = "tlk_the_right_one"


def random_bytes(folder: Path) -> Path:
    """More than the strict engine takes."""
    (file := folder / "large.mp4").write_bytes(b"x" * 60_000)
    return file


def tiny_picture(folder: Path) -> Path:
    """32x32."""
    from PIL import Image

    Image.new("RGB", (32, 32), "red").save(file := folder / "tiny.jpg")
    return file


def too_wide(folder: Path) -> Path:
    """5200x400."""
    return media.write(folder / "broad.mp4", width=5200, height=400, fps=1, seconds=4, audio=None)


@pytest.fixture(scope="module")
def engines(
    start_engine: Callable[..., Engine], today: Engine, tmp_path_factory: pytest.TempPathFactory, film: Path
) -> dict[str, Engine]:
    """An engine that takes all, with a film to import, one with a key that takes little, and today's."""
    folder = tmp_path_factory.mktemp("imports")
    (folder / "film.mp4").write_bytes(film.read_bytes())
    return {
        "open": start_engine("--allow-private", "--media", str(folder)),
        "strict": start_engine("--allow-private", "--api-key", KEY, "--max-video-bytes", "50000"),
        "today": today,
    }


@pytest.fixture(scope="module")
def known(
    engines: dict[str, Engine], film: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Ids of what the rows speak of, in the states that they need."""
    folder = tmp_path_factory.mktemp("refused")
    (folder / "page.html").write_text("<!doctype html><title>Sign in</title>")
    stuck = {"kind": "stuck", "method": "POST", "state": "indexing", "count": 1}
    integration = json.loads((engines["open"].home / "engine.json").read_text())["integration_id"]
    silent = [{"model_name": "marengo3.0", "model_options": ["visual"]}]
    with API(engines["open"].base_url) as api, OddServer(folder) as files:
        made = {
            "index": api.new_index("open"),
            "other": api.new_index("another"),
            "old": api.new_index("old", [{"model_name": "marengo2.7", "model_options": ["visual"]}]),
            "writer": api.new_index("writer", [BOTH[1]]),
            "wordless": api.new_index("wordless", silent),
            "integration": integration,
            "files": files.base_url,
            "folder": str(folder),
        }
        ready = [api.upload(made["index"], film), api.upload(made["wordless"], film)]
        ready.append(api.upload(made["index"], film))
        assert [api.settled(task["_id"])["status"] for task in ready] == ["ready"] * 3
        api.engine("PUT", "/faults", json={"fault": [{**stuck, "route": "/tasks"}]})
        waiting = api.upload(made["index"], film)
        api.engine("PUT", "/faults", json={"fault": [{**stuck, "route": "/tasks/transfers/import/*"}]})
        api.post(f"/tasks/transfers/import/{integration}", json={"index_id": made["other"]})
        api.engine("DELETE", "/faults")
        while api.get(f"/tasks/{waiting['_id']}").json()["status"] != "indexing":
            time.sleep(0.02)
        embed = api.form("/embed/tasks", ("model_name", "marengo3.0"), ("video_url", files.url("none.mp4")))
        found = api.form(
            "/search", ("index_id", made["index"]), ("search_options", "visual"), ("query_text", "Blue ship"),
            ("page_limit", "1"),
        )  # fmt: skip
        yield made | {
            "task": ready[0]["_id"],
            "video": ready[0]["video_id"],
            "silent": ready[1]["video_id"],
            "stuck": waiting["video_id"],
            "stuck_task": waiting["_id"],
            "embed_task": embed.json()["_id"],
            "token": found.json()["page_info"]["next_page_token"],
        }


def filled(value: Any, known: Mapping[str, str]) -> Any:
    """The value with ids and files in the places of their names."""
    if isinstance(value, str):
        for name, text in known.items():
            value = value.replace(f"{{{name}}}", text)
    elif isinstance(value, Path):
        make = globals().get(value.name) or getattr(media, value.name)
        value = make(Path(known["folder"]))
    elif isinstance(value, dict):
        value = {name: filled(item, known) for name, item in value.items()}
    elif isinstance(value, list):
        value = [filled(item, known) for item in value]
    return value


def as_ask(route: str, sent: Mapping[str, Any]) -> Request:
    """The request of a row as the client's exchange takes it."""
    method, _, template = route.partition(" ")
    ids = {name: value for name, value in sent.items() if f"{{{name}}}" in template}
    rest = {name: value for name, value in sent.items() if name not in ids}
    where = path(template, **ids)
    if method in ("GET", "DELETE"):
        return Request(method, where, rest)
    if template not in FORMS:
        return Request(method, where, json=rest)
    files = {name: value for name, value in rest.items() if isinstance(value, Path)}
    return Request(method, where, form=Form({n: v for n, v in rest.items() if n not in files}, files))


def raw(api: httpx.Client, base_url: str, ask: Request) -> httpx.Response:
    """The same request without the client."""
    if ask.form is None:
        return api.request(ask.method, base_url + ask.target, json=ask.json)

    async def body() -> bytes:
        return b"".join([block async for block in ask.form])  # type: ignore[union-attr]

    kind = {"content-type": ask.form.content_type}
    return api.request(ask.method, base_url + ask.target, content=asyncio.run(body()), headers=kind)


def calls(row: Refusal, sent: dict[str, Any]) -> list[Callable[[Client], Any]]:
    """Every way in which the client sends this: the methods that have these parameters, or what is below."""
    found: list[Callable[[Client], Any]] = []
    for operation in OPERATIONS:
        method = getattr(Client, operation.method)
        if operation.route == row.route and set(sent) <= set(inspect.signature(method).parameters):
            found.append(lambda client, method=method: method(client, **sent))
    if row.below or not found:
        return [lambda client: client.send(as_ask(row.route, sent))]
    return found


async def consumed(answer: Any) -> None:
    """Wait for an answer, or read it to its end."""
    if isinstance(answer, AsyncIterator):
        async for _ in answer:
            pass
    else:
        await answer


Refuse = Callable[..., TLDataError]


@pytest.fixture(scope="module")
def refused() -> Iterator[Refuse]:
    """`refused(call, base_url)`: the error that the client raises."""
    clients: dict[tuple[str, str], Client] = {}
    with asyncio.Runner() as runner:

        def error_of(call: Callable[[Client], Any], base_url: str, key: str = KEY) -> TLDataError:
            if (base_url, key) not in clients:
                settings = Settings(api_key=key, retries=0, max_wait=1.0)
                clients[base_url, key] = Client(settings, base_url=base_url)
            with pytest.raises(TLDataError) as caught:
                runner.run(consumed(call(clients[base_url, key])))
            return caught.value

        yield error_of
        for client in clients.values():
            runner.run(client.aclose())


@pytest.fixture(scope="module")
def wire() -> Iterator[httpx.Client]:
    """HTTP without our client."""
    with httpx.Client(timeout=60) as client:
        yield client


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_each(
    row: Refusal, engines: dict[str, Engine], known: dict[str, str], wire: httpx.Client, refused: Refuse
) -> None:
    base_url = engines[row.engine].base_url.replace("v1.3", row.version)
    sent, words = filled(row.sent, known), [filled(word, known) for word in row.words]
    key = wire.headers["x-api-key"] = KEY if row.code != "api_key_invalid" else "tlk_another"
    if row.engine == "strict" and "index_id" in sent:
        index = {"index_name": str(time.time_ns()), "models": BOTH}
        sent["index_id"] = wire.post(f"{base_url}/indexes", json=index).json()["_id"]
    with in_force(wire, base_url, "rates", row.limits):
        if not row.own:
            answer = raw(wire, base_url, as_ask(row.route, sent))
            assert (answer.status_code, answer.json().get("code")) == (row.status, row.code), answer.text
            assert set(answer.json()) == {"code", "message"}
            for word in words:
                assert word in answer.json()["message"]
        for call in calls(row, sent):
            error = refused(call, base_url, key)
            assert error.code == row.code, error
            assert error.http_status == (None if row.own else row.status)
            for word in words:
                assert word in str(error)


@contextmanager
def in_force(wire: httpx.Client, base_url: str, what: str, rules: dict[str, Any] | None) -> Iterator[None]:
    """Faults or rate limits of the engine, for the time of the block."""
    where = base_url.replace("v1.3", f"_engine/{what}")
    if rules:
        assert wire.put(where, json=rules).status_code == 200
    try:
        yield
    finally:
        if rules:
            wire.delete(where)


def test_bodies_of_another_kind(engines: dict[str, Engine], wire: httpx.Client, refused: Refuse) -> None:
    """What no method of the client can send."""
    base_url = engines["open"].base_url
    bodies = {"/indexes": "application/json", "/search": "multipart/form-data"}
    for where, wanted in bodies.items():
        answer = wire.post(base_url + where, content=b"a=1", headers={"content-type": "text/plain"})
        assert (answer.status_code, answer.json()["code"]) == (400, "content_type_invalid")
        assert wanted in answer.json()["message"]
    form = Form({"index_name": "n"})
    error = refused(lambda client: client.send(Request("POST", "/indexes", form=form)), base_url)
    assert error.code == "content_type_invalid"
    assert "application/json" in str(error)


@pytest.mark.parametrize("code", ELSEWHERE)
def test_what_only_the_service_answers(
    engines: dict[str, Engine], wire: httpx.Client, refused: Refuse, code: str
) -> None:
    status = STATUS.get(code, 400)
    fault = {"kind": "status", "status": status, "code": code, "message": f"No: {code} it is."}
    base_url = engines["open"].base_url
    with in_force(wire, base_url, "faults", {"fault": [{**fault, "route": "/indexes/{index_id}"}]}):
        error = refused(lambda client: client.retrieve_index(NOWHERE), base_url)
    assert (error.code, error.http_status) == (code, status)
    assert error.kind == (KINDS.get(code) or KIND.get(status, "BadRequest"))
    assert f"No: {code} it is." in str(error)


def test_every_code_and_every_operation_has_its_row() -> None:
    provoked = {row.code for row in ROWS} | {"content_type_invalid"}
    assert set(DOCUMENTED) <= provoked | set(ELSEWHERE)
    assert not provoked & set(ELSEWHERE)
    assert set(ELSEWHERE) <= set(DOCUMENTED)
    assert {operation.route for operation in OPERATIONS} <= {row.route for row in ROWS}


def test_a_value_that_the_service_leaves_out_is_shown(
    engines: dict[str, Engine], wire: httpx.Client, refused: Refuse
) -> None:
    """The service names the parameter and what is allowed; the client knows what it sent."""
    text = (
        "The model_options parameter is invalid. You should use one of the following values: visual, audio."
    )
    fault = {"kind": "status", "status": 400, "code": "parameter_invalid", "message": text}
    models = [{"model_name": "marengo2.7", "model_options": ["smell"]}]
    base_url = engines["open"].base_url
    with in_force(wire, base_url, "faults", {"fault": [fault]}):
        error = refused(lambda client: client.create_index("n", models), base_url)
    assert f"{text} The request contained model_options = ['smell']." in str(error)
