"""Request bodies: JSON, and multipart as the SDKs send it; texts in memory, files on disk, both bounded.

A field may be repeated, may be a JSON array in one text, or may arrive as a file part although it is a
text (one SDK sends every scalar twice, the second time as a file called `upload`). Files go to disk as
they arrive, bounded in size, and are removed again unless the route takes them.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import secrets
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tl_data.local.errors import LONGEST, APIProblem, invalid, not_provided, one_of, shown, shown_name, sized

MAX_PARTS = 2000
MAX_DOUBLE = 64 << 10  # bytes kept of a file part that no route takes as a file
MAX_DOUBLES = 1 << 20  # and of all such parts of one request together


@dataclass
class Upload:
    """A file that came with a request; `filename` is for display only."""

    path: Path
    filename: str
    size: int = 0
    sha256: str = ""
    content_type: str = ""


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
        self._doubled = 0  # bytes of file parts that no route takes

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
        """Delete files that no route has moved, also of an interrupted request."""
        if self._file:
            with suppress(OSError):  # a full disk: what is still buffered is not wanted any more
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
            self._left -= size  # also of what is dropped: a body is not read without end
            if self._left < 0:
                raise invalid(self._name, "It is too long.")
            if self._text is not None and self._keeps(size):
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

    def _keeps(self, size: int) -> bool:
        """Whether more of this text is kept; a file that no route takes is read and dropped."""
        if not self._as_file:
            return True
        self._doubled += size
        return len(self._text or b"") <= MAX_DOUBLE and self._doubled <= MAX_DOUBLES

    def _end(self) -> None:
        if self._file is None or self._upload is None:
            (self._doubles if self._as_file else self._texts).append((self._name, bytes(self._text or b"")))
            return
        self._file.close()
        self._upload.sha256 = self._hash.hexdigest()
        self._uploads.append((self._name, self._upload))
        self._file = self._upload = None


LARGE = 1 << 20  # bytes of JSON that are not decoded in between


@dataclass
class Form:
    """The fields and files of one request."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def texts(self, name: str) -> list[str]:
        """All values of a repeated field; a single value that is a JSON array counts as its items."""
        values = self.fields.get(name, [])
        found: list[str] = []
        for value in values:
            if value.lstrip().startswith("["):
                try:
                    items = json.loads(value)
                except (ValueError, RecursionError):
                    raise invalid(name, "It is not a valid JSON array.", value) from None
                found += [item if isinstance(item, str) else json.dumps(item) for item in items]
            else:
                found.append(value)
        return found

    def text(self, name: str, default: str | None = None) -> str | None:
        """The last value of a field; the default when it is absent."""
        values = self.fields.get(name)
        return values[-1] if values else default

    def required(self, name: str) -> str:
        """A field that must be there and not be blank.

        Raises:
            APIProblem: parameter_not_provided.
        """
        value = self.text(name)
        if value is None or not value.strip():
            raise not_provided(name)
        return value

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """A field with a fixed set of values."""
        value = self.text(name) or default
        if value not in allowed:
            raise one_of(name, allowed, value)
        return value

    def choices(self, name: str, allowed: Collection[str]) -> list[str]:
        """A repeated field with a fixed set of values; each counts once, in order."""
        values = self.texts(name)
        if any(value not in allowed for value in values):
            raise one_of(name, allowed, values)
        return list(dict.fromkeys(values))

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number in a range, both ends allowed; None when absent."""
        value = self.text(name)
        return None if value is None or value == "" else parse_number(name, value, low, high)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number in a range."""
        value = self.text(name)
        return default if value is None or value == "" else parse_whole_number(name, value, low, high)

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`, as any SDK writes them."""
        value = self.text(name)
        return default if value is None or value == "" else parse_flag(name, value)

    def upload(self, name: str) -> Upload | None:
        """The first file of that name."""
        return next(iter(self.files.get(name, [])), None)


def parse_number(name: str, value: str, low: float, high: float) -> float:
    """A number from text.

    Raises:
        APIProblem: it is none, or outside of the range.
    """
    try:
        number = float(value)
    except ValueError:
        raise invalid(name, "It must be a number.", value) from None
    if not low <= number <= high:
        raise invalid(name, f"It must be between {low:g} and {high:g}.", value)
    return number


def parse_whole_number(name: str, value: str, low: int, high: int) -> int:
    """A whole number from text; the same errors as `parse_number`."""
    try:
        number = int(value)
    except ValueError:
        raise invalid(name, "It must be a whole number.", value) from None
    if not low <= number <= high:
        raise invalid(name, f"It must be between {low} and {high}.", value)
    return number


def parse_flag(name: str, value: str) -> bool:
    """A boolean from text."""
    if value.lower() not in ("true", "false", "1", "0"):
        raise one_of(name, ("true", "false"), value)
    return value.lower() in ("true", "1")


def decode_json(name: str, text: str | bytes) -> Any:
    """Decode JSON; NaN and unpaired surrogates are refused, because they cannot be stored.

    Raises:
        APIProblem: parameter_invalid for the parameter `name`.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        excerpt = text if isinstance(text, str) else text[:LONGEST].decode("utf-8", "replace")
        raise invalid(name, f"It is not valid JSON: {str(error)[:120]}.", excerpt) from None
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a request, its null members left out.

    Raises:
        APIProblem: another content type, too long, not JSON, or not an object.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and not kind.endswith("json"):
        raise _content_type("application/json", kind)
    raw = await _bounded(request, limit)
    if not raw.strip():
        raise APIProblem(400, "parameter_invalid", "The request needs a JSON object as its body.")
    if not kind:  # browsers send such a body to other origins without a preflight request
        raise _content_type("application/json", kind)
    if len(raw) > LARGE:  # large: decoded in a thread, so that other requests continue
        body = await asyncio.to_thread(decode_json, "request body", raw)
    else:
        body = decode_json("request body", raw)
    if not isinstance(body, dict):
        text = f"The request body must be a JSON object. You sent {shown(body)}."
        raise APIProblem(400, "parameter_invalid", text)
    return {name: value for name, value in body.items() if value is not None}


@asynccontextmanager
async def read_form(
    request: Request,
    folder: Path,
    *,
    files: Sequence[str] = (),
    max_file: int,
    max_body: int,
    json_too: bool = True,
) -> AsyncIterator[Form]:
    """Parse a multipart body, or with `json_too` a JSON object. `files` names the fields that are files.

    Raises:
        APIProblem: content_type_invalid, a body that is no multipart, or one that is too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"application/json" and json_too:
        yield _from_json(await read_json(request, max_body))
        return
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _content_type("multipart/form-data", kind.decode("latin-1"))
    reader = Reader(folder, files, max_file, max_body)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        try:
            async for chunk in request.stream():
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise APIProblem(400, "parameter_invalid", f"The request body is broken: {error}") from None
        yield Form(*reader.read())
    finally:
        reader.clean()


def _content_type(wanted: str, got: str) -> APIProblem:
    text = f"The content type '{got[:80]}' is not supported. Please use '{wanted}'."
    return APIProblem(400, "content_type_invalid", text)


async def _bounded(request: Request, limit: int) -> bytes:
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise APIProblem(400, "parameter_invalid", f"The request body is larger than {limit} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _from_json(body: dict[str, Any]) -> Form:
    form = Form()
    for name, value in body.items():
        items = value if isinstance(value, list) else [value]
        form.fields[name] = [item if isinstance(item, str) else json.dumps(item) for item in items]
    return form
