"""Multipart forms that stream files from disk, one block at a time."""

from __future__ import annotations

import asyncio
import mimetypes
import random
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from tl_data.errors import MediaRefused

#: A function that is called after each block with the number of bytes sent so far and the total.
Progress = Callable[[int, int], None]

File = Path | str | bytes  # a path, or the content itself

BLOCK = 1024 * 1024  # bytes read from a file at a time
SMALL = 64 * 1024  # largest size in bytes of a form that is sent as a whole
_ESCAPES = str.maketrans({'"': "%22", "\r": "%0D", "\n": "%0A"})
#: File names for contents without one, by the first bytes.
_SIGNATURES = {
    b"\x89PNG": "upload.png",
    b"\xff\xd8\xff": "upload.jpg",
    b"RIFF": "upload.wav",
    b"ID3": "upload.mp3",
}


@dataclass(frozen=True)
class _Part:
    head: bytes
    content: bytes | Path
    size: int


class Form:
    """A multipart/form-data body that can be sent any number of times."""

    def __init__(
        self,
        fields: Mapping[str, Any],
        files: Mapping[str, File | list[File] | None] | None = None,
        on_progress: Progress | None = None,
        filename: str | None = None,
    ) -> None:
        """Build the parts of the form.

        Args:
            fields: None is omitted; a list becomes repeated parts, a dict JSON, a boolean "true" or "false".
            files: paths or contents, by field name.
            on_progress: called after each block of a file on disk.
            filename: the file name to send for paths; by default the name of each file.

        Raises:
            MediaRefused: a file does not exist, is empty or cannot be read.
        """
        boundary = random.randbytes(16).hex()
        self.fields, self._files, self._filename = dict(fields), files, filename
        self._parts: list[_Part] = []
        for name, value in fields.items():
            for item in value if isinstance(value, list | tuple) else [value]:
                if item is not None:
                    self._parts.append(_field(boundary, name, as_text(item)))
        for name, content in (files or {}).items():
            for file in content if isinstance(content, list) else [content]:
                if file is not None:
                    self._parts.append(_file(boundary, name, file, filename))
        self._tail = f"--{boundary}--\r\n".encode()
        self._on_progress = on_progress
        self.content_type = f"multipart/form-data; boundary={boundary}"
        self.length = sum(len(p.head) + p.size + 2 for p in self._parts) + len(self._tail)

    def with_urls(self, urls: Mapping[str, str]) -> Form:
        """A copy of the form in which URLs are replaced.

        Args:
            urls: new URLs, by the URL to replace. Only fields whose name ends in `url` change.
        """

        def replaced(value: Any) -> Any:
            if isinstance(value, list | tuple):
                return [replaced(each) for each in value]
            return urls.get(value, value) if isinstance(value, str) else value

        fields = {n: replaced(v) if n.endswith("url") else v for n, v in self.fields.items()}
        return Form(fields, self._files, self._on_progress, self._filename)

    @property
    def content(self) -> bytes | None:
        """The whole body, if it is small and has no file on disk, else None. It is sent in one packet."""
        if self.length > SMALL or any(isinstance(part.content, Path) for part in self._parts):
            return None
        parts = (b"".join((p.head, p.content, b"\r\n")) for p in self._parts if isinstance(p.content, bytes))
        return b"".join((*parts, self._tail))

    async def __aiter__(self) -> AsyncIterator[bytes]:
        sent = 0
        total = sum(p.size for p in self._parts if isinstance(p.content, Path))
        for part in self._parts:
            if isinstance(part.content, bytes):
                yield part.head + part.content + b"\r\n"
                continue
            yield part.head
            async for block in _blocks(part.content, part.size):
                yield block
                sent += len(block)
                if self._on_progress:
                    self._on_progress(sent, total)
            yield b"\r\n"
        yield self._tail


@dataclass
class FileRange:
    """A byte range of a file as a request body that can be sent any number of times."""

    path: Path
    start: int
    length: int
    content_type: str = "application/octet-stream"
    content: None = None  # it is read from the file while it is sent

    def __aiter__(self) -> AsyncIterator[bytes]:
        return _blocks(self.path, self.length, self.start)


async def _blocks(path: Path, size: int, start: int = 0) -> AsyncIterator[bytes]:
    """Read exactly `size` bytes of a file in blocks, in a thread."""
    read = 0
    while read < size:
        block = await asyncio.to_thread(_block, path, start + read, min(BLOCK, size - read))
        if not block:
            raise MediaRefused(f"{path.name} was truncated during the upload")
        read += len(block)
        yield block


def _block(path: Path, start: int, size: int) -> bytes:
    # The file is opened for each block, so that a cancelled upload leaves no file open.
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)


def _field(boundary: str, name: str, text: str) -> _Part:
    content = text.encode()
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
    return _Part(head.encode(), content, len(content))


def _file(boundary: str, name: str, file: File, sent_name: str | None) -> _Part:
    if isinstance(file, bytes):
        names = (name for signature, name in _SIGNATURES.items() if file.startswith(signature))
        filename = next(names, "upload.bin")
        content: bytes | Path = file
        size = len(file)
    else:
        content = Path(file)
        filename = sent_name or content.name
        try:
            size = content.stat().st_size
            with content.open("rb"):
                pass
        except OSError as error:
            raise MediaRefused(f"cannot read {content}: {error.strerror}") from error
    if not size:
        raise MediaRefused(f"{filename} is empty")
    kind = mimetypes.guess_type(filename)[0] or "application/octet-stream"
    head = (
        f"--{boundary}\r\nContent-Disposition: form-data; "
        f'name="{name}"; filename="{filename.translate(_ESCAPES)}"\r\nContent-Type: {kind}\r\n\r\n'
    )
    return _Part(head.encode(), content, size)


def as_text(value: Any) -> str:
    """Format a value for forms and query strings of the API."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return orjson.dumps(value).decode()
    return str(value)
