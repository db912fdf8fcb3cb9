"""The guard of statements in Spark, shared by all workers through the ledger's store.

Spark does not tell a Python worker which statement it works for. So a guard covers everything that is called
after `tl_data.register(spark)`, or after the last `tl_data.spark.guard()`:

    tl_data.spark.guard(budget=2.0)      # what follows may cost 2 USD in all
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

KEEP = 86_400  # seconds; reservations are removed from the ledger's store after two or three of these


def new_statement() -> str:
    """The name of a statement: a folder below `shared/` in the ledger's store."""
    return f"{KEEP}-{int(time.time() // KEEP):012d}/guard/{uuid.uuid4().hex}"


def guard(
    spark: SparkSession | None = None, *, budget: float | None = None, max_calls: int | None = None
) -> None:
    """Begin a new statement: its guard counts all further calls of this session.

    Args:
        spark: the session; None: the active one.
        budget: the largest cost, in the currency of the price list; None: that of the settings.
        max_calls: the most paid calls; None: that of the settings.

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
    given = ("" if value is None else f"{value}" for value in (budget, max_calls))
    spark.conf.set(STATEMENT_CONF, ";".join([new_statement(), *given]))


def parse_statement(text: str, settings: Limits) -> tuple[str, Limits]:
    """The statement and its limits in the conf, by default those of `settings`."""
    statement, budget, max_calls = text.split(";")
    return statement, Limits(
        float(budget) if budget else settings.budget, int(max_calls) if max_calls else settings.max_calls
    )
