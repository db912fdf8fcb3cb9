"""Exact nearest neighbours of a lake, `tl_nearest` in DuckDB beside a product of NumPy and DuckDB's own.

    python benchmarks/nearest.py [--rows 200000] [--dimension 512]

CPU and wall time of a question, the median of nine after the first. NumPy has the matrix in memory before the
clock starts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from typing import Any

import duckdb
import numpy as np
import pyarrow as pa

import tl_data
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import VECTORS


def lake_of(folder: str, matrix: np.ndarray[Any, Any]) -> Lake:
    """A lake whose table `vectors` has these rows."""
    lake = Lake(folder, "parquet")
    table = lake.table(VECTORS)
    for start in range(0, len(matrix), 50_000):
        part = matrix[start : start + 50_000]
        count = len(part)
        values = pa.ListArray.from_arrays(
            np.arange(0, part.size + 1, part.shape[1], dtype=np.int32), part.ravel()
        )
        columns = {
            "video_id": pa.array([f"v{(start + n) // 100}" for n in range(count)]),
            "start_sec": pa.array(np.arange(start, start + count, dtype=np.float64)),
            "end_sec": pa.array(np.arange(start + 1, start + count + 1, dtype=np.float64)),
            "embedding_scope": pa.array(["clip"] * count),
            "embedding_option": pa.array(["visual"] * count),
            "model": pa.array(["made"] * count),
            "dimension": pa.array([part.shape[1]] * count, pa.int64()),
            "vector": values,
        }
        arrays = [
            columns[f.name].cast(f.type) if f.name in columns else pa.nulls(count, f.type)
            for f in VECTORS.schema
        ]
        table.append(pa.table(arrays, schema=VECTORS.schema))
    return lake


def seconds(ask: Callable[[list[float]], list[Any]], questions: list[list[float]]) -> tuple[float, float]:
    """CPU and wall seconds of a question."""
    ask(questions[0])
    cpu, wall = [], []
    for question in questions[1:]:
        began, began_wall = time.process_time(), time.perf_counter()
        ask(question)
        cpu.append(time.process_time() - began)
        wall.append(time.perf_counter() - began_wall)
    return statistics.median(cpu), statistics.median(wall)


def measure(rows: int, dimension: int) -> dict[str, float]:
    """Milliseconds of a question, and ratios to NumPy."""
    draw = np.random.default_rng(11)
    matrix = draw.standard_normal((rows, dimension), dtype=np.float32)
    matrix /= np.linalg.norm(matrix, axis=1, keepdims=True)
    questions = [q.tolist() for q in draw.standard_normal((10, dimension), dtype=np.float32)]

    def by_numpy(question: list[float]) -> list[int]:
        scores = matrix @ np.asarray(question, np.float32)
        best = np.argpartition(scores, len(scores) - 10)[len(scores) - 10 :]
        found: list[int] = best[np.argsort(-scores[best])].tolist()
        return found

    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as con:
        lake = lake_of(folder, matrix)
        tl_data.register(con)

        def by_sql(question: list[float]) -> list[int]:
            found = con.execute(f"SELECT start_sec FROM tl_nearest('{lake.folder}', ?::FLOAT[])", [question])
            return [int(start) for (start,) in found.fetchall()]

        if any(by_sql(q) != by_numpy(q) for q in questions):
            raise SystemExit("tl_nearest is not exact")
        ours, numpys = seconds(by_sql, questions), seconds(by_numpy, questions)
        offsets = np.arange(0, matrix.size + 1, dimension, dtype=np.int32)
        table = pa.table(
            {"id": pa.array(range(rows)), "vector": pa.ListArray.from_arrays(offsets, matrix.ravel())}
        )
        con.register("made", table)
        con.execute(f"CREATE TABLE plain AS SELECT id, vector::FLOAT[{dimension}] AS vector FROM made")

        def own(question: list[float]) -> list[Any]:
            score = f"array_cosine_similarity(vector, ?::FLOAT[{dimension}])"
            return con.execute(f"SELECT id FROM plain ORDER BY {score} DESC LIMIT 10", [question]).fetchall()

        own_seconds = seconds(own, questions)
    return {
        "rows": rows,
        "numpy_cpu_ms": round(numpys[0] * 1000, 1),
        "tl_nearest_cpu_ms": round(ours[0] * 1000, 1),
        "duckdb_array_cpu_ms": round(own_seconds[0] * 1000, 1),
        "ratio_cpu": round(ours[0] / numpys[0], 2),
        "ratio_wall": round(ours[1] / numpys[1], 2),
        "load": round(os.getloadavg()[0], 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Exact nearest neighbours of a lake beside NumPy.")
    parser.add_argument("--rows", type=int, default=200_000)
    parser.add_argument("--dimension", type=int, default=512)
    options = parser.parse_args()
    print(json.dumps(measure(options.rows, options.dimension)))


if __name__ == "__main__":
    main()
