"""`tl-data sql`: statements, scripts and the shell, as a program is used and in a terminal of its own."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import termios
import time
from pathlib import Path

import duckdb
import pytest

from tests.cli.test_cli import run
from tests.support.library import Library
from tl_data.cli.sql import is_complete


def test_a_statement_uses_the_functions_and_says_what_it_paid(library: Library) -> None:
    asked = f"SELECT start_sec FROM tl_search('{library.index}', 'a red object', max_hits => 1)"
    said = run("sql", asked, "--json", library=library)
    assert said.returncode == 0, said.stderr
    assert [row.keys() for row in json.loads(said.stdout)] == [{"start_sec"}]
    said = run("sql", "SELECT tl_analyze(NULL, 'x') AS a", "--csv", library=library)
    assert said.stdout.split() == ['"a"']
    assert "paid" not in said.stderr


def test_a_script_on_the_standard_input_and_a_database_that_is_kept(tmp_path: Path) -> None:
    file = tmp_path / "a.duckdb"
    script = b"CREATE TABLE t AS SELECT 1 AS a; INSERT INTO t VALUES (2); FROM t ORDER BY a"
    command = [sys.executable, "-m", "tl_data", "sql", "--db", str(file), "--csv"]
    environment = os.environ | {"TL_BASE_URL": "http://127.0.0.1:9"}  # nothing answers, and nothing is asked
    done = subprocess.run(
        command, input=script, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.stdout.split() == [b'"a"', b"1", b"2"], done.stderr
    with duckdb.connect(str(file)) as con:
        assert con.sql("FROM t").fetchall() == [(1,), (2,)]
        held = run("sql", "FROM t", "--db", str(file), TL_BASE_URL="http://127.0.0.1:9")
    assert held.returncode == 3, "another process holds it"


@pytest.mark.parametrize(
    ("statement", "code"),
    [("SELEC 1", 2), ("FROM nowhere", 2), ("SELECT 1/0, error('x')", 1), ("", 2)],
)
def test_exit_codes(statement: str, code: int) -> None:
    said = run("sql", statement, TL_BASE_URL="http://127.0.0.1:9")
    assert said.returncode == code
    assert "Traceback" not in said.stderr


def test_every_row_of_every_statement_is_computed(tmp_path: Path) -> None:
    """DuckDB computes a result as it is read: the function of a statement before the last one runs, too."""
    asked = "SELECT nextval('seen') FROM range(5000); SELECT currval('seen') AS last"
    said = run(
        "sql",
        f"CREATE SEQUENCE seen; {asked}",
        "--json",
        TL_BASE_URL="http://127.0.0.1:9",
        TL_HOME=str(tmp_path),
    )
    assert json.loads(said.stdout) == [{"last": 5000}]


def test_a_statement_above_its_budget_pays_nothing(library: Library, tmp_path: Path) -> None:
    prices = tmp_path / "prices.toml"
    prices.write_text('currency = "USD"\nas_of = 2026-07-31\n[analyze]\nvideo_minute = 10.0\n')
    prompt = "Only this test asks so."
    asked = f"SELECT tl_summarize('{library.urls[0]}', prompt => '{prompt}', index_id => '{library.index}')"
    said = run("sql", asked, "--budget", "0.001", library=library, TL_PRICES=str(prices))
    assert said.returncode == 1
    assert "0.001" in said.stderr
    assert "paid:" not in said.stderr


def test_the_shell_completes_runs_and_remembers(tmp_path: Path) -> None:
    """In a terminal: Tab completes a function's name, a statement goes over two lines, Ctrl-D ends."""
    main, other = pty.openpty()
    termios.tcsetwinsize(other, (24, 100))
    environment = os.environ | {
        "TL_BASE_URL": "http://127.0.0.1:9",
        "TL_HOME": str(tmp_path),
        "TERM": "xterm",
    }
    shell = subprocess.Popen(
        [sys.executable, "-m", "tl_data", "sql"], stdin=other, stdout=other, stderr=other, env=environment
    )
    os.close(other)
    seen, position = b"", 0
    try:
        for awaited, typed in (
            (b"tl_data>", b"SELECT 40\r"),
            (b"...>", b"+ 2 AS answer;\r"),
            (b"42", b".usage\r"),
            (b"nothing was paid", b""),
            (b"tl_data>", b"SELECT * FROM tl_fil\t"),
            (b"tl_files", b"\x03"),
            (b"tl_data>", b"SELECT nothing;\r"),
            (b"Failed", b""),
            (b"tl_data>", b"\x04"),  # at the prompt: before it, the terminal would take it for an end of file
        ):
            deadline = time.monotonic() + 60
            while awaited not in seen[position:]:
                assert time.monotonic() < deadline, (awaited, seen[position:])
                shown = _read(main)
                seen += shown
                if awaited == b"tl_files" and not shown:
                    os.write(main, b"\x0c")  # redraw: completion and typed part are drawn apart
            position = seen.index(awaited, position) + len(awaited)
            os.write(main, typed)
        deadline = time.monotonic() + 60
        while shell.poll() is None and time.monotonic() < deadline:
            _read(main)
        assert shell.returncode == 0
    finally:
        shell.kill()
        shell.wait()
        os.close(main)
    history = tmp_path / "sql_history"
    assert "+ 2 AS answer;" in history.read_text()
    assert history.stat().st_mode & 0o077 == 0


def _read(terminal: int) -> bytes:
    """What the terminal shows within half a second; answers the shell's question where the cursor is."""
    if not select.select([terminal], [], [], 0.5)[0]:
        return b""
    try:
        shown = os.read(terminal, 65536)
    except OSError:  # the other end is closed
        time.sleep(0.05)
        return b""
    for _ in range(shown.count(b"\x1b[6n")):
        os.write(terminal, b"\x1b[1;1R")
    return shown


def test_the_files_of_a_folder_need_no_server_and_no_key(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"1234")
    script = f"SELECT size_bytes FROM tl_files('{tmp_path}')".encode()
    command = [sys.executable, "-m", "tl_data", "sql", "--csv"]
    environment = {name: value for name, value in os.environ.items() if name != "TL_API_KEY"}
    environment |= {"TL_BASE_URL": "https://api.example.com", "TL_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        command, input=script, capture_output=True, env=environment, check=False, timeout=60
    )
    assert done.stdout.split() == [b'"size_bytes"', b"4"], done.stderr
    assert not (tmp_path / "home" / "engine").exists()


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("SELECT 1;", True),
        ("SELECT 'é'; -- done", True),
        ("SELECT $$a;$$\n;", True),
        ("SELECT 'a;", False),
        ("SELECT 'é' -- later;", False),
        ("SELECT 1 /* a;", False),
        ("SELECT 1; SELECT 2", False),
        ("-- a;", False),
    ],
)
def test_a_semicolon_in_a_string_or_comment_ends_no_statement(text: str, complete: bool) -> None:
    assert is_complete(text) == complete
