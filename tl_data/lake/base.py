"""The protocol of tables of all formats, and the validation of rows against a schema."""

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

#: The values of a table's `by` columns (`LakeSchema.by`), which identify rows that are replaced together.
Group = tuple[Any, ...]


class LakeTable(Protocol):
    """A table of the lake, in Parquet or Delta."""

    declared: LakeSchema

    def append(self, rows: pa.Table) -> None:
        """Append rows, also if the table has rows of their groups."""

    def replace(self, rows: pa.Table) -> None:
        """Replace all rows. Columns that a user added are kept, and are NULL."""

    def replace_groups(self, rows: pa.Table, delete: Collection[Group] = ()) -> None:
        """Replace all rows of the groups in `rows`, and delete the rows of the groups in `delete`."""

    def batches(self, columns: Sequence[str] | None = None) -> pa.RecordBatchReader:
        """The current rows in the declared types, as a stream of batches."""

    def sql_path(self) -> str:
        """What SQL reads the table by: its address for `delta_scan`, or a pattern for `read_parquet`."""

    def migrate(self) -> bool:
        """Migrate a table of the previous release; returns whether it was changed."""

    def add_missing_comments(self) -> int:
        """Add the comments (descriptions) of columns without one; returns the number of these columns."""


#: The advice in messages about a damaged file. A run notices a missing table, but not a missing file of one.
REBUILD_ADVICE = (
    "Restore the file from a copy, or rename the folder of the table and run the job again: it writes the "
    "table again from the ledger, without new charges."
)


def describe_error(error: BaseException) -> str:
    """Why a table cannot be read or written, in one line, with the next step if it is known."""
    text = (error.strerror if isinstance(error, OSError) else None) or str(error)
    text = re.split(r"(?m)^\s*(?:0: |stack backtrace)", text)[0]  # without the stack trace of Rust
    lines = (re.sub(r"\x1b\[\d*m|↳", "", line).strip(" .") for line in text.splitlines())
    text = ": ".join(line for line in lines if line) or type(error).__name__
    if re.search(r"(?i)no space left|os error 28|quota exceeded", text):
        return f"the disk is full. Free some space and run again ({text})"
    if re.search(r"(?i)permission ?denied|read-?only|access ?denied|os error (13|30)\b|\b403\b", text):
        return f"no permission. Check the rights, or choose another outputs folder ({text})"
    return text


def read_declared(
    where: str, declared: LakeSchema, schema: pa.Schema, batches: Iterable[pa.RecordBatch]
) -> pa.RecordBatchReader:
    """A reader of batches that are converted to `schema`, which has all or some of the declared columns.

    Raises:
        LakeError: a file cannot be read; the reader raises it when it reaches the file.
    """

    def read() -> Iterator[pa.RecordBatch]:
        try:
            for batch in batches:
                yield upgrade_rows(declared, batch, schema)
        except (OSError, pa.ArrowException) as error:
            text = describe_error(error).partition(". Detail:")[0]
            raise LakeError(f"{where}: a file cannot be read: {text}. {REBUILD_ADVICE}") from error

    return pa.RecordBatchReader.from_batches(schema, read())


def select_schema(declared: LakeSchema, columns: Sequence[str] | None) -> pa.Schema:
    """The schema of the given columns of a table; None: of all columns."""
    return pa.schema([declared.schema.field(n) for n in columns or declared.schema.names])


def rows_of(declared: LakeSchema, rows: Sequence[dict[str, Any]]) -> pa.Table:
    """Convert Python rows to a table of the declared schema. Missing values are NULL.

    A float in a DECIMAL column becomes the decimal that it prints as, rounded to the column's scale.

    Raises:
        SchemaMismatch: a value does not fit its column.
    """
    decimals = [field for field in declared.schema if pa.types.is_decimal(field.type)]
    full = [with_former_names(declared, row) for row in rows]  # copies, so the caller's rows stay unchanged
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
    with suppress(InvalidOperation):  # too large or infinite: Arrow raises the error below
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


def fit_rows(declared: LakeSchema, rows: pa.Table) -> pa.Table:
    """Convert rows to exactly the declared columns, in order and type.

    Raises:
        SchemaMismatch: a column is missing or has another type; the message has both types.
    """
    check_schema(declared, rows.schema, f"the rows for table {declared.name}")
    return upgrade_rows(declared, rows, declared.schema)


Rows = TypeVar("Rows", pa.Table, pa.RecordBatch)


def upgrade_rows(declared: LakeSchema, rows: Rows, schema: pa.Schema) -> Rows:
    """Convert rows of this or the previous release to `schema`, a schema of this release."""
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
        # Arrow refuses to cast values with more digits than the type has.
        column = pc.round(column, kind.scale)
    return column.cast(kind)


def needed_columns(declared: LakeSchema, stored: pa.Schema, names: Sequence[str]) -> list[str]:
    """The columns to read from a table of this or the previous release for the given names."""
    former = [declared.renamed.get(name, declared.derived.get(name, name)) for name in names]
    columns = (n if n in stored.names else old for n, old in zip(names, former, strict=True))
    return [name for name in dict.fromkeys(columns) if name in stored.names]


def is_outdated(declared: LakeSchema, stored: pa.Schema) -> bool:
    """Whether a stored table has the schema of the previous release and needs a migration."""
    return any(
        field.name not in stored.names or type_name(stored.field(field.name).type) != type_name(field.type)
        for field in declared.schema
    )


def user_columns(declared: LakeSchema, stored: pa.Schema) -> list[pa.Field]:
    """Columns that a user added to a table. They are kept and are NULL in new rows."""
    return [field for field in stored if field.name not in declared.schema.names]


def pad_rows(rows: pa.Table, more: Sequence[pa.Field]) -> pa.Table:
    """Append the given columns, filled with NULL."""
    for field in more:
        rows = rows.append_column(field.with_nullable(True), pa.nulls(rows.num_rows, field.type))
    return rows


def check_schema(declared: LakeSchema, stored: pa.Schema, where: str) -> None:
    """Compare the schema of a table with the declared one.

    Names of list elements and 64-bit offsets are ignored, because Delta and Spark choose them. Nullable
    columns that users added and schemas of the previous release are accepted.

    Raises:
        SchemaMismatch: the message has every differing column with its types.
    """
    problems = []
    for field in declared.schema:
        if field.name not in stored.names:
            if field.name not in declared.added:
                problems.append(f"column {field.name} ({type_name(field.type)}) is missing")
            continue
        stored_type = type_name(stored.field(field.name).type)
        if stored_type not in (type_name(field.type), type_name(declared.former.get(field.name, field.type))):
            problems.append(f"column {field.name} is {stored_type}, but should be {type_name(field.type)}")
    problems += [
        f"the added column {field.name} is NOT NULL"
        for field in user_columns(declared, stored)
        if not field.nullable
    ]
    if problems:
        raise SchemaMismatch(
            f"{where}: {'; '.join(problems)}. Nothing was written. Rename the table or choose another "
            "outputs folder: results that were paid for come from the ledger, not from the table."
        )


def type_name(type_: pa.DataType) -> str:
    """A type as text, without the details that differ between Delta, Spark and Arrow."""
    if pa.types.is_list(type_) or pa.types.is_large_list(type_):
        return f"list<{type_name(type_.value_type)}>"
    if pa.types.is_string(type_) or pa.types.is_large_string(type_) or pa.types.is_string_view(type_):
        return "string"
    return str(type_)
