"""CPU of a row of `tl_embed_text` in Spark, beside a plain pandas UDF that makes the same calls.

    python benchmarks/spark_rows.py [--rows 100000] [--distinct 1000] [--rounds 3]

Both run in the same session on one core, in alternating rounds. The peer calls the server with `requests` for
each distinct text and keeps the answers in a dictionary. The server is a process of its own that answers with
a vector of 512 numbers. CPU is the user and system time of this process, of Spark and of its workers, from
/proc, so this needs Linux.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.distinct_rows import running

if TYPE_CHECKING:
    from pyspark.sql import SparkSession


def seconds(without: int) -> float:
    """User and system seconds of this process, Spark and its workers, but not of the process `without`."""
    found: dict[int, tuple[int, float]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = stat.read_text()
        except OSError:  # the process has ended
            continue
        fields = text[text.rindex(")") + 2 :].split()
        ticks = sum(int(field) for field in fields[11:15])  # of the process and of its ended children
        found[int(stat.parent.name)] = int(fields[1]), ticks / os.sysconf("SC_CLK_TCK")

    def is_ours(pid: int) -> bool:
        return pid == os.getpid() or (pid in found and pid != without and is_ours(found[pid][0]))

    return sum(used for pid, (_, used) in found.items() if is_ours(pid))


def measure(
    spark: SparkSession, port: int, server: int, rows: int, distinct: int, rounds: int
) -> dict[str, Any]:
    """Microseconds a row of ours and of the peer, the smallest of the rounds."""
    import pandas as pd
    from pyspark.sql.pandas.functions import pandas_udf

    import tl_data
    from tl_data.settings import Settings

    with tempfile.TemporaryDirectory() as home:
        settings = Settings(
            base_url=f"http://127.0.0.1:{port}/v1.3",
            home=home,
            requests_per_minute=10_000_000,
            concurrency=32,
        )

        def plain(batches: Iterator[pd.Series]) -> Iterator[pd.Series]:
            import requests

            session = requests.Session()
            kept: dict[str, list[float]] = {}
            for texts in batches:
                for text in texts:
                    if text not in kept:
                        form = {"model_name": (None, "marengo3.0"), "text": (None, text)}
                        answer = session.post(f"http://127.0.0.1:{port}/v1.3/embed", files=form, timeout=60)
                        kept[text] = answer.json()["text_embedding"]["segments"][0]["float"]
                yield pd.Series([kept[text] for text in texts])

        plain.__annotations__ = {"batches": Iterator[pd.Series], "return": Iterator[pd.Series]}

        spark.udf.register("plain", pandas_udf(plain, "array<float>"))  # type: ignore[call-overload]
        found: dict[str, list[float]] = {"plain": [], "tl_embed_text": []}
        for number in range(rounds + 1):  # the first one imports the libraries
            for name in found:
                tl_data.register(spark, settings)  # forgets the answers
                count = rows if number else 1000
                words = f"SELECT concat('{name}{number} ', id % {distinct}) AS w FROM range(0, {count}, 1, 1)"
                began = seconds(server)
                spark.sql(f"SELECT sum(size({name}(w))) FROM ({words})").collect()
                if number:
                    found[name].append((seconds(server) - began) / rows * 1e6)
    ours, peer = min(found["tl_embed_text"]), min(found["plain"])
    return {
        "us_a_row": round(ours, 1),
        "us_a_row_of_a_pandas_udf": round(peer, 1),
        "ratio": round(ours / peer, 2),
        "all": {name: [round(value, 1) for value in values] for name, values in found.items()},
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a row in Spark, beside a plain pandas UDF.")
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--distinct", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    from pyspark.sql import SparkSession

    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = (
        SparkSession.builder.master("local[1]")
        .config("spark.ui.enabled", "false")
        .config("spark.python.worker.reuse", "true")
        .getOrCreate()
    )
    try:
        with running() as port:
            [server] = multiprocessing.active_children()
            found = measure(spark, port, server.pid or 0, options.rows, options.distinct, options.rounds)
    finally:
        spark.stop()
    print(json.dumps(found))


if __name__ == "__main__":
    main()
