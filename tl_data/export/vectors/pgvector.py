"""PostgreSQL with pgvector: one table. Rows are written with `INSERT ... ON CONFLICT`.

Vectors of up to 2,000 dimensions get an HNSW index.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import ids, matrix, metric_name, payloads, type_name

EXTRA = "pgvector"
MAX_INDEXED = 2000  # the most dimensions that an HNSW index supports for the type `vector`
TYPES = {
    "text": "text",
    "number": "double precision",
    "count": "bigint",
    "flag": "boolean",
    "time": "timestamp with time zone",
    "texts": "text[]",
}


class PgVector(BaseStore):
    """Writes rows to one table."""

    def __init__(self, target: Target) -> None:
        self._psycopg, self._sql = import_client(EXTRA, "psycopg", "psycopg.sql")
        self.errors = (self._psycopg.Error, OSError)
        parameters: dict[str, Any] = {
            "host": target.options.get("socket") or target.host or None,
            "port": target.port,
            "user": target.user or None,
            "password": target.password or None,
            "dbname": target.path or None,
        }
        # libpq has defaults for the missing parameters: PGUSER, .pgpass and others.
        self._parameters = {n: v for n, v in parameters.items() if v is not None}
        self._connection: Any = None
        self._address, self._name = target.name, target.collection
        self._schema = target.options.get("schema", "public")
        self._statement: Any = None
        self._shape: Shape | None = None

    def _open(self) -> Any:
        if self._connection is None or self._connection.closed:
            self._connection = self._psycopg.connect(**self._parameters, connect_timeout=20, autocommit=True)
        return self._connection

    @property
    def _table(self) -> Any:
        return self._sql.Identifier(self._schema, self._name)

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check columns, dimension and the metric of the index, or create the table and its extension."""
        self._shape = shape
        self._statement = self._insert_statement(shape)
        columns = self._columns()
        if columns:
            for field in shape.schema:
                actual = columns.get(field.name, "missing")
                check_same(f"column {field.name}", actual, TYPES[type_name(field.type)], self._address)
            if shape.dimension is not None:
                check_same(
                    "column vector", columns.get("vector"), f"vector({shape.dimension})", self._address
                )
            expected = metric_name(("vector_cosine_ops", "vector_ip_ops", "vector_l2_ops"), shape.metric)
            for actual in self._operator_classes():
                check_same("metric of the index", actual, expected, self._address)
            return False
        if create and shape.dimension is not None:
            self._create(shape)
        return True

    def _create(self, shape: Shape) -> None:
        sql, connection = self._sql, self._open()
        connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
        connection.execute(sql.SQL("CREATE SCHEMA IF NOT EXISTS {}").format(sql.Identifier(self._schema)))
        columns = [
            sql.SQL("id uuid PRIMARY KEY"),
            sql.SQL(f"vector vector({shape.dimension}) NOT NULL"),
            *(
                sql.SQL("{} {}").format(sql.Identifier(f.name), sql.SQL(TYPES[type_name(f.type)]))
                for f in shape.schema
            ),
        ]
        create = sql.SQL("CREATE TABLE IF NOT EXISTS {} ({})")
        connection.execute(create.format(self._table, sql.SQL(", ").join(columns)))

    def _columns(self) -> dict[str, str]:
        """Name -> type of the columns; empty if the table does not exist."""
        result = self._open().execute(
            "SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a "
            "JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace "
            "WHERE n.nspname = %s AND c.relname = %s AND a.attnum > 0 AND NOT a.attisdropped",
            (self._schema, self._name),
        )
        return dict(result.fetchall())

    def _operator_classes(self) -> list[str]:
        """The operator classes of the vector indexes, which name their metrics."""
        result = self._open().execute(
            "SELECT o.opcname FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid "
            "JOIN pg_namespace n ON n.oid = t.relnamespace JOIN pg_class x ON x.oid = i.indexrelid "
            "JOIN pg_am m ON m.oid = x.relam JOIN pg_opclass o ON o.oid = i.indclass[0] "
            "WHERE n.nspname = %s AND t.relname = %s AND m.amname IN ('hnsw', 'ivfflat')",
            (self._schema, self._name),
        )
        return [name for (name,) in result.fetchall()]

    def _insert_statement(self, shape: Shape) -> Any:
        sql = self._sql
        names = ["id", "vector", *shape.schema.names]
        return sql.SQL("INSERT INTO {} ({}) VALUES ({}) ON CONFLICT (id) DO UPDATE SET {}").format(
            self._table,
            sql.SQL(", ").join(map(sql.Identifier, names)),
            sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            sql.SQL(", ").join(
                sql.SQL("{0} = EXCLUDED.{0}").format(sql.Identifier(name)) for name in names[1:]
            ),
        )

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Write the rows in one transaction."""
        connection = self._open()
        values = [
            (id_, "[" + ",".join(map(str, vector)) + "]", *payload.values())
            for id_, vector, payload in zip(
                ids(rows), matrix(rows).tolist(), payloads(rows, nulls=True), strict=True
            )
        ]
        with connection.transaction(), connection.cursor() as cursor:
            cursor.executemany(self._statement, values)
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Delete the rows with one statement."""
        statement = self._sql.SQL("DELETE FROM {} WHERE id = ANY(%s::uuid[])").format(self._table)
        if self._columns():
            self._open().execute(statement, (list(ids),))

    def finish(self) -> None:
        """Create the index. This is faster after the first rows are inserted than before."""
        shape = self._shape
        if shape is None or not shape.dimension or shape.dimension > MAX_INDEXED or self._operator_classes():
            return
        operator_class = metric_name(("vector_cosine_ops", "vector_ip_ops", "vector_l2_ops"), shape.metric)
        statement = self._sql.SQL("CREATE INDEX ON {} USING hnsw (vector {})")
        self._open().execute(statement.format(self._table, self._sql.SQL(operator_class)))

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()


SINK = Sink(
    "pgvector",
    "vectors",
    PgVector,
    "USER:PASSWORD@HOST:5432/DATABASE",
    extra=EXTRA,
    options={
        "collection": "name of the table; default: tl_vectors",
        "schema": "schema of the table; default: public",
        "socket": "folder of the server's Unix socket",
    },
    default_tables=("vectors",),
    reserved=re.compile(r"(?i)ctid|xmin|xmax|cmin|cmax|tableoid"),
    batch_rows=1000,
)
