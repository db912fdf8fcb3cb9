"""Registering functions in DuckDB: their types, and what it imports."""

from __future__ import annotations

import json
import subprocess
import sys

import duckdb
import pyarrow as pa

import tl_data
from tl_data.backends.duckdb import sql_type
from tl_data.catalog import FUNCTIONS, LISTINGS


def test_types_are_those_to_which_duckdb_converts() -> None:
    kinds = {p.type for record in (*FUNCTIONS.values(), *LISTINGS.values()) for p in record.parameters}
    kinds |= {kind for f in FUNCTIONS.values() for kind in (f.gives, f.outcome)}
    kinds |= {pa.list_(pa.struct(list(t.schema))) for t in LISTINGS.values()} | {
        pa.binary(),
        pa.timestamp("us"),
    }
    with duckdb.connect() as con:
        for kind in kinds:
            [expected] = con.from_arrow(pa.schema([("value", kind)]).empty_table()).types
            assert duckdb.sqltype(sql_type(kind)) == expected, kind


def test_registering_imports_no_http_library_and_no_pandas() -> None:
    """They take longer to import than all else together."""
    program = (
        "import duckdb, json, sys, tl_data\n"
        "con = duckdb.connect()\n"
        "tl_data.register(con)\n"
        "con.close()\n"
        "print(json.dumps([n for n in ('aiohttp', 'httpx', 'openai', 'pandas') if n in sys.modules]))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []


def test_registering_inside_a_transaction_keeps_it() -> None:
    """The functions are looked for by a query that fails where there are none."""
    with duckdb.connect() as con:
        con.execute("BEGIN")
        con.execute("CREATE TABLE t AS SELECT 1 AS n")
        tl_data.register(con)
        con.execute("COMMIT")
        assert con.sql("SELECT n, tl_json('{\"a\": 2}', '$.a') FROM t").fetchall() == [(1, "2")]
