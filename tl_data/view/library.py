"""The videos of a lake for the viewer: one tile per video, filters, text search, details of a video."""

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
from tl_data.view.snapshot import LakeFolder, Row, Snapshot, identifiers

SORTS = ("newest", "oldest", "title", "longest", "shortest")
MAX_TOPICS = 40  # the most topics that the viewer offers as filters
#: The text columns of `clips`. Jobs write `transcription`; only programs of others add `on_screen_text`.
TEXT_COLUMNS = ("transcription", "on_screen_text")
#: Kind of hits, table, text columns that a search by words reads.
SEARCHED = (
    ("chapter", "chapters", ("title", "summary")),
    ("speech", "clips", TEXT_COLUMNS),
    ("highlight", "highlights", ("highlight", "summary")),
    ("annotation", "annotations", ("label",)),
)
#: Kinds of rows of `annotations` -> name of their lane in the timeline.
LANES = {"text": "on-screen text", "object": "objects"}
#: Columns that only programs of others add to `clips` -> name of their lane. Jobs write `annotations`.
CLIP_LANES = {"on_screen_text": "on-screen text", "objects": "objects"}


@dataclass(frozen=True)
class Query:
    """The filters, order and range of a list of videos. An empty filter selects all videos."""

    text: str = ""
    state: str = ""
    topic: str = ""
    since: str = ""  # first day of `indexed_at`, or of `failed_at` of a failed video; an ISO date
    until: str = ""  # last day of the same times, an ISO date
    sort: str = "newest"
    offset: int = 0
    limit: int = 60


class Library:
    """Lists, filters and searches the videos of a lake."""

    def __init__(self, lake: LakeFolder) -> None:
        self.lake = lake
        self._version = ""
        self._tiles: list[Row] = []
        self._ids: dict[str, Row] = {}

    def tiles(self) -> list[Row]:
        """All videos without duplicates, followed by the failed ones."""
        snapshot = self.lake.snapshot()
        if snapshot.version != self._version:
            self._tiles = _tiles(snapshot)
            self._ids = {str(t["record"].get("content_key")): t for t in self._tiles if not t["video_id"]}
            self._ids |= {tile["source_key"]: tile for tile in self._tiles if tile["source_key"]}
            self._ids |= {tile["id"]: tile for tile in self._tiles}
            self._version = snapshot.version
        return self._tiles

    def find(self, identifier: str) -> Row | None:
        """The tile of a video by its id, source key or, without an id, content key; None if it is unknown."""
        self.tiles()
        return self._ids.get(identifier)

    def page(self, query: Query) -> Row:
        """The matching videos in the range of the query, and the number of all matching videos."""
        selected = [tile for tile in self.tiles() if _matches(tile, query)]
        if query.text:
            text = query.text.casefold()
            matching_ids = self._videos_with(text)
            selected = [
                t
                for t in selected
                if text in t["haystack"]
                or t["id"] in matching_ids
                or t["record"].get("content_key") in matching_ids
            ]
        selected = _sorted(selected, query.sort)
        in_range = selected[query.offset : query.offset + query.limit]
        return {"total": len(selected), "videos": [_public(tile) for tile in in_range]}

    def facets(self) -> Row:
        """The states and topics to filter by, with the number of videos of each."""
        tiles = self.tiles()
        topics = Counter(topic for tile in tiles for topic in tile["topics"])
        states = Counter(tile["state"] for tile in tiles)
        return {
            "videos": len(tiles),
            "states": dict(states),
            "topics": [{"topic": t, "videos": n} for t, n in topics.most_common(MAX_TOPICS)],
        }

    def video(self, identifier: str) -> Row | None:
        """Everything about one video; None if the lake does not have it."""
        tile = self.find(identifier)
        if tile is None:
            return None
        snapshot = self.lake.snapshot()
        record, video_id = tile["record"], tile["video_id"]
        clips = [_times(clip) for clip in snapshot.clips.get(record)]
        annotations = [_times(annotation) for annotation in snapshot.annotations.get(record)]
        lanes: dict[str, list[Row]] = {}
        for column, name in CLIP_LANES.items():
            if marks := [_mark(c, _join_words(c.get(column))) for c in clips if c.get(column)]:
                lanes[name] = marks
        for kind, name in LANES.items():
            labels: dict[tuple[float, float], list[str]] = {}
            for row in annotations:
                if row.get("kind") == kind:
                    labels.setdefault((row["start_sec"], row["end_sec"]), []).append(str(row.get("label")))
            if labels:  # one mark per time range, because a later mark would cover an equal one
                lanes[name] = [
                    {"start_sec": start, "end_sec": end, "text": " · ".join(texts)}
                    for (start, end), texts in sorted(labels.items())
                ]
        alerts = [_times(a) for a in snapshot.alerts if a.get("video_id") == video_id and video_id]
        return {
            **_public(tile),
            "record": {k: v for k, v in tile["record"].items() if k not in ("url", "canonical_url")}
            | {"url": tile["url"]},
            "summaries": snapshot.summaries.get(record),
            "chapters": [_times(chapter) for chapter in snapshot.chapters.get(record)],
            "highlights": [_times(highlight) for highlight in snapshot.highlights.get(record)],
            "annotations": annotations,
            "clips": [{k: v for k, v in clip.items() if k != "thumbnail_url"} for clip in clips],
            "alerts": [{k: v for k, v in alert.items() if k != "url"} for alert in alerts],
            "lanes": lanes,
            "keys": [
                str(v.get("source_key"))
                for v in snapshot.videos
                if v.get("video_id") == video_id and video_id
            ]
            or [tile["source_key"]],
        }

    def search_words(self, text: str, limit: int) -> list[Row]:
        """Clips, chapters, highlights and annotations that contain a text, as hits.

        The search is free: it reads only the tables.
        """
        snapshot = self.lake.snapshot()
        hits = [
            {"kind": kind, **_hit(row, row.get(column) or "")}
            for kind, table, columns in SEARCHED
            for column in columns
            for row in _matching(getattr(snapshot, table).rows, column, text, limit)
        ]
        # Of several hits with the same start in the same video, only the first one is kept.
        distinct = {(h["id"], h["start_sec"]): h for h in reversed(hits)}
        return [self.titled(hit) for hit in reversed(distinct.values())][:limit]

    def searched_columns(self) -> list[tuple[str, str]]:
        """The tables with rows and their text columns that a search by words reads in this lake."""
        snapshot = self.lake.snapshot()
        tables = [(name, getattr(snapshot, name).rows, columns) for _, name, columns in SEARCHED]
        return [(n, c) for n, rows, columns in tables for c in columns if rows.num_rows and _is_text(rows, c)]

    def titled(self, hit: Row) -> Row:
        """A hit with the title of its video. `known` is whether the lake has the video."""
        tile = self.find(hit["id"])
        hit = {**hit, "id": tile["id"]} if tile else hit
        return {**hit, "title": tile["title"] if tile else hit["id"], "known": tile is not None}

    def origins(self) -> set[str]:
        """The origins (scheme, host and port) of sources on the web. The viewer may load media from them."""
        origins = set()
        for tile in self.tiles():
            parts = urlsplit(tile["source"])
            if parts.scheme in ("http", "https") and parts.hostname:
                host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
                try:
                    host = host.encode("idna").decode("ascii")
                    port = f":{parts.port}" if parts.port else ""
                except (UnicodeError, ValueError):
                    continue  # a browser cannot open this URL
                origins.add(f"{parts.scheme}://{host}{port}")
        return origins

    def _videos_with(self, text: str) -> set[str]:
        """The ids, or content keys, of videos whose clips, chapters or other texts contain a text."""
        snapshot = self.lake.snapshot()
        video_ids: set[str] = set()
        for _, name, columns in (*SEARCHED, ("summary", "summaries", ("summary",))):
            table = getattr(snapshot, name).rows
            for column in columns:
                if _is_text(table, column):
                    mask = pc.match_substring(table.column(column), text, ignore_case=True)
                    video_ids |= set(pc.unique(identifiers(table).filter(mask)).to_pylist())
        return video_ids


def _tiles(snapshot: Snapshot) -> list[Row]:
    tiles: dict[str, Row] = {}
    for record in snapshot.videos:
        identifier = str(record.get("video_id") or record.get("source_key") or "")
        if not identifier or identifier in tiles:
            continue
        summaries = snapshot.summaries.get(record)
        summary = summaries[0] if summaries else {}
        state = "removed" if record.get("removed_at") else str(record.get("status") or "ready")
        tiles[identifier] = _tile(identifier, record, summary, state)
    present = {str(record.get("source_key")) for record in snapshot.videos}
    for record in snapshot.errors:
        identifier = str(record.get("source_key") or record.get("url") or "")
        if identifier and identifier not in tiles and identifier not in present:
            tiles[identifier] = _tile(identifier, record, {}, "failed")
    return list(tiles.values())


def _tile(identifier: str, record: Row, summary: Row, state: str) -> Row:
    """The tile of a video, from its row of `videos` or `errors` and its first row of `summaries`."""
    source = str(record.get("url") or record.get("canonical_url") or "")
    url = redacted(source)
    title = str(summary.get("title") or "") or file_name(url) or str(record.get("source_key") or identifier)
    topics = [str(t) for t in summary.get("topics") or []]
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
    """The last part of a URL or path, percent-decoded."""
    path = urlsplit(url).path if "://" in url else url
    return unquote(posixpath.basename(path.rstrip("/")))


def _public(tile: Row) -> Row:
    """The tile without internal values: `source` may contain a signature."""
    return {k: v for k, v in tile.items() if k not in ("source", "record", "haystack")}


def _matches(tile: Row, query: Query) -> bool:
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
    """The row with `start_sec` and `end_sec` as numbers, also if they are NULL."""
    start = float(row.get("start_sec") or 0.0)
    return {**row, "start_sec": start, "end_sec": float(row.get("end_sec") or start)}


def _mark(row: Row, text: str) -> Row:
    return {"start_sec": row["start_sec"], "end_sec": row["end_sec"], "text": text}


def _join_words(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _hit(row: Row, text: str) -> Row:
    row = _times(row)
    identifier = row["video_id"] or row.get("content_key")
    return {"id": identifier, "start_sec": row["start_sec"], "end_sec": row["end_sec"], "text": text}


def _is_text(table: pa.Table, column: str) -> bool:
    """Whether a table has a column of texts with this name."""
    return column in table.column_names and pa.types.is_string(table.schema.field(column).type)


def _matching(table: pa.Table, column: str, text: str, limit: int) -> Iterable[Row]:
    if not _is_text(table, column):
        return []
    mask = pc.match_substring(table.column(column), text, ignore_case=True)
    return list(table.filter(mask).slice(0, limit).to_pylist())
