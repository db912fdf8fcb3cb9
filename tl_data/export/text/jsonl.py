"""JSON Lines: one file with one object per row, rewritten after any change. LangChain can read it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa

from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target


class SingleFile(BaseStore):
    """Writes all rows to one file. The file gets its final name when it is complete."""

    errors = (OSError,)

    def __init__(self, target: Target) -> None:
        self.file = target.file
        self._part = self.file.with_name(f".{self.file.name[:200]}.part")
        self._out: Any = None
        self._rows = 0

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Create the folder of the file if it is missing."""
        is_new = not self.file.exists()
        if create:
            self.file.parent.mkdir(parents=True, exist_ok=True)
        return is_new

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Append rows."""
        if self._out is None:
            self._out = self._part.open("wb")
        for row in rows.to_pylist():
            self.write(self._out, row)
            self._rows += 1
        return []

    def write(self, out: Any, row: dict[str, Any]) -> None:
        """Write one row."""
        out.write(json_line(row))

    def end(self, out: Any) -> None:
        """Write the end of the file. JSON Lines has none; subclasses may."""

    def delete(self, ids: Sequence[str]) -> None:
        """Do nothing: the file is rewritten without the removed rows."""

    def finish(self) -> None:
        """Close the file and give it its final name, if rows were written."""
        if self._out is not None:
            self.end(self._out)
            self._out.close()
            self._part.replace(self.file)

    def close(self) -> None:
        """Delete an incomplete file."""
        if self._out is not None:
            self._out.close()
            Path(self._part).unlink(missing_ok=True)


def json_line(row: dict[str, Any]) -> bytes:
    """A row as one line. NaN and infinity become null, because JSON does not have them."""
    values = {n: None if isinstance(v, float) and not math.isfinite(v) else v for n, v in row.items()}
    return orjson.dumps(values, default=str, option=orjson.OPT_APPEND_NEWLINE | orjson.OPT_UTC_Z)


SINK = Sink("jsonl", "tables", SingleFile, "a .jsonl file", single_table=True, single_file=True)
