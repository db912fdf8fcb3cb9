"""The key is in no plan, log, message, page of the UI, history or file that Spark or we write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

import tl_data
from tests.conftest import Engine
from tests.spark.conftest import PLANTED, Java
from tl_data.errors import SettingsError
from tl_data.settings import Settings
from tl_data.spark import functions as tl
from tl_data.spark.register import is_connect
from tl_data.spark.worker import KEY_CONF

pytestmark = pytest.mark.spark

#: One that a server asks for, given as an argument: it travels with the functions.
GIVEN = "tlk_PLANTED_AS_AN_ARGUMENT"


@pytest.fixture(scope="module")
def locked(start_engine: Callable[..., Engine]) -> Engine:
    return start_engine("--api-key", GIVEN)


@pytest.fixture(scope="module")
def locked_by_conf(start_engine: Callable[..., Engine]) -> Engine:
    return start_engine("--api-key", PLANTED)


def test_a_key_given_as_an_argument_works_and_shows_nowhere(
    spark: Any, java: Java, locked: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        api_key=GIVEN, base_url=locked.base_url, home=str(tmp_path / "home"), ledger=str(tmp_path / "ledger")
    )
    shown = _use(spark, settings, tmp_path)
    shown += "".join(capfd.readouterr())
    _search(GIVEN, shown, java, tmp_path)


def test_the_key_of_the_spark_conf_works_and_shows_nowhere(
    spark: Any, java: Java, locked_by_conf: Engine, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    settings = Settings(
        base_url=locked_by_conf.base_url, home=str(tmp_path / "home"), ledger=str(tmp_path / "ledger")
    )
    shown = _use(spark, settings, tmp_path)
    shown += "".join(capfd.readouterr())
    _search(PLANTED, shown, java, tmp_path)
    commands = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _ours(path)]
    sparks = [command for command in commands if b"org.apache.spark" in command]
    assert sparks
    assert all(PLANTED.encode() not in command for command in sparks)


def test_a_key_set_while_spark_runs_is_refused(java: Java, tmp_path: Path) -> None:
    """Spark writes what is set then into its event log, whatever it is called."""
    spark = java.spark.newSession()
    spark.conf.set(KEY_CONF, "tlk_another")
    with pytest.raises(SettingsError, match=r"set while Spark runs.*event log"):
        tl_data.register(spark, Settings(base_url="http://127.0.0.1:9/v1.3", home=str(tmp_path)))


def _use(spark: Any, settings: Settings, folder: Path) -> str:
    """Work with the key in every way; gives all that a user sees of it."""
    tl_data.register(spark, settings)
    made = spark.sql("SELECT tl_embed_text(concat('word ', id)) AS v FROM range(0, 4, 1, 2)")
    assert made.count() == 4
    made.write.format("delta").save(str(folder / "delta"))
    column = spark.range(2).selectExpr("string(id) AS w").select(tl.embed_text("w", settings=settings))
    assert len(column.collect()) == 2
    shown = "".join(
        row[0]
        for statement in (
            "EXPLAIN EXTENDED SELECT * FROM tl_search('none', 'x')",
            "EXPLAIN FORMATTED SELECT tl_embed_text('x')",
        )
        for row in spark.sql(statement).collect()
    )
    with pytest.raises(Exception, match="tl_search failed at row 1") as failed:
        spark.sql("SELECT * FROM tl_search('none', 'x')").collect()
    shown += f"{failed.value} {failed.value!r} {failed.getrepr()}"
    tried = spark.sql("SELECT try_tl_search('none', 'x') t, try_tl_embed_text('x') e").collect()
    shown += repr(tried) + repr(spark.sql(f"DESCRIBE HISTORY delta.`{folder / 'delta'}`").collect())
    listed = spark.read.format("twelvelabs").load("indexes")
    assert listed.count() == 0
    shown += "".join(row[0] for row in spark.sql("SHOW USER FUNCTIONS").collect())
    return shown


def _search(key: str, shown: str, java: Java, folder: Path) -> None:
    assert key not in shown
    files = [path for root in (java.events, folder) for path in root.rglob("*") if path.is_file()]
    assert any("ledger" in path.parts for path in files)
    logged = b"".join(path.read_bytes() for path in files if path.is_relative_to(java.events))
    assert b"tl_embed_text" in logged
    for path in files:
        assert key.encode() not in path.read_bytes(), path
    ui = java.spark.sparkContext.uiWebUrl
    assert ui
    application = java.spark.sparkContext.applicationId
    pages = ["environment/", "jobs/", "SQL/", "connect/", "stages/", "executors/"]
    rest = [
        f"api/v1/applications/{application}/{what}" for what in ("environment", "sql?details=true", "jobs")
    ]
    root = ui.replace(ui.split("//")[1].split(":")[0], "127.0.0.1")
    for page in [*pages, *rest]:
        answer = httpx.get(f"{root}/{page}", follow_redirects=True, timeout=60)
        assert answer.status_code == 200, page
        assert key not in answer.text, page


def _ours(path: Path) -> bool:
    return path.parent.stat().st_uid == os.getuid() and path.is_file()


def test_sessions_are_classified(spark: Any, java: Java) -> None:
    assert is_connect(spark) == (spark is not java.spark)
