"""The SQL dialects of the warehouses: create a table, load files, merge and delete rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from tl_data.export.sink import Shape


@dataclass(frozen=True)
class Load:
    """The input of one load script."""

    table: str  # quoted name of the table, with its schema
    staged: str  # quoted name of a temporary table for the rows of the files
    shape: Shape
    location: str  # of the files when the script runs, without a trailing slash
    has_rows: bool  # whether rows are inserted or changed
    has_deletions: bool  # whether rows are deleted


@dataclass(frozen=True)
class Dialect:
    """The SQL dialect of one warehouse."""

    name: str
    quote: str  # quotation mark of names
    types: Mapping[str, str]  # `text`, `number`, `count`, `flag`, `time`, `texts` -> type of a column
    vector: Callable[[int | None], str]  # dimension -> type of a vector column
    location_format: str  # description and example of a location of files, for messages
    prefix: tuple[str, ...]  # the allowed beginnings of a location
    load: Callable[[Dialect, Load], list[str]]
    suffix: str = ""  # the end of CREATE TABLE, after the columns

    def quoted(self, *parts: str) -> str:
        """A quoted name of one or several parts. A quotation mark in a part is doubled."""
        q = self.quote
        return ".".join(f"{q}{part.replace(q, q * 2)}{q}" for part in parts if part)

    def type(self, type_: pa.DataType, shape: Shape) -> str:
        """The type of a column."""
        if pa.types.is_list(type_) and pa.types.is_floating(type_.value_type):
            return self.vector(shape.dimension)
        if pa.types.is_list(type_):
            return self.types["texts"]
        if pa.types.is_timestamp(type_):
            return self.types["time"]
        if pa.types.is_boolean(type_):
            return self.types["flag"]
        if pa.types.is_integer(type_):
            return self.types["count"]
        return self.types["number" if pa.types.is_floating(type_) else "text"]

    def columns(self, shape: Shape) -> list[tuple[str, str]]:
        """Quoted name and type of each column."""
        text = self.types["text"]
        columns = [(self.quoted(f.name), self.type(f.type, shape)) for f in shape.schema]
        return [(self.quoted("id"), text), *columns]

    def create(self, table: str, shape: Shape) -> str:
        """The statement that creates the table."""
        (key, type_), *rest = self.columns(shape)
        columns = ",\n  ".join([f"{key} {type_} NOT NULL", *(f"{n} {t}" for n, t in rest)])
        return f"CREATE TABLE IF NOT EXISTS {table} (\n  {columns}\n){self.suffix}"

    def merge(self, load: Load, source: str) -> str:
        """Insert the rows of `source`, or replace the rows with the same id."""
        names = [name for name, _ in self.columns(load.shape)]
        sets = ", ".join(f"{n} = s.{n}" for n in names[1:])
        values = ", ".join(f"s.{n}" for n in names)
        return (
            f"MERGE INTO {load.table} AS t USING {source} AS s ON t.{names[0]} = s.{names[0]}\n"
            f"WHEN MATCHED THEN UPDATE SET {sets}\n"
            f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({values})"
        )

    def delete(self, load: Load, source: str) -> str:
        """Delete the rows whose ids are in `source`."""
        key = self.quoted("id")
        return f"DELETE FROM {load.table} WHERE {key} IN (SELECT {key} FROM {source})"


def _snowflake(dialect: Dialect, load: Load) -> list[str]:
    form = "FILE_FORMAT = (TYPE = PARQUET USE_LOGICAL_TYPE = TRUE) MATCH_BY_COLUMN_NAME = CASE_SENSITIVE"
    statements, key = [], dialect.quoted("id")
    if load.has_rows:
        columns = dialect.columns(load.shape)
        raw = ", ".join(f"{n} {'ARRAY' if t.startswith('VECTOR') else t}" for n, t in columns)
        cast = ", ".join(f"{n}::{t} AS {n}" if t.startswith("VECTOR") else n for n, t in columns)
        statements += [
            f"CREATE OR REPLACE TEMPORARY TABLE {load.staged} ({raw})",
            f"COPY INTO {load.staged} FROM {load.location}/rows/ {form}",
            dialect.merge(load, f"(SELECT {cast} FROM {load.staged})"),
        ]
    if load.has_deletions:
        statements += [
            f"CREATE OR REPLACE TEMPORARY TABLE {load.staged} ({key} VARCHAR)",
            f"COPY INTO {load.staged} FROM {load.location}/gone/ {form}",
            dialect.delete(load, load.staged),
        ]
    return statements


def _bigquery(dialect: Dialect, load: Load) -> list[str]:
    statements = []
    for kind, has_files in (("rows", load.has_rows), ("gone", load.has_deletions)):
        if has_files:
            files = f"{load.location}/{kind}/*.parquet"
            options = f"format = 'PARQUET', enable_list_inference = true, uris = ['{files}']"
            statements.append(f"LOAD DATA OVERWRITE {load.staged} FROM FILES ({options})")
            statements.append((dialect.merge if kind == "rows" else dialect.delete)(load, load.staged))
    return [*statements, f"DROP TABLE IF EXISTS {load.staged}"]


def _databricks(dialect: Dialect, load: Load) -> list[str]:
    statements = []
    if load.has_rows:
        statements.append(dialect.merge(load, f"parquet.`{load.location}/rows`"))
    if load.has_deletions:
        statements.append(dialect.delete(load, f"parquet.`{load.location}/gone`"))
    return statements


DIALECTS: Sequence[Dialect] = (
    Dialect(
        "snowflake",
        '"',
        {
            **{"text": "VARCHAR", "number": "DOUBLE", "count": "BIGINT", "flag": "BOOLEAN"},
            **{"time": "TIMESTAMP_TZ", "texts": "ARRAY"},
        },
        lambda dimension: f"VECTOR(FLOAT, {dimension})" if dimension else "ARRAY",
        "a stage, such as @my_stage/tl_data",
        ("@",),
        _snowflake,
    ),
    Dialect(
        "bigquery",
        "`",
        {
            **{"text": "STRING", "number": "FLOAT64", "count": "INT64", "flag": "BOOL"},
            **{"time": "TIMESTAMP", "texts": "ARRAY<STRING>"},
        },
        lambda dimension: "ARRAY<FLOAT64>",
        "a bucket, such as gs://my_bucket/tl_data",
        ("gs://",),
        _bigquery,
    ),
    Dialect(
        "databricks",
        "`",
        {
            **{"text": "STRING", "number": "DOUBLE", "count": "BIGINT", "flag": "BOOLEAN"},
            **{"time": "TIMESTAMP", "texts": "ARRAY<STRING>"},
        },
        lambda dimension: "ARRAY<FLOAT>",
        "a volume or bucket, such as /Volumes/main/video/files",
        ("/Volumes/", "s3://", "abfss://", "gs://", "dbfs:/"),
        _databricks,
        suffix=" USING DELTA",
    ),
)
