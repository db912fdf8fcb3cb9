"""Validation of user metadata and of search filters.

User metadata is a JSON object of texts, numbers, booleans and lists of texts. A search filter is a JSON
object of texts, numbers, booleans and ranges, and may have a list of video ids.
"""

from __future__ import annotations

import math
import re
from typing import Any

from tl_data.local.errors import EngineError, filter_invalid, invalid
from tl_data.local.server.forms import decode_json
from tl_data.local.storage.database import ID, Where

RESERVED = ("duration", "filename", "fps", "height", "model_names", "size", "video_title", "width")
NUMBER_FIELDS = ("duration", "width", "height", "size")
RANGE = ("gte", "lte", "gt", "lt")
MAX_KEYS = 200
MAX_EXACT = 2**53  # every whole number up to this one is exact as a float

LONGEST_REPR = 20_000  # characters of a dict that `parse_repr` reads
NOT_FLAT = "not a dict of texts, numbers and booleans"
_TEXT = r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\""""
_VALUE = rf"{_TEXT}|True|False|[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
_PAIR = re.compile(rf"\s*({_TEXT})\s*:\s*({_VALUE})\s*(,|$)", re.S)
_ESCAPE = re.compile(r"\\(x[0-9a-fA-F]{2}|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|.)", re.S)
_LETTERS = {"n": "\n", "r": "\r", "t": "\t"}


def check_metadata(name: str, value: Any) -> dict[str, Any]:
    """Validate user metadata, and return it. Null values are kept: they delete a key.

    Raises:
        EngineError: it is not an object, or it has a reserved key or a value of another type.
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
    """Parse user metadata from the text of a form field; {} if the field is absent."""
    return merge_metadata({}, check_metadata(name, decode_json(name, text))) if text else {}


def parse_repr(text: str) -> dict[str, str | int | float | bool]:
    """Parse a flat dict that was written with `repr`. One SDK sends its filter this way.

    It does not use `ast`, because of a bug in CPython 3.11: all parses of a process share one depth counter
    (gh-106905). If the garbage collector runs a destructor during a parse, and the destructor also parses,
    as the formatting of a traceback does, then the outer parse fails with SystemError.

    Raises:
        ValueError: the text is not a flat dict.
    """
    literal, position = text.strip(), 1
    result: dict[str, str | int | float | bool] = {}
    end = len(literal) - 1
    if len(text) > LONGEST_REPR or literal[:1] != "{" or literal[-1:] != "}":
        raise ValueError(NOT_FLAT)
    while literal[position:end].strip():
        pair = _PAIR.match(literal, position, end)
        if pair is None:
            raise ValueError(NOT_FLAT)
        try:
            result[_unescape(pair[1])] = _parse_literal(pair[2])
        except (ValueError, OverflowError):  # a number with too many digits, or an escape of no character
            raise ValueError(NOT_FLAT) from None
        position = pair.end()
    return result


def _parse_literal(literal: str) -> str | int | float | bool:
    if literal[0] in "'\"":
        return _unescape(literal)
    if literal in ("True", "False"):
        return literal == "True"
    return float(literal) if set(literal) & set(".eE") else int(literal)


def _unescape(literal: str) -> str:
    """The text of a string literal, with the escapes of `repr` resolved."""

    def unescape_match(escape: re.Match[str]) -> str:
        code = escape[1]
        return chr(int(code[1:], 16)) if len(code) > 1 else _LETTERS.get(code, code)

    return _ESCAPE.sub(unescape_match, literal[1:-1])


def merge_metadata(old: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Apply changes to metadata. A key whose new value is None is removed."""
    return {key: value for key, value in (old | changes).items() if value is not None}


def read_filter(text: str) -> tuple[list[Where], list[str] | None]:
    """Parse a search filter into its conditions and video ids; the ids are None if it names none.

    Raises:
        EngineError: search_filter_invalid.
    """
    try:
        search_filter = decode_json("filter", text)
    except EngineError as error:
        raise filter_invalid(error.message) from None
    if not isinstance(search_filter, dict):
        raise filter_invalid("It must be a JSON object.", search_filter)
    if len(search_filter) > MAX_KEYS:
        raise filter_invalid(f"It must have at most {MAX_KEYS} keys, but has {len(search_filter)}.")
    ids: list[str] | None = None
    where: list[Where] = []
    for key, value in search_filter.items():
        if key == "id":
            ids = _read_ids(value)
        elif key in NUMBER_FIELDS:
            where += _number_conditions(key, value)
        elif key == "filename":
            if not isinstance(value, str):
                raise filter_invalid("filename must be a text.", value)
            where.append(Where("filename", "=", value))
        else:
            where += _metadata_conditions(key, value)
    return where, ids


def _read_ids(value: Any) -> list[str]:
    if not isinstance(value, list) or not value:
        raise filter_invalid("id must be an array of video ids.", value)
    if any(not isinstance(item, str) or not ID.fullmatch(item) for item in value):
        raise filter_invalid("Each id must be a video id of 24 hexadecimal digits.", value)
    return list(dict.fromkeys(value))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def to_bindable(value: Any) -> Any:
    """Convert large integers to floats, because SQLite integers end at 2**63. Other values are unchanged."""
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_EXACT:
        try:
            return float(value)
        except OverflowError:
            return float("inf") if value > 0 else float("-inf")
    return value


def _range_conditions(key: str, value: dict[str, Any], *, metadata: bool) -> list[Where]:
    if unknown := [operator for operator in value if operator not in RANGE]:
        raise filter_invalid(
            f"{key} has the unknown operator {unknown[0][:40]}. Use one of {', '.join(RANGE)}."
        )
    if not all(_is_number(bound) for bound in value.values()):
        raise filter_invalid(f"The bounds of {key} must be numbers.", value)
    return [Where(key, operator, to_bindable(bound), metadata=metadata) for operator, bound in value.items()]


def _number_conditions(key: str, value: Any) -> list[Where]:
    if isinstance(value, dict):
        return _range_conditions(key, value, metadata=False)
    if not _is_number(value):
        raise filter_invalid(f'{key} must be a number or a range such as {{"gte": 5, "lte": 10}}.', value)
    return [Where(key, "=", to_bindable(value))]


def _metadata_conditions(key: str, value: Any) -> list[Where]:
    if isinstance(value, dict):
        return _range_conditions(key, value, metadata=True)
    if not isinstance(value, str | int | float):
        raise filter_invalid(f"{key} must be compared with a text, a number, a boolean or a range.", value)
    return [Where(key, "=", to_bindable(value), metadata=True)]


def round_to_single(value: float) -> float | int:
    """Round to single precision, and return the shortest decimal: 8748176080 becomes 8748176000."""
    import numpy as np

    with np.errstate(over="ignore"):
        text = np.format_float_scientific(np.float32(value), unique=True)
    near = float(text)
    if not math.isfinite(near):
        return value
    return int(near) if near.is_integer() else near


def round_metadata_to_single(metadata: dict[str, Any]) -> dict[str, Any]:
    """Round the numbers of user metadata to single precision, as the service does in its responses."""
    return {
        key: round_to_single(value)
        if isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for key, value in metadata.items()
    }
