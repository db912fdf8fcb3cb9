"""The library: evidence, full-text index and vectors of every video, in one SQLite file.

`add` and `remove` are single transactions in WAL mode: after a kill, a video is stored completely or not at
all. The columns that a search scans are also kept in memory, in one `ClipIndex` per index, which the first
search loads. After that, videos that another process adds to the same file are found only when the library is
opened again. `Library` is thread-safe; writers wait for one another.

    Library(path).add(index_id, video_id, evidence, folder)
    library.search(Query(index_id, "a red box moving left"))
"""

from __future__ import annotations

import hashlib
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import orjson

from tl_data.local.perception.attributes import TRAITS, Words, words_of
from tl_data.local.perception.evidence import Evidence
from tl_data.local.perception.vision.image_encoder import ImageEncoder
from tl_data.local.perception.vision.objects import ObjectModels
from tl_data.local.search import clip_index, embeddings, search
from tl_data.local.search.clip_index import ClipIndex, clip_id
from tl_data.local.search.complete import rank_all_clips
from tl_data.local.search.query import Hit, Query
from tl_data.local.storage import serialization

SCHEMA = """
CREATE TABLE IF NOT EXISTS indexes (number INTEGER PRIMARY KEY, index_id TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS videos (
    number INTEGER PRIMARY KEY AUTOINCREMENT,
    video_id TEXT NOT NULL UNIQUE,
    index_number INTEGER NOT NULL REFERENCES indexes (number),
    folder TEXT NOT NULL,
    keyframes TEXT NOT NULL, -- file names by clip, JSON
    form TEXT NOT NULL,
    evidence BLOB NOT NULL,
    pack BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS videos_by_index ON videos (index_number, number);
"""


@contextmanager
def transaction(db: sqlite3.Connection) -> Iterator[None]:
    """Commit all changes in the block, or roll them back if it raises. Other writers wait."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:  # SQLite itself rolls back when the disk is full
            db.execute("ROLLBACK")
        raise


def rows_of(
    db: sqlite3.Connection, sql: str, values: Sequence[str | int], index_no: int
) -> list[tuple[int | float | str, ...]]:
    """Query the full-text table of an index, which is named `words` in `sql`.

    Returns no rows if the index was removed.
    """
    try:
        return db.execute(sql.replace("words", f"words_{index_no}"), values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # the index was removed while the search ran
            return []
        raise


def with_keyframes(db: sqlite3.Connection, hits: list[Hit]) -> list[Hit]:
    """Add the file name of the keyframe to each hit, with one query per video."""
    names: dict[str, list[str]] = {}
    for video_id in {hit.video_id for hit in hits}:
        row = db.execute("SELECT keyframes FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        names[video_id] = orjson.loads(row[0]) if row else []
    return [
        replace(hit, keyframe=names[hit.video_id][hit.clip_number])
        for hit in hits
        # A higher number means that the video was removed or replaced during the search.
        if hit.clip_number < len(names[hit.video_id])
    ]


def index_number(db: sqlite3.Connection, index_id: str) -> int:
    """The number of an index. A new index is created with its tables."""
    row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (index_id,)).fetchone()
    if row is None:
        number = db.execute("INSERT INTO indexes (index_id) VALUES (?)", (index_id,)).lastrowid
        assert number is not None
        # Each index has its own table: BM25 counts words of this index alone, and a search reads no other.
        db.execute(
            f"CREATE VIRTUAL TABLE words_{number} USING fts5"
            "(shown, said, maybe, named, spans UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        db.execute(f"CREATE TABLE vocabulary_{number} (word TEXT PRIMARY KEY) WITHOUT ROWID")
        return number
    return int(row[0])


def drop(db: sqlite3.Connection, video_id: str) -> tuple[int, int] | None:
    """Delete the rows of a video; returns the numbers of the video and its index, or None if unknown."""
    row = db.execute("SELECT number, index_number FROM videos WHERE video_id = ?", (video_id,)).fetchone()
    if row is None:
        return None
    number, index_no = int(row[0]), int(row[1])
    db.execute("DELETE FROM videos WHERE number = ?", (number,))
    db.execute(
        f"DELETE FROM words_{index_no} WHERE rowid >= ? AND rowid < ?",
        (clip_id(number, 0), clip_id(number + 1, 0)),
    )
    return number, index_no


def insert(
    db: sqlite3.Connection, index_no: int, video_id: str, folder: str, evidence: Evidence,
    words: Sequence[Words], form: str, encoder: str,
) -> int:  # fmt: skip
    """Insert the rows of a video; returns its number.

    Args:
        form: the format of the packed columns, see `load`.
        encoder: the name of the active image encoder.
    """
    keyframes = orjson.dumps([clip.keyframe for clip in evidence.clips]).decode()
    number = db.execute(
        "INSERT INTO videos (video_id, index_number, folder, keyframes, form, evidence, pack)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (video_id, index_no, folder, keyframes, form, serialization.pack(evidence), b""),
    ).lastrowid
    assert number is not None
    packed = serialization.pack_columns(clip_index.columns_of(number, evidence, words, encoder))
    db.execute("UPDATE videos SET pack = ? WHERE number = ?", (packed, number))
    rows = []
    for position, (clip, clip_words) in enumerate(zip(evidence.clips, words, strict=True)):
        if row := clip_index.text_row(evidence, clip, clip_words):
            rows.append((clip_id(number, position), *row))
    db.executemany(
        f"INSERT INTO words_{index_no} (rowid, shown, said, maybe, named, spans) VALUES (?, ?, ?, ?, ?, ?)",
        rows,
    )
    vocabulary_rows = [(term,) for term in clip_index.vocabulary_of(words)]
    db.executemany(f"INSERT OR IGNORE INTO vocabulary_{index_no} VALUES (?)", vocabulary_rows)
    return number


def load(db: sqlite3.Connection, index_no: int, current: str, encoder: str) -> ClipIndex:
    """The clips of an index. Columns in another format than `current` are rebuilt from the evidence."""
    index = ClipIndex()
    index.vocabulary.add([row[0] for row in db.execute(f"SELECT word FROM vocabulary_{index_no}")])
    for number, video_id, form, evidence, pack in db.execute(
        "SELECT number, video_id, form, CASE WHEN form = ? THEN NULL ELSE evidence END, pack"
        " FROM videos WHERE index_number = ? ORDER BY number",
        (current, index_no),
    ):
        if form == current:
            index.add(serialization.unpack_columns(number, pack), video_id)
        else:
            unpacked = serialization.unpack(evidence)
            words = [words_of(clip, unpacked) for clip in unpacked.clips]
            index.add(clip_index.columns_of(number, unpacked, words, encoder), video_id)
    return index


#: The format of the packed columns. Columns of a video with another format are rebuilt from its evidence when
#: its index is loaded. The name of the active encoder is appended.
_FORM = f"tl-local-2 1 {hashlib.sha256(' '.join(TRAITS).encode()).hexdigest()[:12]}"
_CACHED = 256  # the number of videos whose decoded evidence stays in memory


class Library:
    """The store of one engine.

    Args:
        path: the SQLite file. The file and its folder are created if they are missing.
        encoder: the active image encoder. Vectors of another encoder are stored, but not searched.
        object_models: loads the object models for image queries; called at the first such query.
    """

    def __init__(
        self,
        path: str | Path,
        encoder: ImageEncoder | None = None,
        object_models: Callable[[], ObjectModels | None] | None = None,
    ) -> None:
        self._path = Path(path)
        self._encoder, self._object_models = encoder, object_models
        self._encoder_name = encoder.name if encoder else ""
        self._form = f"{_FORM} {self._encoder_name}".strip()
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._writing = threading.Lock()
        self._idle: list[sqlite3.Connection] = []
        self._idle_lock = threading.Lock()
        self._clip_indexes: dict[int, ClipIndex] = {}
        self._loading = threading.Lock()
        self._evidence: OrderedDict[str, Evidence] = OrderedDict()
        self._closed = False
        with self._connection() as db:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(SCHEMA)

    # ------------------------------------------------------------------------------------ contents

    def add(self, index_id: str, video_id: str, evidence: Evidence, folder: str | Path = "") -> None:
        """Add a video to an index, or replace it, in one transaction.

        Args:
            folder: the folder of the keyframes, which the method `folder` returns.
        """
        words = [words_of(clip, evidence) for clip in evidence.clips]
        with self._writing, self._connection() as db:
            with transaction(db):
                index_no = index_number(db, index_id)
                old = drop(db, video_id)
                number = insert(
                    db, index_no, video_id, str(folder), evidence, words, self._form, self._encoder_name
                )
            self._evidence.pop(video_id, None)
            if old and (index := self._clip_indexes.get(old[1])):
                index.remove(old[0])
            if index := self._clip_indexes.get(index_no):
                index.add(clip_index.columns_of(number, evidence, words, self._encoder_name), video_id)
                index.vocabulary.add(clip_index.vocabulary_of(words))

    def remove(self, video_id: str) -> bool:
        """Remove a video; returns False if it is unknown."""
        with self._writing, self._connection() as db:
            with transaction(db):
                old = drop(db, video_id)
            self._evidence.pop(video_id, None)
            if old and (index := self._clip_indexes.get(old[1])):
                index.remove(old[0])
        return old is not None

    def remove_index(self, index_id: str) -> None:
        """Remove an index with all its videos."""
        with self._writing, self._connection() as db:
            row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (index_id,)).fetchone()
            if row is None:
                return
            with transaction(db):
                db.execute("DELETE FROM videos WHERE index_number = ?", row)
                db.execute("DELETE FROM indexes WHERE number = ?", row)
                db.execute(f"DROP TABLE IF EXISTS words_{row[0]}")
                db.execute(f"DROP TABLE IF EXISTS vocabulary_{row[0]}")
            self._clip_indexes.pop(row[0], None)
            self._evidence.clear()

    def videos(self, index_id: str) -> list[str]:
        """The ids of the videos of an index, in the order of insertion."""
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
        """The evidence of a video.

        Raises:
            KeyError: the video is unknown.
        """
        if cached := self._evidence.get(video_id):
            return cached
        with self._connection() as db:
            row = db.execute("SELECT evidence FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        if row is None:
            raise KeyError(video_id)
        evidence = serialization.unpack(row[0])
        self._evidence[video_id] = evidence
        while len(self._evidence) > _CACHED:
            self._evidence.popitem(last=False)
        return evidence

    def folder(self, video_id: str) -> str:
        """The folder of a video's keyframes.

        Raises:
            KeyError: the video is unknown.
        """
        with self._connection() as db:
            row = db.execute("SELECT folder FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        if row is None:
            raise KeyError(video_id)
        return str(row[0])

    # ------------------------------------------------------------------------------------ searches

    def search(self, query: Query, *, all_clips: bool = False) -> list[Hit]:
        """The clips of an index that match a query, best first; none for an unknown index.

        With `all_clips`, the other clips follow after the hits.
        """
        with self._connection() as db:
            row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (query.index_id,)).fetchone()
            if row is None:
                return []
            index = self._clip_index(db, row[0])
            hits = search.find(
                index,
                lambda sql, values: rows_of(db, sql, values, row[0]),
                query,
                self._encoder,
                self._object_models() if query.images and self._object_models else None,
            )
            hits = with_keyframes(db, hits)
        if not all_clips:
            return hits
        video_ids = self.videos(query.index_id) if query.video_ids is None else query.video_ids
        return rank_all_clips(hits, query, video_ids, self.evidence, self._encoder)

    def segments(
        self, video_id: str, options: Sequence[str], scope: Sequence[str] = ("clip",)
    ) -> list[embeddings.Segment]:
        """The vectors of a video's clips, or of the whole video; see `embeddings.segments_of`.

        Raises:
            KeyError: the video is unknown.
        """
        return embeddings.segments_of(self.evidence(video_id), options, scope, encoder=self._encoder)

    def close(self) -> None:
        """Close the file. The library cannot be used afterwards."""
        with self._writing, self._idle_lock:
            self._closed = True
            while self._idle:
                self._idle.pop().close()

    # -------------------------------------------------------------------------------------- inside

    @contextmanager
    def _connection(self) -> Iterator[sqlite3.Connection]:
        """Lend the calling thread a pooled connection for its exclusive use."""
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

    def _clip_index(self, db: sqlite3.Connection, index_no: int) -> ClipIndex:
        if (index := self._clip_indexes.get(index_no)) is None:
            # The lock keeps writers out: a video added between loading and publishing would be missed.
            with self._writing, self._loading:
                if (index := self._clip_indexes.get(index_no)) is None:
                    index = load(db, index_no, self._form, self._encoder_name)
                    self._clip_indexes[index_no] = index
        return index
