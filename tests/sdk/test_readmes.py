"""The code that the official SDKs' own READMEs show runs against the engine as it stands.

The READMEs come with the installed packages. Only their placeholders are filled in, and the pauses between
polls of a task are shortened.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API
from tests.sdk.conftest import MANY

HERE = Path(__file__).parent

#: SDK -> the first call of each block that runs nowhere as it stands (or the n-th with this call), and why.
CANNOT: dict[tuple[str, str], dict[str, str]] = {
    ("Python", "0.4.11"): {
        "task.create 1": "the SDK passes `language` on to its HTTP library, which has no such option",
        "model.list 1": "it uses a module that it does not import, and a method that the SDK does not have",
    },
    ("Python", "1.3.6"): {},
    ("JS", "1.0.2"): {
        "search.query 2": "it has a comment in the syntax of Python",
        "gist 1": "it uses a variable of another block's inside, and arguments that the SDK does not take",
        "indexes.create 2": "it shows a refusal: the name is taken",
    },
    ("JS", "1.3.4"): {
        "indexes.create 1": "the SDK itself refuses the model pegasus1.2",
        "analyzeStream 1": "the SDK does not send videoId",
        "analyze 1": "the SDK does not send videoId",
    },
}


@pytest.fixture
def filled(server: Engine, things: list[str], request: pytest.FixtureRequest) -> tuple[str, str]:
    """What stands in the places of placeholders, and ids that a block leaves to those after it."""
    film, film_url, image, image_url, _ = things
    # One README wants a folder, the other a pattern of names.
    videos = Path(film).parent / "videos"
    videos.mkdir()
    (videos / "film.mp4").write_bytes(Path(film).read_bytes())
    with API(server.base_url) as api:
        old = "0.4" in request.node.name or "1.0" in request.node.name
        names = ("marengo2.7" if old else "marengo3.0", "pegasus1.2")
        models = [{"model_name": name, "model_options": ["visual", "audio"]} for name in names]
        index_id = api.new_index(request.node.name, models)
        task = api.upload(index_id, Path(film))
        assert api.settled(task["_id"])["status"] == "ready"
    places = {
        "YOUR_API_KEY": "tlk_any",
        "YOUR_INDEX_NAME": f"named by {request.node.name}",
        "YOUR_INDEX_ID": index_id,
        "YOUR_VIDEO_ID": task["video_id"],
        "YOUR_VIDEO_PATH": str(videos) if "javascript" in request.node.name else f"{videos}/*.mp4",
        "YOUR_VIDEO_URL": film_url,
        "YOUR_FILE_PATH": image,
        "YOUR_IMAGE_URL": image_url,
        "YOUR_QUERY": "Blue ship",
        "YOUR_SEARCH_OPTIONS": "visual",
        "YOUR_PROMPT": "What text is shown?",
        "TYPE": "summary",
    }
    return json.dumps(places), json.dumps({"index": index_id})


def run(server: Engine, sdk: tuple[str, str], *command: str) -> None:
    """Run all blocks: those that can, do, and every request of theirs succeeds."""
    root = server.base_url.removesuffix("/v1.3")
    httpx.delete(f"{root}/_engine/stats")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    environment |= {"TL_API_KEY": "tlk_any", "TWELVELABS_API_KEY": "tlk_any"}
    environment["TWELVELABS_BASE_URL"] = root if sdk[1].startswith("0.") else server.base_url
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert ended.returncode == 0, ended.stderr[-4000:]
    blocks: list[dict[str, Any]] = json.loads(ended.stdout)
    seen: Counter[str] = Counter()
    failed = {}
    for block in blocks:
        seen[block["call"]] += 1
        name = f"{block['call']} {seen[block['call']]}"
        if block["error"] or "rror: Status code" in block["printed"]:  # some print what they catch
            failed[name] = block["error"] or block["printed"]
    assert set(failed) == set(CANNOT[sdk]), json.dumps(blocks, indent=1)
    assert len(blocks) >= 8
    counts = httpx.get(f"{root}/_engine/stats").json()["requests"]
    refused = {route: statuses for route, statuses in counts.items() if any(s[0] != "2" for s in statuses)}
    assert set(refused) <= EXPECTED.get(sdk, set()), counts


#: Requests that are refused: of those blocks that cannot run.
EXPECTED: dict[tuple[str, str], set[str]] = {
    ("JS", "1.0.2"): {"POST /indexes"},
    ("JS", "1.3.4"): {"POST /analyze"},
}


@pytest.mark.parametrize("version", [pytest.param("0.4.11", marks=MANY), "1.3.6"])
def test_python(
    server: Engine, filled: tuple[str, str], python_sdk: Callable[[str], Path], version: str
) -> None:
    python = python_sdk(version)
    run(server, ("Python", version), str(python), str(HERE / "readme_python.py"), *filled)


@pytest.mark.parametrize("version", [pytest.param("1.0.2", marks=MANY), "1.3.4"])
def test_javascript(
    server: Engine, filled: tuple[str, str], js_sdk: Callable[[str], Path], version: str
) -> None:
    run(server, ("JS", version), "node", str(HERE / "readme.mjs"), str(js_sdk(version)), *filled)
