"""The configuration of an engine process: one record with the options of its command line."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tl_data.local.models import Tiers
from tl_data.local.profiles import LENIENT, Profile

API_VERSION = "1.3"
PREFIX = "/v1.3"  # the path of every endpoint begins with it

#: Selects the success statuses of two requests. The documentation of the service and its first OpenAPI
#: description disagree on them; "chosen" is the choice of the engine.
Statuses = Literal["chosen", "openapi", "docs"]
#: The statuses for creating a task, and for updating an index or video.
STATUSES: dict[Statuses, tuple[int, int]] = {"chosen": (201, 204), "openapi": (201, 200), "docs": (200, 204)}


@dataclass(frozen=True)
class Config:
    """Settings of the engine; every size is in bytes and every time in seconds."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    faults: Path | None = None  # TOML or JSON file with the faults to inject from the start
    plan: str | None = None  # plan whose rate limits apply; None sets no limits and sends no rate headers
    workers: int = 2  # number of videos analyzed concurrently
    allow_private: bool = False  # whether URLs may resolve to loopback and private addresses
    allow_files: bool = False  # whether file:// URLs may name any file
    media: Path | None = None  # folder that file:// URLs and imports may read
    lake: str | None = None  # folder or bucket of a lake whose evidence is served
    lease: Path | None = None  # shut down when no process holds a shared lock on this file
    profile: Profile = LENIENT  # the version of the service to reproduce
    statuses: Statuses = "chosen"
    page_token_seconds: float = 900.0  # lifetime of the page tokens of a search
    batch_seconds: float = 86400.0  # lifetime of a batch of analyses
    asset_delay: float = 0.0  # shortest time for which an asset has the status `processing`
    embed_task_seconds: float = 7 * 86400.0  # retention of embedding tasks
    #: Largest video. None: 2 GiB, and for multipart uploads the limit of the profile, if it has one.
    max_video_bytes: int | None = None
    max_connections: int = 1000  # open connections of clients
    max_body_bytes: int = 8 << 20  # largest request, without its files
    #: Largest request with a file in base64: files of 36 MB, the limit of the service, grow by a third.
    max_inline_bytes: int = 52 << 20
    download_seconds: float = 1800.0  # time limit for the download of one video
    look_seconds: float = 3600.0  # time limit for the analysis of one video
    tiers: Tiers = field(default_factory=Tiers)  # models that replace built-in stages

    @property
    def video_bytes(self) -> int:
        """The largest video of an upload, a URL or an import."""
        return 2 << 30 if self.max_video_bytes is None else self.max_video_bytes

    @property
    def multipart_bytes(self) -> int:
        """The largest video of a multipart upload. A limit that is set also holds for these."""
        if self.max_video_bytes is None and self.profile.upload_bytes is not None:
            return self.profile.upload_bytes
        return self.video_bytes

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "engine.sqlite"

    def asset(self, asset_id: str) -> Path:
        """The folder of an asset's file."""
        return self.home / "assets" / asset_id

    def parts(self, upload_id: str) -> Path:
        """The folder for the parts of an upload that is not complete."""
        return self.home / "parts" / upload_id

    def folder(self, video_id: str) -> Path:
        """The folder of one video: its source, keyframes and stream."""
        return self.home / "videos" / video_id
