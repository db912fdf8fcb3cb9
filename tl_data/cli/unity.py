"""Generates `sql/unity_catalog.sql`: the functions of the catalog as functions of Unity Catalog."""

from __future__ import annotations

import pyarrow as pa

from tl_data._version import __version__
from tl_data.catalog import UDF_SETTINGS, Function, Parameter, literal
from tl_data.functions import FUNCTIONS

_HEAD = """\
-- Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file.
-- The functions as functions of Unity Catalog: they work in SQL warehouses and serverless notebooks, for
-- everybody with EXECUTE on them, without `tl_data.register`. They need Databricks Runtime 16.3, or a pro or
-- serverless SQL warehouse. Not run on Databricks: handlers and SQL functions are tested on Apache Spark.
--
-- Before you run it in the SQL editor or a notebook:
--   1. Choose a catalog and a schema:  USE CATALOG main; USE SCHEMA video;
--   2. Keep the key as a secret:       databricks secrets create-scope tl_data
--                                      databricks secrets put-secret tl_data api_key
--   3. Set the four functions below. The ledger must be an address that all sandboxes reach, such as s3://
--      with credentials in its environment. A folder is lost with its sandbox; then a retry pays again.
--
-- Grant EXECUTE on the functions that people call, one by one:
--   GRANT EXECUTE ON FUNCTION tl_search TO `analysts`;
-- Never grant it on the schema: that includes tl_api_key, which returns the key, and the functions whose
-- names begin with `_`, which take any budget.
--
-- The guard counts what one stream of rows may cost. A query with many tasks has as many streams: keep the
-- budget low, or use the functions of `tl_data.register(spark)`, whose guard counts the statement.
"""


def page() -> str:
    """The script."""
    settings = [
        _setting("tl_api_key", "STRING", "secret('tl_data', 'api_key')"),
        _setting("tl_base_url", "STRING", "NULL"),
        _setting("tl_ledger", "STRING", "'s3://your-bucket/tl-data/ledger'"),
        _setting("tl_budget", "DOUBLE", "10D"),
    ]
    return "\n".join([_HEAD, *settings, *(_functions(f) for f in FUNCTIONS.values())])


def _setting(name: str, kind: str, value: str) -> str:
    return f"CREATE OR REPLACE FUNCTION {name}() RETURNS {kind} RETURN {value};"


def _functions(f: Function) -> str:
    """The UDF of a function, and the SQL functions that call it."""
    settings = [f"`{name}` {kind}" for name, kind in UDF_SETTINGS]
    arguments = [f"`{p.name}` {_scalar(p.type)}" for p in f.parameters]
    declared = ", ".join(map(_declaration, f.parameters))
    comment = literal(f.doc)
    batch = (
        f"\nCREATE OR REPLACE FUNCTION _{f.sql}({', '.join(settings + arguments)})\nRETURNS STRING\n"
        "LANGUAGE PYTHON\nNOT DETERMINISTIC\nPARAMETER STYLE PANDAS\nHANDLER 'handler'\n"
        f'ENVIRONMENT (dependencies = \'["tl_data=={__version__}", "pandas"]\', '
        "environment_version = 'None')\nAS $$\n"
        "from collections.abc import Iterator\n\nimport pandas as pd\n\n"
        "from tl_data.spark.unity import answers\n\n\n"
        "def handler(batches: Iterator[tuple[pd.Series, ...]]) -> Iterator[pd.Series]:\n"
        f'    return answers("{f.name}", batches)\n$$;\n'
    )
    value = f"from_json({_call(f, 'false')}, '{_ddl(pa.struct([('value', f.gives)]))}').value"
    outcome = f"from_json({_call(f, 'true')}, '{_ddl(f.outcome)}')"
    if f.returns_table:
        columns = ", ".join(f"`{c.name}` {_ddl(c.type)}" for c in f.columns)
        # Spark supports SQL functions in a projection, and not in a generator such as inline.
        returns, body = f"TABLE ({columns})", f"SELECT inline(answer) FROM (SELECT {value} AS answer)"
    else:
        returns, body = _ddl(f.gives), value
    return batch + (
        f"\nCREATE OR REPLACE FUNCTION {f.sql}({declared})\nRETURNS {returns}\nCOMMENT {comment}\n"
        f"RETURN {body};\n"
        f"\nCREATE OR REPLACE FUNCTION try_{f.sql}({declared})\nRETURNS {_ddl(f.outcome)}\n"
        f"COMMENT {comment}\nRETURN {outcome};\n"
    )


def _call(f: Function, attempt: str) -> str:
    arguments = [f"to_json(`{p.name}`)" if pa.types.is_list(p.type) else f"`{p.name}`" for p in f.parameters]
    settings = (attempt, "tl_api_key()", "tl_base_url()", "tl_ledger()", "tl_budget()")
    return f"_{f.sql}({', '.join([*settings, *arguments])})"


def _declaration(p: Parameter) -> str:
    return f"`{p.name}` {_ddl(p.type)}" + ("" if p.required else f" DEFAULT {literal(p.default)}")


def _scalar(kind: pa.DataType) -> str:
    """The type of an argument of a UDF: lists are JSON text."""
    return "STRING" if pa.types.is_list(kind) else _ddl(kind)


_TYPES = {"string": "STRING", "double": "DOUBLE", "float": "FLOAT", "int64": "BIGINT", "bool": "BOOLEAN"}


def _ddl(kind: pa.DataType) -> str:
    """The name of an Arrow type in Databricks SQL."""
    if pa.types.is_list(kind):
        return f"ARRAY<{_ddl(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"STRUCT<{', '.join(f'`{field.name}`: {_ddl(field.type)}' for field in kind)}>"
    return "TIMESTAMP" if pa.types.is_timestamp(kind) else _TYPES[str(kind)]
