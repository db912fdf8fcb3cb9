"""Generates a stub with the types of the catalog's Python functions, for editors and mypy."""

from __future__ import annotations

from collections.abc import Callable
from textwrap import wrap

import pyarrow as pa

from tl_data.catalog import Function, Listing, Parameter
from tl_data.functions import FUNCTIONS, LISTINGS

_HEAD = '''"""The types of `tl_data.search` and the other functions of the catalog.

Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file. There is no module of
this name when a program runs: `tl_data` makes the functions from the catalog when they are first used.
"""

from collections.abc import Mapping
from datetime import datetime
from os import PathLike
from typing import Any, Protocol, overload

from tl_data.display import Rows
from tl_data.settings import Settings

class _Column(Protocol):
    """A pandas or Polars Series."""

    def __len__(self) -> int: ...
    def to_list(self) -> list[Any]: ...

_Text = str | PathLike[str] | Mapping[str, Any]
'''


def page() -> str:
    """The text of the stub."""
    return "\n".join([_HEAD, *map(_function, FUNCTIONS.values()), *map(_listing, LISTINGS.values())])


def _function(f: Function) -> str:
    """Two overloads: scalar arguments return one value; if an argument is a column, so is the result."""
    scalars = _parameters(f, _argument_type)
    columns = _parameters(f, lambda p: f"{_argument_type(p)} | _Column")
    return (
        f"@overload\ndef {f.name}({scalars}) -> {_value_type(f)}:\n{_doc(f)}"
        f"@overload\ndef {f.name}({columns}) -> Any: ...\n"
    )


def _listing(t: Listing) -> str:
    return f"def {t.name}({_parameters(t, _argument_type)}) -> Rows:\n{_doc(t)}"


def _parameters(record: Function | Listing, type_of: Callable[[Parameter], str]) -> str:
    declared = [
        f"{p.name}: {type_of(p)}" if p.required else f"{p.name}: {type_of(p)} | None = {p.default!r}"
        for p in record.parameters
    ]
    return "".join(f"\n    {line}," for line in [*declared, "*", "settings: Settings | None = None"]) + "\n"


def _doc(record: Function | Listing) -> str:
    lines = [f'    """{record.doc}', "", "    Args:"]
    for p in record.parameters:
        lines += wrap(f"{p.name}: {p.doc}", 108, initial_indent=" " * 8, subsequent_indent=" " * 12)
    return "\n".join([*lines, '    """', ""])


def _argument_type(p: Parameter) -> str:
    """The types that `Parameter.value` accepts."""
    if pa.types.is_list(p.type):
        return f"list[{_value_name(p.type.value_type)}] | tuple[{_value_name(p.type.value_type)}, ...]"
    if pa.types.is_timestamp(p.type):
        return "datetime | str"
    if pa.types.is_string(p.type):
        return "_Text"
    return _value_name(p.type)


def _value_type(f: Function) -> str:
    if f.returns_table:
        return "Rows"
    if pa.types.is_list(f.gives):
        return f"list[{_value_name(f.gives.value_type)}] | None"
    return f"{_value_name(f.gives)} | None"


def _value_name(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "dict[str, Any]"
    names = {"string": "str", "double": "float", "float": "float", "int64": "int", "bool": "bool"}
    return names.get(str(kind), "datetime" if pa.types.is_timestamp(kind) else "Any")
