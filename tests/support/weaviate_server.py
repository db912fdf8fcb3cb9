"""A small server that answers Weaviate's client: HTTP for collections, gRPC for objects."""

from __future__ import annotations

import json
import re
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

TYPES = {"text", "number", "int", "boolean", "date", "text[]"}


class WeaviateServer(ThreadingHTTPServer):
    """Collections as they were created, and objects by id."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.schemas: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()
        self._grpc, self.grpc_port = _grpc_server(self)

    @property
    def address(self) -> str:
        return f"weaviate://127.0.0.1:{self.server_port}?grpc_port={self.grpc_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: WeaviateServer

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        status, said = self._answer(self.path.partition("?")[0], body)
        text = json.dumps(said).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_DELETE = _do  # noqa: N815

    def _answer(self, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/v1/meta":
            return 200, {"hostname": "http://127.0.0.1", "version": "1.34.0", "modules": {}}
        if path.endswith(("/live", "/ready")):
            return 200, {}
        if path == "/v1/schema" and self.command == "POST":
            said = json.loads(body)
            names = [p["name"] for p in said["properties"]]
            good = re.fullmatch(r"[A-Z][_0-9A-Za-z]*", said["class"]) and "id" not in names
            vector = next(iter(said["vectorConfig"].values()))
            metric = vector["vectorIndexConfig"]["distance"]
            kinds = {p["dataType"][0] for p in said["properties"]}
            if not good or metric not in ("cosine", "dot", "l2-squared") or kinds - TYPES:
                return 422, {"error": [{"message": "invalid collection"}]}
            self.server.schemas[said["class"]] = _filled(said)
            return 200, self.server.schemas[said["class"]]
        if path.startswith("/v1/schema/"):
            found = self.server.schemas.get(path.rpartition("/")[2])
            return (200, found) if found else (404, {"error": [{"message": "not found"}]})
        return 404, {"error": [{"message": path}]}


def _filled(said: dict[str, Any]) -> dict[str, Any]:
    """A collection as the server gives it back, with its defaults."""
    index = {
        **{"skip": False, "cleanupIntervalSeconds": 300, "maxConnections": 32, "efConstruction": 128},
        **{
            "ef": -1,
            "dynamicEfMin": 100,
            "dynamicEfMax": 500,
            "dynamicEfFactor": 8,
            "flatSearchCutoff": 40000,
        },
        **{"vectorCacheMaxObjects": 10**12, "filterStrategy": "sweeping"},
    }
    vectors = {
        name: {**v, "vectorIndexType": "hnsw", "vectorIndexConfig": {**index, **v["vectorIndexConfig"]}}
        for name, v in said["vectorConfig"].items()
    }
    inverted = {
        **{"bm25": {"b": 0.75, "k1": 1.2}, "cleanupIntervalSeconds": 60},
        "stopwords": {"preset": "en", "additions": None, "removals": None},
    }
    more = {"tokenization": "word", "indexFilterable": True, "indexSearchable": True}
    return {
        "class": said["class"],
        "properties": [{**more, **p} for p in said["properties"]],
        "vectorConfig": vectors,
        "invertedIndexConfig": inverted,
        "multiTenancyConfig": {"enabled": False},
        "replicationConfig": {
            "factor": 1,
            "asyncEnabled": False,
            "deletionStrategy": "NoAutomatedResolution",
        },
        "shardingConfig": {
            **{"virtualPerPhysical": 128, "desiredCount": 1, "actualCount": 1, "desiredVirtualCount": 128},
            **{"actualVirtualCount": 128, "key": "_id", "strategy": "hash", "function": "murmur3"},
        },
    }


def _grpc_server(stores: WeaviateServer) -> tuple[Any, int]:
    import grpc
    from weaviate.proto.v1 import (
        base_pb2,
        batch_delete_pb2,
        batch_pb2,
        search_get_pb2,
        weaviate_pb2_grpc,
    )

    class Servicer(weaviate_pb2_grpc.WeaviateServicer):  # type: ignore[misc]
        def BatchObjects(self, request: Any, context: Any) -> Any:  # noqa: N802
            errors = []
            for number, sent in enumerate(request.objects):
                schema = stores.schemas[sent.collection]
                row = dict(sent.properties.non_ref_properties)
                wrong = {*row} - {p["name"] for p in schema["properties"]}
                if wrong:
                    text = f"no such property: {wrong}"
                    errors.append(batch_pb2.BatchObjectsReply.BatchError(index=number, error=text))
                    continue
                packed = sent.vectors[0].vector_bytes if sent.vectors else sent.vector_bytes
                row["vector"] = [*struct.unpack(f"<{len(packed) // 4}f", packed)]
                stores.rows.setdefault(sent.collection, {})[sent.uuid] = row
            return batch_pb2.BatchObjectsReply(took=0.1, errors=errors)

        def BatchDelete(self, request: Any, context: Any) -> Any:  # noqa: N802
            rows = stores.rows.get(request.collection, {})
            if request.filters.target.property != "_id":
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "target")
            gone = [i for i in request.filters.value_text_array.values if rows.pop(i, None)]
            return batch_delete_pb2.BatchDeleteReply(took=0.1, matches=len(gone), successful=len(gone))

        def Search(self, request: Any, context: Any) -> Any:  # noqa: N802
            found = []
            for id_, row in list(stores.rows.get(request.collection, {}).items())[: request.limit or 10]:
                packed = struct.pack(f"<{len(row['vector'])}f", *row["vector"])
                vector = base_pb2.Vectors(name="default", vector_bytes=packed)
                about = search_get_pb2.MetadataResult(id=id_, vectors=[vector])
                found.append(search_get_pb2.SearchResult(metadata=about))
            return search_get_pb2.SearchReply(took=0.1, results=found)

    server = grpc.server(ThreadPoolExecutor(4))
    weaviate_pb2_grpc.add_WeaviateServicer_to_server(Servicer(), server)
    _add_health(server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    return server, port


def _add_health(server: Any) -> None:
    """The health check with which the client begins: one message of bytes, `SERVING`."""
    import grpc

    handler = grpc.unary_unary_rpc_method_handler(lambda request, context: b"\x08\x01")
    check = grpc.method_handlers_generic_handler("grpc.health.v1.Health", {"Check": handler})
    server.add_generic_rpc_handlers((check,))


_servers: dict[Path, WeaviateServer] = {}


def weaviate_server(folder: Path) -> WeaviateServer:
    """The server of a folder."""
    if folder not in _servers:
        _servers[folder] = WeaviateServer()
    return _servers[folder]


def weaviate_rows(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """The objects of a collection."""
    return dict(weaviate_server(folder).rows.get(name[:1].upper() + name[1:], {}))


def weaviate_drop(folder: Path, name: str) -> None:
    """Remove a collection."""
    server, class_ = weaviate_server(folder), name[:1].upper() + name[1:]
    server.schemas.pop(class_, None)
    server.rows.pop(class_, None)
