"""What the tables of every format share: the protocol of a table, and rows that fit its schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Protocol

import pyarrow as pa

from tl_data.errors import LakeError, SchemaMismatch
from tl_data.lake.schemas import LakeSchema

Group = tuple[Any, ...]  # the values of a table's `by` columns


class LakeTable(Protocol):
    """A table of the lake: what Parquet and Delta both can."""

    declared: LakeSchema

    def append(self, rows: pa.Table) -> None:
        """Add rows, whatever is there already."""

    def replace(self, rows: pa.Table) -> None:
        """Put these rows in the place of all rows."""

    def replace_groups(self, rows: pa.Table, gone: Collection[Group] = ()) -> None:
        """Put these rows in the place of those of the same groups; groups in `gone` lose their rows."""

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The table as it is now, in the declared types, a batch at a time."""

    def where(self) -> str:
        """What a person types to find it."""


#: What to do about a table that is damaged.
LOST = (
    "Restore it from a copy, or rename it and run again: results that were paid for come from the ledger, "
    "not from the table."
)


def reason(error: BaseException) -> str:
    """Why a table cannot be read or written, in one line; and what to do where that is plain."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    text = re.split(r"(?m)^\s*(?:0: |stack backtrace)", text)[0]  # a trace is for its makers
    lines = (re.sub(r"\x1b\[\d*m|↳", "", line).strip(" .") for line in text.splitlines())
    said = ": ".join(line for line in lines if line) or type(error).__name__
    if re.search(r"(?i)no space left|os error 28|quota exceeded", said):
        return f"the disk is full. Free some space and run again ({said})"
    if re.search(r"(?i)permission ?denied|read-?only|access ?denied|os error (13|30)\b|\b403\b", said):
        return f"no permission. Check the rights, or choose another outputs folder ({said})"
    return said


def readable(where: str, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> pa.RecordBatchReader:
    """Batches in this schema; what is wrong with their files is told when it is met.

    Raises:
        LakeError: while it is read.
    """

    def read() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                yield batch.select(schema.names).cast(schema)
        except (OSError, pa.ArrowException) as error:
            said = reason(error).partition(". Detail:")[0]
            raise LakeError(f"{where}: a file of it cannot be read: {said}. {LOST}") from error

    return pa.RecordBatchReader.from_batches(schema, read())


def part(declared: LakeSchema, columns: Sequence[str] | None) -> pa.Schema:
    """The schema of some of a table's columns; of all when none are named."""
    return pa.schema([declared.schema.field(n) for n in columns or declared.schema.names])


def rows_of(declared: LakeSchema, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Python rows as a table of the declared schema; what a row does not say is NULL.

    Raises:
        SchemaMismatch: a value does not fit its column.
    """
    try:
        return pa.Table.from_pylist(list(rows), declared.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatch(f"table {declared.name}: {error}") from error


def groups_of(declared: LakeSchema, rows: pa.Table) -> list[Group]:
    """The group of each row.

    Raises:
        SchemaMismatch: a column that identifies rows is NULL.
    """
    columns = [rows.column(name) for name in declared.by]
    for name, column in zip(declared.by, columns, strict=True):
        if column.null_count:
            raise SchemaMismatch(f"table {declared.name}: column {name} identifies rows and may not be NULL")
    return list(zip(*(column.to_pylist() for column in columns), strict=True))


def fitted(declared: LakeSchema, rows: pa.Table) -> pa.Table:
    """Rows with the columns of the declaration, in its order and exact types.

    Raises:
        SchemaMismatch: names the column and both types.
    """
    check(declared, rows.schema, f"the rows for table {declared.name}")
    return rows.select(declared.schema.names).cast(declared.schema)


def check(declared: LakeSchema, found: pa.Schema, where: str) -> None:
    """Compare what a table has with what this version of the package writes.

    Names of list elements and 64-bit offsets do not count: Delta and Spark choose them freely.

    Raises:
        SchemaMismatch: names every column that differs, and its types.
    """
    faults = []
    for field in declared.schema:
        if field.name not in found.names:
            faults.append(f"column {field.name} ({shape(field.type)}) is missing")
        elif shape(found.field(field.name).type) != shape(field.type):
            is_now = shape(found.field(field.name).type)
            faults.append(f"column {field.name} is {is_now}, but should be {shape(field.type)}")
    faults += [
        f"column {field.name} ({shape(field.type)}) is not known here"
        for field in found
        if field.name not in declared.schema.names
    ]
    if faults:
        raise SchemaMismatch(
            f"{where}: {'; '.join(faults)}. Nothing was written. Rename the table or choose another outputs "
            "folder: results that were paid for come from the ledger, not from the table."
        )


def shape(type_: pa.DataType) -> str:
    """A type as text, without what engines choose freely."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"list<{shape(type_.value_type)}>"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "string"
    return str(type_)
