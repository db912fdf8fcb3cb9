"""Videos as the page lists them: one tile a video, its facts, filters, and everything about one video."""

from __future__ import annotations

import posixpath
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import unquote, urlsplit

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.urls import redacted
from tl_data.view.snapshot import LakeFolder, Row, Snapshot

SORTS = ("newest", "oldest", "title", "longest", "shortest")
FACETS = 40  # topics that are offered to filter by
TEXT_COLUMNS = ("transcription", "on_screen_text")  # of clips, as far as the lake has them
#: Columns of clips that are lanes of their own when a lake has them.
LANES = {"on_screen_text": "on-screen text", "objects": "objects"}


@dataclass(frozen=True)
class Query:
    """What the wall is asked for."""

    text: str = ""
    state: str = ""
    topic: str = ""
    since: str = ""  # ISO dates of `indexed_at`, both included
    until: str = ""
    sort: str = "newest"
    offset: int = 0
    limit: int = 60


class Library:
    """The videos of a lake, in the order and selection that is asked for."""

    def __init__(self, lake: LakeFolder) -> None:
        self.lake = lake
        self._version = ""
        self._tiles: list[Row] = []
        self._ids: dict[str, Row] = {}

    def tiles(self) -> list[Row]:
        """All videos, each once, those that failed behind them."""
        now = self.lake.snapshot()
        if now.version != self._version:
            self._tiles = _tiles(now)
            self._ids = {tile["source_key"]: tile for tile in self._tiles if tile["source_key"]}
            self._ids |= {tile["id"]: tile for tile in self._tiles}
            self._version = now.version
        return self._tiles

    def find(self, identifier: str) -> Row | None:
        """The tile of a video by its id, or by its source key."""
        self.tiles()
        return self._ids.get(identifier)

    def page(self, query: Query) -> Row:
        """One page of the wall, and how many videos there are in all of them."""
        chosen = [tile for tile in self.tiles() if _fits(tile, query)]
        if query.text:
            words = query.text.casefold()
            spoken = self._videos_with(words)
            chosen = [t for t in chosen if words in t["haystack"] or t["id"] in spoken]
        chosen = _sorted(chosen, query.sort)
        page = chosen[query.offset : query.offset + query.limit]
        return {"total": len(chosen), "videos": [_public(tile) for tile in page]}

    def facets(self) -> Row:
        """What can be filtered by, with counts."""
        tiles = self.tiles()
        topics = Counter(topic for tile in tiles for topic in tile["topics"])
        states = Counter(tile["state"] for tile in tiles)
        return {
            "videos": len(tiles),
            "states": dict(states),
            "topics": [{"topic": t, "videos": n} for t, n in topics.most_common(FACETS)],
        }

    def video(self, identifier: str) -> Row | None:
        """Everything about one video; None when the lake has none of that id."""
        tile = self.find(identifier)
        if tile is None:
            return None
        now = self.lake.snapshot()
        video_id = tile["video_id"]
        clips = [_times(clip) for clip in now.clips.get(video_id)]
        lanes: dict[str, list[Row]] = {}
        for column, name in LANES.items():
            if found := [_mark(c, _words(c.get(column))) for c in clips if c.get(column)]:
                lanes[name] = found
        alerts = [_times(a) for a in now.alerts if a.get("video_id") == video_id and video_id]
        return {
            **_public(tile),
            "record": {k: v for k, v in tile["record"].items() if k not in ("url", "canonical_url")}
            | {"url": tile["url"]},
            "summaries": now.summaries.get(video_id),
            "chapters": [_times(chapter) for chapter in now.chapters.get(video_id)],
            "highlights": [_times(highlight) for highlight in now.highlights.get(video_id)],
            "clips": [{k: v for k, v in clip.items() if k != "thumbnail_url"} for clip in clips],
            "alerts": [{k: v for k, v in alert.items() if k != "url"} for alert in alerts],
            "lanes": lanes,
            "keys": [
                str(v.get("source_key")) for v in now.videos if v.get("video_id") == video_id and video_id
            ]
            or [tile["source_key"]],
        }

    def words(self, text: str, limit: int) -> list[Row]:
        """Clips and chapters whose words contain a text, as hits; costs nothing."""
        now = self.lake.snapshot()
        hits = [
            {"kind": kind, **_hit(row, row.get(column) or "")}
            for kind, table, columns in (
                ("chapter", now.chapters.rows, ("title", "summary")),
                ("speech", now.clips.rows, TEXT_COLUMNS),
            )
            for column in columns
            for row in _matching(table, column, text, limit)
        ]
        known = {(h["id"], h["start_sec"]): h for h in reversed(hits)}
        return [self.titled(hit) for hit in reversed(known.values())][:limit]

    def titled(self, hit: Row) -> Row:
        """A hit with the title of its video."""
        tile = self.find(hit["id"])
        return {**hit, "title": tile["title"] if tile else hit["id"], "known": tile is not None}

    def hosts(self) -> set[str]:
        """Origins of the sources that are on the web: all that the page may open beside this server."""
        found = set()
        for tile in self.tiles():
            parts = urlsplit(tile["source"])
            if parts.scheme in ("http", "https") and parts.hostname:
                host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
                try:
                    host = host.encode("idna").decode("ascii")
                    port = f":{parts.port}" if parts.port else ""
                except (UnicodeError, ValueError):
                    continue  # no browser opens such an address
                found.add(f"{parts.scheme}://{host}{port}")
        return found

    def _videos_with(self, words: str) -> set[str]:
        now = self.lake.snapshot()
        found: set[str] = set()
        for table, columns in (
            (now.clips.rows, TEXT_COLUMNS),
            (now.chapters.rows, ("title", "summary")),
            (now.summaries.rows, ("summary",)),
        ):
            for column in columns:
                if column in table.column_names and pa.types.is_string(table.schema.field(column).type):
                    mask = pc.match_substring(table.column(column), words, ignore_case=True)
                    found |= set(pc.unique(table.column("video_id").filter(mask)).to_pylist())
        return found


def _tiles(now: Snapshot) -> list[Row]:
    tiles: dict[str, Row] = {}
    for record in now.videos:
        identifier = str(record.get("video_id") or record.get("source_key") or "")
        if not identifier or identifier in tiles:
            continue
        summaries = now.summaries.get(record.get("video_id"))
        gist = summaries[0] if summaries else {}
        state = "removed" if record.get("removed_at") else str(record.get("status") or "ready")
        tiles[identifier] = _tile(identifier, record, gist, state)
    present = {str(record.get("source_key")) for record in now.videos}
    for record in now.errors:
        identifier = str(record.get("source_key") or record.get("url") or "")
        if identifier and identifier not in tiles and identifier not in present:
            tiles[identifier] = _tile(identifier, record, {}, "failed")
    return list(tiles.values())


def _tile(identifier: str, record: Row, gist: Row, state: str) -> Row:
    source = str(record.get("url") or record.get("canonical_url") or "")
    url = redacted(source)
    title = str(gist.get("title") or "") or file_name(url) or str(record.get("source_key") or identifier)
    topics = [str(t) for t in gist.get("topics") or []]
    at = record.get("indexed_at") or record.get("failed_at") or record.get("at")
    return {
        "id": identifier,
        "video_id": record.get("video_id"),
        "source_key": str(record.get("source_key") or ""),
        "title": title,
        "url": url,
        "file": file_name(url),
        "duration_sec": record.get("duration_sec"),
        "topics": topics,
        "state": state,
        "code": record.get("code"),
        "message": redacted(str(record.get("message") or "")) or None,
        "at": at.isoformat() if isinstance(at, datetime) else None,
        "source": source,
        "record": record,
        "haystack": " ".join([title, url, str(record.get("source_key")), *topics]).casefold(),
    }


def file_name(url: str) -> str:
    """The last part of an address or path, decoded."""
    path = urlsplit(url).path if "://" in url else url
    return unquote(posixpath.basename(path.rstrip("/")))


def _public(tile: Row) -> Row:
    return {k: v for k, v in tile.items() if k not in ("source", "record", "haystack")}


def _fits(tile: Row, query: Query) -> bool:
    if query.state and tile["state"] != query.state:
        return False
    if query.topic and query.topic not in tile["topics"]:
        return False
    day = (tile["at"] or "")[:10]
    return not (query.since and day < query.since) and not (query.until and day > query.until)


def _sorted(tiles: list[Row], sort: str) -> list[Row]:
    if sort == "title":
        return sorted(tiles, key=lambda t: t["title"].casefold())
    if sort in ("longest", "shortest"):
        return sorted(tiles, key=lambda t: t["duration_sec"] or 0.0, reverse=sort == "longest")
    return sorted(tiles, key=lambda t: t["at"] or "", reverse=sort != "oldest")


def _times(row: Row) -> Row:
    start = float(row.get("start_sec") or 0.0)
    return {**row, "start_sec": start, "end_sec": float(row.get("end_sec") or start)}


def _mark(row: Row, text: str) -> Row:
    return {"start_sec": row["start_sec"], "end_sec": row["end_sec"], "text": text}


def _words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _hit(row: Row, text: str) -> Row:
    row = _times(row)
    return {"id": row["video_id"], "start_sec": row["start_sec"], "end_sec": row["end_sec"], "text": text}


def _matching(table: pa.Table, column: str, text: str, limit: int) -> Iterable[Row]:
    if column not in table.column_names or not pa.types.is_string(table.schema.field(column).type):
        return []
    mask = pc.match_substring(table.column(column), text, ignore_case=True)
    return list(table.filter(mask).slice(0, limit).to_pylist())
