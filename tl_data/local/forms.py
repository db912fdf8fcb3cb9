"""Request bodies: multipart as the SDKs really send it, and JSON.

A field may be repeated, may be a JSON array in one text, or may arrive as a file part although it is a
text (one SDK sends every scalar twice, the second time as a file called `upload`). Files go to disk as
they arrive, bounded in size, and are removed again unless the route takes them.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from tl_data.local.errors import LONGEST, APIProblem, invalid, not_provided, one_of, shown
from tl_data.local.uploads import Reader, Upload

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
                    raise invalid(name, "It begins like a JSON array but is none.", value) from None
                found += [item if isinstance(item, str) else json.dumps(item) for item in items]
            else:
                found.append(value)
        return found

    def text(self, name: str, default: str | None = None) -> str | None:
        """The last value of a field; the default when it is absent."""
        values = self.fields.get(name)
        return values[-1] if values else default

    def needed(self, name: str) -> str:
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
        return None if value is None or value == "" else in_range(name, value, low, high)

    def whole(self, name: str, default: int, low: int, high: int) -> int:
        """A whole number in a range."""
        value = self.text(name)
        return default if value is None or value == "" else whole_in_range(name, value, low, high)

    def flag(self, name: str, default: bool) -> bool:
        """`true` or `false`, as any SDK writes them."""
        value = self.text(name)
        return default if value is None or value == "" else as_flag(name, value)

    def upload(self, name: str) -> Upload | None:
        """The first file of that name."""
        return next(iter(self.files.get(name, [])), None)


def in_range(name: str, value: str, low: float, high: float) -> float:
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


def whole_in_range(name: str, value: str, low: int, high: int) -> int:
    """A whole number from text; the same errors as `in_range`."""
    try:
        number = int(value)
    except ValueError:
        raise invalid(name, "It must be a whole number.", value) from None
    if not low <= number <= high:
        raise invalid(name, f"It must be between {low} and {high}.", value)
    return number


def as_flag(name: str, value: str) -> bool:
    """A boolean from text."""
    if value.lower() not in ("true", "false", "1", "0"):
        raise one_of(name, ("true", "false"), value)
    return value.lower() in ("true", "1")


def decode_json(name: str, text: str | bytes) -> Any:
    """JSON without NaN and without half characters, neither of which could be stored.

    Raises:
        APIProblem: parameter_invalid for the parameter `name`.
    """
    try:
        value = json.loads(text, parse_constant=_no_constant)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as error:
        said = text if isinstance(text, str) else text[:LONGEST].decode("utf-8", "replace")
        raise invalid(name, f"It is not valid JSON: {str(error)[:120]}.", said) from None
    return value


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is not a JSON value")


async def read_json(request: Request, limit: int) -> dict[str, Any]:
    """The JSON object of a request, its null members left out.

    Raises:
        APIProblem: another content type, too long, not JSON, or not an object.
    """
    kind = request.headers.get("content-type", "application/json").split(";")[0].strip().lower()
    if not (kind == "" or kind.endswith("json")):
        raise _content_type("application/json", kind)
    raw = await _bounded(request, limit)
    if not raw.strip():
        raise APIProblem(400, "parameter_invalid", "The request needs a JSON object as its body.")
    if len(raw) > LARGE:  # with a file in it: others are answered meanwhile
        body = await asyncio.to_thread(decode_json, "request body", raw)
    else:
        body = decode_json("request body", raw)
    if not isinstance(body, dict):
        text = f"The request body must be a JSON object. You sent {shown(body)}."
        raise APIProblem(400, "parameter_invalid", text)
    return {name: value for name, value in body.items() if value is not None}


@asynccontextmanager
async def read_form(
    request: Request, folder: Path, *, files: Sequence[str] = (), max_file: int, max_body: int
) -> AsyncIterator[Form]:
    """Parse a multipart body (or, tolerated, a JSON object). `files` names the fields that are files.

    Raises:
        APIProblem: content_type_invalid, a body that is no multipart, or one that is too large.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind == b"application/json":
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
    text = f"The content type must be {wanted}, but is {got[:80] or 'missing'}."
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
