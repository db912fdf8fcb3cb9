"""Streams of any length, failing rows among many, and queries that are stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import duckdb
import httpx
import pyarrow as pa
import pytest

import tl_data
from tests.conftest import Engine
from tests.support.library import Library
from tests.support.surfaces import DuckDB
from tl_data.connection import connect
from tl_data.errors import Cancelled, RowFailed, SchemaMismatch
from tl_data.runtime.concurrency import calls_of
from tl_data.settings import Settings


@pytest.fixture(scope="module")
def account(today: Engine, tmp_path_factory: pytest.TempPathFactory) -> Library:
    """An account of today without a video, for texts."""
    folder = tmp_path_factory.mktemp("account")
    settings = Settings(base_url=today.base_url, home=str(folder / "home"), ledger=str(folder / "ledger"))
    return Library(settings, "empty", [], folder, folder, 512)


def test_a_hundred_thousand_rows_of_a_thousand_values_cost_a_thousand_calls(account: Library) -> None:
    duck = DuckDB(account.settings)
    before = account.requests("POST /embed-v2")
    rows = duck.con.sql(
        "SELECT count(*), count(DISTINCT v[1]) > 1 FROM "
        "(SELECT tl_embed_text('many ' || (i % 1000)) AS v FROM range(100000) r(i))"
    ).fetchall()
    duck.close()
    assert rows == [(100_000, True)]
    assert account.requests("POST /embed-v2") - before == 1000


def test_a_stream_is_answered_batch_by_batch_and_in_order(account: Library) -> None:
    read: list[int] = []

    def batches() -> Iterator[pa.RecordBatch]:
        for n in range(200):
            read.append(n)
            words = [f"stream {(n * 50 + i) % 40}" for i in range(50)]
            yield pa.RecordBatch.from_pydict({"n": list(range(n * 50, n * 50 + 50)), "word": words})

    schema = pa.schema([("n", pa.int64()), ("word", pa.string())])
    source = pa.RecordBatchReader.from_batches(schema, batches())
    before = account.requests("POST /embed-v2")
    reader = tl_data.stream(source, "embed_text", {"text": "word"}, into="vector", settings=account.settings)
    first = reader.read_next_batch()
    assert len(read) < 200, "the whole source was read for the first batch"
    rest = reader.read_all()
    assert account.requests("POST /embed-v2") - before == 40
    assert [*first.column("n").to_pylist(), *rest.column("n").to_pylist()] == list(range(10_000))
    assert len(first.column("vector")[0]) == account.dimension


def test_a_stream_from_duckdb_and_back(account: Library) -> None:
    with duckdb.connect() as con:
        source = con.sql("SELECT * FROM (VALUES (1, 'a'), (2, NULL), (3, 'b')) AS t(n, w)")
        reader = tl_data.stream(source, "embed_text", {"text": "w"}, into="v", settings=account.settings)
        con.from_arrow(reader.read_all()).create("answered")
        assert con.sql("SELECT n, v IS NULL FROM answered ORDER BY n").fetchall() == [
            (1, False),
            (2, True),
            (3, False),
        ]


def test_a_failing_row_of_a_stream_names_itself_or_is_a_struct(library: Library) -> None:
    table = pa.table({"q": ["a red object"] * 5 + ["fail"], "i": [library.index] * 5 + ["absent"]})
    arguments = {"index_id": "i", "query_text": "q"}
    with pytest.raises(RowFailed, match=r"tl_search failed at row 6 .*'absent'"):
        tl_data.stream(table, "search", arguments, settings=library.settings).read_all()
    tried = tl_data.stream(table, "search", arguments, attempt=True, settings=library.settings).read_all()
    errors = [row["error"] and row["error"]["class"] for row in tried.column("value").to_pylist()]
    assert errors == [None] * 5 + ["NotFound"]


@pytest.mark.parametrize(
    ("function", "columns", "sentence"),
    [
        ("summarise", {"video": "q"}, "unknown function 'summarise'"),
        ("summarize", {"video": "url"}, "no column 'url' in the source"),
        ("summarize", {"vid": "q"}, "tl_summarize has no argument vid"),
        ("search", {"query_text": "q"}, "tl_search needs index_id"),
    ],
)
def test_a_wrong_stream_is_refused_at_once(
    function: str, columns: dict[str, str], sentence: str, library: Library
) -> None:
    with pytest.raises(SchemaMismatch, match=sentence):
        tl_data.stream(pa.table({"q": ["x"]}), function, columns, settings=library.settings)


def test_one_failing_row_among_ten_thousand(library: Library) -> None:
    duck = DuckDB(library.settings)
    duck.con.execute(
        f"CREATE TABLE rows AS SELECT i, CASE WHEN i = 7000 THEN 'absent' ELSE '{library.index}' END AS idx, "
        "'question ' || (i % 50) AS q FROM range(10000) r(i)"
    )
    with pytest.raises(duckdb.Error, match=r"index_id = 'absent'") as failure:
        duck.con.sql("SELECT count(*) FROM rows, LATERAL tl_search(idx, q, max_hits => 1)").fetchall()
    assert "cost nothing on a re-run" not in str(failure.value), "searches are not in the ledger"
    with pytest.raises(duckdb.Error, match=r"video = '/absent.mp4'.*cost nothing on a re-run"):
        duck.con.sql("SELECT tl_summarize('/absent.mp4')").fetchall()
    failed = duck.con.sql(
        "SELECT i, t.error.class FROM (SELECT i, try_tl_search(idx, q, max_hits => 1) AS t FROM rows) "
        "WHERE t.error IS NOT NULL"
    ).fetchall()
    duck.close()
    assert failed == [(7000, "NotFound")]


@pytest.fixture(scope="module")
def slow_engine(start_engine: Callable[..., Engine]) -> Engine:
    """An account of today that takes a minute for every answer to /embed-v2."""
    engine = start_engine("--allow-private", "--profile", "today", "--workers", "1")
    root = engine.base_url.removesuffix("/v1.3")
    fault = {"fault": [{"kind": "latency", "route": "/embed-v2", "seconds": 60}]}
    answer = httpx.put(f"{root}/_engine/faults", json=fault)
    assert answer.is_success, answer.text
    return engine


def settings_for(engine: Engine) -> Settings:
    return Settings(base_url=engine.base_url, home=str(engine.home / "user"))


def test_cancelling_a_query_stops_its_calls_and_no_others(slow_engine: Engine) -> None:
    settings = settings_for(slow_engine)
    with duckdb.connect() as con, duckdb.connect() as other:
        for each in (con, other):
            tl_data.register(each, settings)
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(lambda: other.sql("SELECT tl_embed_text('slow, too')").fetchall())
            threading.Timer(1.5, tl_data.cancel, [con]).start()
            with pytest.raises(duckdb.Error, match="Cancelled"):
                con.sql("SELECT tl_embed_text('slow')").fetchall()
            assert not waiting.done()
            tl_data.cancel(other)
            with pytest.raises(duckdb.Error, match="Cancelled"):
                waiting.result(timeout=20)


def test_registering_leaves_the_program_as_it_was(slow_engine: Engine) -> None:
    handler, interrupt = signal.getsignal(signal.SIGINT), duckdb.DuckDBPyConnection.interrupt
    with duckdb.connect() as con:
        tl_data.register(con, settings_for(slow_engine))
    assert signal.getsignal(signal.SIGINT) is handler
    assert duckdb.DuckDBPyConnection.interrupt is interrupt


def test_a_programs_own_handler_of_ctrl_c_stops_the_calls(slow_engine: Engine) -> None:
    """DuckDB calls functions in threads of its own, and waits for those that it has begun."""
    script = (
        "import duckdb, os, signal, threading, tl_data\n"
        f"settings = tl_data.Settings(base_url={slow_engine.base_url!r}, home={str(slow_engine.home)!r})\n"
        "con = duckdb.connect(); tl_data.register(con, settings)\n"
        "def stop(*_):\n    tl_data.cancel(con)\n    raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGINT, stop)\n"
        "threading.Timer(1.0, os.kill, [os.getpid(), signal.SIGINT]).start()\n"
        "try:\n    con.sql(\"SELECT tl_embed_text('slow')\").fetchall()\n"
        "except (KeyboardInterrupt, RuntimeError, duckdb.Error):\n    print('stopped')\n"
        "assert con.sql('SELECT 1').fetchall() == [(1,)]\n"
        "con.close()\n"
    )
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout.strip() == "stopped", done.stderr
    assert "Traceback" not in done.stderr
    assert time.monotonic() - began < 50, "it waited for the answer"


def test_a_query_that_is_between_two_calls_stops_as_well(slow_engine: Engine) -> None:
    """What was asked for before the cancelling makes no further call; what is asked for later does."""
    connection = connect(settings_for(slow_engine))
    owner = Owner()

    async def answer() -> int:
        return 1

    with calls_of(owner):
        assert connection.run(answer()) == 1
        connection.cancel(owner)
        with pytest.raises(Cancelled):
            connection.run(answer())
    with calls_of(owner):
        assert connection.run(answer()) == 1
    with calls_of(Owner()):
        connection.cancel(owner)
        assert connection.run(answer()) == 1


class Owner:
    """Somebody who asks."""
