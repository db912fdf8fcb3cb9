"""The parts of a multipart body as they arrive: texts in memory, files on disk, both bounded."""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO

from python_multipart.multipart import parse_options_header

from tl_data.local.errors import APIProblem, invalid

MAX_PARTS = 2000
MAX_DOUBLE = 64 << 10  # bytes kept of a file part that no route takes as a file


@dataclass
class Upload:
    """A file that came with a request; `path` is ours, `filename` only a name to show."""

    path: Path
    filename: str
    size: int = 0
    sha256: str = ""
    content_type: str = ""


def shown_name(name: str) -> str:
    """The last part of a file name, whatever system it comes from; never a path."""
    name = PurePosixPath(PureWindowsPath(name.replace("\0", "")).name).name
    return "".join(c for c in name if c.isprintable()).strip(". ")[:200] or "upload"


def sized(size: float) -> str:
    """Bytes for people: `2GB`, `15.3MB`."""
    for unit in ("B", "KB", "MB"):
        if size < 1024:
            return f"{size:.4g}{unit}"
        size /= 1024
    return f"{size:.4g}GB"


class Reader:
    """Collects the parts of one multipart body as the parser finds them."""

    def __init__(self, folder: Path, files: Sequence[str], max_file: int, max_body: int) -> None:
        self._folder = folder
        self._names = frozenset(files)
        self._max_file = max_file
        self._left = max_body
        self._parts = 0
        self._header: list[bytes] = [b"", b""]
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._upload: Upload | None = None
        self._hash = hashlib.sha256()
        self._texts: list[tuple[str, bytes]] = []
        self._doubles: list[tuple[str, bytes]] = []  # texts that came as file parts
        self._uploads: list[tuple[str, Upload]] = []
        self._as_file = False

    def callbacks(self) -> Any:
        """What the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._grow(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._grow(1, data[start:end]),
            "on_header_end": self._header_end,
            "on_headers_finished": self._open,
            "on_part_data": self._data,
            "on_part_end": self._end,
        }

    def read(self) -> tuple[dict[str, list[str]], dict[str, list[Upload]]]:
        """The texts and the files by name; a text that came both ways counts once."""
        fields: dict[str, list[str]] = {}
        files: dict[str, list[Upload]] = {}
        for name, raw in self._texts:
            fields.setdefault(name, []).append(raw.decode("utf-8", "replace"))
        sent = set(fields)
        for name, raw in self._doubles:
            if name not in sent:
                fields.setdefault(name, []).append(raw.decode("utf-8", "replace"))
        for name, upload in self._uploads:
            files.setdefault(name, []).append(upload)
        return fields, files

    def clean(self) -> None:
        """Remove what no route has taken, also of a request that broke off."""
        if self._file:
            self._file.close()
        pending = [self._upload] if self._upload else []
        for upload in [*pending, *(upload for _, upload in self._uploads)]:
            upload.path.unlink(missing_ok=True)

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise APIProblem(400, "parameter_invalid", f"The request has more than {MAX_PARTS} parts.")
        self._header, self._headers = [b"", b""], {}

    def _grow(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _header_end(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _open(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._as_file = filename is not None
        self._text = self._upload = self._file = None
        if self._name in self._names:
            path = self._folder / f"{secrets.token_hex(12)}.part"
            self._upload = Upload(path, shown_name((filename or b"").decode("utf-8", "replace")))
            self._upload.content_type = self._headers.get(b"content-type", b"").decode("latin-1")
            self._hash = hashlib.sha256()
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        else:
            self._text = bytearray()

    def _data(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        if self._file is None or self._upload is None:
            self._left -= size if not self._as_file else 0
            if self._left < 0:
                raise invalid(self._name, "It is too long.")
            if self._text is not None and not (self._as_file and len(self._text) > MAX_DOUBLE):
                self._text += data[start:end]
            return
        self._upload.size += size
        if self._upload.size > self._max_file:
            raise APIProblem(
                400,
                "video_filesize_too_large",
                f"The video is too large. Please use a video with a size less than {sized(self._max_file)}. "
                f"The current file size is more than {sized(self._max_file)}.",
            )
        self._hash.update(data[start:end])
        self._file.write(data[start:end])

    def _end(self) -> None:
        if self._file is None or self._upload is None:
            (self._doubles if self._as_file else self._texts).append((self._name, bytes(self._text or b"")))
            return
        self._file.close()
        self._upload.sha256 = self._hash.hexdigest()
        self._uploads.append((self._name, self._upload))
        self._file = self._upload = None
