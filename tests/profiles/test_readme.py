"""The SQL of the README on an account of the service: nothing in it needs the lenient profile."""

from __future__ import annotations

import re
from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
[PYTHON] = re.findall(r"```python\n(import duckdb\n.*?)```", README, re.DOTALL)
[SQL] = re.findall(r"```sql\n(.*?)```", README, re.DOTALL)


@pytest.fixture
def reader(account: Account, monkeypatch: pytest.MonkeyPatch) -> None:
    """The environment of a reader with a key, whose index `demo` has a video."""
    settings = account.connection.settings
    account.call("index_video", video=account.url, index_id="demo")
    monkeypatch.setenv("TL_API_KEY", str(settings.api_key))
    monkeypatch.setenv("TL_BASE_URL", str(settings.base_url))
    monkeypatch.setenv("TL_HOME", settings.home)


@pytest.mark.usefixtures("reader")
def test_the_block_of_duckdb(capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(PYTHON, "README", "exec"), {})
    shown = capsys.readouterr().out
    assert "a red object on a black background" in shown


@pytest.mark.usefixtures("reader")
def test_the_first_statement(account: Account) -> None:
    with duckdb.connect() as con:
        tl_data.register(con)
        con.execute("CREATE TABLE questions AS SELECT 'emergency exit' AS question")
        con.execute("CREATE TABLE videos AS SELECT video_id, ? AS url FROM tl_videos('demo')", [account.url])
        rows = con.execute(SQL).fetchall()
    assert {(question, url) for question, url, _, _ in rows} == {("emergency exit", account.url)}
    assert all(start < end for _, _, start, end in rows)
