"""Temporary folders. If a process is killed, the next process that makes one removes its folders."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
import time
from pathlib import Path

PREFIX = "tl_data_"  # prefix of temporary folders
LOCK_SECONDS = 10.0  # within this time a process has locked its new folder
ABANDONED_SECONDS = 86400.0  # age at which a folder without a lock file, of an earlier release, is removed


class Scratch:
    """A temporary folder, which this process locks until `close` removes it.

    It may contain signed URLs and videos, so only the current user can read it.
    """

    def __init__(self) -> None:
        _remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        self._lock = (self.path / "lock").open("wb")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def close(self) -> None:
        """Remove the folder."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def _remove_abandoned() -> None:
    """Remove the folders of killed processes, whose locks are free."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        try:
            info = folder.stat()
            age = time.time() - info.st_mtime
            if info.st_uid != os.getuid() or age < LOCK_SECONDS:
                continue
            if not (folder / "lock").exists():  # of an earlier release, or a folder of another kind
                if age > ABANDONED_SECONDS and (folder / "source.duckdb").exists():
                    shutil.rmtree(folder, ignore_errors=True)
                continue
            with (folder / "lock").open("rb") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, or removed by another process
