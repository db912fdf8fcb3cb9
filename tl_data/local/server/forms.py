"""Request bodies: JSON, and multipart forms as the SDKs send them.

A field may be repeated, may be a JSON array in one text, or may arrive as a file part although it is a text:
one SDK sends every scalar twice, the second time as a file named `upload`. Texts are kept in memory, and
files are written to disk while they arrive. Both are limited in size. A file is deleted unless the route
moves it.
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

from tl_data.local.errors import (
    MAX_VALUE_CHARS,
    EngineError,
    format_bytes,
    format_value,
    invalid,
    not_provided,
    one_of,
    safe_file_name,
)

MAX_PARTS = 2000
#: A text field may arrive as a file part. Its size is limited, because the part may be a large file.
MAX_FILE_TEXT = 64 << 10  # bytes kept of one such part
MAX_FILE_TEXTS = 1 << 20  # bytes kept of all such parts of a request together


@dataclass
class Upload:
    """A file of a request. `filename` is for display only."""

    path: Path
    filename: str
    size: int = 0
    sha256: str = ""
    content_type: str = ""


class Reader:
    """Collects the parts of one multipart body while the parser reads it.

    Args:
        folder: where files are written.
        files: names of the fields that are files.
        max_file: limit for one file, in bytes.
        max_body: limit for all texts together, in bytes.
    """

    def __init__(self, folder: Path, files: Sequence[str], max_file: int, max_body: int) -> None:
        self._folder = folder
        self._file_fields = frozenset(files)
        self._max_file = max_file
        self._remaining_text_bytes = max_body
        self._parts = 0
        self._header: list[bytes] = [b"", b""]  # name and value of the current header
        self._headers: dict[bytes, bytes] = {}
        self._name = ""
        self._text: bytearray | None = None
        self._file: BinaryIO | None = None
        self._upload: Upload | None = None
        self._hash = hashlib.sha256()
        self._texts: list[tuple[str, bytes]] = []
        self._file_texts: list[tuple[str, bytes]] = []  # texts that came as file parts
        self._uploads: list[tuple[str, Upload]] = []
        self._as_file = False
        self._file_text_bytes = 0  # bytes received in such parts

    def callbacks(self) -> Any:
        """The callbacks for the parser."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": lambda data, start, end: self._extend_header(0, data[start:end]),
            "on_header_value": lambda data, start, end: self._extend_header(1, data[start:end]),
            "on_header_end": self._end_header,
            "on_headers_finished": self._begin_content,
            "on_part_data": self._add_content,
            "on_part_end": self._end_part,
        }

    def read(self) -> tuple[dict[str, list[str]], dict[str, list[Upload]]]:
        """The texts and the files by field name. A text that was sent both ways counts once."""
        fields: dict[str, list[str]] = {}
        files: dict[str, list[Upload]] = {}
        for name, raw in self._texts:
            fields.setdefault(name, []).append(raw.decode("utf-8", "replace"))
        text_names = set(fields)
        for name, raw in self._file_texts:
            if name not in text_names:
                fields.setdefault(name, []).append(raw.decode("utf-8", "replace"))
        for name, upload in self._uploads:
            files.setdefault(name, []).append(upload)
        return fields, files

    def clean(self) -> None:
        """Delete the files that no route has moved, also after an interrupted request."""
        if self._file:
            with suppress(OSError):  # the disk is full; the buffered rest is not needed
                self._file.close()
        pending = [self._upload] if self._upload else []
        for upload in [*pending, *(upload for _, upload in self._uploads)]:
            upload.path.unlink(missing_ok=True)

    def _begin_part(self) -> None:
        self._parts += 1
        if self._parts > MAX_PARTS:
            raise EngineError(400, "parameter_invalid", f"The request has more than {MAX_PARTS} parts.")
        self._header, self._headers = [b"", b""], {}

    def _extend_header(self, which: int, data: bytes) -> None:
        self._header[which] += data

    def _end_header(self) -> None:
        self._headers[self._header[0].lower()] = self._header[1]
        self._header = [b"", b""]

    def _begin_content(self) -> None:
        _, options = parse_options_header(self._headers.get(b"content-disposition"))
        self._name = options.get(b"name", b"").decode("utf-8", "replace")
        filename = options.get(b"filename")
        self._as_file = filename is not None
        self._text = self._upload = self._file = None
        if self._name in self._file_fields:
            path = self._folder / f"{secrets.token_hex(12)}.part"
            self._upload = Upload(path, safe_file_name((filename or b"").decode("utf-8", "replace")))
            self._upload.content_type = self._headers.get(b"content-type", b"").decode("latin-1")
            self._hash = hashlib.sha256()
            self._file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
        else:
            self._text = bytearray()

    def _add_content(self, data: bytes, start: int, end: int) -> None:
        size = end - start
        if self._file is None or self._upload is None:
            self._remaining_text_bytes -= size  # discarded bytes count, too, so that every body is limited
            if self._remaining_text_bytes < 0:
                raise invalid(self._name, "It is too long.")
            if self._text is not None and self._should_keep(size):
                self._text += data[start:end]
            return
        self._upload.size += size
        if self._upload.size > self._max_file:
            limit = format_bytes(self._max_file)
            raise EngineError(
                400,
                "video_filesize_too_large",
                f"The video is too large. Please use a video with a size less than {limit}. "
                f"The current file size is more than {limit}.",
            )
        self._hash.update(data[start:end])
        self._file.write(data[start:end])

    def _should_keep(self, size: int) -> bool:
        """Whether to keep more of this text. The rest of a large file part is discarded."""
        if not self._as_file:
            return True
        self._file_text_bytes += size
        return len(self._text or b"") <= MAX_FILE_TEXT and self._file_text_bytes <= MAX_FILE_TEXTS

    def _end_part(self) -> None:
        if self._file is None or self._upload is None:
            (self._file_texts if self._as_file else self._texts).append(
                (self._name, bytes(self._text or b""))
            )
            return
        self._file.close()
        self._upload.sha256 = self._hash.hexdigest()
        self._uploads.append((self._name, self._upload))
        self._file = self._upload = None


LARGE_JSON = 1 << 20  # bytes above which JSON is decoded in a thread


@dataclass
class Form:
    """The fields and files of one request."""

    fields: dict[str, list[str]] = field(default_factory=dict)
    files: dict[str, list[Upload]] = field(default_factory=dict)

    def texts(self, name: str) -> list[str]:
        """All values of a repeated field. A value that is a JSON array counts as its items."""
        values = self.fields.get(name, [])
        texts: list[str] = []
        for value in values:
            if value.lstrip().startswith("["):
                try:
                    items = json.loads(value)
                except (ValueError, RecursionError):
                    raise invalid(name, "It is not a valid JSON array.", value) from None
                texts += [item if isinstance(item, str) else json.dumps(item) for item in items]
            else:
                texts.append(value)
        return texts

    def text(self, name: str, default: str | None = None) -> str | None:
        """The last value of a field; the default if it is absent."""
        values = self.fields.get(name)
        return values[-1] if values else default

    def required(self, name: str) -> str:
        """The value of a required field.

        Raises:
            EngineError: parameter_not_provided. The field is absent or blank.
        """
        value = self.text(name)
        if value is None or not value.strip():
            raise not_provided(name)
        return value

    def choice(self, name: str, allowed: Collection[str], default: str) -> str:
        """The value of a field that allows a fixed set of values."""
        value = self.text(name) or default
        if value not in allowed:
            raise one_of(name, allowed, value)
        return value

    def choices(self, name: str, allowed: Collection[str]) -> list[str]:
        """The values of a repeated field that allows a fixed set of values, without duplicates, in order."""
        values = self.texts(name)
        if any(value not in allowed for value in values):
            raise one_of(name, allowed, values)
        return list(dict.fromkeys(values))

    def number(self, name: str, low: float, high: float) -> float | None:
        """A number from `low` to `high`; None if the field is absent."""
        value = self.text(name)
        return None if value is None or value == "" else parse_number(name, value, low, high)

    def whole_number(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number from `low` to `high`; the default if the field is absent."""
        value = self.text(name)
        return default if value is None or value == "" else parse_whole_number(name, value, low, high)

    def flag(self, name: str, default: bool) -> bool:
        """A boolean; the default if the field is absent."""
        value = self.text(name)
        return default if value is None or value == "" else parse_flag(name, value)

    def upload(self, name: str) -> Upload | None:
        """The first file of a field; None if there is none."""
        return next(iter(self.files.get(name, [])), None)


def parse_number(name: str, value: str, low: float, high: float) -> float:
    """Parse a number from `low` to `high`. `name` is the parameter for error messages.

    Raises:
        EngineError: the text is not a number, or the number is out of range.
    """
    try:
        number = float(value)
    except ValueError:
        raise invalid(name, "It must be a number.", value) from None
    if not low <= number <= high:
        raise invalid(name, f"It must be between {low:g} and {high:g}.", value)
    return number


def parse_whole_number(name: str, value: str, low: int, high: int) -> int:
    """Parse a whole number. Raises the same errors as `parse_number`."""
    try:
        number = int(value)
    except ValueError:
        raise invalid(name, "It must be a whole number.", value) from None
    if not low <= number <= high:
        raise invalid(name, f"It must be between {low} and {high}.", value)
    return number


def parse_flag(name: str, value: str) -> bool:
    """Parse a boolean: `true`, `false`, `1` or `0`, in any case."""
    if value.lower() not in ("true", "false", "1", "0"):
        raise one_of(name, ("true", "false"), value)
    return value.lower() in ("true", "1")


def decode_json(name: str, text: str | bytes) -> Any:
    """Decode JSON. NaN and unpaired surrogates are rejected, because they cannot be stored.

    Raises:
        EngineError: parameter_invalid for the parameter `name`.
    """
    try:
        value = json.loads(text, parse_constant=_reject_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        excerpt = text if isinstance(text, str) else text[:MAX_VALUE_CHARS].decode("utf-8", "replace")
        raise invalid(name, f"It is not valid JSON: {str(error)[:120]}.", excerpt) from None
    return value


def _reject_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """Read the JSON object of a request, without its null members.

    Raises:
        EngineError: the body has another content type, is too long, or is not a JSON object.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind and not kind.endswith("json"):
        raise _content_type_error("application/json", kind)
    raw = await _read_body(request, limit)
    if not raw.strip():
        raise EngineError(400, "parameter_invalid", "The request needs a JSON object as its body.")
    if not kind:  # browsers send a body without a type to other origins without a preflight request
        raise _content_type_error("application/json", kind)
    if len(raw) > LARGE_JSON:  # other requests continue meanwhile
        body = await asyncio.to_thread(decode_json, "request body", raw)
    else:
        body = decode_json("request body", raw)
    if not isinstance(body, dict):
        text = f"The request body must be a JSON object. You sent {format_value(body)}."
        raise EngineError(400, "parameter_invalid", text)
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
    """Parse a multipart body, or with `json_too` also a JSON object. `files` names the fields that are files.

    Raises:
        EngineError: content_type_invalid, or the body is malformed or too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"application/json" and json_too:
        yield _form_from_json(await read_json(request, max_body))
        return
    if kind != b"multipart/form-data" or not options.get(b"boundary"):
        raise _content_type_error("multipart/form-data", kind.decode("latin-1"))
    reader = Reader(folder, files, max_file, max_body)
    try:
        parser = MultipartParser(options[b"boundary"], reader.callbacks())
        try:
            async for chunk in request.stream():
                parser.write(chunk)
            parser.finalize()
        except FormParserError as error:
            raise EngineError(400, "parameter_invalid", f"The request body is broken: {error}") from None
        yield Form(*reader.read())
    finally:
        reader.clean()


def _content_type_error(expected: str, actual: str) -> EngineError:
    text = f"The content type '{actual[:80]}' is not supported. Please use '{expected}'."
    return EngineError(400, "content_type_invalid", text)


async def _read_body(request: Request, limit: int) -> bytes:
    """Read a body of at most `limit` bytes."""
    parts: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise EngineError(400, "parameter_invalid", f"The request body is larger than {limit} bytes.")
        parts.append(chunk)
    return b"".join(parts)


def _form_from_json(body: dict[str, Any]) -> Form:
    form = Form()
    for name, value in body.items():
        items = value if isinstance(value, list) else [value]
        form.fields[name] = [item if isinstance(item, str) else json.dumps(item) for item in items]
    return form
