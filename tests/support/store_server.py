"""A small server that answers the clients of vector stores as their documents say, and checks requests.

It is not those stores: it holds rows in memory and refuses what the documents of each say is refused. One
server speaks the HTTP of Pinecone, OpenSearch, Elasticsearch and Vespa; another the protocol of Redis.
"""

from __future__ import annotations

import json
import re
import socketserver
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

Answer = tuple[int, Any]
KINDS = {"keyword", "text", "double", "long", "boolean", "date"}


class Refuse(Exception):
    """The request is not as the interface says."""


def require(true: Any, message: str) -> None:
    if not true:
        raise Refuse(message)


class Faults:
    """What goes wrong: `drop` cuts the connection, `full` has no room; after so many rows."""

    def __init__(self) -> None:
        self.kind = ""
        self.after = 0  # requests that write
        self.times = 0

    def now(self) -> str:
        if not self.kind:
            return ""
        if self.after:
            self.after -= 1
            return ""
        self.times -= 1
        kind = self.kind
        if self.times == 0:
            self.kind = ""
        return kind

    def set(self, kind: str, after: int = 0, times: int = -1) -> None:
        self.kind, self.after, self.times = kind, after, times


class HTTPStores(ThreadingHTTPServer):
    """Collections by name: a shape, and rows by id."""

    daemon_threads = True

    def __init__(self, schemas: Path) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.collections: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.faults, self.schemas, self.writes = Faults(), schemas, 0
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: HTTPStores

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def _do(self) -> None:
        body = self._body()
        parts = urlsplit(self.path)
        path = parts.path
        try:
            status, said = self._answer(self.command, path, parse_qs(parts.query), body)
        except Refuse as error:
            status, said = 400, {"error": {"code": "INVALID_ARGUMENT", "message": str(error)}, "status": 400}
        except _Cut:
            self.close_connection = True
            self.connection.close()
            return
        text = b"" if said is None or self.command == "HEAD" else json.dumps(said).encode()
        self.send_response(status)
        self.send_header("X-Elastic-Product", "Elasticsearch")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = _do  # noqa: N815

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            found = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
        else:
            found = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            import gzip

            found = gzip.decompress(found)
        return found

    def _answer(self, verb: str, path: str, query: dict[str, list[str]], body: bytes) -> Answer:
        if path.startswith(("/indexes", "/vectors/")):
            return self._pinecone(verb, path, body)
        if path.startswith("/document/v1/"):
            return self._vespa(verb, path, body)
        return self._search(verb, path, body)

    def _writing(self) -> Answer | None:
        """The answer of a fault that is due."""
        self.server.writes += 1
        kind = self.server.faults.now()
        if kind == "drop":
            raise _Cut
        return (
            (507, {"error": "no space left on device", "message": "no space left"})
            if kind == "full"
            else None
        )

    # Pinecone

    def _pinecone(self, verb: str, path: str, body: bytes) -> Answer:
        require(self.headers.get("Api-Key"), "Api-Key is missing")
        require(self.headers.get("X-Pinecone-Api-Version"), "the version of the API is missing")
        said = json.loads(body) if body else {}
        there = self.server.collections
        if path == "/indexes" and verb == "POST":
            require(re.fullmatch(r"[a-z0-9-]{1,45}", said["name"]), "name")
            [(field, spec)] = said["schema"]["fields"].items()
            require((field, spec["type"]) == ("_values", "dense_vector"), "schema")
            require(1 <= spec["dimension"] <= 20_000, "dimension")
            require(spec["metric"] in ("cosine", "dotproduct", "euclidean"), "metric")
            require({*said["deployment"]} >= {"deployment_type", "cloud", "region"}, "deployment")
            there[said["name"]] = {n: said[n] for n in ("name", "schema", "deployment")}
            return 201, self._index(said["name"])
        if path.startswith("/indexes/"):
            name = path.rpartition("/")[2]
            if name not in there:
                return 404, {"error": {"code": "NOT_FOUND", "message": f"no {name}"}, "status": 404}
            return 200, self._index(name)
        if fault := self._writing():
            return fault
        name = next(iter(there))
        rows = self.server.rows.setdefault(said.get("namespace", ""), {})
        if path == "/vectors/upsert":
            require(len(body) <= 2 * 2**20 and 1 <= len(said["vectors"]) <= 1000, "too large")
            for vector in said["vectors"]:
                require(1 <= len(vector["id"]) <= 512 and vector["id"].isascii(), "id")
                length = there[name]["schema"]["fields"]["_values"]["dimension"]
                require(len(vector["values"]) == length, "dimension")
                require(len(json.dumps(vector.get("metadata", {}))) <= 40_960, "metadata is above 40 KB")
                for key, value in vector.get("metadata", {}).items():
                    require(not key.startswith("$"), f"metadata {key}")
                    require(isinstance(value, str | int | float | bool), f"metadata {key} is {value!r}")
            for vector in said["vectors"]:
                rows[vector["id"]] = {**vector["metadata"], "vector": vector["values"]}
            return 200, {"upsertedCount": len(said["vectors"])}
        require(path == "/vectors/delete" and 1 <= len(said["ids"]) <= 1000, path)
        for id_ in said["ids"]:
            rows.pop(id_, None)
        return 200, {}

    def _index(self, name: str) -> dict[str, Any]:
        state = {"ready": True, "state": "Ready"}
        more = {"host": self.server.place, "status": state}
        return {**self.server.collections[name], **more, "deletion_protection": "disabled"}

    # OpenSearch and Elasticsearch

    def _search(self, verb: str, path: str, body: bytes) -> Answer:
        name, there = unquote(path.split("/")[1]), self.server.collections
        if path == "/_bulk":
            return self._bulk(body)
        if path.endswith("/_refresh"):
            return 200, {"_shards": {"total": 1, "successful": 1, "failed": 0}}
        if verb == "PUT":
            said = json.loads(body)
            require(re.fullmatch(r"[a-z0-9][a-z0-9_-]*", name), "name of the index")
            mappings = said["mappings"]
            for field, spec in mappings["properties"].items():
                if spec["type"] == "knn_vector":
                    require(said["settings"]["index"]["knn"] is True, "index.knn")
                    require(1 <= spec["dimension"] <= 16_000, "dimension")
                    method = spec["method"]
                    require(method["space_type"] in ("cosinesimil", "innerproduct", "l2"), "space_type")
                    require((method["name"], method["engine"]) == ("hnsw", "lucene"), "method")
                elif spec["type"] == "dense_vector":
                    require(1 <= spec["dims"] <= 4096 and spec["index"] is True, "dims")
                    require(
                        spec["similarity"] in ("cosine", "dot_product", "l2_norm", "max_inner_product"), "s"
                    )
                else:
                    require(spec["type"] in KINDS and not field.startswith("_"), f"{field}: {spec}")
            there[name] = mappings
            self.server.rows[name] = {}
            return 200, {"acknowledged": True, "index": name, "shards_acknowledged": True}
        if name not in there:
            return 404, {"error": {"type": "index_not_found_exception", "reason": name}, "status": 404}
        return 200, {name: {"mappings": there[name]}}

    def _bulk(self, body: bytes) -> Answer:
        if fault := self._writing():
            return fault
        lines = [json.loads(line) for line in body.decode().splitlines() if line]
        items: list[dict[str, Any]] = []
        at = 0
        while at < len(lines):
            [(action, about)] = lines[at].items()
            rows, mapping = self.server.rows[about["_index"]], self.server.collections[about["_index"]]
            at += 1
            if action == "delete":
                found = rows.pop(about["_id"], None)
                items.append({"delete": {"_id": about["_id"], "status": 200 if found else 404}})
                continue
            document = lines[at]
            at += 1
            wrong = self._document(mapping, document)
            error = {"error": {"type": "document_parsing_exception", "reason": wrong}} if wrong else {}
            if not wrong:
                rows[about["_id"]] = document
            items.append({"index": {"_id": about["_id"], "status": 400 if wrong else 201, **error}})
        errors = any("error" in next(iter(item.values())) for item in items)
        return 200, {"took": 1, "errors": errors, "items": items}

    def _document(self, mapping: dict[str, Any], document: dict[str, Any]) -> str:
        properties = mapping["properties"]
        for field, value in document.items():
            spec = properties.get(field)
            if spec is None:
                return f"strict mapping: {field}"
            if field == "vector" and len(value) != spec.get("dimension", spec.get("dims")):
                return "dimension of the vector"
            if spec["type"] == "keyword" and len(str(value)) > spec["ignore_above"] > 8191:
                return f"immense term in {field}"
            if spec["type"] == "double" and not isinstance(value, int | float):
                return f"{field} is no number"
        return ""

    # Vespa

    def _vespa(self, verb: str, path: str, body: bytes) -> Answer:
        if fault := self._writing():
            return fault
        _, _, _, _, schema, kind, id_ = (unquote(part) for part in path.split("/", 6))
        require(kind == "docid", "document type")
        file = self.server.schemas / f"{schema}.sd"
        require(file.is_file(), f"Document type {schema} does not exist")
        text = file.read_text()
        fields = dict(re.findall(r"field (\w+) type (\S+) \{", text))
        rows = self.server.rows.setdefault(schema, {})
        answer = {"pathId": path, "id": f"id:{schema}::{id_}"}
        if verb == "DELETE":
            rows.pop(id_, None)
            return 200, answer
        said = json.loads(body)["fields"]
        for field, value in said.items():
            require(field in fields, f"No field '{field}' in the structure of type '{schema}'")
            if fields[field].startswith("tensor"):
                length = int(re.findall(r"x\[(\d+)\]", fields[field])[0])
                require(len(value["values"]) == length, f"Expected {length} values")
            else:
                kinds = {"double": (int, float), "long": int, "bool": bool, "string": str}[fields[field]]
                require(isinstance(value, kinds), f"{field}: {value!r}")
        rows[id_] = {n: v for n, v in said.items() if n not in ("id", "vector")}
        rows[id_]["vector"] = said["vector"]["values"]
        return 200, answer


class _Cut(Exception):
    """The connection is cut."""


class RedisServer(socketserver.ThreadingTCPServer):
    """Hashes and `FT.CREATE`, `FT.INFO`, `FT.DROPINDEX`."""

    daemon_threads, allow_reuse_address = True, True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Redis)
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.indexes: dict[bytes, list[bytes]] = {}
        self.faults = Faults()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def place(self) -> str:
        return f"127.0.0.1:{self.server_address[1]}"


class _Redis(socketserver.StreamRequestHandler):
    server: RedisServer

    def handle(self) -> None:
        while head := self.rfile.readline():
            words = []
            for _ in range(int(head[1:])):
                size = int(self.rfile.readline()[1:])
                words.append(self.rfile.read(size))
                self.rfile.read(2)
            said = self._reply(words[0].decode().upper(), words[1:])
            if said is None:
                return
            self.wfile.write(said)

    def _reply(self, command: str, words: list[bytes]) -> bytes | None:
        hashes, indexes = self.server.hashes, self.server.indexes
        if command == "HSET":
            kind = self.server.faults.now()
            if kind == "drop":
                return None
            if kind == "full":
                return b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"
            if len(words) % 2 == 0:
                return b"-ERR wrong number of arguments for 'hset' command\r\n"
            hashes.setdefault(words[0], {}).update(zip(words[1::2], words[2::2], strict=True))
            return b":%d\r\n" % (len(words) // 2)
        if command == "DEL":
            return b":%d\r\n" % sum(hashes.pop(key, None) is not None for key in words)
        if command == "FT.CREATE":
            at = words.index(b"SCHEMA")
            if words[1:5] != [b"ON", b"HASH", b"PREFIX", b"1"] or words[at + 1 : at + 4] != [
                *(b"vector", b"VECTOR", b"HNSW")
            ]:
                return b"-ERR syntax\r\n"
            count = int(words[at + 4])
            options = words[at + 5 : at + 5 + count]
            if dict(zip(options[::2], options[1::2], strict=True)).keys() != {
                *(b"TYPE", b"DIM", b"DISTANCE_METRIC")
            }:
                return b"-ERR missing mandatory parameter\r\n"
            indexes[words[0]] = options
            return b"+OK\r\n"
        if command == "FT.INFO":
            if words[0] not in indexes:
                return b"-Unknown index name\r\n"
            options = indexes[words[0]]
            found = dict(zip(options[::2], options[1::2], strict=True))
            attribute = [b"identifier", b"vector", b"attribute", b"vector", b"type", b"VECTOR"]
            attribute += [b"dim", found[b"DIM"], b"distance_metric", found[b"DISTANCE_METRIC"]]
            return _resp([b"index_name", words[0], b"attributes", [attribute]])
        if command in ("CLIENT", "SELECT", "PING"):
            return b"+OK\r\n"
        return b"-ERR unknown command '%s'\r\n" % command.encode()


def _resp(value: Any) -> bytes:
    if isinstance(value, list):
        return b"*%d\r\n" % len(value) + b"".join(map(_resp, value))
    return b"$%d\r\n%s\r\n" % (len(value), value)


_servers: dict[tuple[str, Path], Any] = {}


def http_stores(tool: str, folder: Path) -> HTTPStores:
    """The server of a tool and folder."""
    if (tool, folder) not in _servers:
        _servers[tool, folder] = HTTPStores(folder / "schemas")
    found: HTTPStores = _servers[tool, folder]
    return found


def redis_server(folder: Path) -> RedisServer:
    """The Redis of a folder."""
    if ("redis", folder) not in _servers:
        _servers["redis", folder] = RedisServer()
    found: RedisServer = _servers["redis", folder]
    return found


def redis_rows(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """Hashes as rows."""
    found: dict[str, dict[str, Any]] = {}
    for key, fields in redis_server(folder).hashes.items():
        prefix, _, id_ = key.decode().partition(":")
        if prefix == name:
            row: dict[str, Any] = {n.decode(): v for n, v in fields.items()}
            vector = np.frombuffer(row.pop("vector"), np.float32).tolist()
            found[id_] = {n: v.decode() for n, v in row.items()} | {"vector": vector}
            for number in {"start_sec", "end_sec", "begin"} & row.keys():
                found[id_][number] = float(row[number])
    return found


def http_rows(tool: str) -> Callable[[Path, str], dict[str, dict[str, Any]]]:
    """Rows of a collection."""
    return lambda folder, name: dict(http_stores(tool, folder).rows.get(name, {}))


def drop(tool: str) -> Callable[[Path, str], None]:
    """Remove a collection and its rows."""

    def dropped(folder: Path, name: str) -> None:
        if tool == "redis":
            server = redis_server(folder)
            server.indexes.pop(name.encode(), None)
            for key in [k for k in server.hashes if k.startswith(name.encode() + b":")]:
                del server.hashes[key]
            return
        stores = http_stores(tool, folder)
        stores.collections.pop(name, None)
        stores.rows.pop(name, None)
        (folder / "schemas" / f"{name}.sd").unlink(missing_ok=True)

    return dropped


def best(read: Callable[[Path, str], dict[str, dict[str, Any]]]) -> Callable[[Path, str, list[float]], str]:
    """The nearest row by cosine: the servers here hold rows and do not search."""

    def nearest(folder: Path, name: str, vector: list[float]) -> str:
        rows = read(folder, name)
        asked = np.array(vector)
        return max(rows, key=lambda i: float(asked @ rows[i]["vector"] / np.linalg.norm(rows[i]["vector"])))

    return nearest
