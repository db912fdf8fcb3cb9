"""Job files: read, checked, and refused with line and key."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from tl_data.errors import SettingsError
from tl_data.pipeline.job import Job, init_text, schema

GOOD = """\
name = "nightly"
[source]
files = "videos/*.parquet"
url = "link"
key = "id"
[outputs]
folder = "lake"
"""


def written(folder: Path, text: str) -> Path:
    file = folder / "job.toml"
    file.write_text(text, encoding="utf-8")
    return file


def refused(folder: Path, text: str) -> list[str]:
    with pytest.raises(SettingsError) as error:
        Job.load(written(folder, text))
    return str(error.value).replace(str(folder / "job.toml"), "job.toml").splitlines()


def test_a_job_is_read_with_paths_beside_its_file(tmp_path: Path) -> None:
    job = Job.load(written(tmp_path, GOOD))
    assert job.name == "nightly"
    assert job.source.place == str(tmp_path / "videos/*.parquet")
    assert (job.source.kind, job.source.url, job.source.key) == ("files", "link", "id")
    assert job.folder == str(tmp_path / "lake")
    assert job.format == "delta"
    assert job.but(limit=3).limit == 3
    bucket = Job.load(written(tmp_path, GOOD.replace('"lake"', '"s3://bucket/lake"')))
    assert bucket.folder == "s3://bucket/lake"


def test_the_template_is_a_job_and_names_every_key(tmp_path: Path) -> None:
    job = Job.load(written(tmp_path, init_text()))
    assert job.name == "catalog"
    assert job.load_settings().index == "catalog"
    for part in ("source", "outputs", "alerts", "digest", "limits"):
        for key in schema()["properties"][part]["properties"]:
            assert f"{key} = " in init_text(), key


def test_everything_in_the_template_is_allowed(tmp_path: Path) -> None:
    text = init_text().replace("# [alerts]", "[alerts]").replace("# [digest]", "[digest]")
    for line in ("refresh", "questions", "threshold", "max_clips", "file = ", "days"):
        text = text.replace(f"# {line}", line)
    job = Job.load(written(tmp_path, text))
    assert job.alerts
    assert job.alerts.questions.place == ("a helmet on the floor",)
    assert job.digest
    assert job.digest.file == str(tmp_path / "digest-%Y-%m-%d.md")
    assert job.refresh


def test_the_schema_is_one(tmp_path: Path) -> None:
    Draft202012Validator.check_schema(schema())


@pytest.mark.parametrize(
    ("change", "line", "said"),
    [
        (("[outputs]", "[outputz]"), 6, "a job has no key 'outputz'. Did you mean outputs?"),
        (('key = "id"', 'kee = "id"'), 5, "[source] has no key 'kee'. Did you mean key?"),
        (('url = "link"', "url = 3"), 4, "source.url is 3; it must be text in quotes"),
        (('url = "link"', 'delta = "x"'), 4, "[source] needs exactly one of files, delta, query, urls"),
        (('url = "link"', 'database = "x"'), 4, "source.database is for a source.query; there is none"),
        (('folder = "lake"', ""), 6, "outputs.folder is missing"),
        (
            ('folder = "lake"', 'folder = "lake"\nformat = "csv"'),
            8,
            "outputs.format is 'csv'; it must be one of delta, parquet",
        ),
        (
            ('folder = "lake"', 'folder = "lake"\ntables = ["clips", "clip"]'),
            8,
            "outputs.tables[1] is 'clip'; it must be one of clips, summaries, chapters, vectors",
        ),
        (('"lake"', '"lake"\n[limits]\nlimit = 0'), 9, "limits.limit is 0; it must be at least 1"),
        (
            ('"lake"', '"lake"\n[limits]\nmax_failures = "many"'),
            9,
            "limits.max_failures is 'many'; it must be a count such as 10, or a share such as \"5%\"",
        ),
        (('"lake"', '"lake"\n[limits]\nbudget = "5"'), 9, "limits.budget is '5'; it must be a number"),
        (
            ('"lake"', '"lake"\n[settings]\napi_key = "tlk_1"'),
            9,
            "api_key is not allowed in a job file, which is shared; set TL_API_KEY in the environment",
        ),
        (('"lake"', '"lake"\n[settings]\nconcurency = 3'), 9, "Did you mean concurrency?"),
        (
            ('"lake"', '"lake"\n[settings]\nconcurrency = 2.5'),
            9,
            "concurrency is 2.5; it must be a whole number",
        ),
        (
            ('"lake"', '"lake"\n[settings]\nrequests_per_day = 0'),
            9,
            "settings.requests_per_day is 0; it must be above 0",
        ),
        (('files = "videos/*.parquet"', 'spark_table = "t"'), 3, 'source.spark_table needs engine = "spark"'),
        (
            ('[source]\nfiles = "videos/*.parquet"\nurl = "link"\nkey = "id"\n', ""),
            1,
            "source is missing: a job needs [source], [alerts], [digest] or [export]",
        ),
        (('"lake"', '"lake"\nrefresh = "yes"'), 8, "outputs.refresh is 'yes'; it must be true or false"),
        (
            ('"lake"', '"lake"\n[alerts]\nthreshold = "low"'),
            8,
            "[alerts] needs exactly one of questions, files",
        ),
        (('"lake"', '"lake"\n[alerts]\nquestions = [""]'), 9, "alerts.questions[0]"),
        (
            ('"lake"', '"lake"\n[alerts]\nquestions = ["a"]\ncolumn = "q"'),
            10,
            "alerts.column is for a table of questions",
        ),
        (
            ('"lake"', '"lake"\n[digest]\nfile = "s3://bucket/page.md"'),
            9,
            "digest.file is 's3://bucket/page.md'; it must be a file on this machine that ends in .md or .html",  # noqa: E501
        ),
        (('name = "nightly"', 'engine = "dask"'), 1, "engine is 'dask'; it must be one of duckdb, spark"),
    ],
)
def test_faults_name_line_and_key(tmp_path: Path, change: tuple[str, str], line: int, said: str) -> None:
    messages = refused(tmp_path, GOOD.replace(*change))
    assert any(m.startswith(f"job.toml, line {line}: ") and said in m for m in messages), messages


def test_all_faults_are_listed(tmp_path: Path) -> None:
    assert len(refused(tmp_path, 'nam = "x"\n[source]\n[outputs]\nformat = "x"\n')) == 4


def test_files_that_are_no_job(tmp_path: Path) -> None:
    assert "invalid TOML" in refused(tmp_path, "[source\n")[0]
    assert "nested too deeply" in refused(tmp_path, f"a = {'[' * 2000}{']' * 2000}\n")[0]
    assert "line 1" in refused(tmp_path, "[source\n")[0]
    with pytest.raises(SettingsError, match="No such file"):
        Job.load(tmp_path / "none.toml")
    (tmp_path / "job.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(SettingsError, match="it is not UTF-8 text"):
        Job.load(tmp_path / "job.toml")


@pytest.mark.parametrize(("said", "allowed"), [(None, float("inf")), (0, 0), (7, 7), ("5%", 10), ("0.5%", 1)])
def test_failures_allowed(tmp_path: Path, said: int | str | None, allowed: float) -> None:
    assert Job.load(written(tmp_path, GOOD)).but(max_failures=said).failures_allowed(200) == allowed


@pytest.mark.parametrize("said", ["5", "many%", "101%", -1, True])
def test_failure_limits_that_are_none(tmp_path: Path, said: int | str) -> None:
    job = Job.load(written(tmp_path, GOOD))
    with pytest.raises(SettingsError, match="max_failures is"):
        job.but(max_failures=said)


def test_jobs_import_no_engine() -> None:
    code = (
        "import sys, tl_data.pipeline.job, tl_data.lake.lake, tl_data.billing\n"
        "print([m for m in ('duckdb', 'deltalake', 'pandas', 'pyspark', 'jsonschema') if m in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
