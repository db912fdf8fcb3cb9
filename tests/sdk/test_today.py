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

HERE = Path(__file__).parent
#: Groups of operations of which the story must carry out at least so many; what it leaves out is refused.
GROUPS = {
    "/analyze": 10, "/assets": 11, "/indexes": 14, "/tasks": 4, "/search": 2, "/embed": 9,
    "/entity-collections": 12,
}  # fmt: skip


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
def test_javascript_1_3_4(today: Engine, things: list[str], js_sdk: Callable[[str], Path]) -> None:
    run(["node", str(HERE / "story.mjs"), str(js_sdk("1.3.4")), *things], today.base_url)


def run(command: list[str], base_url: str) -> None:
    """Run a story; whatever it prints belongs to the failure."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    environment["TWELVELABS_BASE_URL"] = base_url
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert ended.returncode == 0, f"{ended.stdout[-1000:]}\n{ended.stderr[-4000:]}"


def test_python_1_3_6(today: Engine, things: list[str], python_sdk: Callable[[str], Path]) -> None:
    root = today.base_url.removesuffix("/v1.3")
    httpx.delete(f"{root}/_engine/stats")
    run([str(python_sdk("1.3.6")), str(HERE / "story_today.py"), *things], today.base_url)
    counts = httpx.get(f"{root}/_engine/stats").json()["requests"]
    done = {route for route, statuses in counts.items() if any(status[0] == "2" for status in statuses)}
    for group, number in GROUPS.items():
        mine = {route for route in done if route.split(" ")[1].startswith(group)}
        assert len(mine) >= number, (group, sorted(mine))
