"""Jobs over short videos, each with a ledger and an index of its own, on both kinds of account."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from benchmarks.films import with_label
from tests.conftest import Engine
from tests.support import media
from tl_data.connection import Connection, connect
from tl_data.demo.file_server import FileServer
from tl_data.pipeline.job import Job, Source
from tl_data.session import METADATA_KEY

PRICES = (
    "as_of = 2026-11-01\n[index]\nvideo_minute = 0.042\n"
    "[analyze]\nvideo_minute = 0.0292\noutput_token = 0.0000075\n"
)


#: For a test that runs on both kinds of account; the others run on one of today.
both = pytest.mark.parametrize("profile", ["today", "2025"])


@pytest.fixture
def profile() -> str:
    """The kind of account of `make_job`."""
    return "today"


@pytest.fixture
def shared_engine(request: pytest.FixtureRequest, profile: str) -> Engine:
    """The engine that all tests of this kind of account share."""
    engine: Engine = request.getfixturevalue(
        {"today": "today", "2025": "account_2025", "lenient": "engine"}[profile]
    )
    return engine


@pytest.fixture
def make_job(shared_engine: Engine, tmp_path: Path) -> Iterator[Callable[..., Job]]:
    """A job with a ledger and an index of its own; a list of URLs is a source."""
    settings = {
        "base_url": shared_engine.base_url,
        "home": str(tmp_path / "home"),
        "ledger": str(tmp_path / "ledger"),
        "index": f"test-{uuid.uuid4().hex[:12]}",
        "poll_interval": 0.3,
        "retries": 1,
    }

    def make(source: Source | list[str | None], **changes: Any) -> Job:
        if isinstance(source, list):
            source = Source("urls", tuple(source))  # type: ignore[arg-type]
        more = changes.pop("settings", {})
        return Job(source, str(tmp_path / "lake"), **changes, settings={**settings, **more})

    yield make
    close(Job(Source("urls", ()), "", settings=settings))


def indexings(job: Job) -> int:
    """The platform's own count of indexed assets, or of tasks, of the job's index."""
    connection = connect(job.load_settings())
    client = connection.session.client

    async def count() -> int:
        index = await connection.session.index_id()
        today = await client.account_generation() == "today"
        listed = client.list_indexed_assets(index) if today else client.list_tasks(index_id=index)
        return len([each async for each in listed])

    return connection.run(count())


def index_again(job: Job, url: str) -> None:
    """Index a video once more under the key of its call, behind the ledger's back."""
    connection = connect(job.load_settings())
    session = connection.session

    async def send() -> None:
        [ours] = [entry async for entry in session.ledger.entries(operation="index")]
        index, metadata = await session.index_id(), {METADATA_KEY: ours.key}
        if await session.client.account_generation() == "today":
            asset = await session.client.create_asset(url=url)
            await session.watcher.wait_asset(asset["_id"])
            await session.client.index_asset(index, asset["_id"], user_metadata=metadata)
        else:
            await session.client.create_task(index, video_url=url, user_metadata=metadata)

    connection.run(send())


def submitted(ledger: Path, operation: str = "index") -> list[Path]:
    """The ledger's records of what was submitted for an operation."""
    named = f'"operation": "{operation}"'
    return [path for path in (ledger / "calls").rglob("*.submitted") if named in path.read_text()]


def close(job: Job) -> None:
    """Close the connection of a job."""
    connection: Connection = connect(job.load_settings())
    connection.close()


@dataclass
class Account:
    """An account of the service at one time, with its own counts of requests and its own bill."""

    profile: str
    base_url: str
    urls: list[str]  # of four distinct videos of four seconds
    folder: Path
    job: Callable[..., Job]

    @property
    def today(self) -> bool:
        return self.profile == "today"

    def get(self, name: str) -> dict[str, Any]:
        root = self.base_url.removesuffix("/v1.3")
        found: dict[str, Any] = httpx.get(f"{root}/_engine/{name}").raise_for_status().json()
        return found

    def requests(self) -> dict[str, int]:
        """Requests so far by route."""
        return {route: sum(n.values()) for route, n in self.get("stats")["requests"].items()}

    def sent(self) -> int:
        """Requests so far that make something, as tasks, assets and batches: those that are not polls."""
        return sum(n for route, n in self.requests().items() if route.startswith("POST "))

    def bill(self) -> dict[str, tuple[int, int]]:
        """Microseconds of video and calls so far, by operation."""
        return {name: (u["video_us"], u["calls"]) for name, u in self.get("bill").items()}

    def output_tokens(self) -> int:
        """Tokens of text that were billed so far."""
        return sum(usage["output_tokens"] for usage in self.get("bill").values())

    def faults(self, *rules: dict[str, Any]) -> None:
        """Let requests fail from now on; without rules, none."""
        root = self.base_url.removesuffix("/v1.3")
        httpx.put(f"{root}/_engine/faults", json={"fault": list(rules)}).raise_for_status()


@pytest.fixture(scope="session")
def four_videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of four distinct videos of four seconds."""
    folder = tmp_path_factory.mktemp("four")
    for number in range(4):
        path = media.write(folder / f"{number}.mp4", seconds=4, width=360, height=360, fps=5, audio=None)
        path.write_bytes(with_label(path.read_bytes(), f"video {number}"))
    return folder


@pytest.fixture(params=["today", "2025"])
def account(request: pytest.FixtureRequest, four_videos: Path, tmp_path: Path) -> Iterator[Account]:
    """Each kind of account in turn; the engines are shared."""
    profile = request.param
    engine: Engine = request.getfixturevalue("today" if profile == "today" else "account_2025")
    yield from account_of(profile, engine, four_videos, tmp_path)


@pytest.fixture
def of_today(today: Engine, four_videos: Path, tmp_path: Path) -> Iterator[Account]:
    """An account of today; its engine is shared."""
    yield from account_of("today", today, four_videos, tmp_path)


def account_of(profile: str, engine: Engine, folder: Path, tmp_path: Path) -> Iterator[Account]:
    """An account on this engine, with a ledger and an index of its own."""
    (tmp_path / "prices.toml").write_text(PRICES)
    settings = {
        "api_key": "tlk_A0KEY",
        "base_url": engine.base_url,
        "home": str(tmp_path / "home"),
        "ledger": str(tmp_path / "ledger"),
        "index": f"test-{uuid.uuid4().hex[:12]}",
        "poll_interval": 0.3,
        "retries": 1,
    }
    with FileServer(folder) as server:
        urls = [server.url(f"{number}.mp4") for number in range(4)]

        def job(**changes: Any) -> Job:
            source = Source("urls", tuple(changes.pop("urls", urls)))
            prices = str(tmp_path / "prices.toml")
            more = changes.pop("settings", {})
            return Job(
                source, str(tmp_path / "lake"), settings={**settings, **more}, prices=prices, **changes
            )

        account = Account(profile, engine.base_url, urls, folder, job)
        try:
            yield account
        finally:
            account.faults()
            close(job())
