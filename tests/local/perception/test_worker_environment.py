"""Processes that decode foreign files know no secrets of the server."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support import media
from tl_data.local.perception.worker_pool import WorkerPool
from tl_data.local.tasks.hls import make_stream
from tl_data.untrusted import worker_environment

SECRETS = (
    "TL_API_KEY",
    "TL_ENGINE_API_KEY",
    "AWS_SECRET_ACCESS_KEY",
    "GITHUB_TOKEN",
    "DB_PASSWORD",
    "PGPASSFILE",
)


def children() -> set[int]:
    return {
        int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()
    }


def test_only_allowed_variables_are_passed() -> None:
    given = {"PATH": "/bin", "LANG": "C", "TL_HOME": "/h", "LC_ALL": "C", **dict.fromkeys(SECRETS, "planted")}
    assert worker_environment(given) == {"PATH": "/bin", "LANG": "C", "TL_HOME": "/h", "LC_ALL": "C"}


@pytest.mark.parametrize("kind", ["stream", "look"])
def test_no_secret_in_the_process(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in SECRETS:
        monkeypatch.setenv(name, "planted-secret")
    video = media.webm(tmp_path)

    async def watch() -> tuple[bytes, str]:
        pool = WorkerPool(workers=1)
        work: asyncio.Task[object] = asyncio.create_task(
            make_stream(video, tmp_path / "hls", 60)
            if kind == "stream"
            else pool.analyze(video, tmp_path / "frames")
        )
        seen, limits = b"", ""
        try:
            while not work.done():
                for pid in children():
                    try:
                        folder = Path(f"/proc/{pid}")
                        if b"tl_data.local" in (folder / "cmdline").read_bytes():
                            seen += (folder / "environ").read_bytes()
                            limits = (folder / "limits").read_text()
                    except (FileNotFoundError, ProcessLookupError, PermissionError):
                        continue
                await asyncio.sleep(0.02)
            await work
        finally:
            await pool.aclose()
        return seen, limits

    environment, limits = asyncio.run(watch())
    assert b"PATH=" in environment
    assert b"planted-secret" not in environment
    [core] = [line.split() for line in limits.splitlines() if line.startswith("Max core file size")]
    assert core[4] == "0"
