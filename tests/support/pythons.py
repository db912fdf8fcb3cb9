"""`make test-pythons`: the demo and a fast part of the tests on every supported Python of this machine.

Each Python gets an environment of its own, `.venv-3.12` and the like, from `requirements-test.lock`. Pythons
are looked for in PATH and where pyenv and uv keep theirs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SUPPORTED = ("3.11", "3.12", "3.13")
LATER = ("3.14",)  # WordLlama has no wheel for it, so the demo has no engine there
#: A little of everything: imports, catalog, client, media headers, ledger, the engine as a process, text on
#: screen, speech. About a minute.
TESTS = (
    "tests/test_catalog.py",
    "tests/test_errors.py",
    "tests/test_house.py",
    "tests/test_locks.py",
    "tests/test_settings.py",
    "tests/client/test_models.py",
    "tests/client/test_responses.py",
    "tests/media",
    "tests/lake/test_lake.py",
    "tests/local/perception/vision/test_ocr.py",
    "tests/local/server/routes/test_indexes.py",
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
            said = subprocess.run([path, "-c", code], capture_output=True, text=True, timeout=60, check=False)
        except (OSError, subprocess.TimeoutExpired):
            continue
        if said.stdout.strip() == version:
            return path
    return None


def try_out(version: str, python: Path) -> str:
    """Install, run the demo and the tests; gives what failed, "" if nothing did."""
    environment = ROOT / f".venv-{version}"
    make = [
        os.environ.get("MAKE", "make"),
        "--no-print-directory",
        f".venv-{version}/ready",
        f"PYTHON={python}",
    ]
    if subprocess.run(make, cwd=ROOT, check=False).returncode:
        return "the installation"
    own = {name: value for name, value in os.environ.items() if not name.startswith("TL_")}
    lake, log = environment / "demo-lake", environment / "demo.log"
    shutil.rmtree(lake, ignore_errors=True)
    with log.open("w", encoding="utf-8") as out:
        demo = [environment / "bin" / "tl-data", "demo", "--folder", lake]
        ended = subprocess.run(demo, cwd=ROOT, env=own, stdout=out, stderr=subprocess.STDOUT, check=False)
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    print("\n".join(lines if ended.returncode else lines[-2:]), flush=True)
    if ended.returncode:
        return "the demo"
    pytest = [environment / "bin" / "python", "-m", "pytest", "-q", "-n", "2", "--dist", "loadscope", *TESTS]
    return "the tests" if subprocess.run(pytest, cwd=ROOT, check=False).returncode else ""


def main() -> int:
    """Try out each Python that is there, and say which are not."""
    said, failed, tried = [], False, 0
    for version in SUPPORTED:
        python = find(version)
        if python is None:
            said.append(f"Python {version}: not found on this machine")
            continue
        print(f"== Python {version}: {python}", flush=True)
        tried, begun = tried + 1, time.monotonic()
        wrong = try_out(version, python)
        failed = failed or bool(wrong)
        what = f"{wrong} failed" if wrong else "the demo and the tests passed"
        said.append(f"Python {version}: {what}, {time.monotonic() - begun:.0f} s")
    for version in LATER:
        there = "left out, WordLlama has no wheel for it" if find(version) else "not found on this machine"
        said.append(f"Python {version}: {there}")
    print("\n".join(said))
    if not tried:
        print(f"None of {', '.join(SUPPORTED)} is here: install one, or put it into PATH", file=sys.stderr)
    return int(failed or not tried)


if __name__ == "__main__":
    sys.exit(main())
