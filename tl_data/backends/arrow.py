"""Arrow streams: call a function for each row of a stream of batches, in bounded memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from tl_data.catalog import Function
from tl_data.connection import Connection, connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import find_function
from tl_data.runtime.pool import outcome_row
from tl_data.settings import Settings


def stream(
    source: Any,
    function: str,
    columns: Mapping[str, str],
    *,
    into: str = "value",
    attempt: bool = False,
    settings: Settings | None = None,
    **constants: Any,
) -> pa.RecordBatchReader:
    """The batches of `source` with one more column: the function's value for each row.

        reader = stream(con.sql("SELECT * FROM videos"), "summarize", {"video": "url"}, into="summary")
        con.from_arrow(reader).create("summaries")

    A batch is returned as soon as all of its rows have an answer, while the calls of the next batches are in
    progress. The memory in use does not grow with the size of the source.

    Args:
        source: a RecordBatchReader, a Table, or any object with an Arrow stream, such as a DuckDB relation.
        function: name in the catalog, such as "summarize".
        columns: argument of the function -> column of the source.
        into: name of the new column.
        attempt: return the `try_` struct (value, error, usage, provenance) instead of failing.
        settings: the settings of the calls; None: `Settings.load()`.
        constants: arguments that are the same for all rows.

    Raises:
        SchemaMismatch: an unknown function, argument or column.
        RowFailed: a row failed; raised while the stream is read. Not raised with `attempt`, nor with the
            setting `on_error = "null"`.
    """
    f = find_function(function)
    reader = source if isinstance(source, pa.RecordBatchReader) else pa.RecordBatchReader.from_stream(source)
    if missing := [c for c in columns.values() if c not in reader.schema.names]:
        raise SchemaMismatch(
            f"no column {missing[0]!r} in the source; columns: {', '.join(reader.schema.names)}"
        )
    f.arguments(dict.fromkeys(columns) | constants)
    schema = reader.schema.append(pa.field(into, f.outcome if attempt else f.gives))
    batches = _append_answers(connect(settings), f, reader, columns, constants, attempt, schema)
    return pa.RecordBatchReader.from_batches(schema, batches)


def _append_answers(
    connection: Connection,
    f: Function,
    reader: pa.RecordBatchReader,
    columns: Mapping[str, str],
    constants: Mapping[str, Any],
    attempt: bool,
    schema: pa.Schema,
) -> Iterator[pa.RecordBatch]:
    waiting: deque[pa.RecordBatch] = deque()

    def rows() -> Iterator[dict[str, Any]]:
        for batch in reader:
            if batch.num_rows == 0:
                continue
            waiting.append(batch)
            lists = [batch.column(column).to_pylist() for column in columns.values()]
            for row in zip(*lists, strict=True):
                yield {**dict(zip(columns, row, strict=True)), **constants}

    values: Iterator[Any] = (
        (outcome_row(o) for o in connection.map(f, rows())) if attempt else connection.values(f, rows())
    )
    answers: list[Any] = []
    for answer in values:
        answers.append(answer)
        if len(answers) == waiting[0].num_rows:
            batch = waiting.popleft()
            column = pa.array(answers, schema.field(schema.names[-1]).type)
            yield pa.RecordBatch.from_arrays([*batch.columns, column], schema=schema)
            answers = []
