"""One engine for the tests of the server, with three small videos indexed in it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.support import media

BOTH = [
    {"model_name": "marengo3.0", "model_options": ["visual", "audio"]},
    {"model_name": "pegasus1.2", "model_options": ["visual", "audio"]},
]
WAIT_SECONDS = 120.0


class API(httpx.Client):
    """Requests below /v1.3, and below /_engine with `engine()`."""

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url=base_url, timeout=60, **options)
        self.root = base_url.removesuffix("/v1.3")

    def engine(self, method: str, path: str, **options: Any) -> httpx.Response:
        """A request of /_engine."""
        return self.request(method, f"{self.root}/_engine{path}", **options)

    def form(self, path: str, *fields: tuple[str, Any], **options: Any) -> httpx.Response:
        """POST multipart/form-data; a value is a text, or (filename, bytes)."""
        parts = [(name, value if isinstance(value, tuple) else (None, value)) for name, value in fields]
        return self.post(path, files=parts, **options)

    def new_index(self, name: str, models: Any = None, **more: Any) -> str:
        """Create an index."""
        answer = self.post("/indexes", json={"index_name": name, "models": models or BOTH, **more})
        assert answer.status_code == 201, answer.text
        return str(answer.json()["_id"])

    def settled(self, task_id: str, path: str = "/tasks") -> dict[str, Any]:
        """Wait until a task is ready or failed."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            task = self.get(f"{path}/{task_id}").json()
            if task["status"] in ("ready", "failed"):
                return dict(task)
            time.sleep(0.05)
        raise AssertionError(f"{task_id} is still {task['status']}")

    def upload(self, index_id: str, path: Path, **fields: str) -> dict[str, Any]:
        """Create an indexing task from a file."""
        parts = [("index_id", index_id), *fields.items(), ("video_file", (path.name, path.read_bytes()))]
        answer = self.form("/tasks", *parts)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())


@dataclass
class IndexedVideos:
    """An index with ready videos."""

    index_id: str
    videos: list[str] = field(default_factory=list)  # ids, oldest first
    tasks: list[str] = field(default_factory=list)


@pytest.fixture(scope="session")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small video with sound, 5 s, 480x360."""
    return media.plain(tmp_path_factory.mktemp("film"))


@pytest.fixture(scope="session")
def media_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What imports read."""
    return tmp_path_factory.mktemp("media")


@pytest.fixture(scope="session")
def server(start_shared_engine: Callable[..., Engine], media_folder: Path) -> Iterator[Engine]:
    """The engine that most tests here share; whatever they send it, its log stays free of errors."""
    engine = start_shared_engine("--allow-private", "--media", str(media_folder))
    yield engine
    assert "Traceback" not in (log := (engine.home / "test.log").read_text()), log[-5000:]


@pytest.fixture(scope="session")
def api(server: Engine) -> Iterator[API]:
    """A client of the shared engine."""
    with API(server.base_url) as client:
        yield client


@pytest.fixture(scope="session")
def indexed(api: API, film: Path) -> IndexedVideos:
    """An index with three ready videos: `number` 1 to 3 in their metadata."""
    made = IndexedVideos(api.new_index("shelf", addons=["thumbnail"]))
    for number, color in enumerate(("red", "blue", "blue"), 1):
        metadata = json.dumps({"number": number, "color": color, "good": number == 3})
        task = api.upload(made.index_id, film, user_metadata=metadata)
        made.tasks.append(task["_id"])
        made.videos.append(task["video_id"])
    for task_id in made.tasks:
        assert api.settled(task_id)["status"] == "ready"
    return made


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal; the body has the API's shape."""
    body = answer.json()
    assert set(body) == {"code", "message"}, body
    assert body["message"]
    return answer.status_code, body["code"]
