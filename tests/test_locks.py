"""What the locks install needs no compiler: on Linux x86-64 every Python finds a wheel of every package."""

from __future__ import annotations

import csv
import re
import tomllib
from functools import cache
from pathlib import Path

import pytest
from packaging.markers import Marker
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name, parse_sdist_filename, parse_wheel_filename

from tests.support.lock_wheels import LOCKS, PYTHONS, ROOT, TABLE, best, environment

#: Comes as source alone, and is pure Python with jars: setuptools of requirements-build.lock packs it.
SOURCE = {"pyspark"}


@cache
def locked(lock: Path) -> list[tuple[Requirement, frozenset[str]]]:
    """Each requirement of a lock, with its hashes."""
    text = lock.read_text(encoding="utf-8").replace("\\\n", " ")
    found = []
    for line in text.splitlines():
        if line and not line.startswith((" ", "#")):
            stated, *hashes = re.split(r"\s+--hash=sha256:", line.strip())
            found.append((Requirement(stated), frozenset(hashes)))
    return found


@cache
def table() -> dict[tuple[str, str, str], tuple[str, str]]:
    """Name, version and Python; file and hash."""
    found = {}
    with TABLE.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file, delimiter="\t"):
            parse = parse_wheel_filename if row["file"].endswith(".whl") else parse_sdist_filename
            name, version = parse(row["file"])[:2]
            for python in row["pythons"].split():
                found[name, str(version), python] = (row["file"], row["sha256"])
    return found


def wanted(lock: Path, python: str) -> list[tuple[str, str, frozenset[str]]]:
    """Name, version and hashes of what a Python installs from a lock."""
    return [
        (canonicalize_name(stated.name), str(stated.specifier).removeprefix("=="), hashes)
        for stated, hashes in locked(lock)
        if stated.marker is None or stated.marker.evaluate(environment(python))
    ]


def test_there_are_locks() -> None:
    assert {lock.name for lock in LOCKS} >= {
        "requirements.lock", "requirements-dev.lock", "requirements-build.lock", "requirements-test.lock",
    }  # fmt: skip


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("lock", LOCKS, ids=lambda lock: lock.name)
def test_nothing_is_compiled(lock: Path, python: str) -> None:
    needed = wanted(lock, python)
    assert needed
    compiled = []
    for name, version, hashes in needed:
        assert (name, version, python) in table(), f"type: make lock ({name} {version} is not in the table)"
        file, digest = table()[name, version, python]
        assert digest in hashes, f"type: make lock ({file} is not the one of {lock.name})"
        if best([file], python) is None and name not in SOURCE:
            compiled.append(file)
    assert not compiled, f"Python {python} compiles {', '.join(compiled)}"


def test_the_locks_agree() -> None:
    """What two of them have is of one version."""
    for python in PYTHONS:
        versions: dict[str, set[str]] = {}
        for lock in LOCKS:
            for name, version, _ in wanted(lock, python):
                versions.setdefault(name, set()).add(version)
        assert {name: found for name, found in versions.items() if len(found) > 1} == {}


def test_a_python_without_a_wheel_is_noticed() -> None:
    names = ["thing-5.1.1-cp313-cp313-manylinux_2_17_x86_64.whl", "thing-5.1.1.tar.gz"]
    assert best(names, "3.13") == names[0]
    assert best(names, "3.12") is None
    assert best(["thing-1-py3-none-any.whl"], "3.12")
    assert best(["thing-1-cp39-abi3-manylinux_2_28_x86_64.whl"], "3.12")
    assert best(["thing-1-cp312-cp312-manylinux_2_34_x86_64.whl"], "3.12") is None
    assert best(["thing-1-cp312-cp312-manylinux_2_17_aarch64.whl"], "3.12") is None


def test_versions_that_are_known_to_break_are_kept_out() -> None:
    optional = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["optional-dependencies"]
    for extra in ("media", "local-core"):
        (av,) = [Requirement(line) for line in optional[extra] if Requirement(line).name == "av"]
        assert not av.specifier.contains("19.0")
    for python, there in (("3.11", True), ("3.12", True), ("3.13", True), ("3.14", False)):
        stated = [
            Requirement(line) for line in optional["local-core"] if Requirement(line).name == "wordllama"
        ]
        assert any(Marker(str(one.marker)).evaluate(environment(python)) for one in stated) is there
