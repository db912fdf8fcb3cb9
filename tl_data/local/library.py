"""What is known of every video, on disk: evidence, words for full-text search, vectors. One SQLite file.

`add` and `remove` are single transactions in WAL mode: after a kill a video is there whole or not at
all. The columns that a search scans are kept in memory too, one `Shelf` an index, read from the file at
the first search. Any number of threads may use one `Library`; writers wait for one another. What another
process adds to the same file is found after the next opening.

    Library(path).add(index_id, video_id, evidence, folder)
    library.search(Query(index_id, "a red box moving left"))
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tl_data.local import packing, search, space
from tl_data.local.evidence import Evidence
from tl_data.local.library_file import (
    SCHEMA,
    drop,
    index_number,
    insert,
    load,
    rows_of,
    transaction,
    with_keyframes,
)
from tl_data.local.query import Hit, Query
from tl_data.local.shelf import Shelf
from tl_data.local.sight import Sight
from tl_data.local.traits import TRAITS
from tl_data.local.words import words_of

# What the packed columns mean. Another value on disk: they are made anew from the stored evidence.
_FORM = f"tl-local-1 2 {hashlib.sha256(' '.join(TRAITS).encode()).hexdigest()[:12]}"
_KEPT = 256  # decoded evidence of this many videos stays in memory


class Library:
    """The store of one engine.

    Args:
        path: of the SQLite file; made if it is not there, with its folder.
        sight: the encoder of pictures that is at work. What another one saw is kept, but not searched.
    """

    def __init__(self, path: str | Path, sight: Sight | None = None) -> None:
        self._path = Path(path)
        self._sight = sight
        self._seen_by = sight.name if sight else ""
        self._form = f"{_FORM} {self._seen_by}".strip()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._shelves: dict[int, Shelf] = {}
        self._loading = threading.Lock()
        self._evidence: OrderedDict[str, Evidence] = OrderedDict()
        self._closed = False
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)

    # ------------------------------------------------------------------------------------ contents

    def add(self, index_id: str, video_id: str, evidence: Evidence, folder: str | Path = "") -> None:
        """Put a video into an index, or replace what is known of it. All or nothing.

        Args:
            folder: where its keyframes are; given back by `folder`.
        """
        words = [words_of(clip, evidence) for clip in evidence.clips]
        with self._writing, self._connection() as db:
            with transaction(db):
                home = index_number(db, index_id)
                old = drop(db, video_id)
                number = insert(db, home, video_id, str(folder), evidence, words, self._form, self._seen_by)
            self._evidence.pop(video_id, None)
            if old and (shelf := self._shelves.get(old[1])):
                shelf.remove(old[0])
            if shelf := self._shelves.get(home):
                shelf.add(packing.pack_of(number, evidence, words, self._seen_by), video_id)
                shelf.vocabulary.add(packing.vocabulary_of(words))

    def remove(self, video_id: str) -> bool:
        """Forget a video; False if it was not known."""
        with self._writing, self._connection() as db:
            with transaction(db):
                old = drop(db, video_id)
            self._evidence.pop(video_id, None)
            if old and (shelf := self._shelves.get(old[1])):
                shelf.remove(old[0])
        return old is not None

    def remove_index(self, index_id: str) -> None:
        """Forget an index with all its videos."""
        with self._writing, self._connection() as db:
            row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (index_id,)).fetchone()
            if row is None:
                return
            with transaction(db):
                db.execute("DELETE FROM videos WHERE index_number = ?", row)
                db.execute("DELETE FROM indexes WHERE number = ?", row)
                db.execute(f"DROP TABLE IF EXISTS words_{row[0]}")
                db.execute(f"DROP TABLE IF EXISTS vocabulary_{row[0]}")
            self._shelves.pop(row[0], None)
            self._evidence.clear()

    def videos(self, index_id: str) -> list[str]:
        """The ids of the videos of an index, in the order they were added."""
        with self._connection() as db:
            return [
                row[0]
                for row in db.execute(
                    "SELECT video_id FROM videos JOIN indexes ON indexes.number = index_number"
                    " WHERE index_id = ? ORDER BY videos.number",
                    (index_id,),
                )
            ]

    def evidence(self, video_id: str) -> Evidence:
        """Everything known of a video.

        Raises:
            KeyError: it is not known.
        """
        if found := self._evidence.get(video_id):
            return found
        with self._connection() as db:
            row = db.execute("SELECT evidence FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        if row is None:
            raise KeyError(video_id)
        evidence = packing.unpack(row[0])
        self._evidence[video_id] = evidence
        while len(self._evidence) > _KEPT:
            self._evidence.popitem(last=False)
        return evidence

    def folder(self, video_id: str) -> str:
        """The folder given with `add`.

        Raises:
            KeyError: it is not known.
        """
        with self._connection() as db:
            row = db.execute("SELECT folder FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        if row is None:
            raise KeyError(video_id)
        return str(row[0])

    # ------------------------------------------------------------------------------------- answers

    def search(self, query: Query) -> list[Hit]:
        """The moments of an index that answer a query, best first. An unknown index has none."""
        with self._connection() as db:
            row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (query.index_id,)).fetchone()
            if row is None:
                return []
            shelf = self._shelf(db, row[0])
            hits = search.find(
                shelf, lambda sql, values: rows_of(db, sql, values, row[0]), query, self._sight
            )
            return with_keyframes(db, hits)

    def segments(
        self, video_id: str, options: Sequence[str], scope: Sequence[str] = ("clip",)
    ) -> list[space.Segment]:
        """The vectors of a video's own clips, or of the whole; see `space.segments_of`.

        Raises:
            KeyError: the video is not known.
        """
        return space.segments_of(self.evidence(video_id), options, scope, sight=self._sight)

    def close(self) -> None:
        """Close the file. The library is of no use afterwards."""
        with self._writing, self._idle_lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    # -------------------------------------------------------------------------------------- inside

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """A connection for this thread alone, reused later; as many as there are threads at work."""
        with self._idle_lock:
            if self._closed:
                raise sqlite3.ProgrammingError("the library is closed")
            db = self._idle.pop() if self._idle else None
        if db is None:
            db = sqlite3.connect(self._path, timeout=30, isolation_level=None, check_same_thread=False)
            db.execute("PRAGMA synchronous = NORMAL")
        try:
            yield db
        finally:
            with self._idle_lock:
                if self._closed or len(self._idle) >= 8:
                    db.close()
                else:
                    self._idle.append(db)

    def _shelf(self, db: sqlite3.Connection, home: int) -> Shelf:
        if (shelf := self._shelves.get(home)) is None:
            # Writers are kept out: a video added between reading and publishing would be missed.
            with self._writing, self._loading:
                if (shelf := self._shelves.get(home)) is None:
                    shelf = load(db, home, self._form, self._seen_by)
                    self._shelves[home] = shelf
        return shelf
