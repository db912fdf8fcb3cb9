"""The engine that programs of one user share: its files and its port are for that user alone."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import httpx

from tl_data.connection import connect
from tl_data.settings import Settings


def test_other_users_can_neither_read_nor_ask(tmp_path: Path) -> None:
    home = tmp_path / "new" / "home"
    settings = Settings(home=str(home), index="mine")
    connection = connect(settings)
    try:
        assert connection.session.models is not None
        state = json.loads((home / "engine" / "engine.json").read_text())
        root = state["base_url"].removesuffix("/v1.3")
        key = (home / "engine" / "engine.key").read_text()
        assert len(key) >= 32
        assert "key" not in state
        for page in ("/v1.3/indexes", "/_engine/tiers"):
            assert httpx.get(root + page).status_code == 401
            assert httpx.get(root + page, headers={"x-api-key": "wrong"}).status_code == 401
            assert httpx.get(root + page, headers={"x-api-key": key}).status_code == 200
        # A program that names the address instead of the home finds the key as well.
        named = Settings(home=str(home), base_url=state["base_url"])
        assert named.key_for(state["base_url"]) == key
        assert named.key_for("http://127.0.0.1:1/v1.3") is None
        assert named.key_for("https://api.example.com") is None
        assert not named.embedded
        command = Path(f"/proc/{state['pid']}/cmdline").read_bytes().decode()
        assert key not in command
        assert stat.S_IMODE(home.stat().st_mode) == 0o700
        open_to_others = [
            str(path) for path in home.rglob("*") if (home / "engine") in path.parents
            and path.suffix not in (".log", ".lock") and path.stat().st_mode & 0o077
        ]  # fmt: skip
        assert open_to_others == []
    finally:
        connection.close()


def test_folders_that_are_there_keep_their_rights(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    connection = connect(Settings(home=str(home)))
    try:
        assert connection.session.models is not None
        assert stat.S_IMODE(home.stat().st_mode) == 0o755
        assert stat.S_IMODE((home / "engine").stat().st_mode) == 0o700
    finally:
        connection.close()
