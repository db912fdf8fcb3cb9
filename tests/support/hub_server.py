"""A server that speaks the protocol of the Hugging Face Hub, as far as downloads of models need it."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

LARGE = 1 << 20  # files from this size on are stored outside of Git, and have a SHA-256
_BLOCK = 1 << 16


@dataclass
class Repository:
    """A model with its files."""

    files: Mapping[str, bytes]
    tags: tuple[str, ...] = ("license:mit",)
    gated: bool = False

    @property
    def commit(self) -> str:
        """The only commit, which is also the head of `main`."""
        digest = hashlib.sha1()
        for name, data in sorted(self.files.items()):
            digest.update(name.encode() + hashlib.sha1(data).digest())
        return digest.hexdigest()

    @classmethod
    def of(cls, folder: Path, **more: Any) -> Self:
        """A repository with the files of a folder."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return cls({str(path.relative_to(folder)): path.read_bytes() for path in paths}, **more)


@dataclass
class Request:
    """One request that arrived."""

    method: str
    path: str
    start: int  # first byte that was asked for


@dataclass
class HubServer:
    """The server; a context manager. Its attributes may be changed while it runs."""

    repositories: dict[str, Repository]
    cut_at: int | None = None  # no connection gets further into a large file than this
    altered: str = ""  # a file of which other bytes are sent than are declared
    omitted: tuple[str, ...] = ()  # fields that no file has in a listing
    requests: list[Request] = field(default_factory=list)

    def __enter__(self) -> Self:
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def starts(self, name: str) -> list[int]:
        """Where the downloads of a file began."""
        return [r.start for r in self.requests if r.method == "GET" and r.path.endswith(f"/{name}")]


class _Handler(BaseHTTPRequestHandler):
    hub: HubServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Print nothing."""

    def do_HEAD(self) -> None:
        self._respond()

    def do_GET(self) -> None:
        self._respond()

    def _respond(self) -> None:
        path = urlsplit(self.path).path
        ranged = re.match(r"bytes=(\d+)-", self.headers.get("Range") or "")
        start = int(ranged[1]) if ranged else 0
        self.hub.requests.append(Request(self.command, path, start))
        found = re.fullmatch(
            r"(/api/models)?/([^/]+/[^/]+)(?:/(revision|tree|resolve)/([^/]+))?(?:/(.+))?", path
        )
        repository = self.hub.repositories.get(found[2]) if found else None
        if found is None or repository is None:
            self._refuse(401, "RepoNotFound")
        elif repository.gated:
            self._refuse(403, "GatedRepo")
        elif found[4] not in (None, "main", repository.commit):
            self._refuse(404, "RevisionNotFound")
        elif found[3] == "resolve" and found[5] in repository.files:
            self._send_file(repository, found[5], start)
        elif found[3] == "tree":
            self._send_json([_entry(name, data, "path") for name, data in repository.files.items()])
        elif found[1]:
            siblings = [_entry(name, data, "rfilename") for name, data in repository.files.items()]
            siblings = [{k: v for k, v in entry.items() if k not in self.hub.omitted} for entry in siblings]
            self._send_json(
                {"id": found[2], "modelId": found[2], "sha": repository.commit, "siblings": siblings,
                 "tags": list(repository.tags), "private": False}
            )  # fmt: skip
        else:
            self._refuse(404, "EntryNotFound")

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _send_json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _send_file(self, repository: Repository, name: str, start: int) -> None:
        data = repository.files[name]
        self.send_response(206 if start else 200)
        self.send_header("ETag", f'"{_checksum(data)}"')
        self.send_header("X-Repo-Commit", repository.commit)
        self.send_header("Accept-Ranges", "bytes")
        self.send_header("Content-Length", str(len(data) - start))
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        if self.command == "HEAD":
            return
        if name == self.hub.altered:
            data = bytes(len(data))
        end = len(data)
        if self.hub.cut_at is not None and end > LARGE:
            end = max(start, min(end, self.hub.cut_at))
        for at in range(start, end, _BLOCK):
            self.wfile.write(data[at : min(at + _BLOCK, end)])
        if end < len(data):
            self.close_connection = True


def _checksum(data: bytes) -> str:
    """The SHA-256 of a large file, Git's SHA-1 of a small one."""
    if len(data) >= LARGE:
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def _entry(name: str, data: bytes, key: str) -> dict[str, Any]:
    """A file in a listing."""
    checksum = _checksum(data)
    entry: dict[str, Any] = {
        "type": "file",
        key: name,
        "size": len(data),
        "oid": checksum,
        "blobId": checksum,
    }
    if len(data) >= LARGE:
        pointer = {"oid": checksum, "sha256": checksum, "size": len(data), "pointerSize": 133}
        entry |= {"oid": "0" * 40, "blobId": "0" * 40, "lfs": pointer}
    return entry
