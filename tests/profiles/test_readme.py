"""The blocks of the README on an account of the service: nothing in it needs the lenient profile."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account
from tl_data.cli.main import exit_code

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
[PYTHON] = re.findall(r"```python\n(import duckdb\n.*?)```", README, re.DOTALL)
[SPARK] = re.findall(r"```python\n(import tl_data\.spark\n.*?)```", README, re.DOTALL)
[JOB] = re.findall(r"```console\n(\$ tl-data init .*?)```", README, re.DOTALL)
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


@pytest.mark.timeout(900)  # Spark starts slowly on a busy machine
@pytest.mark.usefixtures("reader")
def test_the_block_of_spark(account: Account) -> None:
    if not account.today:
        pytest.skip("Spark starts once; both accounts answer the same search in the test above")
    # Other tests of this process may have set it up for Spark Connect.
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("SPARK_", "PYSPARK_"))}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SPARK],
        env=plain, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert re.search(r"\|carrots in small pieces\|\d+\.\d +\|\d+\.\d +\|", done.stdout)


@pytest.mark.usefixtures("reader")
def test_the_commands_of_a_job(
    account: Account, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    commands = [shlex.split(line)[1:] for line in JOB.replace("$ ", "").splitlines()]
    assert [words[0] for words in commands] == ["init", "plan", "run"]
    assert exit_code(*commands[0]) == 0
    (tmp_path / "videos.csv").write_text(f"id,url\n1,{account.url}\n")
    assert exit_code(*commands[1]) == 0
    capfd.readouterr()
    assert exit_code(*commands[2], "--json") == 0
    report = json.loads(capfd.readouterr().out)
    assert (report["submitted"], report["failed"]) == (1, 0)
