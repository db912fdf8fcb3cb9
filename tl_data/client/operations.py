"""Which method of the client calls which operation of the API: the table that the documents print."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Operation:
    """One operation of the API, such as 'POST /search', and the method of `Client` that calls it."""

    route: str
    method: str
    doc: str  # first line of the method's documentation


OPERATIONS: list[Operation] = []


def operation(*routes: str) -> Callable[[F], F]:
    """Note the routes a function calls; the function itself stays as it is."""

    def note(function: F) -> F:
        doc = (inspect.getdoc(function) or "").partition("\n")[0]
        OPERATIONS.extend(Operation(route, function.__name__, doc) for route in routes)
        return function

    return note
