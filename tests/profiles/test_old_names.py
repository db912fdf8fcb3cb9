"""Names of API v1.2 in Python, SQL and job files: the message has today's name and a link."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account
from tl_data.backends.arrow import stream
from tl_data.catalog import bound
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.functions import FUNCTIONS
from tl_data.models import MIGRATION_GUIDE, OLD_NAMES, name_of_today
from tl_data.pipeline.job import Job

ARGUMENTS = [
    ("search", "conversation_option", "transcription_options"),
    ("search", "query", "query_text"),
    ("search", "engine_name", "model_name"),
    ("search", "index_options", "model_options"),
    ("index_video", "disable_video_stream", "enable_video_stream"),
    ("index_video", "metadata", "user_metadata"),
    ("index_video", "video_title", "user_metadata"),
    ("index_video", "engine_id", "model_name"),
]


@pytest.mark.parametrize(("function", "old", "now"), ARGUMENTS)
def test_an_old_argument_gets_the_name_of_today(function: str, old: str, now: str) -> None:
    f = FUNCTIONS[function]
    with pytest.raises(SchemaMismatch) as raised:
        f.arguments(bound(f, (), {old: "x"}))
    assert now in str(raised.value)
    assert str(raised.value).endswith(MIGRATION_GUIDE)


def test_a_wrong_argument_that_was_never_a_name_gets_no_name_of_today() -> None:
    with pytest.raises(SchemaMismatch) as raised:
        FUNCTIONS["search"].arguments({"colour": "red"})
    assert MIGRATION_GUIDE not in str(raised.value)
    assert name_of_today(["visual", "audio", "transcription"]) == ""


@pytest.mark.parametrize(
    "old", ["generate", "engines", "classify_bulk", "text_in_video", "logo", "search_v2"]
)
def test_an_old_endpoint_is_no_function(old: str) -> None:
    with pytest.raises(AttributeError, match=MIGRATION_GUIDE):
        getattr(tl_data, old)
    with pytest.raises(SchemaMismatch, match=MIGRATION_GUIDE):
        stream([], old, {"video": "url"})


@pytest.mark.parametrize("spelling", ["/search/combined", "/search-v2", "/text-in-video", "tl_generate"])
def test_paths_and_sql_names_are_recognised(spelling: str) -> None:
    assert name_of_today([spelling]).endswith(MIGRATION_GUIDE)


@pytest.mark.parametrize("old", ["conversation", "logo", "text_in_video"])
def test_old_search_options_are_refused_before_the_search(account: Account, old: str) -> None:
    before = account.requests("POST /search")
    with pytest.raises(SchemaMismatch) as raised:
        account.call("search", index_id=account.index, query_text="red", search_options=["visual", old])
    assert OLD_NAMES[old] in str(raised.value)
    assert account.requests("POST /search") == before


@pytest.mark.parametrize("section", ["", "[settings]\n"])
@pytest.mark.parametrize("old", ["engine_id", "index_options", "disable_video_stream"])
def test_an_old_key_of_a_job_file_gets_the_name_of_today(tmp_path: Path, section: str, old: str) -> None:
    (job := tmp_path / "job.toml").write_text(
        f'{"" if section else old + chr(61) + "1"}\n[source]\nurls = ["https://example.com/a.mp4"]\n'
        f'[outputs]\nfolder = "lake"\n{section}{old + " = 1" if section else ""}\n'
    )
    with pytest.raises(SettingsError) as raised:
        Job.load(job)
    assert OLD_NAMES[old] in str(raised.value)
    assert MIGRATION_GUIDE in str(raised.value)


def test_sql_gets_the_name_of_today(account: Account) -> None:
    with duckdb.connect() as con:
        tl_data.register(con, account.connection.settings)
        with pytest.raises(duckdb.Error) as raised:
            con.sql("SELECT * FROM tl_search('any', 'red', search_options => ['conversation'])").fetchall()
    assert MIGRATION_GUIDE in str(raised.value)
