"""Vector stores that run here, and how their own clients read them: one record each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]  # the payload, with `vector`


@dataclass(frozen=True)
class Store:
    """One tool: what must be installed, its address in a folder, and reading it without our code."""

    name: str
    library: str
    extra: str
    address: Callable[[Path], str]
    read: Callable[[Path, str], dict[str, Row]]  # folder, collection -> id -> row
    nearest: (
        Callable[[Path, str, list[float]], str] | None
    )  # the id of the best match by the tool's own search
    keeps_metric: bool = True  # the metric is a property of the collection


@contextmanager
def qdrant(folder: Path) -> Iterator[Any]:
    from qdrant_client import QdrantClient

    client = QdrantClient(path=str(folder / "qdrant"))
    yield client
    client.close()


def _qdrant(folder: Path, name: str) -> dict[str, Row]:
    with qdrant(folder) as client:
        if not client.collection_exists(name):
            return {}
        points, _ = client.scroll(name, limit=10_000, with_vectors=True)
        return {str(p.id): {**p.payload, "vector": p.vector} for p in points}


def _qdrant_nearest(folder: Path, name: str, vector: list[float]) -> str:
    with qdrant(folder) as client:
        return str(client.query_points(name, query=vector, limit=1).points[0].id)


def _lancedb(folder: Path, name: str) -> dict[str, Row]:
    import lancedb

    db = lancedb.connect(folder / "lance")
    if name not in db.list_tables().tables:
        return {}
    return {r.pop("id"): r for r in db.open_table(name).to_arrow().to_pylist()}


def _lancedb_nearest(folder: Path, name: str, vector: list[float]) -> str:
    import lancedb

    search = lancedb.connect(folder / "lance").open_table(name).search(vector).distance_type("cosine")
    return str(search.limit(1).to_list()[0]["id"])


@contextmanager
def milvus(folder: Path) -> Iterator[Any]:
    from pymilvus import MilvusClient

    client = MilvusClient(str(folder / "milvus.db"))
    yield client
    client.close()


def _milvus(folder: Path, name: str) -> dict[str, Row]:
    with milvus(folder) as client:
        if not client.has_collection(name):
            return {}
        client.load_collection(name)
        rows = client.query(name, filter='id != ""', output_fields=["*"], limit=10_000)
        return {r["id"]: {k: v for k, v in r.items() if k != "id"} for r in rows}


def _milvus_nearest(folder: Path, name: str, vector: list[float]) -> str:
    with milvus(folder) as client:
        client.load_collection(name)
        return str(client.search(name, data=[vector], limit=1)[0][0]["id"])


def _chroma_client(folder: Path) -> Any:
    import chromadb
    from chromadb.config import Settings

    return chromadb.PersistentClient(str(folder / "chroma"), settings=Settings(anonymized_telemetry=False))


def _chroma(folder: Path, name: str) -> dict[str, Row]:
    client = _chroma_client(folder)
    if name not in {c.name for c in client.list_collections()}:
        return {}
    found = client.get_collection(name).get(include=["embeddings", "metadatas", "documents"])
    columns = (found["ids"], found["embeddings"], found["metadatas"], found["documents"])
    return {
        i: {**m, "vector": list(v), "transcription": d or None} for i, v, m, d in zip(*columns, strict=True)
    }


def _chroma_nearest(folder: Path, name: str, vector: list[float]) -> str:
    found = _chroma_client(folder).get_collection(name).query(query_embeddings=[vector], n_results=1)
    return str(found["ids"][0][0])


STORES = (
    Store(
        "lancedb", "lancedb", "lancedb", lambda f: f"lancedb://{f}/lance", _lancedb, _lancedb_nearest, False
    ),
    Store("qdrant", "qdrant_client", "qdrant", lambda f: f"qdrant://{f}/qdrant", _qdrant, _qdrant_nearest),
    Store("milvus", "milvus_lite", "milvus", lambda f: f"milvus://{f}/milvus.db", _milvus, _milvus_nearest),
    Store("chroma", "chromadb", "chroma", lambda f: f"chroma://{f}/chroma", _chroma, _chroma_nearest),
)
