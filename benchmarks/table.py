"""One table of measurements, with the state of the machine in the same run: `make bench`.

    python benchmarks/table.py [--quick] [--write]

Each row has a limit or a peer that was measured in the same run, and the ratio of ours to it. Times are CPU
(user and system) of the measured process, because other programs lengthen wall time. They lengthen CPU time,
too, on cores that share caches: a run that another load disturbed is called `busy`, and its times are no
figures of a quiet machine. Counts do not depend on the load.

`--quick` takes few rows and asserts the counts, as the tests do. `--write` puts the table into the document.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- begin: make bench -->", "<!-- end: make bench -->"
#: Load for each core above which a run is not quiet. The measurements themselves take one core.
QUIET_LOAD = 0.75

REGISTER = """
import time, duckdb, json
began = time.process_time(); import pyarrow; con = duckdb.connect(); peer = time.process_time() - began
import tl_data
began = time.process_time(); tl_data.register(con); ours = time.process_time() - began
con.close(); print(json.dumps([ours, peer]))
"""


@dataclass(frozen=True)
class Row:
    """A measurement. `exact` marks a count, which does not depend on the load of the machine."""

    measure: str
    unit: str
    ours: float
    limit: float  # an aim, or the figure of the peer
    peer: str  # what the limit is
    exact: bool = False

    @property
    def ratio(self) -> float:
        return self.ours / self.limit


def script(name: str, *options: object) -> dict[str, Any]:
    """The last line of a script of this folder, which is JSON."""
    output = _run([str(ROOT / "benchmarks" / name), *map(str, options)])
    found: dict[str, Any] = json.loads(output.splitlines()[-1])
    return found


def _run(command: list[str]) -> str:
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, *command], capture_output=True, text=True, env=environment, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return done.stdout.strip()


def counts(distinct: int, videos: int) -> list[Row]:
    """Calls and requests, which are the same on every machine."""
    from benchmarks.request_counts import requests_of

    calls, rows = script("distinct_rows.py", "--distinct", distinct), 2 * distinct
    with tempfile.TemporaryDirectory() as folder:
        counted = requests_of(videos, 1.0, Path(folder))
    about_one = counted["POST /v1.3/assets"] + counted["POST /v1.3/analyze/tasks"]
    name = f"requests about one video, {videos:,} for texts"
    found = [
        Row(f"calls of {rows:,} rows", "calls", calls["calls"], distinct, "distinct rows", True),
        Row(name, "requests", about_one, videos, "assets", True),
    ]
    if videos >= 100:  # polls and batches are shared by all videos
        aim = 1.2 * videos
        found.append(
            Row(f"all requests, {videos:,} for texts", "requests", counted.total(), aim, "aim 1.2 each")
        )
    return found


def times(distinct: int, vectors: int) -> list[Row]:
    """CPU times beside a limit or peer."""
    cost = script("row_cost.py", "--distinct", distinct)
    ours, peer = (round(seconds * 1000) for seconds in json.loads(_run(["-c", REGISTER]).splitlines()[-1]))
    nearest = script("nearest.py", "--rows", vectors)
    of_numpy, size = nearest["numpy_cpu_ms"], f"{vectors:,} x 512"
    rows = []
    if shutil.which("java"):
        spark, peer_of_spark = script("spark_rows.py"), "a pandas UDF with requests (aim 1.3)"
        rows.append(
            Row("a row in Spark", "us", spark["us_a_row"], spark["us_a_row_of_a_pandas_udf"], peer_of_spark)
        )
    return [
        *rows,
        Row("a distinct row in DuckDB", "us", cost["us_a_distinct_row"], 450, "aim"),
        Row("a duplicate row in DuckDB", "us", cost["us_a_duplicate_row"], 20, "aim"),
        Row("tl_data.register(con)", "ms", ours, 300, "aim"),
        Row("tl_data.register(con)", "ms", ours, peer, "import pyarrow and connect"),
        Row(f"tl_nearest, exact, {size}", "ms", nearest["tl_nearest_cpu_ms"], of_numpy, "NumPy (aim 3)"),
        Row(f"array_cosine_similarity, {size}", "ms", nearest["duckdb_array_cpu_ms"], of_numpy, "NumPy"),
    ]


def table(rows: list[Row], load: tuple[float, float], command: str = "make bench") -> str:
    """The table in Markdown, after a sentence on the machine."""
    cores = os.cpu_count() or 1
    quiet = max(load) <= QUIET_LOAD * cores
    state = "a quiet machine" if quiet else "a busy machine, so its times are no figures of an idle one"
    lines = [
        f"`{command}`, {date.today():%-d %B %Y}: {cores} cores, {platform.machine()}, Python "
        f"{platform.python_version()}.",
        f"Load {load[0]:.1f} at the start and {load[1]:.1f} at the end: {state}.",
        "",
        "| measure | unit | ours | limit or peer | its figure | ratio |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for row in rows:
        note = "" if quiet or row.exact or row.unit == "requests" else " (busy)"
        lines.append(
            f"| {row.measure} | {row.unit} | {row.ours:,.6g}{note} | {row.peer} | {row.limit:,.6g} | "
            f"{row.ratio:.3f} |"
        )
    return "\n".join(lines)


def write(text: str) -> None:
    """Put the table between the marks of the document."""
    document = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = document.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not end:
        raise SystemExit(f"{DOCUMENT} has no marks {BEGIN} and {END}")
    DOCUMENT.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="One table of measurements.")
    parser.add_argument("--quick", action="store_true", help="few rows, and only counts")
    parser.add_argument("--write", action="store_true", help="write the table into docs/benchmarks.md")
    options = parser.parse_args()
    began = os.getloadavg()[0]
    rows = counts(500, 20) if options.quick else [*counts(10_000, 200), *times(3000, 200_000)]
    command = "python benchmarks/table.py --quick" if options.quick else "make bench"
    text = table(rows, (began, os.getloadavg()[0]), command)
    print(text)
    if options.write:
        write(text)
    wrong = [row.measure for row in rows if row.exact and row.ratio != 1]
    raise SystemExit(f"not exact: {', '.join(wrong)}" if wrong else 0)


if __name__ == "__main__":
    main()
