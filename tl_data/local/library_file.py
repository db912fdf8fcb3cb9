"""The tables of the library: SQL that adds, drops and reads what is known of a video."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import orjson

from tl_data.local import packing
from tl_data.local.evidence import Evidence
from tl_data.local.query import Hit
from tl_data.local.shelf import Shelf, clip_id
from tl_data.local.words import Words, words_of

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
    """All of it is written, or nothing; other writers wait."""
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        db.execute("ROLLBACK")
        raise
    db.execute("COMMIT")


def rows_of(
    db: sqlite3.Connection, sql: str, values: Sequence[str | int], home: int
) -> list[tuple[int | float | str, ...]]:
    """Rows from the full-text table of an index, which `sql` calls `words`; none if it has gone."""
    try:
        return db.execute(sql.replace("words", f"words_{home}"), values).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):  # the index was removed while the search ran
            return []
        raise


def with_keyframes(db: sqlite3.Connection, hits: list[Hit]) -> list[Hit]:
    """The hits with the file name of each thumbnail: one look-up a video, without its whole evidence."""
    names: dict[str, list[str]] = {}
    for video_id in {hit.video_id for hit in hits}:
        row = db.execute("SELECT keyframes FROM videos WHERE video_id = ?", (video_id,)).fetchone()
        names[video_id] = orjson.loads(row[0]) if row else []
    return [
        replace(hit, keyframe=names[hit.video_id][hit.clip_number])
        for hit in hits
        if hit.clip_number < len(names[hit.video_id])  # else it was removed or replaced meanwhile
    ]


def index_number(db: sqlite3.Connection, index_id: str) -> int:
    """The number of an index, which is made with its tables if it is not there."""
    row = db.execute("SELECT number FROM indexes WHERE index_id = ?", (index_id,)).fetchone()
    if row is None:
        number = db.execute("INSERT INTO indexes (index_id) VALUES (?)", (index_id,)).lastrowid
        assert number is not None
        # A table an index: ranking by BM25 then counts the index's own clips, and no search reads
        # past another index's.
        db.execute(
            f"CREATE VIRTUAL TABLE words_{number} USING fts5"
            "(shown, said, maybe, named, spans UNINDEXED, tokenize = 'porter unicode61 remove_diacritics 2')"
        )
        db.execute(f"CREATE TABLE vocabulary_{number} (word TEXT PRIMARY KEY) WITHOUT ROWID")
        return number
    return int(row[0])


def drop(db: sqlite3.Connection, video_id: str) -> tuple[int, int] | None:
    """Delete a video's rows; its number and index, or None if it was not there."""
    row = db.execute("SELECT number, index_number FROM videos WHERE video_id = ?", (video_id,)).fetchone()
    if row is None:
        return None
    number, home = int(row[0]), int(row[1])
    db.execute("DELETE FROM videos WHERE number = ?", (number,))
    db.execute(
        f"DELETE FROM words_{home} WHERE rowid >= ? AND rowid < ?",
        (clip_id(number, 0), clip_id(number + 1, 0)),
    )
    return number, home


def insert(
    db: sqlite3.Connection, home: int, video_id: str, folder: str, evidence: Evidence, words: Sequence[Words],
    form: str, sight: str,
) -> int:  # fmt: skip
    """Write the rows of a video; its number.

    Args:
        form: what the columns mean, see `load`.
        sight: the encoder that is at work.
    """
    keyframes = orjson.dumps([clip.keyframe for clip in evidence.clips]).decode()
    number = db.execute(
        "INSERT INTO videos (video_id, index_number, folder, keyframes, form, evidence, pack)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        (video_id, home, folder, keyframes, form, packing.pack(evidence), b""),
    ).lastrowid
    assert number is not None
    packed = packing.pack_columns(packing.pack_of(number, evidence, words, sight))
    db.execute("UPDATE videos SET pack = ? WHERE number = ?", (packed, number))
    rows = []
    for position, (clip, word) in enumerate(zip(evidence.clips, words, strict=True)):
        if row := packing.text_row(evidence, clip, word):
            rows.append((clip_id(number, position), *row))
    db.executemany(
        f"INSERT INTO words_{home} (rowid, shown, said, maybe, named, spans) VALUES (?, ?, ?, ?, ?, ?)", rows
    )
    fresh = [(word,) for word in packing.vocabulary_of(words)]
    db.executemany(f"INSERT OR IGNORE INTO vocabulary_{home} VALUES (?)", fresh)
    return number


def load(db: sqlite3.Connection, home: int, current: str, sight: str) -> Shelf:
    """The clips of an index. Columns of another form than the current one are made anew from the evidence."""
    shelf = Shelf()
    shelf.vocabulary.add([row[0] for row in db.execute(f"SELECT word FROM vocabulary_{home}")])
    for number, video_id, form, evidence, pack in db.execute(
        "SELECT number, video_id, form, CASE WHEN form = ? THEN NULL ELSE evidence END, pack"
        " FROM videos WHERE index_number = ? ORDER BY number",
        (current, home),
    ):
        if form == current:
            shelf.add(packing.unpack_columns(number, pack), video_id)
        else:
            known = packing.unpack(evidence)
            words = [words_of(clip, known) for clip in known.clips]
            shelf.add(packing.pack_of(number, known, words, sight), video_id)
    return shelf
