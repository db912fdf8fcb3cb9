"""User metadata and the search filter: both are JSON objects of texts, numbers and booleans."""

from __future__ import annotations

import math
import re
from typing import Any

from tl_data.local.errors import APIProblem, filter_invalid, invalid
from tl_data.local.server.forms import decode_json
from tl_data.local.storage.database import ID, Where

RESERVED = ("duration", "filename", "fps", "height", "model_names", "size", "video_title", "width")
NUMBER_FIELDS = ("duration", "width", "height", "size")
RANGE = ("gte", "lte", "gt", "lt")
MAX_KEYS = 200
MAX_EXACT = 2**53

LONGEST_REPR = 20_000  # characters
NOT_FLAT = "not a dict of texts, numbers and booleans"
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_VALUE = rf"{_TEXT}|True|False|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*({_TEXT})\s*:\s*({_VALUE})\s*(,|$)", re.S)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.S)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def check_metadata(name: str, value: Any) -> dict[str, Any]:
    """User metadata as it may be stored; null values stay and mean deletion.

    Raises:
        APIProblem: not an object, a reserved key, or a value of another type.
    """
    if not isinstance(value, dict):
        raise invalid(name, "It must be a JSON object.", value)
    if len(value) > MAX_KEYS:
        raise invalid(name, f"It must have at most {MAX_KEYS} keys, but has {len(value)}.")
    for key, item in value.items():
        if key in RESERVED:
            raise invalid(name, f"The key {key} is reserved: {', '.join(RESERVED)} cannot be overridden.")
        texts = isinstance(item, list) and all(isinstance(part, str) for part in item)
        if not (item is None or texts or isinstance(item, str | int | float)):
            raise invalid(
                name,
                f"The value of {key} must be a string, number or boolean; turn anything else into a string.",
                item,
            )
    return value


def parse_metadata(name: str, text: str | None) -> dict[str, Any]:
    """User metadata from the text of a form's field; {} when it is absent."""
    return merge_metadata({}, check_metadata(name, decode_json(name, text))) if text else {}


def parse_repr(text: str) -> dict[str, str | int | float | bool]:
    """The flat dict that a Python client wrote with `repr`, as one SDK sends its filter.

    Read without `ast`: in CPython 3.11 all parses of a process share one count of the depth (gh-106905). A
    parse fails with SystemError when the garbage collector runs a destructor within it that parses, too, as
    the formatting of a traceback does.

    Raises:
        ValueError: it is something else.
    """
    inner, at = text.strip(), 1
    found: dict[str, str | int | float | bool] = {}
    end = len(inner) - 1
    if len(text) > LONGEST_REPR or inner[:1] != "{" or inner[-1:] != "}":
        raise ValueError(NOT_FLAT)
    while inner[at:end].strip():
        pair = _PAIR.match(inner, at, end)
        if pair is None:
            raise ValueError(NOT_FLAT)
        try:
            found[_text_of(pair[1])] = _value_of(pair[2])
        except (ValueError, OverflowError):  # too many digits, no such character
            raise ValueError(NOT_FLAT) from None
        at = pair.end()
    return found


def _value_of(literal: str) -> str | int | float | bool:
    if literal[0] in "'\"":
        return _text_of(literal)
    if literal in ("True", "False"):
        return literal == "True"
    return float(literal) if set(literal) & set(".eE") else int(literal)


def _text_of(literal: str) -> str:
    """What a string literal stands for, with the escapes that `repr` writes."""

    def letter(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _LETTERS.get(code, code)

    return _ESCAPE.sub(letter, literal[1:-1])


def merge_metadata(old: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The metadata after an update."""
    return {key: value for key, value in (old | changes).items() if value is not None}


def read_filter(text: str) -> tuple[list[Where], list[str] | None]:
    """The conditions of a search filter, and the video ids it names, if it names any.

    Raises:
        APIProblem: search_filter_invalid.
    """
    try:
        given = decode_json("filter", text)
    except APIProblem as problem:
        raise filter_invalid(problem.message) from None
    if not isinstance(given, dict):
        raise filter_invalid("It must be a JSON object.", given)
    if len(given) > MAX_KEYS:
        raise filter_invalid(f"It must have at most {MAX_KEYS} keys, but has {len(given)}.")
    ids: list[str] | None = None
    where: list[Where] = []
    for key, value in given.items():
        if key == "id":
            ids = _ids(value)
        elif key in NUMBER_FIELDS:
            where += _numbers(key, value)
        elif key == "filename":
            if not isinstance(value, str):
                raise filter_invalid("filename must be a text.", value)
            where.append(Where("filename", "=", value))
        else:
            where += _own(key, value)
    return where, ids


def _ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise filter_invalid("id must be an array of video ids.", value)
    if any(not isinstance(item, str) or not ID.fullmatch(item) for item in value):
        raise filter_invalid("id must hold video ids of 24 hexadecimal digits.", value)
    return list(dict.fromkeys(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_bindable(value: Any) -> Any:
    """SQLite counts to 2**63; above what a float holds exactly, a float compares just as well."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_EXACT:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def _range(key: str, value: dict[str, Any], *, metadata: bool) -> list[Where]:
    if unknown := [operator for operator in value if operator not in RANGE]:
        raise filter_invalid(
            f"{key} has the unknown operator {unknown[0][:40]}; there are {', '.join(RANGE)}."
        )
    if not all(_is_number(bound) for bound in value.values()):
        raise filter_invalid(f"The bounds of {key} must be numbers.", value)
    return [Where(key, operator, to_bindable(bound), metadata=metadata) for operator, bound in value.items()]


def _numbers(key: str, value: Any) -> list[Where]:
    if isinstance(value, dict):
        return _range(key, value, metadata=False)
    if not _is_number(value):
        raise filter_invalid(f'{key} must be a number or a range such as {{"gte": 5, "lte": 10}}.', value)
    return [Where(key, "=", to_bindable(value))]


def _own(key: str, value: Any) -> list[Where]:
    if isinstance(value, dict):
        return _range(key, value, metadata=True)
    if not isinstance(value, str | int | float):
        raise filter_invalid(f"{key} must be compared with a text, a number, a boolean or a range.", value)
    return [Where(key, "=", to_bindable(value), metadata=True)]


def round_to_single(value: float) -> float | int:
    """The shortest decimal of the nearest single-precision number: 8748176080 becomes 8748176000."""
    import numpy as np

    with np.errstate(over="ignore"):
        text = np.format_float_scientific(np.float32(value), unique=True)
    near = float(text)
    if not math.isfinite(near):
        return value
    return int(near) if near.is_integer() else near


def round_metadata_to_single(metadata: dict[str, Any]) -> dict[str, Any]:
    """User metadata as the service gives it back: its numbers lose what single precision cannot hold."""
    return {
        key: round_to_single(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for key, value in metadata.items()
    }
