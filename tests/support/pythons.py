"""`make test-pythons`: the demo and a fast part of the tests on every supported Python of this machine.

Each Python gets an environment of its own, `.venv-3.12` and the like, from `requirements-test.lock`. Pythons
are looked for in PATH and where pyenv and uv keep theirs. With `--others`, the Python that runs this is left
out: CI runs all tests with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TextIO

ROOT = Path(__file__).parents[2]
SUPPORTED = ("3.11", "3.12", "3.13")
VIDEOS = ROOT / "build" / "demo-videos"
MAKE_VIDEOS = "import sys; from tl_data.demo.videos import demo_videos; demo_videos(sys.argv[1])"
MAKING = threading.Lock()
LATER = ("3.14",)  # WordLlama has no wheel for it, so the demo has no engine there
#: What may differ between Pythons: the standard library, and packages that have a wheel for each. The demo
#: covers the engine, speech, text on the screen, a job and SQL.
TESTS = (
    "tests/test_catalog.py",
    "tests/test_errors.py",
    "tests/test_settings.py",
    "tests/test_vectors.py",
    "tests/client/test_models.py",
    "tests/client/test_remote.py",
    "tests/client/test_retry.py",
    "tests/ledger/test_bound_records.py",
    "tests/lake/test_rows.py",
    "tests/lake/test_writer.py",
    "tests/media",
    "tests/runtime/test_result_cache.py",
)


def candidates(version: str) -> Iterator[Path]:
    """Interpreters that may be of a version, the likeliest first."""
    yield Path(sys.executable)
    for folder in os.environ.get("PATH", "").split(os.pathsep):
        yield Path(folder) / f"python{version}"
        yield Path(folder) / "python3"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "uv" / "python"
    for pattern in (f"versions/{version}.*/bin/python3", f"versions/{version}/bin/python3"):
        yield from sorted(pyenv.glob(pattern), reverse=True)
    yield from sorted(uv.glob(f"cpython-{version}.*/bin/python3"), reverse=True)


def find(version: str) -> Path | None:
    """An interpreter of a version that can make environments."""
    code = "import sys, ensurepip, venv; print('%d.%d' % sys.version_info[:2])"
    for path in candidates(version):
        if not path.is_file():
            continue
        try:
            found = subprocess.run(
                [path, "-c", code], capture_output=True, text=True, timeout=60, check=False
            )
        except (OSError, subprocess.TimeoutExpired):
            continue
        if found.stdout.strip() == version:
            return path
    return None


def run(version: str, python: Path, log: TextIO) -> str:
    """Install, run the demo and the tests; gives what failed, "" if nothing did."""
    environment = ROOT / f".venv-{version}"
    own = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}

    def succeeds(*command: str | Path) -> bool:
        log.write(f"$ {' '.join(map(str, command))}\n")
        log.flush()
        return (
            subprocess.run(
                command, cwd=ROOT, env=own, stdout=log, stderr=subprocess.STDOUT, check=False
            ).returncode
            == 0
        )

    make = os.environ.get("MAKE", "make")
    if not succeeds(make, "--no-print-directory", f".venv-{version}/ready", f"PYTHON={python}"):
        return "the installation"
    bin_, lake = environment / "bin", environment / "demo-lake"
    shutil.rmtree(lake, ignore_errors=True)
    with MAKING:
        # The same on each Python, and making them takes as long as all else: they are made once.
        if not succeeds(bin_ / "python", "-c", MAKE_VIDEOS, VIDEOS):
            return "making the videos of the demo"
    shutil.copytree(VIDEOS, lake / "media")
    min((lake / "media").glob("*.mp4"), key=lambda path: path.stat().st_size).unlink()  # the demo makes one
    if not succeeds(bin_ / "tl-data", "demo", "--folder", lake):
        return "the demo"
    pytest = ("-m", "pytest", "-q", "-p", "no:cacheprovider", *TESTS)
    return "" if succeeds(bin_ / "python", *pytest) else "the tests"


def report(version: str, python: Path) -> tuple[bool, str]:
    """Run one Python; gives whether all passed, and a line about it. A failure prints the whole log."""
    begun = time.monotonic()
    path = ROOT / f".venv-{version}.log"
    with path.open("w", encoding="utf-8") as log:
        failed = run(version, python, log)
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    counted = next((line for line in reversed(lines) if " passed" in line), "")
    result = f"{failed} failed" if failed else f"the demo and the tests passed ({counted})"
    line = f"Python {version}: {result}, {time.monotonic() - begun:.0f} s"
    with MAKING:
        print(f"== Python {version}: {python}", *(lines if failed else []), line, sep="\n", flush=True)
    return not failed, line


def main() -> int:
    """Try out each Python that is there, two at a time, and say which are not."""
    left_out = f"{sys.version_info.major}.{sys.version_info.minor}" if "--others" in sys.argv[1:] else ""
    lines, found = [], {}
    for version in SUPPORTED:
        if version == left_out:
            lines.append(f"Python {version}: left out, `make test` ran all tests with it")
        elif python := find(version):
            found[version] = python
        else:
            lines.append(f"Python {version}: not found on this machine")
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(report, found, found.values()))
    for version in LATER:
        there = "left out, WordLlama has no wheel for it" if find(version) else "not found on this machine"
        lines.append(f"Python {version}: {there}")
    print(*(line for _, line in results), *lines, sep="\n")
    if not found:
        wanted = ", ".join(version for version in SUPPORTED if version != left_out)
        print(f"None of {wanted} is here: install one, or put it into PATH", file=sys.stderr)
        return 1
    return int(not all(passed for passed, _ in results))


if __name__ == "__main__":
    sys.exit(main())
