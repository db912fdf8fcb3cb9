"""CPU of a row of `tl_embed_text` in DuckDB: a distinct one, which makes a call, and a duplicate one.

    python benchmarks/row_cost.py [--distinct 3000] [--copies 100]

The server is a process of its own that answers with a vector of 512 numbers, so the figures are of the
client: user and system time of this process. Duplicates are measured in a statement with each distinct row
100 times.
"""

from __future__ import annotations

import argparse
import json
import os
import time

from benchmarks.distinct_rows import database, running


def measure(port: int, distinct: int, copies: int) -> dict[str, float]:
    """Microseconds of CPU for a distinct and for a duplicate row."""
    with database(port) as con:

        def cpu(prefix: str, rows: int, among: int) -> float:
            words = f"SELECT '{prefix}' || (i % {among}) AS w FROM range({rows}) r(i)"
            con.execute(f"CREATE OR REPLACE TABLE t AS {words}")
            began = time.process_time()
            con.execute("CREATE OR REPLACE TABLE out AS SELECT tl_embed_text(w) AS v FROM t")
            return time.process_time() - began

        cpu("warm", 500, 500)
        of_distinct = cpu("a", distinct, distinct)
        among = max(1, distinct // 3)
        of_first = cpu("b", among, among)
        of_all = cpu("c", among * copies, among)
    return {
        "us_a_distinct_row": round(of_distinct / distinct * 1e6),
        "us_a_duplicate_row": round((of_all - of_first) / (among * (copies - 1)) * 1e6, 1),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="CPU of a distinct and of a duplicate row in DuckDB.")
    parser.add_argument("--distinct", type=int, default=3000)
    parser.add_argument("--copies", type=int, default=100)
    options = parser.parse_args()
    with running() as port:
        print(json.dumps(measure(port, options.distinct, options.copies)))


if __name__ == "__main__":
    main()
