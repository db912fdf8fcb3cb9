"""Ways out of a lake: into vector stores, warehouses, editing programs and documents.

    tl_data.export("lake", "lancedb://./store?collection=clips")

The module itself can be called; `export.export` is the same function for type checkers.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from tl_data.export.runner import Report, export
from tl_data.export.sink import Refused, Sink, Store

__all__ = ["Refused", "Report", "Sink", "Store", "export"]


class _Callable(ModuleType):
    """`tl_data.export` is the package and, called, the function."""

    def __call__(self, *args: Any, **options: Any) -> list[Report]:
        return export(*args, **options)


sys.modules[__name__].__class__ = _Callable
