"""Exports of a lake to vector stores, warehouses, editing programs and documents.

    tl_data.export("lake", "lancedb://./store?collection=clips")

The package itself is callable. Type checkers accept `export.export`, which is the same function.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tl_data.export.runner import Report, export
from tl_data.export.sink import Refused, Sink, Store

__all__ = ["Refused", "Report", "Sink", "Store", "export"]


class _Callable(ModuleType):
    """The class of this package: calling `tl_data.export(...)` calls the function `export`."""

    def __call__(self, *args: Any, **options: Any) -> list[Report]:
        return export(*args, **options)


sys.modules[__name__].__class__ = _Callable
