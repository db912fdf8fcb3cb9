"""Spark: functions of columns and of whole DataFrames, and sessions with Delta.

    import tl_data.spark
    from tl_data.spark import functions as tl

    spark = tl_data.spark.session()                                  # or a session of your own
    df.withColumn("summary", tl.summarize("url"))
    df.select("url", tl.inline(tl.chapters("url")))

For SQL, call `tl_data.register(spark)`. `tl_data.spark.perceive(df, "url", lake="lake")` runs the embedded
engine's analysis on the executors. Importing this package does not import pyspark.
"""

from tl_data.spark.delta import delta_conf, session
from tl_data.spark.perception import perceive
from tl_data.spark.statement import guard

__all__ = ["delta_conf", "guard", "perceive", "session"]
