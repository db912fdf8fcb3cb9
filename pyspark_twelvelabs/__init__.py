"""Spark 4 finds this package by its name: `spark.read.format("twelvelabs")` works without registration.

Settings come from the environment of Spark (TL_API_KEY, TL_INDEX, ...). `tl_data.register(spark)` gives a
session settings of its own, and lets Spark push filters down.
"""

from tl_data.spark.datasource import DiscoveredTwelveLabs as DefaultSource

__all__ = ["DefaultSource"]
