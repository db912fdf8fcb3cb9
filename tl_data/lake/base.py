"""What the tables of every format share: the protocol of a table, and rows that fit its schema."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import Any, Protocol, TypeVar

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import LakeError, SchemaMismatch
from tl_data.lake.schemas import LakeSchema, with_former_names

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

    def migrate(self) -> bool:
        """Give a table of the release before this release's columns; whether there was anything to do."""

    def describe(self) -> int:
        """Set the descriptions of columns that have none; how many there were."""


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


def readable(
    where: str, declared: LakeSchema, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> pa.RecordBatchReader:
    """Batches in this schema, which is a part of the declared one.

    Raises:
        LakeError: a file cannot be read; raised when the reader comes to it.
    """

    def read() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                yield upgraded(declared, batch, schema)
        except (OSError, pa.ArrowException) as error:
            said = reason(error).partition(". Detail:")[0]
            raise LakeError(f"{where}: a file of it cannot be read: {said}. {LOST}") from error

    return pa.RecordBatchReader.from_batches(schema, read())


def part(declared: LakeSchema, columns: Sequence[str] | None) -> pa.Schema:
    """The schema of some of a table's columns; of all when none are named."""
    return pa.schema([declared.schema.field(n) for n in columns or declared.schema.names])


def rows_of(declared: LakeSchema, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Python rows as a table of the declared schema; what a row does not say is NULL.

    A float in a DECIMAL column becomes the decimal that it prints as, rounded to the column's scale.

    Raises:
        SchemaMismatch: a value does not fit its column.
    """
    decimals = [field for field in declared.schema if pa.types.is_decimal(field.type)]
    full = [with_former_names(declared, row) for row in rows]  # copies
    try:
        for row in full:
            for field in decimals:
                row[field.name] = _decimal(row.get(field.name), field.type.scale)
        return pa.Table.from_pylist(full, declared.schema)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise SchemaMismatch(f"table {declared.name}: {error}") from error


def _decimal(value: Any, scale: int) -> Any:
    if not isinstance(value, float):
        return value
    exact = Decimal(repr(value))
    with suppress(InvalidOperation):  # too large, infinite: Arrow refuses it and names it
        return exact.quantize(Decimal(1).scaleb(-scale))
    return exact


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
    """Rows with the columns of the declaration, in its order and exact types, and nothing else.

    Raises:
        SchemaMismatch: names the column and both types.
    """
    check(declared, rows.schema, f"the rows for table {declared.name}")
    return upgraded(declared, rows, declared.schema)


Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def upgraded(declared: LakeSchema, rows: Rows, schema: pa.Schema) -> Rows:
    """Rows of this or the release before, in the names and types of `schema`, which is of this release."""
    columns = []
    for field in schema:
        former = declared.renamed.get(field.name, field.name)
        name = field.name if field.name in rows.schema.names else former
        if name in rows.schema.names:
            columns.append(_cast(rows.column(name), field.type))
        elif (source := declared.derived.get(field.name)) and source in rows.schema.names:
            columns.append(pc.binary_join_element_wise("video", _cast(rows.column(source), pa.string()), ":"))
        else:
            columns.append(pa.nulls(rows.num_rows, field.type))
    return type(rows).from_arrays(columns, schema=schema)


def _cast(column: Any, kind: pa.DataType) -> Any:
    if pa.types.is_decimal(kind) and pa.types.is_floating(column.type):
        column = pc.round(column, kind.scale)  # more digits than the type has are an error of Arrow's
    return column.cast(kind)


def needed_columns(declared: LakeSchema, found: pa.Schema, names: Sequence[str]) -> list[str]:
    """The columns to read from a table of this or the release before, to give these."""
    former = [declared.renamed.get(name, declared.derived.get(name, name)) for name in names]
    wanted = (n if n in found.names else old for n, old in zip(names, former, strict=True))
    return [name for name in dict.fromkeys(wanted) if name in found.names]


def outdated(declared: LakeSchema, found: pa.Schema) -> bool:
    """Whether a table was written by the release before and is to be migrated."""
    return any(
        field.name not in found.names or shape(found.field(field.name).type) != shape(field.type)
        for field in declared.schema
    )


def of_others(declared: LakeSchema, found: pa.Schema) -> list[pa.Field]:
    """Columns that somebody added to a table: they stay, and are NULL in the rows that are written here."""
    return [field for field in found if field.name not in declared.schema.names]


def padded(rows: pa.Table, more: Sequence[pa.Field]) -> pa.Table:
    """Rows with further columns that are NULL."""
    for field in more:
        rows = rows.append_column(field.with_nullable(True), pa.nulls(rows.num_rows, field.type))
    return rows


def check(declared: LakeSchema, found: pa.Schema, where: str) -> None:
    """Compare what a table has with what this version of the package writes.

    Names of list elements and 64-bit offsets do not count: Delta and Spark choose them freely. Neither do
    columns that somebody added, nor what the release before wrote.

    Raises:
        SchemaMismatch: names every column that differs, and its types.
    """
    faults = []
    for field in declared.schema:
        if field.name not in found.names:
            if field.name not in declared.added:
                faults.append(f"column {field.name} ({shape(field.type)}) is missing")
            continue
        is_now = shape(found.field(field.name).type)
        if is_now not in (shape(field.type), shape(declared.former.get(field.name, field.type))):
            faults.append(f"column {field.name} is {is_now}, but should be {shape(field.type)}")
    faults += [
        f"column {field.name} that was added to it may be NULL nowhere"
        for field in of_others(declared, found)
        if not field.nullable
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
