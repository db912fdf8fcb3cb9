"""The functions for Unity Catalog: the printed statements, run by Spark, with the printed handlers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import tl_data
from tests.spark.conftest import Java
from tests.support.library import Library
from tl_data.cli.unity import page
from tl_data.errors import BudgetReached
from tl_data.spark.unity import answers

#: What Databricks adds to the grammar of Spark.
BATCH = re.compile(
    r"CREATE OR REPLACE FUNCTION (_tl_\w+)\(([^)]*)\)\nRETURNS STRING\nLANGUAGE PYTHON\nNOT DETERMINISTIC\n"
    r"PARAMETER STYLE PANDAS\nHANDLER 'handler'\nENVIRONMENT \([^\n]*\)\nAS \$\$\n(.*?)\n\$\$;",
    re.DOTALL,
)


def handler_of(body: str) -> Callable[[Iterator[Any]], Iterator[pd.Series]]:
    """The handler in the body of a function."""
    names: dict[str, Any] = {}
    exec(body, names)  # the text that is printed
    return names["handler"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def unity(classic: Java, library: Library) -> Any:
    """A session in which the printed functions are temporary ones."""
    from pyspark.sql.functions import pandas_udf

    spark, script = classic.spark, page()
    batches = BATCH.findall(script)
    for name, arguments, body in batches:
        assert arguments.count("`") // 2 > 5, arguments
        spark.udf.register(name, pandas_udf(handler_of(body), "string"))  # type: ignore[call-overload]
    spark.sql("CREATE OR REPLACE TEMPORARY FUNCTION secret(s STRING, k STRING) RETURNS STRING RETURN NULL")
    rest = BATCH.sub("", script)
    rest = rest.replace("RETURN NULL;", f"RETURN '{library.settings.base_url}';", 1)
    rest = rest.replace("'s3://your-bucket/tl-data/ledger'", f"'{library.settings.ledger}'")
    rest = rest.replace("CREATE OR REPLACE FUNCTION", "CREATE OR REPLACE TEMPORARY FUNCTION")
    statements = [s for s in re.split(r";\n", re.sub(r"(?m)^--.*\n", "", rest)) if s.strip()]
    assert len(statements) == 2 * len(batches) + 4
    for statement in statements:
        spark.sql(statement)
    return spark


def test_rows_values_and_outcomes_of_functions(unity: Any, library: Library) -> None:
    url, before = library.urls[0], library.requests("POST /tasks")
    rows = unity.sql(
        f"SELECT start_sec, end_sec, vector FROM tl_clips('{url}', index_id => 'shared')"
    ).collect()
    assert [row.start_sec for row in rows][:1] == [0.0]
    assert {len(row.vector) for row in rows} == {library.dimension}
    assert library.requests("POST /tasks") == before, "the ledger has the video"
    [row] = unity.sql("SELECT tl_embed_text('a red object') AS v, tl_embed_text(NULL) AS n").collect()
    assert (len(row.v), row.n) == (library.dimension, None)
    [row] = unity.sql(
        f"SELECT try_tl_classify(v, array('a')) AS bad, try_tl_video_vectors(v, embedding_option => "
        f"array('visual'), video_clip_length => 5) AS good FROM (SELECT '{url}' AS v)"
    ).collect()
    assert (row.bad.value, row.bad.error["class"]) == (None, "SchemaMismatch")
    assert {part.embedding_option for part in row.good.value} == {"visual"}
    assert row.good.error is None


def test_a_failed_row_fails_the_statement(unity: Any, library: Library) -> None:
    with pytest.raises(Exception, match="RowFailed"):
        unity.sql(f"SELECT tl_classify('{library.urls[0]}', array('a'))").collect()


def test_the_guard_of_a_stream(library: Library, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TL_PRICES", str(Path(tl_data.__file__).parent / "prices.toml"))
    settings, before = library.settings, library.requests("POST /embed")

    def stream(budget: float) -> Iterator[pd.Series]:
        constants = (False, None, settings.base_url, settings.ledger, budget)
        for text in ("first", None, "second"):
            arguments = (f"{text} for {budget}" if text else None, None, None, float("nan"))
            yield [pd.Series([value] * 2, dtype=object) for value in (*constants, *arguments)]

    answered = [pd.Series(["nothing"])]
    with pytest.raises(BudgetReached):
        answered.extend(answers("embed_text", stream(0.0001)))
    assert library.requests("POST /embed") == before + 1
    assert [len(answer) for answer in answered] == [1, 2, 2]
    assert answered[2].tolist() == ['{"value":null}'] * 2
