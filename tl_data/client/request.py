"""Requests to the API: route, query, body, rate-limit category and retry policy.

`OPERATIONS` lists the API's operations, each with the client method that calls it, for the reference.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import orjson

from tl_data.client.multipart import Form, as_text
from tl_data.client.retry import Repeat
from tl_data.errors import BadRequest
from tl_data.urls import is_bucket

Json = dict[str, Any]
USER_METADATA = "user_metadata"


@dataclass(frozen=True)
class Request:
    """One request to the API, with its rate-limit category, expected cost and retry policy."""

    method: str
    path: str
    query: Mapping[str, Any] = field(default_factory=dict)
    json: Json | None = None
    form: Form | None = None
    category: str = "read"
    repeat: Repeat = Repeat.FREELY
    video_minutes: float = 0.0
    tokens: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def target(self) -> str:
        """Path and query string. A list becomes repeated keys, and a range {"gte": 5} becomes name[gte]=5."""
        pairs: list[tuple[str, Any]] = []
        for name, value in self.query.items():
            if isinstance(value, Mapping):
                pairs += [(f"{name}[{bound}]", limit) for bound, limit in value.items()]
            elif isinstance(value, list | tuple | set):
                pairs += [(name, item) for item in value]
            else:
                pairs.append((name, value))
        query = urlencode([(name, as_text(value)) for name, value in pairs if value is not None])
        return f"{self.path}?{query}" if query else self.path

    def sent(self, name: str) -> list[Any]:
        """All values that the request contains for a parameter: in the query, the form and the JSON body."""
        fields = self.form.fields if self.form else {}
        return [source[name] for source in (self.query, fields) if source.get(name) is not None] + list(
            _named(self.json, name)
        )

    def bucket_addresses(self) -> set[str]:
        """The URLs in the body that are addresses of objects in buckets."""
        fields = self.form.fields if self.form else {}
        return {url for url in [*_urls(fields), *_urls(self.json)] if is_bucket(url)}

    def with_addresses(self, signed: Mapping[str, str]) -> Request:
        """A copy of the request with signed URLs in its body.

        Args:
            signed: the signed URLs, by the addresses to replace.
        """
        form = self.form.with_urls(signed) if self.form else None
        return replace(self, json=_replaced(self.json, signed), form=form)

    @property
    def content(self) -> bytes | None:
        """The JSON body."""
        return None if self.json is None else orjson.dumps(self.json)


def _named(value: Any, name: str) -> Iterator[Any]:
    """The values of all properties with this name in a JSON value, at any depth."""
    if isinstance(value, dict):
        if value.get(name) is not None:
            yield value[name]
        for inner in value.values():
            yield from _named(inner, name)
    elif isinstance(value, list):
        for inner in value:
            yield from _named(inner, name)


def _urls(value: Any, name: str = "") -> Iterator[str]:
    """The texts in all properties of a JSON value whose names end in `url`, at any depth.

    Lists belong to the property that holds them. User metadata is data of the user: it is left as it is.
    """
    if isinstance(value, Mapping):
        for key, inner in value.items():
            if key != USER_METADATA:
                yield from _urls(inner, str(key))
    elif isinstance(value, list):
        for inner in value:
            yield from _urls(inner, name)
    elif isinstance(value, str) and name.endswith("url"):
        yield value


def _replaced(value: Any, texts: Mapping[str, str], name: str = "") -> Any:
    """A copy of a JSON value, with other texts in the places that `_urls` reads."""
    if isinstance(value, dict):
        return {
            key: inner if key == USER_METADATA else _replaced(inner, texts, key)
            for key, inner in value.items()
        }
    if isinstance(value, list):
        return [_replaced(inner, texts, name) for inner in value]
    return texts.get(value, value) if isinstance(value, str) and name.endswith("url") else value


def path(template: str, **ids: str) -> str:
    """Fill ids into a path template. Each id is percent-encoded, so that it is one segment of the path.

    Raises:
        BadRequest: an id is empty, "." or "..": the path would address another resource.
    """
    for name, value in ids.items():
        if not value or value in (".", ".."):
            raise BadRequest(f"{name} must be an id, got {value!r}", "parameter_invalid")
    return template.format(**{name: quote(value, safe="") for name, value in ids.items()})


def given(**options: Any) -> Json:
    """The options that are not None. None means "not given" in every method of the client."""
    return {name: value for name, value in options.items() if value is not None}


F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One operation of the API, such as 'POST /search', and the method of `Client` that calls it."""

    route: str
    method: str
    doc: str  # first line of the method's documentation


OPERATIONS: list[Operation] = []


def operation(*routes: str) -> Callable[[F], F]:
    """Decorate a method of the client: add the routes that it calls to `OPERATIONS`."""

    def register(function: F) -> F:
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        OPERATIONS.extend(Operation(route, function.__name__, doc) for route in routes)
        return function

    return register
