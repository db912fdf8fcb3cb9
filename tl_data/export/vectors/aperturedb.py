"""ApertureDB: one descriptor set. Rows are descriptors, whose property `tl_id` is the id of the row.

The password comes from the address or `APERTUREDB_PASSWORD`, a token from `APERTUREDB_TOKEN`. The connection
uses TLS; `?tls=false` turns it off.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from tl_data.errors import SettingsError
from tl_data.export.sink import BaseStore, Refused, Shape, Sink, Target, check_same, import_client
from tl_data.export.vectors.payload import COLLECTION, ids, matrix, metric_name, payloads

EXTRA = "aperturedb"
_EMPTY = 1  # the status of a Find command without a result


class _ApertureDBError(Exception):
    """The server refused a command, or the connection was lost."""


class ApertureDB(BaseStore):
    """Writes rows to one descriptor set."""

    errors = (_ApertureDBError, OSError)

    def __init__(self, target: Target) -> None:
        [connector] = import_client(EXTRA, "aperturedb.Connector")
        password = target.password or os.environ.get("APERTUREDB_PASSWORD", "")
        token = os.environ.get("APERTUREDB_TOKEN", "")
        if not (password or token):
            raise SettingsError("neither APERTUREDB_PASSWORD nor APERTUREDB_TOKEN is set")
        # The client logs each lost connection with its stack; the export reports it.
        logging.getLogger("aperturedb").setLevel(logging.CRITICAL + 1)
        self._connection = connector.Connector(
            target.host,
            target.port or connector.DEFAULT_PORT,
            user=target.user or "admin",
            password=password,
            token=token,
            use_ssl=target.options.get("tls", "true") != "false",
        )
        self._name, self._address = target.collection, target.name

    def ensure(self, shape: Shape, *, create: bool) -> bool:
        """Check dimension and metric of the descriptor set, or create it."""
        metric = metric_name(("CS", "IP", "L2"), shape.metric)
        find = {"with_name": self._name, "dimensions": True, "metrics": True}
        [found] = self._query([{"FindDescriptorSet": find}])
        entities = found["FindDescriptorSet"].get("entities") or []
        if entities:
            if shape.dimension is not None:
                check_same("dimension", entities[0]["_dimensions"], shape.dimension, self._address)
            check_same("metric", entities[0]["_metrics"], [metric], self._address)
            return False
        if create and shape.dimension is not None:
            new = {"name": self._name, "dimensions": shape.dimension, "engine": "HNSW", "metric": metric}
            self._query([{"AddDescriptorSet": new}])
        return True

    def upsert(self, rows: pa.RecordBatch) -> list[Refused]:
        """Replace the descriptors in one transaction. NULL values are left out."""
        row_ids = ids(rows)
        commands: list[dict[str, Any]] = [self._deletion(row_ids)]
        for id_, payload in zip(row_ids, payloads(rows, nulls=False), strict=True):
            properties = {"tl_id": id_, **{name: _property(value) for name, value in payload.items()}}
            commands.append({"AddDescriptor": {"set": self._name, "properties": properties}})
        self._query(commands, [vector.tobytes() for vector in matrix(rows)])
        return []

    def delete(self, ids: Sequence[str]) -> None:
        """Send one transaction."""
        self._query([self._deletion(ids)])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def _deletion(self, ids: Sequence[str]) -> dict[str, Any]:
        return {"DeleteDescriptor": {"set": self._name, "constraints": {"tl_id": ["in", list(ids)]}}}

    def _query(self, commands: list[dict[str, Any]], blobs: Sequence[bytes] = ()) -> list[dict[str, Any]]:
        """Run one transaction: all of its commands, or none.

        Raises:
            _ApertureDBError: it was refused, or the connection was lost.
        """
        try:
            answer, _ = self._connection.query(commands, list(blobs))
        except OSError:
            raise
        except Exception as error:  # the client raises plain exceptions
            lost = "Could not query" in str(error)
            reason = "connection closed: no answer" if lost else str(error)
            raise _ApertureDBError(reason) from error
        parts = [answer] if isinstance(answer, dict) else list(answer)
        for part in parts:
            result = part if "status" in part else next(iter(part.values()))
            if result.get("status", 0) not in (0, _EMPTY):
                raise _ApertureDBError(str(result.get("info") or result))
        return parts


def _property(value: Any) -> Any:
    """A value as ApertureDB takes it: a list as text with commas, a time as a date."""
    if isinstance(value, datetime):
        return {"_date": value.isoformat()}
    return ", ".join(map(str, value)) if isinstance(value, list) else value


SINK = Sink(
    "aperturedb",
    "vectors",
    ApertureDB,
    "USER:PASSWORD@HOST:55555",
    extra=EXTRA,
    options={**COLLECTION, "tls": "false: without TLS"},
    default_tables=("vectors",),
    reserved=re.compile(r"_.*|tl_id"),
    batch_rows=100,
)
