"""The state of exports, stored in the folder of the lake: `LAKE/_exports/TARGET/`.

`rows.parquet` has the id and digest of each row in the target. The digest is NULL if the target refused the
row, or if it is unknown whether the row arrived. The changes of each batch are in a separate file, called a
piece: `piece-00000001.parquet`. A piece of sent rows is written twice: with the ids alone before the batch is
sent (unless all of its digests are NULL already), and with the digests afterwards. A piece of deleted rows is
written once, after the deletion. After a crash in between, the next export knows from the pieces which rows
may be in the target. It sends them again, or deletes them if the lake no longer has them. `finish` merges the
pieces into `rows.parquet`. A row takes about 29 bytes in the file and about 150 in memory.
"""

from __future__ import annotations

import fcntl
import hashlib
import io
import re
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq

from tl_data.errors import ExportError, LakeError, LedgerError
from tl_data.object_store import Storage
from tl_data.runtime.concurrency import Loop

SCHEMA = pa.schema([("id", pa.string()), ("digest", pa.binary()), ("gone", pa.bool_())])


class State:
    """The state of one target. A lock allows one export at a time on this machine."""

    def __init__(self, lake: str, target: str, table: str) -> None:
        digest = hashlib.sha256(f"{target}\n{table}".encode()).hexdigest()[:12]
        label = re.sub(r"[^A-Za-z0-9]+", "-", target)[:40].strip("-")
        self.folder = f"{label}-{digest}"
        self._storage = _open_storage(f"{lake.rstrip('/')}/_exports")
        self._loop = Loop()
        self._lock: IO[bytes] | None = None
        self._pieces = 0
        #: Id -> digest. None: the row may be in the target, and its content there is unknown.
        self.rows: dict[str, bytes | None] = {}

    def __enter__(self) -> State:
        try:
            self._take_lock()
            self._load()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._lock is not None:
            self._lock.close()
        self._loop.close()

    def forget(self, *, keep: bool = False) -> None:
        """Clear the state, because the target does not exist. With `keep` the files remain unchanged."""
        had_rows = bool(self.rows)
        self.rows.clear()
        if had_rows and not keep:
            self.finish()

    def record_sending(self, ids: Sequence[str]) -> int:
        """Record that these rows are about to be sent. Returns the number of the piece."""
        self._pieces += 1
        digests = [self.rows.get(id_) for id_ in ids]
        if any(digest is not None for digest in digests) or not all(id_ in self.rows for id_ in ids):
            self._write(self._piece_path(self._pieces), ids, [None] * len(ids))
        self.rows.update(dict.fromkeys(ids))
        return self._pieces

    def record_sent(self, piece: int, digests: Mapping[str, bytes | None]) -> None:
        """Record that the rows of a piece were sent. The digest of a refused row is None."""
        self.rows.update(digests)
        self._write(self._piece_path(piece), list(digests), list(digests.values()))

    def record_deleted(self, ids: Sequence[str]) -> None:
        """Record the deletion of rows."""
        self._pieces += 1
        for id_ in ids:
            self.rows.pop(id_, None)
        self._write(self._piece_path(self._pieces), ids, [None] * len(ids), gone=True)

    def finish(self) -> None:
        """Merge the pieces into `rows.parquet`, and delete them."""
        self._write(f"{self.folder}/rows.parquet", list(self.rows), list(self.rows.values()))
        for path in self._piece_paths():
            self._run(self._storage.delete(path))

    def _take_lock(self) -> None:
        """Lock the target against other exports on this machine. A bucket has no locks.

        Raises:
            ExportError: another export is running.
        """
        if (folder := self._storage.folder) is None:
            return
        (folder / self.folder).mkdir(parents=True, exist_ok=True)
        self._lock = (folder / self.folder / ".lock").open("wb")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ExportError(
                f"another export of this lake to {self.folder} is running; wait until it ends",
                "export_running",
            ) from error

    def _load(self) -> None:
        if (body := self._run(self._storage.read(f"{self.folder}/rows.parquet"))) is not None:
            self._apply(body)
        pieces = self._piece_paths()
        for path in pieces:
            if (body := self._run(self._storage.read(path))) is not None:
                self._apply(body)
        self._pieces = int(pieces[-1].rpartition("-")[2].partition(".")[0]) if pieces else 0

    def _apply(self, body: bytes) -> None:
        """Apply the rows of a state file to `rows`."""
        try:
            table = pq.read_table(io.BytesIO(body), schema=SCHEMA)
        except (pa.ArrowException, OSError) as error:
            raise LakeError(
                f"the state of the export {self.folder} cannot be read: {error}. "
                "Remove its folder in _exports and export again: existing rows are replaced."
            ) from error
        for id_, digest, gone in zip(*(c.to_pylist() for c in table.columns), strict=True):
            if gone:
                self.rows.pop(id_, None)
            else:
                self.rows[id_] = digest

    def _piece_paths(self) -> list[str]:
        async def list_paths() -> list[str]:
            return sorted([i.path async for i in self._storage.below(self.folder) if "/piece-" in i.path])

        return list(self._run(list_paths()))

    def _piece_path(self, number: int) -> str:
        return f"{self.folder}/piece-{number:08}.parquet"

    def _write(
        self, path: str, ids: Iterable[str], digests: Iterable[bytes | None], *, gone: bool = False
    ) -> None:
        ids = list(ids)
        table = pa.table([ids, list(digests), [gone] * len(ids)], schema=SCHEMA)
        out = io.BytesIO()
        pq.write_table(table, out, compression="zstd", use_dictionary=False)
        self._run(self._storage.write(path, out.getvalue()))

    def _run(self, work: Any) -> Any:
        try:
            return self._loop.run(work)
        except LedgerError as error:
            raise LakeError(str(error)) from error


def _open_storage(address: str) -> Storage:
    try:
        return Storage(address, "the export", None)
    except (LedgerError, OSError) as error:
        raise LakeError(str(error)) from error
