"""Jobs: TOML files that name a source of videos, the output tables and limits; and their JSON Schema.

    job = Job.load("catalog.toml")

Paths in a job are relative to the job's file, so a scheduler can start it from any folder. The API key is not
part of a job: it comes from TL_API_KEY. Error messages name the line, the key and the allowed values.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import quote

from tl_data.errors import MissingExtra, SettingsError
from tl_data.lake.lake import Format
from tl_data.models import name_of_today
from tl_data.settings import ABOVE_ZERO, JOB_WAIT, Settings
from tl_data.untrusted import parse_toml

TEXT = {"type": "string", "minLength": 1}
TEXTS = {"type": "array", "items": {"type": "string"}, "minItems": 1, "uniqueItems": True}
COUNT = {"type": "integer", "minimum": 1}
SECRETS = ("api_key", "text_key")  # settings that are not allowed in a job file
QUESTION_KEYS = ("questions", "files", "delta", "query")  # keys of [alerts]; a job has one of them
SOURCE_KEYS = ("files", "delta", "query", "urls", "folder", "spark_table", "spark_query")  # one of [source]


def schema() -> dict[str, Any]:
    """The schema of a job file (JSON Schema 2020-12), for editors and for `check`."""
    source = dict.fromkeys(SOURCE_KEYS, TEXT) | {"urls": TEXTS, "url": TEXT, "key": TEXT, "database": TEXT}
    outputs = {
        "folder": TEXT,
        "format": {"enum": ["delta", "parquet"]},
        "tables": {
            "type": "array",
            "items": {"enum": list(OUTPUTS)},
            "uniqueItems": True,
        },
        "prompts": TEXTS,
        "refresh": {"type": "boolean"},
        "removed": {"enum": ["keep", "mark", "delete"]},
        "urls": {"enum": ["given", "redacted"]},
    }
    alerts = dict.fromkeys(QUESTION_KEYS, TEXT) | {
        "questions": {**TEXTS, "items": TEXT},
        "column": TEXT,
        "database": TEXT,
        "threshold": {"enum": ["high", "medium", "low", "none"]},
        "max_clips": COUNT,
        "verify": {"type": "boolean"},
    }
    digest = {
        "file": {
            "type": "string",
            "pattern": r"^[^:]+\.(md|html)$",
            "description": "a file on this machine that ends in .md or .html",
        },
        "days": COUNT,
    }
    target = {
        "type": "string",
        "pattern": "^[a-z][a-z0-9+.-]*://.",
        "description": 'an address such as "lancedb://./store?collection=clips"',
    }
    limits = {
        "budget": {"type": "number", "minimum": 0},
        "budget_hours": {"type": "number", "minimum": 0},
        "max_failures": {
            "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": r"^\d+(\.\d+)?%$"}],
            "description": 'a count such as 10, or a share such as "5%"',
        },
        "limit": COUNT,
        "commit_videos": COUNT,
        "commit_seconds": {"type": "number", "exclusiveMinimum": 0},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A job of tl-data",
        **_object(
            {
                "name": TEXT,
                "engine": {"enum": ["duckdb", "spark"]},
                "prices": TEXT,
                "source": _object(source),
                "outputs": _object(outputs, ["folder"]),
                "alerts": _object(alerts),
                "digest": _object(digest, ["file"]),
                "export": _object({"targets": {**TEXTS, "items": target}}, ["targets"]),
                "limits": _object(limits),
                "settings": _object(_settings()),
            },
            ["outputs"],
        ),
    }


def _object(properties: Mapping[str, Any], required: Sequence[str] = ()) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(required),
        "additionalProperties": False,
    }


def _settings() -> dict[str, Any]:
    """The schema of [settings]: all settings except SECRETS, because job files are shared."""
    kinds: dict[str, Any] = {}
    for setting in fields(Settings):
        if setting.name not in SECRETS:
            text = str(setting.type)
            kind = "integer" if "int" in text else "number" if "float" in text else "string"
            kinds[setting.name] = {"type": kind}
    for name in ABOVE_ZERO:
        kinds[name]["exclusiveMinimum"] = 0
    return kinds


def check(table: Mapping[str, Any], text: str, where: str) -> None:
    """Validate a parsed job.

    Raises:
        SettingsError: all problems of the job, one per line, each with its line number and key.
    """
    try:
        from jsonschema import Draft202012Validator
    except ImportError as error:
        raise MissingExtra("jsonschema", "jobs") from error
    errors = sorted(Draft202012Validator(schema()).iter_errors(table), key=lambda e: list(map(str, e.path)))
    problems = [problem for error in errors for problem in _schema_problems(error)]
    problems += [*_source_problems(table), *_question_problems(table)]
    if problems:
        lines = [f"{where}, line {_line(text, path)}: {problem}" for path, problem in problems]
        raise SettingsError("\n".join(lines))


#: The path of a key in the job, and what is wrong with it.
Problem = tuple[tuple[Any, ...], str]


def _schema_problems(error: Any) -> Iterable[Problem]:
    """The problems of a validation error of jsonschema, with readable messages."""
    path = tuple(error.absolute_path)
    key = _key(path)
    if error.validator == "additionalProperties":
        allowed = list(error.schema["properties"])
        for name in error.instance:
            if name not in allowed:
                yield (*path, name), _unknown(name, path, allowed)
    elif error.validator == "required":
        for name in error.validator_value:
            if name not in error.instance:
                yield path, f"{_key((*path, name))} is missing"
    elif error.validator == "enum":
        yield path, f"{key} is {error.instance!r}; it must be one of {', '.join(error.validator_value)}"
    elif error.validator in ("anyOf", "pattern") and "description" in error.schema:
        yield path, f"{key} is {error.instance!r}; it must be {error.schema['description']}"
    elif error.validator == "type":
        names = {
            "string": "text in quotes",
            "array": "a list",
            "object": "a table",
            "integer": "a whole number",
            "boolean": "true or false",
        }
        expected = names.get(error.validator_value, f"a {error.validator_value}")
        yield path, f"{key} is {error.instance!r}; it must be {expected}"
    elif error.validator in ("minimum", "exclusiveMinimum"):
        bound = "at least" if error.validator == "minimum" else "above"
        yield path, f"{key} is {error.instance}; it must be {bound} {error.validator_value}"
    else:
        yield path, f"{key}: {error.message}"


def _unknown(name: str, path: tuple[Any, ...], allowed: list[str]) -> str:
    section = f"[{_key(path)}]" if path else "a job"
    if name in SECRETS:
        variable = f"TL_{name.upper()}"
        return f"{name} is not allowed in a job file, which is shared; set {variable} in the environment"
    if old := name_of_today([name]):
        return f"{section} has no key {name!r}.{old}"
    close = difflib.get_close_matches(name, allowed, 1)
    hint = f"Did you mean {close[0]}?" if close else f"There are {', '.join(allowed)}"
    return f"{section} has no key {name!r}. {hint}"


def _source_problems(table: Mapping[str, Any]) -> Iterable[Problem]:
    """Problems of [source] that the schema does not find or not explain."""
    source = table.get("source")
    if source is None and not {"alerts", "digest", "export"} & table.keys():
        yield (), "source is missing: a job needs [source], [alerts], [digest] or [export]"
    if not isinstance(source, dict):
        return
    keys = [key for key in SOURCE_KEYS if key in source]
    if len(keys) != 1:
        present = f"it has {' and '.join(keys)}" if keys else "it has none"
        yield ("source", *keys[-1:]), f"[source] needs exactly one of {', '.join(SOURCE_KEYS)}; {present}"
    if "database" in source and "query" not in source:
        yield ("source", "database"), "source.database is for a source.query; there is none"
    if any(key.startswith("spark") for key in keys) and table.get("engine", "duckdb") != "spark":
        yield ("source", keys[0]), f'source.{keys[0]} needs engine = "spark"'


def _question_problems(table: Mapping[str, Any]) -> Iterable[Problem]:
    """Problems of [alerts] that the schema does not find or not explain."""
    alerts = table.get("alerts")
    if not isinstance(alerts, dict):
        return
    keys = [key for key in QUESTION_KEYS if key in alerts]
    if len(keys) != 1:
        present = f"it has {' and '.join(keys)}" if keys else "it has none"
        yield ("alerts", *keys[-1:]), f"[alerts] needs exactly one of {', '.join(QUESTION_KEYS)}; {present}"
    if "database" in alerts and "query" not in alerts:
        yield ("alerts", "database"), "alerts.database is for an alerts.query; there is none"
    if "column" in alerts and "questions" in alerts:
        yield (
            ("alerts", "column"),
            "alerts.column is for a table of questions; alerts.questions has no columns",
        )


def _key(path: Sequence[Any]) -> str:
    """A path as text: outputs.tables[1]."""
    return "".join(f"[{p}]" if isinstance(p, int) else f".{p}" for p in path).lstrip(".")


def _line(text: str, path: Sequence[Any]) -> int:
    """The line of a key; if it is absent, the line of its table, else 1. Inline tables are not searched."""
    names = [p for p in path if not isinstance(p, int)]
    table: list[str] = []
    best = (0, 1)  # length of the longest path that fits, and its line
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[([^\[\]]+)\]", line):
            table = [part.strip().strip("\"'") for part in header[1].split(".")]
            line_path = table
        elif key := re.match(r"\s*([\w.\"'-]+)\s*=", line):
            line_path = [*table, *(part.strip("\"'") for part in key[1].split("."))]
        else:
            continue
        if line_path == names[: len(line_path)] and len(line_path) > best[0]:
            best = (len(line_path), number)
    return best[1]


Kind = Literal["files", "delta", "query", "urls", "folder", "spark_table", "spark_query"]
KINDS: tuple[Kind, ...] = get_args(Kind)

Removed = Literal["keep", "mark", "delete"]

#: The optional output tables; every job has `videos`, `errors` and `runs`.
OUTPUTS = ("clips", "summaries", "chapters", "vectors", "highlights", "annotations", "frames")
#: The default outputs.
DEFAULT_OUTPUTS = OUTPUTS[:4]


@dataclass(frozen=True)
class Source:
    """The list of videos or questions: rows of a table, or URLs and paths."""

    kind: Kind
    place: str | tuple[str, ...]  # by kind: file or glob, Delta table, SQL, URLs, folder, Spark table
    url: str = "url"  # column with the URLs or paths
    key: str | None = None  # column that identifies a row; None: the URL without its signature
    database: str | None = None  # the DuckDB file that a query reads; None: in memory
    #: The section of the job that has this source: a list of videos, or of questions.
    section: Literal["source", "alerts"] = "source"


#: The source of a job without [source]. Such a job works on the tables of another job.
NO_SOURCE = Source("urls", ())


@dataclass(frozen=True)
class Alerts:
    """Saved questions, each of which runs once on every video."""

    questions: Source  # its column `url` holds the questions
    #: Lowest confidence of a reported clip. None: high if the index's model returns a confidence, else none.
    threshold: Literal["high", "medium", "low", "none"] | None = None
    max_clips: int | None = None  # most clips that a run reports per question and 200 new videos; None: 10
    verify: bool = False  # whether each clip is checked by a paid analysis

    @property
    def most_clips(self) -> int:
        """The largest number of clips of a search."""
        return self.max_clips or 10


@dataclass(frozen=True)
class Digest:
    """A page about new videos, alerts and failures."""

    file: str  # ends in .md or .html; may have strftime codes such as %Y-%m-%d for the day
    days: int = 7


@dataclass(frozen=True)
class Job:
    """A job, from a file or from Python."""

    source: Source
    folder: str  # folder of the tables; a Delta lake may be in a bucket
    name: str = "job"
    format: Format = "delta"
    tables: tuple[str, ...] = DEFAULT_OUTPUTS
    refresh: bool = False  # replace vectors of another model, instead of refusing to mix models
    removed: Removed = "keep"  # the treatment of videos that the source no longer lists
    urls: Literal["given", "redacted"] = "given"  # the columns `url`: as in the source, or without secrets
    prompts: tuple[str, ...] = ("",)  # one summary for each; "" is a plain summary
    engine: Literal["duckdb", "spark"] = "duckdb"  # what reads the source; this process makes the calls
    alerts: Alerts | None = None
    digest: Digest | None = None
    exports: tuple[str, ...] = ()  # targets that are updated after a run
    settings: Mapping[str, Any] = field(default_factory=dict)
    prices: str | None = None  # a price list; None: TL_PRICES, or the package's own
    budget: float | None = None  # largest cost, in the currency of the price list
    #: Runs of the job within so many hours share the budget, so that retries do not multiply it. The default
    #: is less than a day, so that a daily run has its own budget. 0: every run has its own budget.
    budget_hours: float = 20.0
    max_failures: int | str | None = None  # a count, or a share of the videos such as "5%"
    limit: int | None = None  # process only so many videos, the first of the source
    commit_videos: int = 50  # finished videos per commit
    commit_seconds: float = 30.0  # longest time between commits
    base: str = "."  # the folder that relative paths of the source refer to

    def __post_init__(self) -> None:
        if unknown := [t for t in self.tables if t not in OUTPUTS]:
            raise SettingsError(f"tables: no table {unknown[0]!r}; there are {', '.join(OUTPUTS)}")
        self.failures_allowed(100)

    @classmethod
    def load(cls, path: str | Path) -> Job:
        """Read a job file.

        Raises:
            SettingsError: with the file, the line, the key, and the allowed values.
        """
        file = Path(path)
        try:
            text = file.read_text(encoding="utf-8-sig")  # Windows editors write a byte order mark
            table = parse_toml(text)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise SettingsError(f"{file}: the job cannot be read: {reason}") from error
        except tomllib.TOMLDecodeError as error:
            raise SettingsError(f"{file}: invalid TOML: {error}") from error
        check(table, text, str(file))
        return cls._from_table(table, file)

    @classmethod
    def _from_table(cls, table: Mapping[str, Any], file: Path) -> Job:
        """The job of a valid parsed file. Relative paths refer to the file's folder."""
        base = file.resolve().parent

        def resolve(path: str) -> str:
            if "://" in path or path.startswith("dbfs:/"):
                return path
            return str(base / Path(path).expanduser())

        def source_of(table: Mapping[str, Any], **more: Any) -> Source:
            source = dict(table)
            [kind] = [k for k in KINDS if k in source]
            place = source.pop(kind)
            if kind in ("files", "delta", "folder"):
                place = resolve(place)
            elif kind == "urls":
                place = tuple(place)
            if "database" in source:
                source["database"] = resolve(source["database"])
            return Source(kind, place, **source, **more)

        outputs, limits = dict(table["outputs"]), table.get("limits", {})
        for name in ("tables", "prompts"):
            if name in outputs:
                outputs[name] = tuple(outputs[name])
        settings = dict(table.get("settings", {}))
        for name in ("home", "ledger", "http_headers"):
            if name in settings:
                settings[name] = resolve(settings[name])
        optional: dict[str, Any] = {n: table[n] for n in ("engine",) if n in table}
        if "prices" in table:
            optional["prices"] = resolve(table["prices"])
        if "alerts" in table:
            questions = dict(table["alerts"])
            options = {
                name: questions.pop(name)
                for name in ("threshold", "max_clips", "verify")
                if name in questions
            }
            # Saved questions are read like videos, with the question in place of the URL.
            if "questions" in questions:
                questions["urls"] = questions.pop("questions")
            questions["url"] = questions.pop("column", "question")
            optional["alerts"] = Alerts(source_of(questions, section="alerts"), **options)
        if "export" in table:
            optional["exports"] = tuple(
                re.sub(r"://(?:\./|(?=\.\./))", f"://{quote(str(base))}/", target)
                for target in table["export"]["targets"]
            )
        if "digest" in table:
            optional["digest"] = Digest(**{**table["digest"], "file": resolve(table["digest"]["file"])})
        return cls(
            source=source_of(table["source"]) if "source" in table else NO_SOURCE,
            folder=resolve(outputs.pop("folder")),
            name=table.get("name", file.stem),
            settings=settings,
            base=str(base),
            **outputs,
            **limits,
            **optional,
        )

    def but(self, **changes: Any) -> Job:
        """A copy with changed values: `job.but(limit=10)`."""
        return replace(self, **changes)

    @property
    def has_source(self) -> bool:
        """Whether the job adds videos; otherwise it works on existing tables."""
        return self.source != NO_SOURCE

    def load_settings(self) -> Settings:
        """The settings of the job. They override those of the environment and the settings file.

        Unless `max_wait` is set, a job waits for limits per hour.
        """
        return Settings.load(defaults={"max_wait": JOB_WAIT}, **self.settings)

    def failures_allowed(self, videos: int) -> float:
        """The largest number of failed videos with which a run of so many videos continues."""
        allowed = self.max_failures
        if allowed is None:
            return float("inf")
        if isinstance(allowed, int) and not isinstance(allowed, bool) and allowed >= 0:
            return allowed
        try:
            share = float(str(allowed).removesuffix("%"))
        except ValueError:
            share = -1.0
        if not str(allowed).endswith("%") or not 0 <= share <= 100:
            raise SettingsError(
                f'max_failures is {allowed!r}; it must be a count such as 10, or a share such as "5%"'
            )
        return videos * share / 100


def init_text() -> str:
    """A commented job file with every key."""
    return TEMPLATE


TEMPLATE = """\
# A job of tl-data: which videos become which tables, within which limits.
#   tl-data plan FILE    show the work, time and cost of a run; nothing is paid
#   tl-data run FILE     run the job; repeat it at any time: only new, changed and failed videos are processed
# Paths are relative to this file. The API key comes from TL_API_KEY. Without a key, the embedded engine
# processes the videos on this machine.

name = "catalog"
engine = "duckdb"           # duckdb or spark reads the source; this process makes the calls
# prices = "prices.toml"    # a price list of your own

[source]                    # exactly one of the following
files = "videos.csv"        # Parquet, CSV or JSON: a file or a glob
# delta = "lake/assets"     # a Delta table
# query = "SELECT id, url FROM assets WHERE kind = 'video'"    # SQL of DuckDB
# database = "assets.duckdb"                                   # file that the query reads; default: in memory
# urls = ["https://example.com/a.mp4", "https://example.com/b.mp4"]
# folder = "videos"         # all video files in a folder
# spark_table = "main.media.assets"                            # engine = "spark"
# spark_query = "SELECT id, url FROM main.media.assets"        # engine = "spark"
url = "url"                 # column with the URLs (or paths)
# key = "id"                # column that identifies a row; without it, the URL does

[outputs]
folder = "lake"             # a Delta lake may be in a bucket: s3://, gs://, az://
format = "delta"            # delta or parquet
tables = ["clips", "summaries", "chapters", "vectors"]    # also highlights, annotations, frames
prompts = [""]              # one summary each; "" is a plain summary
# removed = "mark"          # videos that left the source: keep, mark (videos.removed_at) or delete
# urls = "redacted"         # columns `url` without signatures, tokens and logins; "given": as in the source
# refresh = true            # after a change of search_model and index: replace the old model's vectors

# [alerts]                  # saved questions: each runs once on every video, each clip is reported once
# questions = ["a helmet on the floor"]
# files = "questions.csv"   # ... or a table of them: files, delta, query and database, as in [source]
# column = "question"       # column with the questions
# threshold = "high"        # lowest confidence of a clip: high, medium, low, none (Marengo 2.7)
# verify = true             # check each clip by a paid analysis; for models that only rank clips
# max_clips = 10            # most clips that a run reports per question and 200 new videos

# [digest]                  # a page about new videos, alerts and failures
# file = "digest-%Y-%m-%d.md"    # Markdown or HTML; %Y-%m-%d is the day
# days = 7

# [export]                  # targets that each run updates: see tl-data export --help
# targets = ["lancedb://./store?collection=clips", "webvtt://./subtitles"]

[limits]
# budget = 25.0             # stop before the runs of the last budget_hours would cost more
# budget_hours = 20         # less than a day, so that retries share it; 0: each run has its own
# max_failures = "5%"       # stop if more videos fail: a count, or a share; known final failures do not count
# limit = 10                # process only the first videos
commit_videos = 50          # write the tables after so many videos
commit_seconds = 30         # ... or so many seconds

[settings]                  # the environment variables TL_... without the prefix, in lower case
index = "catalog"
# ledger = "s3://bucket/ledger"    # shared by all machines that must not pay twice
# concurrency = 16
# video_minutes_per_hour = 600     # limits of your own: requests, tokens, video minutes
# requests_per_day = 1500
# max_wait = 3660           # longest wait for a limit in seconds; a run that would wait longer stops
"""
