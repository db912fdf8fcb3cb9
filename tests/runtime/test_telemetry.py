"""What a run tells OpenTelemetry, and that it needs none."""

from __future__ import annotations

import json
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Engine
from tests.support import media
from tests.support.environments import ROOT, environment
from tests.support.odd_server import OddServer

KEY = "tlk_planted_for_telemetry"


@pytest.fixture
def job_file(engine: Engine, files: OddServer, tmp_path: Path) -> Path:
    """A job over one good video and one that is none, at a price."""
    media.write(files.folder / "good.mp4", seconds=4, width=360, height=360, fps=5, audio=None)
    (files.folder / "bad.mp4").write_text("this is no video")
    (tmp_path / "prices.toml").write_text("as_of = 2026-11-01\n[index]\nvideo_minute = 0.6\n")
    job = tmp_path / "job.toml"
    job.write_text(
        f"""\
name = "traced"
prices = "prices.toml"
[source]
urls = [{files.url("good.mp4") + "?X-Amz-Signature=abcdef"!r}, {files.url("bad.mp4")!r}]
[outputs]
folder = "lake"
tables = ["clips"]
[settings]
base_url = "{engine.base_url}"
index = "traced-{uuid.uuid4().hex[:8]}"
home = "home"
poll_interval = 0.5
"""
    )
    return job


def python(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=environment(TL_API_KEY=KEY),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def test_runs_videos_and_calls_have_spans(job_file: Path) -> None:
    ended = python(str(ROOT / "tests" / "support" / "traced.py"), str(job_file))
    assert ended.returncode == 0, ended.stderr[-3000:]
    recorded = json.loads(ended.stdout)
    spans: list[dict[str, Any]] = recorded["spans"]
    [run] = [s for s in spans if s["name"] == "tl_data.run"]
    assert (
        run["attributes"].items()
        >= {
            "tl_data.job": "traced",
            "tl_data.status": "partial",
            "tl_data.distinct_videos": 2,
            "tl_data.submitted": 1,
            "tl_data.failed": 1,
            "tl_data.paid_twice": 0,
            "tl_data.price": float(recorded["report"]["price"]),
        }.items()
    )
    assert float(recorded["report"]["price"]) == pytest.approx(0.04)

    good, bad = sorted(
        (s for s in spans if s["name"] == "tl_data.video"),
        key=lambda s: s["attributes"]["tl_data.outcome"] != "new",
    )
    assert good["parent"] == bad["parent"] == run["id"]
    assert good["attributes"]["tl_data.seconds"] == pytest.approx(4, abs=0.3)
    assert (bad["status"], bad["attributes"]["tl_data.outcome"]) == ("ERROR", "failed")

    [task] = [s for s in spans if s["name"] == "POST /tasks"]
    assert task["parent"] == good["id"]
    assert (
        task["attributes"].items() >= {"http.response.status_code": 201, "tl_data.category": "index"}.items()
    )

    counters = {
        (c["name"], *(v for n, v in sorted(c.items()) if n.startswith("tl_data."))): c["value"]
        for c in recorded["counters"]
    }
    assert counters["tl_data.videos", "new"] == counters["tl_data.videos", "failed"] == 1
    assert counters["tl_data.video_minutes", "index"] == pytest.approx(recorded["report"]["video_minutes"])
    assert counters["tl_data.price", "USD"] == float(recorded["report"]["price"])
    calls = sum(c["value"] for c in recorded["counters"] if c["name"] == "tl_data.api.calls")
    assert calls == sum(1 for s in spans if "http.request.method" in s["attributes"])
    assert KEY not in ended.stdout
    assert "abcdef" not in ended.stdout, "what signs a URL is a secret"
