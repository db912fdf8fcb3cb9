"""The engines as tests see them: one way to call a catalog function on rows, and each engine's quirks.

`call` gives one value a row, `attempt` the rows of the `try_` form, both in the order of the rows. A table
function's value is its list of rows, or None where SQL gives no rows at all.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import duckdb
import pandas as pd
import pyarrow as pa

import tl_data
from tl_data.catalog import Function
from tl_data.connection import connect
from tl_data.runtime.pool import outcome_row
from tl_data.settings import Settings

Rows = Sequence[dict[str, Any]]


class Surface(ABC):
    """A way to call the catalog."""

    name: str
    #: What a NULL first argument gives for a table function.
    null_table: list[Any] | None = None
    #: Whether a call written three times in one statement can be tried at all.
    speaks_sql = True

    @abstractmethod
    def call(self, f: Function, rows: Rows) -> list[Any]:
        """The plain form."""

    @abstractmethod
    def attempt(self, f: Function, rows: Rows) -> list[dict[str, Any]]:
        """The form that never fails."""


class DuckDB(Surface):
    """SQL in DuckDB: arguments are columns of a table, and tables are joined laterally."""

    name = "duckdb"

    def __init__(self, settings: Settings) -> None:
        self.con = duckdb.connect()
        tl_data.register(self.con, settings)

    def call(self, f: Function, rows: Rows) -> list[Any]:
        self._given(f, rows)
        if not f.returns_table:
            found = self.con.sql(f"SELECT {f.sql}({self._named(f, rows)}) AS value FROM given ORDER BY n")
            return found.to_arrow_table().column("value").to_pylist()
        columns = ", ".join(f'"{c}" := c."{c}"' for c in f.columns.names)
        found = self.con.sql(
            f"SELECT n, struct_pack({columns}) AS row FROM given, LATERAL {f.sql}({self._named(f, rows)}) c"
        )
        lists: list[Any] = [None] * len(rows)
        for record in found.to_arrow_table().to_pylist():
            lists[record["n"]] = [*(lists[record["n"]] or []), record["row"]]
        return lists

    def attempt(self, f: Function, rows: Rows) -> list[dict[str, Any]]:
        self._given(f, rows)
        found = self.con.sql(f"SELECT try_{f.sql}({self._named(f, rows)}) AS value FROM given ORDER BY n")
        return found.to_arrow_table().column("value").to_pylist()  # type: ignore[no-any-return]

    def _given(self, f: Function, rows: Rows) -> None:
        self.con.execute("DROP TABLE IF EXISTS given")
        table = given_table(f, rows)
        self.con.from_arrow(table).create("given")

    def _named(self, f: Function, rows: Rows) -> str:
        names = used(f, rows)
        return ", ".join(
            f'given."{p.name}"' if p.required else f'{p.name} => given."{p.name}"'
            for p in f.parameters
            if p.name in names
        )

    def close(self) -> None:
        self.con.close()


class Pandas(Surface):
    """Python with Series as columns."""

    name = "pandas"
    speaks_sql = False

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    def call(self, f: Function, rows: Rows) -> list[Any]:
        index = pd.RangeIndex(len(rows))
        columns = {
            n: pd.Series([r.get(n) for r in rows], index=index, dtype=object) for n in sorted(used(f, rows))
        }
        return list(getattr(tl_data, f.name)(**columns, settings=self.settings))

    def attempt(self, f: Function, rows: Rows) -> list[dict[str, Any]]:
        outcomes = connect(self.settings).map(f, rows)
        return pa.array([outcome_row(o) for o in outcomes], f.outcome).to_pylist()  # type: ignore[no-any-return]

    def close(self) -> None:
        pass


def used(f: Function, rows: Rows) -> set[str]:
    """The arguments that are given in any row, and those that must be."""
    return {n for row in rows for n in row} | {p.name for p in f.parameters if p.required}


def given_table(f: Function, rows: Rows) -> pa.Table:
    """The rows of arguments as a table, numbered in `n`."""
    schema = f.takes.append(pa.field("n", pa.int64()))
    names = used(f, rows)
    table = pa.Table.from_pylist([{**row, "n": i} for i, row in enumerate(rows)], schema)
    return table.select([*(p.name for p in f.parameters if p.name in names), "n"])
