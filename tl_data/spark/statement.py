"""The guard of statements in Spark, shared by all workers through the ledger's store.

Spark passes no id of a statement to its Python workers. So one guard counts all calls after
`tl_data.register(spark)`, or after the last `tl_data.spark.guard()`:

    tl_data.spark.guard(budget=2.0)      # all further calls together may cost up to 2 USD
    spark.sql("SELECT ... tl_summarize(url) ...").write...
"""

from __future__ import annotations

import time
import uuid
from typing import TYPE_CHECKING

from tl_data.errors import SettingsError
from tl_data.guard import Limits

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

#: The Spark conf with the statement and its limits, which Spark sends to the workers with each task.
STATEMENT_CONF = "spark.tl_data.statement"

#: Seconds. The ledger's store removes reservations after two to three of these periods.
KEEP = 86_400


def new_statement() -> str:
    """The name of a new statement: a folder below `shared/` in the ledger's store."""
    return f"{KEEP}-{int(time.time() // KEEP):012d}/guard/{uuid.uuid4().hex}"


def guard(
    spark: SparkSession | None = None, *, budget: float | None = None, max_calls: int | None = None
) -> None:
    """Begin a new statement. Its guard counts all further calls of this session.

    Args:
        spark: the session; None: the active one.
        budget: maximum cost, in the currency of the price list; None: the budget of the settings.
        max_calls: maximum number of paid calls; None: that of the settings.

    Raises:
        SettingsError: no session is active, or a limit is negative.
    """
    if spark is None:
        from pyspark.sql import SparkSession

        spark = SparkSession.getActiveSession()
        if spark is None:
            raise SettingsError("no Spark session is active: pass the registered one")
    for name, value in (("budget", budget), ("max_calls", max_calls)):
        if value is not None and not value >= 0:
            raise SettingsError(f"{name} is {value}; it must be at least 0")
    limits = ("" if value is None else f"{value}" for value in (budget, max_calls))
    spark.conf.set(STATEMENT_CONF, ";".join([new_statement(), *limits]))


def parse_statement(text: str, settings: Limits) -> tuple[str, Limits]:
    """The statement and its limits from the text of the conf. Missing limits come from `settings`."""
    statement, budget, max_calls = text.split(";")
    return statement, Limits(
        float(budget) if budget else settings.budget, int(max_calls) if max_calls else settings.max_calls
    )
