"""Spark SQL as the shared body of tests sees it."""

from __future__ import annotations

from typing import Any

from pyspark.sql.pandas.types import from_arrow_schema

from tests.support.surfaces import Rows, Surface, given_table, used
from tl_data.catalog import Function


class Spark(Surface):
    """SQL in Spark, classic or Connect: arguments are columns of a view of two partitions."""

    name = "spark"

    def __init__(self, spark: Any) -> None:
        self.spark = spark

    def call(self, f: Function, rows: Rows) -> list[Any]:
        self._given(f, rows)
        if not f.returns_table:
            found = self.spark.sql(f"SELECT {f.sql}({self._named(f, rows)}) AS value FROM given ORDER BY n")
            return self._values(found)
        columns = ", ".join(f"'{c}', c.`{c}`" for c in f.columns.names)
        found = self.spark.sql(
            f"SELECT n, named_struct({columns}) AS row FROM given, LATERAL {f.sql}({self._named(f, rows)}) c"
        )
        lists: list[Any] = [None] * len(rows)
        for record in found.toArrow().to_pylist():
            lists[record["n"]] = [*(lists[record["n"]] or []), record["row"]]
        return lists

    def attempt(self, f: Function, rows: Rows) -> list[dict[str, Any]]:
        self._given(f, rows)
        return self._values(
            self.spark.sql(f"SELECT try_{f.sql}({self._named(f, rows)}) AS value FROM given ORDER BY n")
        )

    def _given(self, f: Function, rows: Rows) -> None:
        table = given_table(f, rows)
        schema = from_arrow_schema(table.schema)
        # Connect takes no Arrow table without rows.
        given = self.spark.createDataFrame(table if rows else [], schema)
        # Rows are counted within a partition: the few of a test of messages stay in one.
        given.repartitionByRange(1 if len(rows) <= 2 else 2, "n").createOrReplaceTempView("given")

    def _named(self, f: Function, rows: Rows) -> str:
        names = used(f, rows)
        return ", ".join(
            f"given.`{p.name}`" if p.required else f"{p.name} => given.`{p.name}`"
            for p in f.parameters
            if p.name in names
        )

    @staticmethod
    def _values(found: Any) -> list[Any]:
        return found.toArrow().column("value").to_pylist()  # type: ignore[no-any-return]

    def close(self) -> None:
        """The session is shared."""
