"""The command line as a program is used: output, errors, exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pyarrow.parquet as pq
import pytest

import tl_data.functions  # noqa: F401 - fills the registry
from tests.support.library import Library
from tl_data import catalog
from tl_data.cli import doctor
from tl_data.cli.main import SECTIONS, assembled, exit_code
from tl_data.cli.output import commands_of
from tl_data.connection import connect
from tl_data.pipeline.job import Job


def run(*words: str, library: Library | None = None, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tl_data", *words]
    environment = {k: v for k, v in os.environ.items() if not k.startswith("TL_")} | {"COLUMNS": "160"} | env
    if library is not None:
        environment |= {
            "TL_BASE_URL": str(library.settings.base_url),
            "TL_HOME": library.settings.home,
            "TL_LEDGER": library.settings.ledger_url,
        }
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)


def test_help_lists_every_function_and_table() -> None:
    said = run("--help")
    assert said.returncode == 0
    for record in catalog.records():
        assert f"  {record.name.replace('_', '-')} " in said.stdout, record.name
    for command in ("serve", "doctor", "docs", "demo", "plan", "run", "init", "ledger"):
        assert f"  {command} " in said.stdout, command


def test_help_has_a_section_and_an_example_for_every_command() -> None:
    cli = assembled()
    listed = run("--help").stdout
    for title, example, names in SECTIONS:
        assert f"{title}:\n  $ {example}\n" in listed
        _, command, *words = shlex.split(example)
        cli.commands[command].make_context(command, words)  # raises if the example has a wrong option
        assert set(names) <= set(cli.commands)
    commands = [line.split()[0] for line in re.findall(r"^  [a-z][a-z-]+  .*", listed, re.M)]
    assert sorted(commands) == sorted(cli.commands)  # none is missing, none stands twice


def test_labels_follow_one_another(library: Library) -> None:
    asked = ("classify", library.urls[0], "cooking", "safety", "--json")
    done = run(*asked, library=library)
    assert done.returncode == 0, done.stderr
    assert [list(row) for row in json.loads(done.stdout)] == [["value"]]
    assert run("classify", library.urls[0], library=library).returncode == 2  # no label


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_of_commands_and_options(shell: str, tmp_path: Path) -> None:
    script = run("completion", shell).stdout
    assert "_TL_DATA_COMPLETE" in script
    if shell == "bash":
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "tl-data").write_text(f'#!/bin/sh\nexec {sys.executable} -m tl_data "$@"\n')
        (folder / "tl-data").chmod(0o755)
        tab = "COMP_WORDS=(tl-data videos --ind); COMP_CWORD=2; _tl_data_completion tl-data; echo $COMPREPLY"
        tried = f"{script}\n{tab}"
        path = f"{folder}:{os.environ['PATH']}"
        done = subprocess.run(
            ["bash", "-c", tried], capture_output=True, text=True, env=os.environ | {"PATH": path}, check=True
        )
        assert done.stdout.strip() == "--index-id"


@pytest.mark.parametrize("record", catalog.records(), ids=lambda r: r.name)
def test_every_command_has_help_with_its_arguments(record: catalog.Function | catalog.Listing) -> None:
    command = assembled().commands[record.name.replace("_", "-")]
    text = command.get_help(click.Context(command))
    for p in record.parameters:
        assert (p.name.upper() if p.required else f"--{p.name.replace('_', '-')}") in text


def test_every_command_has_an_example_that_it_understands() -> None:
    """The words of each example are parsed by the command itself."""
    commands = commands_of(assembled())
    assert len(commands) > 45
    for name, command in commands:
        text = command.get_help(click.Context(command))
        found = re.search(r"Examples?:\n((?:  .*\n?)+)", text)
        assert found, name
        line = found[1].splitlines()[0].strip()
        words = shlex.split(line.partition(" > ")[0].partition(" < ")[0])
        assert words[0] == "tl-data", name
        if isinstance(command, click.Group) or name in ("serve", "sql"):
            continue  # a group stands for its commands; the engine and the shell read their own words
        command.make_context(name, words[1 + len(name.split()) :], resilient_parsing=False)


def test_help_of_a_command_is_printed() -> None:
    shown = run("classify", "--help")
    assert shown.returncode == 0
    assert "tl-data classify https://example.com/tour.mp4 cooking sport news" in shown.stdout


def test_a_search_as_table_json_csv_and_parquet(library: Library, tmp_path: Path) -> None:
    search = ("search", library.index, "a red object", "--threshold", "none", "--max-hits", "2")
    table = run(*search, library=library)
    assert table.returncode == 0, table.stderr
    assert "start_sec" in table.stdout
    rows = json.loads(run(*search, "--json", library=library).stdout)
    assert [r["rank"] for r in rows] == list(range(1, len(rows) + 1))
    lines = list(csv.DictReader(io.StringIO(run(*search, "--csv", library=library).stdout)))
    assert [r["video_id"] for r in lines] == [r["video_id"] for r in rows]
    file = tmp_path / "hits.parquet"
    assert run(*search, "--parquet", str(file), library=library).returncode == 0
    assert pq.read_table(file).column("video_id").to_pylist() == [r["video_id"] for r in rows]


def test_listings_and_scalars(library: Library) -> None:
    videos = json.loads(run("videos", "--index-id", library.index, "--json", library=library).stdout)
    assert len(videos) == len(library.urls)
    gist = json.loads(
        run("gist", videos[0]["video_id"], "--index-id", library.index, "--json", library=library).stdout
    )
    assert gist[0]["title"]
    named = ("--metadata-filter", '{"index_id": "x"}')
    none = run("videos", "--index-id", library.index, *named, "--json", library=library)
    assert (none.returncode, json.loads(none.stdout)) == (0, []), "a key of the metadata like any other"


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("search", "demo"), 2, "Missing argument 'QUERY_TEXT'"),
        (("search", "demo", "x", "--max-hits", "many"), 2, "'many' is not a valid integer"),
        (("search", "demo", "x", "--json", "--csv"), 2, "choose one of --json, --csv and --parquet"),
        (("nonsense",), 2, "No such command 'nonsense'"),
        (("search", "absent", "x"), 1, "index 'absent' not found"),
        (("gist", "000000000000000000000000"), 1, "Failed:"),
        (("index-video", "no/such/file.mp4"), 1, "cannot read the video file"),
        (("videos", "--metadata-filter", "{x"), 2, "metadata_filter is not JSON"),
        (("videos", "--metadata-filter", "[1]"), 2, "metadata_filter must be a JSON object"),
        (("videos", "--metadata-filter", '{"page": 2}'), 2, "metadata_filter cannot contain page"),
        (("indexes", "--parquet", "no/such/x.parquet"), 1, "x.parquet': No such file or directory"),
        (("init", "no/such/job.toml"), 2, "no/such/job.toml cannot be written: No such file or directory"),
        (("ledger", "show", "../../etc"), 1, "the ledger has no call ../../etc; tl-data ledger ls lists"),
        (("ledger", "forget", ""), 1, "the ledger has no call"),
        (
            ("serve", "--home", __file__),
            2,
            "test_cli.py: File exists; choose another with --home",
        ),
        (("serve", "--port", "99999"), 2, "tl-data serve: error: --port must be 0 to 65535, not 99999"),
    ],
    ids=lambda v: v[0] if isinstance(v, tuple) else None,
)
def test_errors_are_sentences_with_exit_codes(
    words: tuple[str, ...], code: int, sentence: str, library: Library
) -> None:
    said = run(*words, library=library)
    assert (said.returncode, said.stdout) == (code, "")
    assert sentence in said.stderr
    assert "Traceback" not in said.stderr


def test_wrong_settings_are_usage_errors() -> None:
    said = run("indexes", TL_CONCURRENCY="many")
    assert said.returncode == 2
    assert "concurrency is 'many'" in said.stderr


def test_a_wrong_path_in_the_address_is_no_missing_index(library: Library, tmp_path: Path) -> None:
    (job := tmp_path / "job.toml").write_text(
        f'name = "j"\n[source]\nurls = ["{library.urls[0]}"]\n[outputs]\nfolder = "{tmp_path}/lake"\n'
    )
    wrong = str(library.settings.base_url).removesuffix("/v1.3") + "/v1.3/api"
    said = run("plan", str(job), TL_BASE_URL=wrong, TL_API_KEY="k", TL_HOME=str(tmp_path))
    assert said.returncode != 0
    assert "/v1.3/api/indexes does not exist. Check TL_BASE_URL" in said.stderr


def test_places_that_cannot_be_used_are_usage_errors(tmp_path: Path) -> None:
    (file := tmp_path / "settings.toml").write_bytes(b"index = '\xff'")
    for words, env, sentence in (
        (
            ("indexes",),
            {"TL_HOME": str(file)},
            "engine: Not a directory. Set TL_HOME to another",
        ),
        (("indexes",), {"TL_CONFIG": str(file)}, "settings.toml cannot be read: it is not UTF-8 text"),
        (("demo", "--folder", str(file)), {}, "settings.toml cannot be used: File exists"),
    ):
        said = run(*words, **env)
        assert (said.returncode, said.stdout) == (2, "")
        assert sentence in said.stderr
        assert "Traceback" not in said.stderr


def test_the_doctor_never_shows_the_key() -> None:
    said = run("doctor", TL_API_KEY="tlk_PLANTED")
    assert "tlk_PLANTED" not in said.stdout + said.stderr
    assert "never shown" in said.stdout
    assert "api.twelvelabs.io" in said.stdout


def test_the_doctor_names_a_misspelled_setting() -> None:
    said = run("doctor", TL_INDXE="films")
    assert said.returncode == 1
    assert "TL_INDEX?" in said.stdout


def test_the_doctor_prints_json() -> None:
    said = run("doctor", "--json")
    findings = {f["what"]: f for f in json.loads(said.stdout)}
    assert findings["endpoint"]["found"].startswith("the embedded engine")
    assert findings["duckdb"]["state"] == "ok"
    assert findings["java"]["state"] in ("ok", "missing", "wrong")
    assert said.returncode == 0 or any(f["state"] == "wrong" for f in findings.values())


def test_the_doctor_knows_when_nothing_would_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(doctor.EXTRAS, "local", ("no-such-package",))
    [endpoint] = [finding for finding in doctor._settings() if finding.what == "endpoint"]
    assert (endpoint.state, endpoint.do) == ("missing", 'pip install "tl_data[local]"')
    assert "no-such-package" in endpoint.found


JOB = """[outputs]
folder = "lake"
format = "parquet"
tables = ["clips"]
[settings]
retries = 0
"""


@pytest.mark.parametrize(
    ("text", "code", "sentence"),
    [
        (
            "[source]\nurls = ['a.mp4']\n" + JOB + "base_url = 'http://127.0.0.1:9'",
            3,
            "could not connect to 127.0.0.1:9",
        ),
        ("[source]\ndelta = 'none'\n" + JOB, 2, "none: is not a readable Delta table"),
        (
            "[source]\nurls = ['a.mp4']\n" + JOB.replace("lake", "full"),
            3,
            "full/clips: cannot be written: File",
        ),
        ("[digest]\nfile = 'job.toml/page.md'\n" + JOB, 3, "page.md: the digest cannot be written: "),
    ],
    ids=["platform", "delta", "folder", "page"],
)
def test_an_invalid_job_has_a_message_and_an_exit_code(
    text: str,
    code: int,
    sentence: str,
    library: Library,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("TL_BASE_URL", str(library.settings.base_url))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "clips").touch()
    (tmp_path / "job.toml").write_text(text)
    try:
        assert exit_code("run", str(tmp_path / "job.toml")) == code
    finally:
        connect(Job.load(tmp_path / "job.toml").load_settings()).close()
    said = capfd.readouterr().err
    assert sentence in said
    assert ("run it again" in said) is (code == 3)


@pytest.mark.parametrize("text", ["", "id,link\n1,a.mp4\n"])
def test_a_missing_source_column_is_the_only_error(text: str, library: Library, tmp_path: Path) -> None:
    (tmp_path / "videos.csv").write_text(text)
    (tmp_path / "job.toml").write_text(f"[source]\nfiles = 'videos.csv'\n{JOB}")
    said = run("plan", str(tmp_path / "job.toml"), library=library)
    assert said.returncode == 2
    assert said.stderr.startswith("Error: the source has no column 'url'; it has ")
    assert said.stderr.count("\n") == 1


def test_a_plan_and_a_status_with_refusals_are_json(library: Library, tmp_path: Path) -> None:
    (tmp_path / "page.mp4").write_text("<title>Sign in</title>")
    signed = f"{library.urls[0]}.gone?X-Amz-Signature=hidden"
    (tmp_path / "job.toml").write_text(
        f"[source]\nurls = ['page.mp4', 'none.mp4', 'no.mp4', '{signed}']\n{JOB}"
    )
    said = {
        verb: run(verb, str(tmp_path / "job.toml"), "--json", library=library)
        for verb in ("plan", "run", "status")
    }
    assert [ended.returncode for ended in said.values()] == [0, 1, 0], said
    assert "hidden" not in "".join(ended.stdout + ended.stderr for ended in said.values())
    assert "hidden" not in run("plan", str(tmp_path / "job.toml"), library=library).stdout
    codes = {"video_file_broken": 1, "video_url_invalid": 2, "video_url_not_found": 1}
    planned = json.loads(said["plan"].stdout)
    assert (planned["codes"], planned["new"]) == (codes, 0)
    assert [refusal["code"] for refusal in planned["refused"]].count("video_url_invalid") == 2
    assert {error["code"] for error in json.loads(said["run"].stdout)["errors"]} == set(codes)
    assert json.loads(said["status"].stdout)["errors"] == codes
