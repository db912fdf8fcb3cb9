"""Oracle Database 23ai and later: one table with a VECTOR column. Rows are written with MERGE.

The export creates no vector index: it needs the vector memory pool of the database (`vector_memory_size`).
Searches without it compare all vectors exactly.
"""

from __future__ import annotations

import array
import os
import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, payloads, type_name

EXTRA = "oracle"
TYPES = {
    "text": "CLOB",
    "number": "BINARY_DOUBLE",
    "count": "NUMBER(19)",
    "flag": "BOOLEAN",
    "time": "TIMESTAMP WITH TIME ZONE",
}


class Oracle(BaseStore):
    """Writes rows to one Oracle table."""

    def __init__(self, target: Target) -> None:
        [self._library] = import_client(EXTRA, "oracledb")
        self.errors = (self._library.Error, OSError)
        if not target.path:
            raise SettingsError(
                "oracle:// needs the name of a service: oracle://USER@HOST:1521/SERVICE, and the password in "
                "ORACLE_PASSWORD"
            )
        password = target.password or os.environ.get("ORACLE_PASSWORD")
        dsn = f"{target.host}:{target.port or 1521}/{target.path}"
        self._connection = self._library.connect(
            user=target.user, password=password, dsn=dsn, tcp_connect_timeout=20
        )
        self._target, self._table = target.name, target.collection
        self._shape: Shape | None = None

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check that the columns exist, and the dimension; or create the table."""
        self._shape = shape
        with self._connection.cursor() as cursor:
            cursor.execute(
                "SELECT column_name, data_type, vector_info FROM user_tab_columns WHERE table_name = :1",
                [self._table],
            )
            columns = {name: (type_, info) for name, type_, info in cursor.fetchall()}
            if columns:
                for name in ("id", *shape.schema.names):
                    if name not in columns:
                        text = f"{self._target}: the column {name} is missing in the table {self._table}"
                        raise SchemaMismatch(
                            f"{text}. Nothing was written. Add it, or export to another table"
                        )
                if shape.dimension is not None:
                    info = str(columns.get("vector", ("", "missing"))[1])
                    length = re.search(r"VECTOR\((\d+)", info)
                    check_same("dimension", int(length[1]) if length else info, shape.dimension, self._target)
                return False
            if create and shape.dimension is not None:
                cursor.execute(create_table(self._table, shape))
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Bind all rows to one MERGE (`executemany`) and commit. The driver returns the rows that fail."""
        assert self._shape is not None
        row_ids, payload_rows = ids(rows), payloads(rows, nulls=True)
        values = [
            [id_, array.array("f", vector), *payload.values()]
            for id_, vector, payload in zip(row_ids, matrix(rows), payload_rows, strict=True)
        ]
        with self._connection.cursor() as cursor:
            cursor.setinputsizes(*self._bind_types())
            cursor.executemany(merge(self._table, self._shape), values, batcherrors=True)
            failures = cursor.getbatcherrors()
        self._connection.commit()
        return [
            Refused(
                row_ids[f.offset],
                str(f.full_code),
                f.message,
                str(payload_rows[f.offset].get("video_id") or ""),
            )
            for f in failures
        ]

    def _bind_types(self) -> list[Any]:
        """The arguments of `setinputsizes`: 36 characters for ids, then the types of vectors and CLOBs.

        None leaves the type of a column to the driver.
        """
        assert self._shape is not None
        clob = self._library.DB_TYPE_CLOB
        payload_types = [
            clob if TYPES.get(type_name(f.type), "CLOB") == "CLOB" else None for f in self._shape.schema
        ]
        return [36, self._library.DB_TYPE_VECTOR, *payload_types]

    def delete(self, ids: Sequence[str]) -> None:
        """Bind all ids to one DELETE (`executemany`) and commit."""
        with self._connection.cursor() as cursor:
            cursor.executemany(
                f"DELETE FROM {_quoted(self._table)} WHERE {_quoted('id')} = :1", [[i] for i in ids]
            )
        self._connection.commit()

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


def _quoted(name: str) -> str:
    """A name in quotes, which keeps its case and may be a reserved word."""
    return '"' + name.replace('"', "") + '"'


def create_table(name: str, shape: Shape) -> str:
    """The statement that creates the table."""
    columns = [f"{_quoted('id')} VARCHAR2(36) PRIMARY KEY"]
    columns.append(f"{_quoted('vector')} VECTOR({shape.dimension}, FLOAT32) NOT NULL")
    columns += [f"{_quoted(f.name)} {TYPES.get(type_name(f.type), 'CLOB')}" for f in shape.schema]
    return f"CREATE TABLE {_quoted(name)} ({', '.join(columns)})"


def merge(name: str, shape: Shape) -> str:
    """The statement that inserts a row, or replaces the row with the same id."""
    names = [_quoted(n) for n in ("id", "vector", *shape.schema.names)]
    source = ", ".join(f":c{i} AS {column}" for i, column in enumerate(names, 1))
    sets = ", ".join(f"t.{column} = s.{column}" for column in names[1:])
    return (
        f"MERGE INTO {_quoted(name)} t USING (SELECT {source} FROM dual) s ON (t.{names[0]} = s.{names[0]}) "
        f"WHEN MATCHED THEN UPDATE SET {sets} "
        f"WHEN NOT MATCHED THEN INSERT ({', '.join(names)}) VALUES ({', '.join(f's.{n}' for n in names)})"
    )


SINK = Sink(
    "oracle",
    "vectors",
    Oracle,
    "USER:PASSWORD@HOST:1521/SERVICE",
    extra=EXTRA,
    options={"collection": "name of the table; default: tl_vectors"},
    default_tables=("vectors",),
    reserved=re.compile(r"(?i)rowid|rownum"),
)
