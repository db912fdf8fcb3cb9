"""Jobs: a TOML file that says which videos become which tables, and within which limits.

    job = Job.load("catalog.toml")

Paths in a job are relative to the job's file, so that a scheduler may start it from anywhere. The key of the
API is no part of a job: it comes from TL_API_KEY.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from tl_data.errors import SettingsError
from tl_data.job_schema import check
from tl_data.lake import Format
from tl_data.settings import JOB_WAIT, Settings

Kind = Literal["files", "delta", "query", "urls", "folder", "spark_table", "spark_query"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: What a job can make beside `videos`, `errors` and `runs`, which every job has.
OUTPUTS = ("clips", "summaries", "chapters", "vectors")


@dataclass(frozen=True)
class Source:
    """Where the videos are listed: one row a video, or an address or path each."""

    kind: Kind
    place: str | tuple[str, ...]  # file or glob, Delta table, SQL, addresses, folder, name of a Spark table
    url: str = "url"  # column with the URLs or paths
    key: str | None = None  # column that identifies a row; None: the URL without what only signs it
    database: str | None = None  # of a query: a DuckDB file; None: in memory
    section: Literal["source", "alerts"] = "source"  # of the job: whether it lists videos or questions


#: A job without a source asks or tells about what other jobs have put into the tables.
NO_SOURCE = Source("urls", ())


@dataclass(frozen=True)
class Alerts:
    """Saved questions, each asked once of every video."""

    questions: Source  # its column `url` holds the questions
    threshold: Literal["high", "medium", "low", "none"] = "high"  # least confidence of a clip
    max_clips: int = 10  # best clips of a question that a run reports, per 200 new videos


@dataclass(frozen=True)
class Digest:
    """A page about what came in lately."""

    file: str  # .md or .html; %Y-%m-%d and the like stand for the day
    days: int = 7


@dataclass(frozen=True)
class Job:
    """What to do; as in a job file, or made in Python."""

    source: Source
    folder: str  # of the tables; a Delta lake may be in a bucket
    name: str = "job"
    format: Format = "delta"
    tables: tuple[str, ...] = OUTPUTS
    refresh: bool = False  # replace what a former model embedded, instead of refusing to mix models
    prompts: tuple[str, ...] = ("",)  # of `summaries`; "" is the model's own idea of a summary
    engine: Literal["duckdb", "spark"] = "duckdb"  # what reads the source; the calls are made in this process
    alerts: Alerts | None = None
    digest: Digest | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    prices: str | None = None  # a price list; None: TL_PRICES, or the package's own
    budget: float | None = None  # the run stops before it would cost more, in the price list's currency
    max_failures: int | str | None = None  # a count, or a share of the videos such as "5%"
    limit: int | None = None  # look at the first videos only
    commit_videos: int = 50  # finished videos after which the tables are written
    commit_seconds: float = 30.0  # ... or after this time, whatever comes first
    base: str = "."  # the folder that relative paths of the source are relative to

    def __post_init__(self) -> None:
        if unknown := [t for t in self.tables if t not in OUTPUTS]:
            raise SettingsError(f"tables: no table {unknown[0]!r}; there are {', '.join(OUTPUTS)}")
        self.failures_allowed(100)

    @classmethod
    def load(cls, path: str | Path) -> Job:
        """Read a job file.

        Raises:
            SettingsError: names the file, the line, the key, and what is allowed there.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8")
            table = tomllib.loads(text)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{file}: the job cannot be read: {reason}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file}: this is not TOML: {error}") from error
        check(table, text, str(file))
        return cls._made(table, file)

    @classmethod
    def _made(cls, table: Mapping[str, Any], file: Path) -> Job:
        base = file.resolve().parent

        def there(place: str) -> str:
            return place if "://" in place else str(base / Path(place).expanduser())

        def listed(said: Mapping[str, Any], **more: Any) -> Source:
            source = dict(said)
            [kind] = [k for k in KINDS if k in source]
            place = source.pop(kind)
            if kind in ("files", "delta", "folder"):
                place = there(place)
            elif kind == "urls":
                place = tuple(place)
            if "database" in source:
                source["database"] = there(source["database"])
            return Source(kind, place, **source, **more)

        outputs, limits = dict(table["outputs"]), table.get("limits", {})
        for name in ("tables", "prompts"):
            if name in outputs:
                outputs[name] = tuple(outputs[name])
        settings = dict(table.get("settings", {}))
        for name in ("home", "ledger"):
            if name in settings:
                settings[name] = there(settings[name])
        top: dict[str, Any] = {n: table[n] for n in ("engine",) if n in table}
        if "prices" in table:
            top["prices"] = there(table["prices"])
        if "alerts" in table:
            asked = dict(table["alerts"])
            how = {n: asked.pop(n) for n in ("threshold", "max_clips") if n in asked}
            if "questions" in asked:
                asked["urls"] = asked.pop("questions")
            asked["url"] = asked.pop("column", "question")
            top["alerts"] = Alerts(listed(asked, section="alerts"), **how)
        if "digest" in table:
            top["digest"] = Digest(**{**table["digest"], "file": there(table["digest"]["file"])})
        return cls(
            source=listed(table["source"]) if "source" in table else NO_SOURCE,
            folder=there(outputs.pop("folder")),
            name=table.get("name", file.stem),
            settings=settings,
            base=str(base),
            **outputs,
            **limits,
            **top,
        )

    def but(self, **changes: Any) -> Job:
        """A copy with other values: `job.but(limit=10)`."""
        return replace(self, **changes)

    @property
    def has_source(self) -> bool:
        """Whether the job brings videos in; otherwise it is about what is in the tables."""
        return self.source != NO_SOURCE

    def load_settings(self) -> Settings:
        """Settings as the job says, over those of the environment and the settings file.

        If nobody says otherwise a job waits for the next hour's limit: its night is longer than that.
        """
        return Settings.load(defaults={"max_wait": JOB_WAIT}, **self.settings)

    def failures_allowed(self, videos: int) -> float:
        """How many of so many videos may fail before the run stops itself."""
        said = self.max_failures
        if said is None:
            return float("inf")
        if isinstance(said, int) and not isinstance(said, bool) and said >= 0:
            return said
        try:
            share = float(str(said).removesuffix("%"))
        except ValueError:
            share = -1.0
        if not str(said).endswith("%") or not 0 <= share <= 100:
            raise SettingsError(
                f'max_failures is {said!r}; it is a count such as 10, or a share such as "5%"'
            )
        return videos * share / 100


def init_text() -> str:
    """A job file to begin with: every key, with what it means."""
    return TEMPLATE


TEMPLATE = """\
# A job of tl-data: which videos become which tables, within which limits.
#   tl-data plan FILE    what it would do, take and cost; nothing is paid
#   tl-data run FILE     do it; run it again at any time: only what is new, changed or failed is done
# Paths are relative to this file. The API key comes from TL_API_KEY; without one, the engine that comes
# with the package does the work on this machine.

name = "catalog"
engine = "duckdb"           # duckdb or spark: what reads the source; this process makes the calls
# prices = "prices.toml"    # a price list of your own

[source]                    # exactly one of the following
files = "videos.csv"        # Parquet, CSV or JSON: a file or a glob
# delta = "lake/assets"     # a Delta table
# query = "SELECT id, url FROM assets WHERE kind = 'video'"    # of DuckDB
# database = "assets.duckdb"                                   # ... for the query; in memory without
# urls = ["https://example.com/a.mp4", "https://example.com/b.mp4"]
# folder = "videos"         # all video files in a folder
# spark_table = "main.media.assets"                            # engine = "spark"
# spark_query = "SELECT id, url FROM main.media.assets"        # engine = "spark"
url = "url"                 # column with the URLs (or paths)
# key = "id"                # column that identifies a row; without it, the URL does

[outputs]
folder = "lake"             # a Delta lake may be in a bucket: s3://, gs://, az://
format = "delta"            # delta or parquet
tables = ["clips", "summaries", "chapters", "vectors"]    # beside videos, errors and runs
prompts = [""]              # one summary each; "" is a plain summary
# refresh = true            # after a change of search_model and index: make the old model's vectors anew

# [alerts]                  # saved questions: each is asked once of every video, and told of once
# questions = ["a helmet on the floor"]
# files = "questions.csv"   # ... or a table of them: files, delta, query and database, as in [source]
# column = "question"       # column with the questions
# threshold = "high"        # least confidence of a clip: high, medium, low, none
# max_clips = 10            # best clips of a question that a run tells of, per 200 new videos

# [digest]                  # a page about what came in lately
# file = "digest-%Y-%m-%d.md"    # Markdown or HTML; the day is put in
# days = 7

[limits]
# budget = 25.0             # stop before the run would cost more
# max_failures = "5%"       # stop when more fail, beside those refused before: a count, or a share
# limit = 10                # only the first videos
commit_videos = 50          # write the tables after so many videos
commit_seconds = 30         # ... or so many seconds

[settings]                  # as TL_... in the environment
index = "catalog"
# ledger = "s3://bucket/ledger"    # shared by all machines that must not pay twice
# concurrency = 16
# video_minutes_per_hour = 600     # limits of your own: requests, tokens, video minutes
# requests_per_day = 1500
# max_wait = 3660           # seconds to wait for a limit, such as the next hour's; beyond, the run stops
"""
