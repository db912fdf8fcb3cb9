"""Exact nearest neighbours among 1,000,000 vectors of 512 dimensions: DuckDB and Spark beside NumPy.

    python benchmarks/vectors.py [--rows 1000000] [--dimension 512] [--questions 5] [--k 10] [--json FILE]

All read the same Parquet file, of random unit vectors in float32. NumPy is the physical limit: one product
of the whole matrix, which it has in memory as one array before the clock starts. `warm` is the median of the
questions after the first, in seconds and as a ratio to NumPy; `first` reads the file. Recall is measured
against float64.

numpy          the matrix in memory, `argpartition`
duckdb         `ORDER BY tl_similarity(vector, question) DESC LIMIT k` over a table in memory, FLOAT[]
duckdb-array   the same over FLOAT[512] with array_cosine_similarity, DuckDB's own for vectors of one length
duckdb-file    as `duckdb`, over the Parquet file
spark          `tl.nearest` over the Parquet file, two workers
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import tl_data
from tl_data.settings import Settings

Best = Callable[[np.ndarray], list[int]]
CHUNK = 50_000


def made(folder: Path, rows: int, dimension: int) -> tuple[Path, np.ndarray]:
    """The file, and its vectors as one array of shape (rows, dimension), float32."""
    rng = np.random.default_rng(11)
    matrix = rng.standard_normal((rows, dimension), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    path = folder / "vectors.parquet"
    schema = pa.schema([("id", pa.int64()), ("vector", pa.list_(pa.float32()))])
    with pq.ParquetWriter(path, schema, compression="none", use_dictionary=False) as file:
        for start in range(0, rows, CHUNK):
            part = matrix[start : start + CHUNK]
            offsets = np.arange(0, part.size + 1, dimension, dtype=np.int32)
            vectors = pa.ListArray.from_arrays(offsets, part.ravel())
            file.write_table(
                pa.table([pa.array(range(start, start + len(part)), pa.int64()), vectors], schema=schema)
            )
    return path, matrix


def by_numpy(matrix: np.ndarray, k: int) -> Best:
    lengths = np.linalg.norm(matrix, axis=1)

    def best(question: np.ndarray) -> list[int]:
        scores = matrix @ question / lengths
        few = np.argpartition(-scores, k)[:k]
        return [int(i) for i in few[np.argsort(-scores[few])]]

    return best


def by_duckdb(path: Path, dimension: int, k: int, way: str) -> Best:
    con = duckdb.connect()
    tl_data.register(con, Settings(base_url="http://127.0.0.1:9/v1.3"))  # the query asks no server
    source, score, kind = f"'{path}'", "tl_similarity(vector, $1)", "FLOAT[]"
    if way == "duckdb-array":
        score, kind = "array_cosine_similarity(vector, $1)", f"FLOAT[{dimension}]"
    if way != "duckdb-file":
        con.execute(f"CREATE TABLE vectors AS SELECT id, vector::{kind} AS vector FROM {source}")
        source = "vectors"
    query = f"SELECT id FROM {source} ORDER BY {score.replace('$1', f'$1::{kind}')} DESC LIMIT {k}"

    def best(question: np.ndarray) -> list[int]:
        return [row[0] for row in con.execute(query, [question.tolist()]).fetchall()]

    return best


def by_spark(path: Path, k: int) -> Best:
    from tl_data.spark import functions as tl
    from tl_data.spark import session

    spark = session(
        "local[2]",
        delta=False,
        spark__ui__enabled="false",
        spark__ui__showConsoleProgress="false",
        spark__log__level="ERROR",
        spark__driver__memory="3g",
    )

    def best(question: np.ndarray) -> list[int]:
        found = tl.nearest(spark.read.parquet(str(path)), question.tolist(), k)
        return [row["id"] for row in found.select("id").collect()]

    return best


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--dimension", type=int, default=512)
    parser.add_argument("--questions", type=int, default=5)
    parser.add_argument("--k", type=int, default=10)
    parser.add_argument("--json", type=Path)
    said = parser.parse_args()

    with tempfile.TemporaryDirectory() as folder:
        path, matrix = made(Path(folder), said.rows, said.dimension)
        questions = np.random.default_rng(12).standard_normal((said.questions, said.dimension))
        truth = [exact(matrix, question, said.k) for question in questions]
        ways: dict[str, Callable[[], Best]] = {
            "numpy": lambda: by_numpy(matrix, said.k),
            "duckdb": lambda: by_duckdb(path, said.dimension, said.k, "duckdb"),
            "duckdb-array": lambda: by_duckdb(path, said.dimension, said.k, "duckdb-array"),
            "duckdb-file": lambda: by_duckdb(path, said.dimension, said.k, "duckdb-file"),
            "spark": lambda: by_spark(path, said.k),
        }
        print(f"{said.rows:,} x {said.dimension}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
        print(f"{'':14}{'first s':>9}{'warm s':>9}{'x numpy':>9}{'recall':>9}")
        results: dict[str, Any] = {}
        for name, prepare in ways.items():
            best = prepare()
            seconds, found = [], []
            for question in questions:
                began = time.perf_counter()
                found.append(best(question.astype(np.float32)))
                seconds.append(time.perf_counter() - began)
            warm = statistics.median(seconds[1:])
            hits = sum(len(set(f) & set(t)) for f, t in zip(found, truth, strict=True))
            results[name] = {"first": seconds[0], "warm": warm, "recall": hits / (said.k * len(truth))}
            ratio = warm / results["numpy"]["warm"]
            print(
                f"{name:14}{seconds[0]:9.2f}{warm:9.2f}{ratio:9.1f}{results[name]['recall']:9.3f}", flush=True
            )
            del best
        if said.json:
            said.json.write_text(json.dumps(results, indent=1))


def exact(matrix: np.ndarray, question: np.ndarray, k: int) -> list[int]:
    """The best in float64, a part at a time."""
    scores = np.concatenate(
        [
            part @ question / np.linalg.norm(part, axis=1)
            for part in (matrix[i : i + CHUNK].astype(np.float64) for i in range(0, len(matrix), CHUNK))
        ]
    )
    return [int(i) for i in np.argsort(-scores)[:k]]


if __name__ == "__main__":
    main()
