"""`make test-wheel`: a wheel of this tree, installed alone into an empty environment with each extra.

Each must do there what it is for. Nothing of the checkout is in reach, and no lock: what installs is the
newest that `pyproject.toml` allows, as for a user. The environment of `demo` runs the demo first, and the
engine over what it left answers the others. Takes many minutes, and Java for Spark.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]

_SEARCH = 'tl_data.search("demo", "carrots in small pieces", max_hits=1)'
_SQL = "SELECT c.start_sec FROM tl_search('demo', 'carrots in small pieces', max_hits => 1) c"

#: Extra -> a program that shows that it works. LAKE is the folder that the demo left.
PROGRAMS = {
    # Most of the hit lies in the scene of the carrots.
    "": f"""
import tl_data
hit = {_SEARCH}[0]
shared = min(hit["end_sec"], 14) - max(hit["start_sec"], 7)
assert shared > (hit["end_sec"] - hit["start_sec"]) / 2, hit
""",
    "duckdb": f"""
import duckdb, tl_data
con = duckdb.connect()
tl_data.register(con)
assert con.sql("{_SQL}").fetchall()
""",
    "pandas": """
import pandas, tl_data
found = tl_data.search("demo", pandas.Series(["carrots in small pieces", None]), max_hits=1)
assert isinstance(found, pandas.Series) and found[0] and not found[1]
""",
    "delta": """
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, VIDEOS
lake = Lake(LAKE)
assert lake.read(VIDEOS).num_rows == 6 < lake.read(CLIPS).num_rows
import pathlib
copy = Lake(str(pathlib.Path(LAKE).with_name("copy")))
copy.table(VIDEOS).append(lake.read(VIDEOS))
assert copy.read(VIDEOS).num_rows == 6
""",
    "jobs": """
import pathlib, subprocess, sys
outputs = '[outputs]\\nfolder = "lake"\\nformat = "parquet"\\n'
pathlib.Path("job.toml").write_text('[source]\\nfiles = "videos.csv"\\nurl = "url"\\n' + outputs)
video = pathlib.Path(LAKE, "media", "safety-briefing.mp4")
pathlib.Path("videos.csv").write_text(f"url\\n{video}\\n")
said = subprocess.run([sys.executable, "-m", "tl_data", "run", "job.toml"], capture_output=True, text=True)
assert said.returncode == 0, said.stderr
assert list(pathlib.Path("lake", "clips").rglob("*.parquet")), said.stderr
""",
    "media": """
import asyncio, pathlib
from tl_data.media.preflight import facts_of
facts = asyncio.run(facts_of(None, pathlib.Path(LAKE, "media", "safety-briefing.mp4")))
assert facts.duration_sec > 20 and facts.has_audio, facts
""",
    "otel": f"""
import tl_data
from opentelemetry import trace
with trace.get_tracer("test").start_as_current_span("test"):
    assert {_SEARCH}
""",
    "local": """
import os, pathlib, subprocess, sys
del os.environ["TL_BASE_URL"]
video = pathlib.Path(LAKE, "media", "safety-briefing.mp4")
said = subprocess.run([sys.executable, "-m", "tl_data", "transcript", video], capture_output=True, text=True)
assert "emergency" in said.stdout, (said.stdout, said.stderr)
""",
    "local-clip": "import onnxruntime, tokenizers, tl_data",
    "local-whisper": "from faster_whisper import WhisperModel\nimport tl_data",
    "dbt": "from dbt.adapters.duckdb import Plugin\nfrom dbt.cli.main import dbtRunner\nimport tl_data.dbt",
    "spark": f"""
from pyspark.sql import SparkSession
import tl_data
spark = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
tl_data.register(spark)
assert spark.sql("{_SQL}").collect()
spark.stop()
""",
}


def install(folder: Path, wheel: Path, extra: str) -> Path:
    """An environment with the wheel and one extra; gives its interpreter."""
    python = folder / "bin" / "python"
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    what = f"tl_data[{extra}] @ {wheel.as_uri()}" if extra else str(wheel)
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, what], check=True)
    return python


def serve(python: Path, home: Path, environment: dict[str, str]) -> tuple[subprocess.Popen[bytes], str]:
    """The engine over what the demo indexed, and its address."""
    command = [
        python,
        "-m",
        "tl_data.local",
        "--home",
        home,
        "--port",
        "0",
        "--allow-private",
        "--allow-files",
    ]
    engine = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and engine.poll() is None:
        if (published := home / "engine.json").is_file() and (state := json.loads(published.read_text()))[
            "pid"
        ] == engine.pid:
            return engine, state["base_url"]
        time.sleep(0.1)
    engine.kill()
    sys.exit("the engine did not start")


def main(extras: list[str]) -> int:
    """Build, install, try."""
    if unknown := [extra for extra in extras if extra not in (*PROGRAMS, "core")]:
        print(f"no such extra: {', '.join(unknown)}. There are: core, {', '.join(filter(None, PROGRAMS))}")
        return 2
    wanted = ["" if extra == "core" else extra for extra in extras] or list(PROGRAMS)
    failed = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name).resolve()
        build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*build, "--wheel-dir", place, ROOT], check=True)
        (wheel,) = place.glob("*.whl")
        print(f"{wheel.name}, on Python {sys.version.split()[0]}", flush=True)
        own = {n: v for n, v in os.environ.items() if not n.startswith(("TL_", "PYTHON"))}
        python, lake = install(place / "demo", wheel, "demo"), place / "lake"
        demo = [python, "-m", "tl_data", "demo", "--folder", lake]
        said = subprocess.run(demo, cwd=place, env=own, capture_output=True, text=True, check=False)
        if said.returncode or "9 of 9" not in said.stdout:
            print(said.stdout, said.stderr, "demo: failed", sep="\n")
            return 1
        print("demo: works", flush=True)
        engine, url = serve(python, lake / "engine" / "engine", own)
        try:
            for extra in wanted:
                label = extra or "core"
                folder = place / f"with-{label}"
                try:
                    python = install(folder, wheel, extra)
                except subprocess.CalledProcessError:
                    failed.append(label)
                    print(f"{label}: cannot be installed", flush=True)
                    continue
                variables = own | {"TL_BASE_URL": url, "TL_HOME": str(folder / "home")}
                program = f"LAKE = {str(lake)!r}\n{PROGRAMS[extra]}"
                ended = subprocess.run(
                    [python, "-c", program], cwd=folder, env=variables, capture_output=True, text=True,
                    timeout=600, check=False,
                )  # fmt: skip
                if ended.returncode:
                    failed.append(label)
                    print(ended.stdout[-2000:], ended.stderr[-4000:], sep="\n")
                print(f"{label}: {'failed' if ended.returncode else 'works'}", flush=True)
        finally:
            engine.terminate()
            engine.wait(30)
    print(f"failed: {', '.join(failed)}" if failed else "every extra works")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
