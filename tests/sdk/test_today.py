"""The newest official SDK, unchanged, uses every built resource of the service of today."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx

from tests.conftest import Engine
from tests.sdk.conftest import MANY
from tl_data.cli.operations import SDKS_TODAY

HERE = Path(__file__).parent


@MANY
def test_older_python_0_4_on_an_account_of_2025(
    start_engine: Callable[..., Engine],
    things: list[str],
    python_sdk: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    (bucket := tmp_path / "bucket").mkdir()
    (bucket / "bucket.mp4").write_bytes(Path(things[0]).read_bytes())
    engine = start_engine("--allow-private", "--profile", "2025", "--media", str(bucket))
    integration = json.loads((engine.home / "engine.json").read_text())["integration_id"]
    command = [str(python_sdk("0.4.11")), str(HERE / "story_python_0.py"), *things[:4], integration]
    run(command, engine.base_url.removesuffix("/v1.3"))


@MANY
def test_older_python_1_2_on_an_account_of_2025(
    account_2025: Engine, things: list[str], python_sdk: Callable[[str], Path]
) -> None:
    command = [str(python_sdk("1.2.8")), str(HERE / "story_python_12.py"), *things]
    run(command, account_2025.base_url)


@MANY
def test_javascript_1_3_4(today: Engine, things: list[str], js_sdk: Callable[[str], Path]) -> None:
    tell(today, ("JS", "1.3.4"), "node", str(HERE / "story.mjs"), str(js_sdk("1.3.4")), *things)


def test_python_1_3_6(today: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    tell(today, ("Python", "1.3.6"), str(python_sdk("1.3.6")), str(HERE / "story_today.py"), *things)


def tell(engine: Engine, sdk: tuple[str, str], *command: str) -> None:
    """Run a story; it carries out the operations that the documentation claims."""
    root = engine.base_url.removesuffix("/v1.3")
    httpx.delete(f"{root}/_engine/stats")
    run(list(command), engine.base_url)
    counts = httpx.get(f"{root}/_engine/stats").json()["requests"]
    done = {route for route, statuses in counts.items() if any(status[0] == "2" for status in statuses)}
    assert done - {"PUT /media", "GET /media"} == SDKS_TODAY[sdk]


def run(command: list[str], base_url: str) -> None:
    """Run a story; its output belongs to the failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    environment["TWELVELABS_BASE_URL"] = base_url
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-1000:]}\n{ended.stderr[-4000:]}"
