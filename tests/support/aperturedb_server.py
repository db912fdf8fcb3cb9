"""A small server that speaks ApertureDB's protocol with the official client, and checks commands.

It is not ApertureDB: it holds descriptors in memory. A transaction is applied as a whole or not at all.
"""

from __future__ import annotations

import json
import socketserver
import struct
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tests.support.store_server import Faults, Refuse, require

ENGINES, METRICS = {"FaissFlat", "FaissIVFFlat", "FaissHNSWFlat", "Flinng", "HNSW"}, {"L2", "IP", "CS"}


class ApertureDBServer(socketserver.ThreadingTCPServer):
    """Descriptor sets by name: their shape, and properties with vector by descriptor."""

    daemon_threads = True
    allow_reuse_address = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.sets: dict[str, dict[str, Any]] = {}
        self.rows: dict[str, dict[str, dict[str, Any]]] = {}
        self.faults = Faults()
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"aperturedb://admin:secret@127.0.0.1:{self.server_address[1]}?tls=false"


class _Handler(socketserver.BaseRequestHandler):
    server: ApertureDBServer

    def handle(self) -> None:
        from aperturedb import queryMessage

        hello = self._receive()
        if hello is None:
            return
        self._send(hello)  # the same version and protocol
        while (data := self._receive()) is not None:
            message = queryMessage.queryMessage()
            queryMessage.ParseFromString(message, data)
            commands = json.loads(message.json)
            fault = self.server.faults.now() if "AddDescriptor" in message.json else ""
            if fault == "drop":
                return
            answer: Any
            try:
                require(fault != "full", "No space left on device")
                if "Authenticate" not in commands[0]:
                    require(message.token == "session", "Not Authenticated!")
                answer = self._transaction(commands, list(message.blobs))
            except Refuse as error:
                answer = {"status": -1, "info": str(error)}
            reply = queryMessage.queryMessage()
            reply.json = json.dumps(answer)
            self._send(reply.SerializeToString())

    def _receive(self) -> bytes | None:
        header = self._exactly(4)
        return None if header is None else self._exactly(struct.unpack("@I", header)[0])

    def _exactly(self, size: int) -> bytes | None:
        data = b""
        while len(data) < size:
            try:
                part = self.request.recv(size - len(data))
            except OSError:
                return None
            if not part:
                return None
            data += part
        return data

    def _send(self, data: bytes) -> None:
        self.request.sendall(struct.pack("@I", len(data)) + data)

    def _transaction(self, commands: list[dict[str, Any]], blobs: list[bytes]) -> list[dict[str, Any]]:
        rows = {name: dict(found) for name, found in self.server.rows.items()}
        sets, answers = dict(self.server.sets), []
        for command in commands:
            [(name, fields)] = command.items()
            answers.append({name: self._command(name, fields, blobs, sets, rows)})
        require(not blobs, "more blobs than commands that take one")
        self.server.rows, self.server.sets = rows, sets
        return answers

    def _command(
        self,
        name: str,
        fields: dict[str, Any],
        blobs: list[bytes],
        sets: dict[str, Any],
        rows: dict[str, Any],
    ) -> dict[str, Any]:
        if name == "Authenticate":
            require(
                fields.get("username") == "admin" and fields.get("password") == "secret", "wrong password"
            )
            times = {"session_token_expires_in": 3600, "refresh_token_expires_in": 36000}
            return {"status": 0, "session_token": "session", "refresh_token": "again", **times}
        if name == "FindDescriptorSet":
            require(set(fields) <= {"with_name", "dimensions", "metrics"}, f"FindDescriptorSet {fields}")
            found = sets.get(fields["with_name"])
            return (
                {"status": 0, "returned": 1, "entities": [found]} if found else {"status": 1, "returned": 0}
            )
        if name == "AddDescriptorSet":
            require(set(fields) == {"name", "dimensions", "engine", "metric"}, f"AddDescriptorSet {fields}")
            require(fields["name"] not in sets, "the set exists")
            require(fields["engine"] in ENGINES and fields["metric"] in METRICS, "engine or metric")
            sets[fields["name"]] = {"_dimensions": fields["dimensions"], "_metrics": [fields["metric"]]}
            rows[fields["name"]] = {}
            return {"status": 0}
        require(fields.get("set") in sets, f"no set {fields.get('set')}")
        if name == "DeleteDescriptor":
            [(key, (operator, values))] = fields["constraints"].items()
            require((key, operator) == ("tl_id", "in") and values, "constraints")
            for value in values:
                rows[fields["set"]].pop(value, None)
            return {"status": 0}
        require(name == "AddDescriptor" and blobs, f"{name}: unknown, or without a blob")
        vector = np.frombuffer(blobs.pop(0), np.float32)
        require(len(vector) == sets[fields["set"]]["_dimensions"], "the blob has another dimension")
        for key, value in fields["properties"].items():
            is_date = isinstance(value, dict) and set(value) == {"_date"}
            require(not key.startswith("_"), f"property {key}")
            require(is_date or isinstance(value, str | int | float | bool), f"property {key} is {value!r}")
        properties = dict(fields["properties"])
        row_id = properties.pop("tl_id")
        rows[fields["set"]][row_id] = {**properties, "vector": vector.tolist()}
        return {"status": 0}


_servers: dict[Path, ApertureDBServer] = {}


def aperturedb_server(folder: Path) -> ApertureDBServer:
    """The server of a folder."""
    if folder not in _servers:
        _servers[folder] = ApertureDBServer()
    return _servers[folder]


def aperturedb_rows(folder: Path, name: str) -> dict[str, dict[str, Any]]:
    """The descriptors of a set by their row ids."""
    names = ("video_id", "source_key", "url", "start_sec", "end_sec", "title", "transcription")
    rows = aperturedb_server(folder).rows.get(name, {})
    missing = dict.fromkeys(names)
    return {id_: missing | row for id_, row in rows.items()}


def aperturedb_drop(folder: Path, name: str) -> None:
    """Remove a set."""
    server = aperturedb_server(folder)
    del server.sets[name], server.rows[name]
