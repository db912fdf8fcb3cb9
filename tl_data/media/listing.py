"""Video files below a folder, a prefix of a bucket, or a pattern.

A bucket is listed page by page, in bounded memory. For a folder on disk, all paths are read and sorted before
the first one is returned.

s3://bucket/videos/             every video below the prefix
s3://bucket/videos/**/*.mp4     every matching key: * and ? match within a part of it, ** any number of parts
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from pathlib import Path

from tl_data.errors import SettingsError
from tl_data.media.identity import local_path, missing_file
from tl_data.object_store import Buckets
from tl_data.urls import bucket_parts, is_bucket

#: File extensions that are listed as videos if there is no pattern. The content is not read here.
ENDINGS = (".mp4", ".mov", ".m4v", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ts", ".wmv", ".flv", ".3gp")

#: Characters that make a path a pattern.
WILDCARDS = "*?["


@dataclass(frozen=True)
class File:
    """A file of a listing."""

    address: str  # a path or URL such as s3://bucket/key; functions accept it as a `video`
    size_bytes: int | None  # None: the file cannot be read
    modified_at: datetime | None
    etag: str | None


def files_below(place: str, base: str = ".") -> Iterator[File]:
    """The files of a folder, a bucket or a pattern.

    Args:
        place: a folder, the URL of a bucket or of a prefix in it, or a pattern.
        base: the folder to which a relative `place` refers.

    Raises:
        SettingsError: the folder does not exist, or a folder or the bucket cannot be listed.
    """
    return _in_bucket(place) if is_bucket(place) else _on_disk(place, base)


def _in_bucket(place: str) -> Iterator[File]:
    bucket, key = bucket_parts(place)
    parts = key.split("/")
    # A bracket is an ordinary character in the keys of a bucket.
    fixed = next((n for n, part in enumerate(parts) if "*" in part or "?" in part), None)
    pattern = key.replace("[", "[[]")
    prefix = key if fixed is None else "/".join(parts[:fixed])
    for page in Buckets(1).pages(f"{bucket}/{prefix}"):
        for item in page:
            is_listed = item.path.lower().endswith(ENDINGS) if fixed is None else matches(item.path, pattern)
            if is_listed:
                yield File(f"{bucket}/{item.path}", item.size, item.modified, item.etag)


def _on_disk(place: str, base: str) -> Iterator[File]:
    folder, pattern = Path(base, local_path(place).expanduser()), None
    # `Path.is_dir` raises PermissionError.
    if not os.path.isdir(folder) and any(c in place for c in WILDCARDS):
        while not os.path.isdir(folder):
            pattern = folder.name if pattern is None else f"{folder.name}/{pattern}"
            folder = folder.parent
    if not os.path.isdir(folder):
        raise SettingsError(f"{folder} is not a folder{missing_file(place)}")
    walk = os.walk(folder, onerror=_refuse_folder)
    for path in sorted(Path(parent, name) for parent, _, names in walk for name in names):
        name = path.relative_to(folder).as_posix()
        if path.suffix.lower() in ENDINGS if pattern is None else matches(name, pattern):
            try:
                facts = path.stat()
            except FileNotFoundError:
                continue  # removed since it was listed
            except OSError:  # no permission, or a link to itself: the error of this row
                yield File(str(path), None, None, None)
                continue
            if stat.S_ISREG(facts.st_mode):
                yield File(str(path), facts.st_size, datetime.fromtimestamp(facts.st_mtime, UTC), None)


def _refuse_folder(error: OSError) -> None:
    """Refuse a folder that cannot be listed, because its videos would count as removed.

    Raises:
        SettingsError: names the folder.
    """
    if not isinstance(error, FileNotFoundError):  # removed since its parent was listed
        raise SettingsError(f"{error.filename} cannot be listed: {error.strerror}") from error


def matches(name: str, pattern: str) -> bool:
    """Whether a key or path matches. `*`, `?` and `[...]` match within a part, `**` any number of parts."""
    return _parts_match(name.split("/"), pattern.split("/"))


def _parts_match(names: list[str], patterns: list[str]) -> bool:
    """Match by dynamic programming: the time is proportional to names times patterns, even with many `**`."""
    reached = {0}  # positions in `names` that the patterns so far can match up to
    for pattern in patterns:
        if pattern == "**":
            reached = set(range(min(reached), len(names) + 1)) if reached else reached
        else:
            reached = {n + 1 for n in reached if n < len(names) and fnmatchcase(names[n], pattern)}
    return len(names) in reached
