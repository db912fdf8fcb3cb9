"""The tables that `perceive` writes: the driver turns results of executors into rows, one commit per chunk.

Outputs are written first, then `errors` and `videos`, as jobs do: a killed call leaves no row of `videos`
without its outputs.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tl_data.errors import MediaRefused, SchemaMismatch
from tl_data.lake.base import Group, rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import CLIPS, ERRORS, EVIDENCE, FRAMES, RUNS, VECTORS, VIDEOS, LakeSchema
from tl_data.media.identity import canonical_url, is_url, local_path
from tl_data.types import COUNT, FLAG, NUMBER, TEXT
from tl_data.urls import redacted

JOB = "perceive"  # the value of the column `job` of `videos` and `runs`
#: Value of the column `made` of `videos`.
MADE = ("clips", "evidence", "vectors")
#: Columns of `videos` that an executor returns.
_VIDEO_COLUMNS = ("canonical_url", "content_key", "duration_sec", "width", "height", "fps", "size_bytes")
_VECTOR = pa.list_(pa.float32())
#: Evidence must be this much older than a call before the call deletes it as unlisted. Another driver, whose
#: clock differs, may have written it, and writes its rows of `videos` afterwards.
UNLISTED_AGE = timedelta(hours=1)


def _rows_type(declared: LakeSchema, *without: str) -> pa.DataType:
    """The type of a list of rows of a table, without the columns that are equal for all rows of a video."""
    fields = [f for f in declared.schema if f.name not in ("video_id", "model", "dimension", *without)]
    fields = [pa.field(f.name, _VECTOR if f.name == "vector" else f.type) for f in fields]
    return pa.list_(pa.struct(fields))


_CLIPS, _VECTORS, _FRAMES = _rows_type(CLIPS, "thumbnail_url"), _rows_type(VECTORS), _rows_type(FRAMES)
#: What an executor receives for each video. `known_key` is the content key that needs no analysis; NULL if
#: the lake has none for this URL.
INPUT = pa.schema([("canonical_url", TEXT), ("url", TEXT), ("known_key", TEXT)])
#: What an executor returns for each video. `state` is done, unchanged or failed; `form` is the version of the
#: evidence.
RESULT = pa.schema(
    [
        ("canonical_url", TEXT),
        ("state", TEXT),
        ("content_key", TEXT),
        ("sha256", TEXT),
        ("filename", TEXT),
        ("size_bytes", COUNT),
        ("duration_sec", NUMBER),
        ("width", COUNT),
        ("height", COUNT),
        ("fps", NUMBER),
        ("form", COUNT),
        ("evidence", pa.binary()),
        ("clips", _CLIPS),
        ("vectors", _VECTORS),
        ("frames", _FRAMES),
        ("class", TEXT),
        ("code", TEXT),
        ("message", TEXT),
        ("retryable", FLAG),
        ("worker", TEXT),
        ("seconds", NUMBER),
    ]
)


@dataclass
class Report:
    """The outcome of `perceive`."""

    model: str  # the engine's name of the models, as in the column `model`
    videos: int = 0  # distinct videos of the source
    analyzed: int = 0
    unchanged: int = 0  # videos that the lake already has, with the same content
    failed: int = 0  # listed in `errors`
    minutes: float = 0.0  # of video, analyzed
    analysis_seconds: float = 0.0  # sum over all executors
    workers: set[str] = field(default_factory=set)  # Python workers that analyzed a video, as host:pid


#: Codes of failures that may pass.
_RETRYABLE = ("video_url_not_accessible", "video_url_not_found", "engine_worker_failed")


def failure(error: Exception) -> dict[str, Any]:
    """The fields of a failed video."""
    code = str(getattr(error, "code", None) or "video_file_broken")
    message = str(getattr(error, "message", None) or error)
    return {
        "state": "failed",
        "class": "MediaRefused",
        "code": code,
        "message": redacted(message),
        "retryable": code in _RETRYABLE,
    }


def _video_id(sha256: str) -> str:
    """The id of a video: 24 hex digits, as on a platform, from the file, so that equal files have one id."""
    return sha256[:24]


@dataclass
class Known:
    """What the lake contains about each canonical URL, in about 430 bytes of memory per video."""

    #: Canonical URL -> content key that needs no analysis.
    keys: dict[str, str] = field(default_factory=dict)
    #: Source key -> canonical URL and content key of its row in `videos`.
    sources: dict[str, tuple[str, str]] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)  # source key in `errors` -> failed attempts
    #: Canonical URL -> fields of the failure: content that is not retried, and all failures of this call.
    failed: dict[str, dict[str, Any]] = field(default_factory=dict)
    #: Source key in `errors` -> canonical URL in `failed`.
    listed: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(cls, lake: Lake, model: str, again: bool) -> Known:
        """Read the tables.

        Raises:
            SchemaMismatch: the lake has vectors of another model.
        """
        for batch in lake.batches(VECTORS, ["model"]):
            other = [m for m in pc.unique(batch.column("model")).to_pylist() if m != model]
            if other:
                raise SchemaMismatch(
                    f"{redacted(lake.folder)} has vectors of {other[0]}, and the executors have {model}. "
                    "Vectors of different models are not comparable: choose another lake"
                )
        known = cls()
        for batch in lake.batches(VIDEOS, ["source_key", "canonical_url", "content_key", "model", "made"]):
            for row in batch.to_pylist():
                known.sources[row["source_key"]] = row["canonical_url"], row["content_key"]
                if _is_complete(row, model):
                    known.keys[row["canonical_url"]] = row["content_key"]
        columns = ["source_key", "url", "attempt", "output", *_FAILURE]
        for row in lake.read(ERRORS, columns).to_pylist():
            if row["output"] is not None:  # the video itself has not failed
                continue
            known.attempts[row["source_key"]] = row["attempt"] or 0
            if not (again or row["retryable"]) and row["content_key"]:
                canonical = _canonical(row["url"])
                known.failed[canonical] = {name: row[name] for name in _FAILURE}
                known.listed[row["source_key"]] = canonical
                known.keys[canonical] = row["content_key"]
        return known


#: The fields of a failure, as in `errors`.
_FAILURE = ("class", "code", "message", "retryable", "content_key")


def _is_complete(row: Mapping[str, Any], model: str) -> bool:
    """Whether a row of `videos` needs no analysis by a model."""
    return row["model"] == model and set(MADE) <= set(row["made"] or ())


def _canonical(url: str) -> str:
    """The canonical URL of a URL or path.

    Raises:
        MediaRefused: the text cannot be read as a URL.
    """
    return canonical_url(url) if is_url(url) else local_path(url).absolute().as_uri()


class Run:
    """The state of one call of `perceive`."""

    def __init__(self, lake: Lake, model: str, known: Known, frames: bool) -> None:
        self.report = Report(model)
        self._known = known
        self._lake, self._frames = lake, frames
        outputs = [CLIPS, VECTORS, EVIDENCE, *([FRAMES] if frames or lake.exists(FRAMES) else [])]
        self._tables = {table.name: lake.table(table) for table in (VIDEOS, ERRORS, RUNS, *outputs)}
        self._outputs = outputs
        self._keys: dict[str, dict[str, str]] = {}  # canonical URL in flight -> source key -> URL
        self._refused: list[dict[str, Any]] = []  # rows of `errors` for invalid URLs
        self._rows = 0
        self._seen: set[str] = set()  # canonical URLs that became tasks
        #: Canonical URL -> source key -> URL, of rows whose video was committed before they were read.
        self._late: dict[str, dict[str, str]] = {}
        #: Canonical URL -> a former row of `videos`, of a source key that now has another URL.
        self._moved: dict[str, dict[str, Any]] = {}
        self._run: dict[str, Any] = {
            "run_id": uuid.uuid4().hex, "job": JOB, "status": "running", "model": model,
            "started_at": datetime.now(UTC),
        }  # fmt: skip

    def inputs(self, rows: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
        """A row of `INPUT` for each distinct video. Rows without a valid URL are refused."""
        for row in rows:
            self._rows += 1
            url, key = row["url"], row["source_key"]
            try:
                if url is None or not str(url).strip():
                    raise MediaRefused("the row has no URL", "video_url_missing")
                canonical = _canonical(str(url).strip())
            except MediaRefused as error:
                self._refused.append(self._error(str(key or url or ""), str(url or ""), failure(error)))
                continue
            source_key = str(canonical if key is None else key)
            if canonical in self._keys:
                self._keys[canonical][source_key] = str(url)
                continue
            if canonical in self._seen:
                self._late.setdefault(canonical, {})[source_key] = str(url)
                continue
            self._keys[canonical] = {source_key: str(url)}
            self._seen.add(canonical)
            self.report.videos += 1
            known = self._known.keys.get(canonical)
            yield {"canonical_url": canonical, "url": str(url).strip(), "known_key": known}

    def commit(self, result: pa.Table) -> None:
        """Write the results of a chunk: first the outputs, then `errors` and `videos`, as jobs do."""
        report, now = self.report, datetime.now(UTC)
        rows = result.drop_columns(["clips", "vectors", "frames", "evidence"]).to_pylist()
        done = result.filter(pc.equal(result.column("state"), "done"))
        ids = [_video_id(sha256) for sha256 in done.column("sha256").to_pylist()]
        first = pa.array([ids.index(video_id) for video_id in dict.fromkeys(ids)], pa.int64())
        distinct, ids = done.take(first), list(dict.fromkeys(ids))  # several URLs may have the same content
        changed = {url for url in done.column("canonical_url").to_pylist() if url in self._known.keys}
        own = {key for row in rows for key in self._keys[row["canonical_url"]]}
        former, others = self._former_rows(changed, own)
        gone: list[Group] = [(video_id,) for video_id in {*ids, *former}]
        if ids:
            for declared in self._outputs:
                if declared is EVIDENCE:
                    continue
                deleted = gone
                if declared is FRAMES and not self._frames:
                    # Frames of an earlier call stay: a video with the same id has the same content.
                    deleted = [(video_id,) for video_id in former if video_id not in ids]
                    if not deleted:
                        continue
                rows_made = self._unfolded(distinct, ids, declared)
                self._tables[declared.name].replace_groups(rows_made, delete=deleted)
            columns = ["content_key", "sha256", "form", "evidence"]
            evidence = [
                {"video_id": video_id, "model": report.model, "made_at": now, **row}
                for video_id, row in zip(ids, distinct.select(columns).to_pylist(), strict=True)
            ]
            self._tables["evidence"].replace_groups(rows_of(EVIDENCE, evidence), delete=gone)
        videos: list[dict[str, Any]] = []
        missing: dict[str, dict[str, str]] = {}  # canonical URL -> source keys of videos that the lake has
        errors: list[dict[str, Any]] = []
        fixed: set[str] = set()
        read = result.column("frames").is_valid().to_pylist()
        for row, has_frames in zip(rows, read, strict=True):
            canonical = row["canonical_url"]
            keys = self._keys.pop(canonical)
            if row["state"] == "unchanged" and canonical in self._known.failed:
                report.failed += 1
                errors += self._further_errors(canonical, keys)
            elif row["state"] == "unchanged":
                report.unchanged += 1
                missing[canonical] = keys
            elif row["state"] == "failed":
                report.failed += 1
                self._known.failed[canonical] = {name: row[name] for name in _FAILURE}
                errors += [self._error(key, url, row) for key, url in keys.items()]
                self._known.listed.update(dict.fromkeys(keys, canonical))
            else:
                report.analyzed += 1
                report.minutes += row["duration_sec"] / 60
                report.analysis_seconds += row["seconds"]
                report.workers.add(row["worker"])
                self._known.keys[canonical] = row["content_key"]
                video_id = _video_id(row["sha256"])
                pictured = has_frames if self._frames else video_id in self._earlier_frames
                if self._known.failed.pop(canonical, None):
                    # Also those of keys that this DataFrame does not have.
                    fixed.update(key for key, url in self._known.listed.items() if url == canonical)
                video = {name: row[name] for name in _VIDEO_COLUMNS} | {
                    "video_id": video_id,
                    "status": "ready",
                    "model": report.model,
                    "made": sorted([*MADE, *(["frames"] if pictured else [])]),
                    "indexed_at": now,
                    "job": JOB,
                }
                same = others.get(canonical, {}) | keys
                videos += [video | {"source_key": key, "url": url} for key, url in same.items()]
                if row["code"]:
                    errors += [self._error(key, url, row) | {"output": "frames"} for key, url in keys.items()]
        self._write_rows(videos, missing, errors, fixed)

    def _write_rows(
        self,
        videos: list[dict[str, Any]],
        missing: dict[str, dict[str, str]],
        errors: list[dict[str, Any]],
        fixed: set[str],
    ) -> None:
        """Write `errors`, `videos` and the run, with late rows and refused ones.

        Args:
            videos: rows of analyzed videos.
            missing: source keys and their URLs by canonical URL of a video that the lake has.
            errors: rows of failed videos.
            fixed: source keys whose rows in `errors` are removed.
        """
        late, self._late = self._late, {}
        for canonical, keys in late.items():
            if canonical in self._known.failed:
                errors += self._further_errors(canonical, keys)
            else:
                missing[canonical] = missing.get(canonical, {}) | keys
        refused, self._refused = self._refused, []
        self.report.failed += len(refused)
        fixed.update(row["source_key"] for row in videos)
        fixed.update(key for keys in missing.values() for key in keys if key in self._known.attempts)
        urls = {row["source_key"]: row["canonical_url"] for row in videos}
        urls.update((key, canonical) for canonical, keys in missing.items() for key in keys)
        self._keep_moved(urls)
        for row in videos:
            self._known.sources[row["source_key"]] = row["canonical_url"], row["content_key"]
        videos = videos + self._copies(missing)
        for key in fixed:
            self._known.attempts.pop(key, None)
            self._known.listed.pop(key, None)
        gone: list[Group] = [(key,) for key in fixed]
        self._tables["errors"].replace_groups(rows_of(ERRORS, refused + errors), delete=gone)
        if videos:
            self._tables["videos"].replace_groups(rows_of(VIDEOS, videos))
        self._write_run("running", None)

    def _further_errors(self, canonical: str, keys: Mapping[str, str]) -> list[dict[str, Any]]:
        """Rows of `errors` for the source keys of a failed video that have none."""
        failure, listed = self._known.failed[canonical], self._known.listed
        new = {key: url for key, url in keys.items() if listed.get(key) != canonical}
        listed.update(dict.fromkeys(new, canonical))
        return [self._error(key, url, failure) for key, url in new.items()]

    def _former_rows(self, changed: set[str], own: set[str]) -> tuple[set[str], dict[str, dict[str, str]]]:
        """The rows of `videos` whose content changed.

        Args:
            changed: the canonical URLs whose content changed.
            own: the source keys of this chunk.

        Returns:
            The video ids that no other row has, and the other source keys and their URLs by canonical URL.
        """
        former: set[str] = set()
        kept: set[str] = set()
        keys: dict[str, dict[str, str]] = {}
        columns = ["canonical_url", "video_id", "source_key", "url"]
        for batch in self._tables["videos"].batches(columns) if changed else ():
            for row in batch.to_pylist():
                if row["canonical_url"] in changed:
                    former.add(row["video_id"])
                    if row["source_key"] not in own:
                        keys.setdefault(row["canonical_url"], {})[row["source_key"]] = row["url"]
                else:
                    kept.add(row["video_id"])
        return former - kept, keys

    def _keep_moved(self, urls: Mapping[str, str]) -> None:
        """Keep the rows of `videos` that rows of another URL replace: a later key may have the former URL.

        Args:
            urls: the new canonical URL by source key.
        """
        known = self._known.sources
        moved = {key for key, canonical in urls.items() if known.get(key, (canonical,))[0] != canonical}
        for batch in self._tables["videos"].batches() if moved else ():
            of_moved = pc.is_in(batch.column("source_key"), pa.array(list(moved), TEXT))
            self._moved.update((row["canonical_url"], row) for row in batch.filter(of_moved).to_pylist())

    def _copies(self, missing: Mapping[str, Mapping[str, str]]) -> list[dict[str, Any]]:
        """Rows of `videos` for source keys that have none, or one of another URL or content.

        Args:
            missing: source keys and their URLs by canonical URL of a video that the lake has.
        """
        known = self._known
        needed: dict[str, dict[str, str]] = {}
        for canonical, keys in missing.items():
            current = canonical, known.keys[canonical]
            if new := {key: url for key, url in keys.items() if known.sources.get(key) != current}:
                needed[canonical] = new
        wanted = pa.array(list(needed), TEXT)
        found: dict[str, dict[str, Any]] = {}
        rows = [self._moved[canonical] for canonical in needed if canonical in self._moved]
        for batch in self._tables["videos"].batches() if needed else ():
            rows += batch.filter(pc.is_in(batch.column("canonical_url"), wanted)).to_pylist()
        for row in rows:
            canonical = row["canonical_url"]
            if row["content_key"] == known.keys[canonical] and _is_complete(row, self.report.model):
                found[canonical] = row
        copies = {
            key: row | {"source_key": key, "url": url}
            for canonical, row in found.items()
            for key, url in needed[canonical].items()
        }
        known.sources.update((key, (row["canonical_url"], row["content_key"])) for key, row in copies.items())
        return list(copies.values())

    def end(self, status: str) -> None:
        """Write the remaining rows, and the row of the run.

        Args:
            status: `done` or `interrupted`. A run that is done becomes `partial` if a video failed or a row
                was refused. This is known only here, after the remaining refusals are counted.
        """
        if self._refused or self._late:
            self._write_rows([], {}, [], set())
        if status == "done":
            self._delete_unlisted()
        self._write_run("partial" if status == "done" and self.report.failed else status, datetime.now(UTC))

    @cached_property
    def _earlier_frames(self) -> frozenset[str]:
        """The ids of videos that had frames when this call began to write."""
        if FRAMES not in self._outputs:
            return frozenset()
        batches = self._tables["frames"].batches(["video_id"])
        return frozenset(v for batch in batches for v in pc.unique(batch.column("video_id")).to_pylist())

    def _delete_unlisted(self) -> None:
        """Delete the outputs of videos that no row of `videos` has: their keys have another URL now.

        Evidence that is not much older than this call may belong to a call whose rows are not written yet; a
        later call deletes it if no row follows.
        """
        if not self._lake.exists(EVIDENCE):
            return
        listed = self._tables["videos"].batches(["video_id"])
        ids = pc.unique(pa.Table.from_batches(listed, listed.schema).column("video_id"))
        gone: list[Group] = []
        limit = pa.scalar(self._run["started_at"] - UNLISTED_AGE)
        for batch in self._tables["evidence"].batches(["video_id", "made_at"]):
            former = pc.less(batch.column("made_at"), limit)
            unlisted = pc.invert(pc.is_in(batch.column("video_id"), ids))
            gone += [(v,) for v in batch.filter(pc.and_(former, unlisted)).column("video_id").to_pylist()]
        if gone:
            for declared in self._outputs:
                self._tables[declared.name].replace_groups(rows_of(declared, []), delete=gone)

    def _write_run(self, status: str, ended: datetime | None) -> None:
        report = self.report
        row = self._run | {
            "status": status,
            "rows": self._rows,
            "distinct_videos": report.videos,
            "unchanged": report.unchanged,
            "failed": report.failed,
            "ended_at": ended,
            # Nothing is paid.
            **dict.fromkeys(("reused", "submitted", "calls"), 0),
            **dict.fromkeys(("video_minutes", "price"), 0.0),
        }
        self._tables["runs"].replace_groups(rows_of(RUNS, [row]))

    def _error(self, key: str, url: str, row: Mapping[str, Any]) -> dict[str, Any]:
        """A row of `errors`."""
        self._known.attempts[key] = self._known.attempts.get(key, 0) + 1
        return {
            "source_key": key, "url": url, **{name: row.get(name) for name in _FAILURE},
            "attempt": self._known.attempts[key], "failed_at": datetime.now(UTC),
        }  # fmt: skip

    def _unfolded(self, done: pa.Table, ids: Sequence[str], declared: LakeSchema) -> pa.Table:
        """The rows of a table from the lists of analyzed videos, without Python objects for vectors."""
        lists = done.column(declared.name).combine_chunks()
        parents, elements = pc.list_parent_indices(lists), pc.list_flatten(lists)
        columns: dict[str, Any] = dict(zip([f.name for f in elements.type], elements.flatten(), strict=True))
        columns["video_id"] = pa.array(ids, TEXT).take(parents)
        columns["model"] = pa.array([self.report.model] * len(elements), TEXT)
        if "vector" in columns:
            columns["dimension"] = pc.list_value_length(columns["vector"]).cast(COUNT)
        empty = pa.nulls(len(elements))
        return pa.table(
            [columns.get(f.name, empty).cast(f.type) for f in declared.schema], schema=declared.schema
        )
