"""The statements for Oracle, parsed. Nothing here runs in Oracle: only Oracle speaks its protocol."""

from __future__ import annotations

import pytest

from tests.support.export_lake import needs
from tl_data.errors import SettingsError
from tl_data.export.rows import VectorRows
from tl_data.export.sink import Shape, parse_target
from tl_data.export.vectors.oracle import Oracle, create_table, merge
from tl_data.lake.lake import Lake


@pytest.fixture
def shape(lake: Lake) -> Shape:
    return VectorRows(lake).shape()


@needs("sqlglot", "dev")
def test_the_statements_are_parsed(shape: Shape) -> None:
    import sqlglot
    from sqlglot import exp

    statement = sqlglot.parse_one(merge("clips", shape), dialect="oracle")
    assert isinstance(statement, exp.Merge)
    assert len({p.name for p in statement.find_all(exp.Placeholder)}) == 2 + len(shape.schema)
    made = create_table("clips", shape)
    assert '"vector" VECTOR(8, FLOAT32) NOT NULL' in made
    plain = made.replace("VECTOR(8, FLOAT32)", "BLOB")  # a type that the parser does not know
    created = sqlglot.parse_one(plain, dialect="oracle")
    assert isinstance(created, exp.Create)
    assert {c.name for c in created.find_all(exp.ColumnDef)} == {"id", "vector", *shape.schema.names}


@needs("oracledb", "oracle")
def test_an_address_without_a_service_is_refused() -> None:
    with pytest.raises(SettingsError):
        Oracle(parse_target("oracle://me:secret@localhost:1521"))


@needs("oracledb", "oracle")
def test_a_server_that_is_away_is_an_error_of_the_driver() -> None:
    import oracledb

    with pytest.raises((oracledb.Error, OSError)):
        Oracle(parse_target("oracle://me:secret@127.0.0.1:1/free"))
