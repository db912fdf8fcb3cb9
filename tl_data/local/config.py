"""How one engine process is set up: the options of the command line, as one record."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tl_data.local.models import Tiers
from tl_data.local.profiles import LENIENT, Profile

API_VERSION = "1.3"
PREFIX = "/v1.3"

#: The service's documents and its first OpenAPI description disagree on two success statuses:
#: creating a task (201 or 200) and updating an index or video (204 or 200).
Statuses = Literal["chosen", "openapi", "docs"]
STATUSES: dict[Statuses, tuple[int, int]] = {"chosen": (201, 204), "openapi": (201, 200), "docs": (200, 204)}


@dataclass(frozen=True)
class Config:
    """Settings of the engine; every size is in bytes and every time in seconds."""

    home: Path
    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    faults: Path | None = None  # TOML or JSON file of faults to inject from the start
    plan: str | None = None  # rate limits of a plan; None: no limits, no rate headers
    workers: int = 2  # videos worked on at the same time
    allow_private: bool = False  # URLs may lead to loopback and private addresses
    allow_files: bool = False  # file:// URLs may name any file
    media: Path | None = None  # file:// URLs may name files in here; also what imports read
    lease: Path | None = None  # shut down once nobody holds a shared lock on this file
    profile: Profile = LENIENT  # which service it answers and refuses as
    statuses: Statuses = "chosen"
    page_token_seconds: float = 900.0  # life of the page tokens of a search
    batch_seconds: float = 86400.0  # until a batch of analyses expires
    asset_delay: float = 0.0  # seconds that an asset stays `processing` at least
    embed_task_seconds: float = 7 * 86400.0  # how long the result of an embedding task is kept
    max_video_bytes: int = 2 << 30
    max_body_bytes: int = 8 << 20  # of a request without its files
    max_inline_bytes: int = 52 << 20  # of one with a file in base64: 36 MB, the service's limit, and room
    download_seconds: float = 1800.0
    look_seconds: float = 3600.0  # longest time one video may be worked on
    tiers: Tiers = field(default_factory=Tiers)  # models in the place of built-in stages

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.home / "engine.sqlite"

    def asset(self, asset_id: str) -> Path:
        """Where the file of an asset lies."""
        return self.home / "assets" / asset_id

    def parts(self, upload_id: str) -> Path:
        """Where the parts of an upload lie until all are there."""
        return self.home / "parts" / upload_id

    def folder(self, video_id: str) -> Path:
        """Where everything of one video lies: the source, the keyframes, the stream."""
        return self.home / "videos" / video_id
