"""How exact and fast an index of vectors is: usearch and LanceDB beside NumPy, on a lake's clips.

    python benchmarks/vector_index.py LAKE --count 100000

The vectors are those of the lake, with copies until there are as many as asked for: each copy is a mix of two
clips with noise, drawn from a seed. Questions are clips with noise of their own. The truth is NumPy's, in
float32 over all vectors.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from tl_data.lake.lake import open_lake
from tl_data.lake.schemas import VECTORS

K = 10


def grown(real: np.ndarray[Any, Any], count: int, seed: int) -> np.ndarray[Any, Any]:
    """The real vectors, and mixes of two of them with noise, all of length 1."""
    draw = np.random.default_rng(seed)
    made = [real]
    left = count - len(real)
    while left > 0:
        n = min(left, 50_000)
        one, two = real[draw.integers(len(real), size=n)], real[draw.integers(len(real), size=n)]
        share = draw.uniform(0.5, 1.0, size=(n, 1)).astype(np.float32)
        size = draw.uniform(0.05, 0.8, size=(n, 1)).astype(np.float32)
        noise = draw.standard_normal((n, real.shape[1]), dtype=np.float32) / np.sqrt(real.shape[1])
        made.append(share * one + (1 - share) * two + size * noise)
        left -= n
    found = np.concatenate(made)[:count]
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def truth(vectors: np.ndarray[Any, Any], questions: np.ndarray[Any, Any]) -> tuple[list[set[int]], float]:
    """The best of each question, and NumPy's milliseconds a question."""
    found = []
    began = time.perf_counter()
    for question in questions:
        scores = vectors @ question
        best = np.argpartition(-scores, K)[:K]
        found.append({int(n) for n in best})
    return found, (time.perf_counter() - began) / len(questions) * 1000


def report(name: str, found: list[set[int]], true: list[set[int]], build: float, ms: list[float]) -> None:
    recall = np.mean([len(a & b) / K for a, b in zip(found, true, strict=True)])
    median, p95 = np.percentile(ms, [50, 95])
    print(
        f"{name:34} recall@10 {recall:.4f}  build {build:7.1f} s  median {median:6.2f} ms  p95 {p95:6.2f} ms",
        flush=True,
    )


def with_usearch(
    vectors: Any, questions: Any, true: Any, dtype: str, m: int, build: int, search: int
) -> None:
    from usearch.index import Index

    began = time.perf_counter()
    options = {"connectivity": m, "expansion_add": build, "expansion_search": search}
    index = Index(ndim=vectors.shape[1], metric="cos", dtype=dtype, **options)
    index.add(np.arange(len(vectors), dtype=np.uint64), vectors)
    took = time.perf_counter() - began
    for expansion in (search, 2 * search, 4 * search):
        index.expansion_search = expansion
        found, ms = [], []
        for question in questions:
            at = time.perf_counter()
            keys = index.search(question, K).keys
            ms.append((time.perf_counter() - at) * 1000)
            found.append({int(key) for key in keys})
        report(f"usearch {dtype} M={m} efc={build} ef={expansion}", found, true, took, ms)
    print(f"{'':34} {index.memory_usage / 2**20:.0f} MiB")


def with_lancedb(vectors: Any, questions: Any, true: Any, kind: str) -> None:
    import lancedb
    import lancedb.index
    import pyarrow as pa

    folder = tempfile.mkdtemp()
    try:
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"id": pa.array(range(len(vectors)), pa.int64()), "vector": flat})
        table = lancedb.connect(folder).create_table("v", rows)
        began = time.perf_counter()
        table.create_index("vector", config=getattr(lancedb.index, kind)(distance_type="cosine"))
        took = time.perf_counter() - began
        for probes, refine in ((20, 10), (50, 20), (100, 30)):
            found, ms = [], []
            for question in questions:
                at = time.perf_counter()
                search = table.search(question).distance_type("cosine").nprobes(probes).refine_factor(refine)
                keys = search.select(["id"]).limit(K).to_arrow().column("id").to_pylist()
                ms.append((time.perf_counter() - at) * 1000)
                found.append(set(keys))
            report(f"lancedb {kind} probes={probes} refine={refine}", found, true, took, ms)
    finally:
        shutil.rmtree(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("lake", type=Path)
    parser.add_argument("--count", type=int, default=100_000)
    parser.add_argument("--questions", type=int, default=300)
    parser.add_argument("--seed", type=int, default=17)
    parser.add_argument("--only", default="usearch,lancedb")
    said = parser.parse_args()
    column = open_lake(str(said.lake)).read(VECTORS, ["vector"]).column("vector").to_pylist()
    real = np.array([v for v in column if v], np.float32)
    real /= np.linalg.norm(real, axis=1, keepdims=True)
    vectors = grown(real, said.count, said.seed)
    questions = grown(real, said.questions + len(real), said.seed + 1)[len(real) :]
    true, ms = truth(vectors, questions)
    load = os.getloadavg()[0]
    print(
        f"{len(real)} real vectors, {len(vectors)} in all, {vectors.shape[1]} numbers each; load {load:.1f}"
    )
    print(f"{'numpy, exact':34} recall@10 1.0000  {'':18} mean   {ms:6.2f} ms")
    if "usearch" in said.only:
        for dtype, m in (("f16", 16), ("bf16", 32), ("i8", 32)):
            with_usearch(vectors, questions, true, dtype, m, 128, 64)
    if "lancedb" in said.only:
        for kind in ("IvfPq", "HnswSq"):
            with_lancedb(vectors, questions, true, kind)


if __name__ == "__main__":
    main()
