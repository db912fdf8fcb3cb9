"""Settings. Arguments take precedence over the environment, and the environment over a TOML file.

    Settings.load()                      from the environment and the file
    Settings.load(index="news")          the same, except for one value

Each field `x` is read from the environment variable `TL_X` and from the key `x` of the file. The file is
`TL_CONFIG`, or `tl_data.toml` in the working folder. Only its top-level table is read, so it may be a job
file.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

import orjson

from tl_data.errors import SettingsError
from tl_data.untrusted import parse_toml
from tl_data.urls import is_loopback

SERVICE_URL = "https://api.twelvelabs.io/v1.3"

#: The embedded engine's model. Its name differs from those of the service, so that results can be told apart.
EMBEDDED_MODEL = "tl-local-2"

#: The dimension of each model's vectors. Source for the service's models: its documentation, "Marengo".
DIMENSIONS: dict[str, int] = {
    "marengo2.6": 1024,
    "marengo2.7": 1024,
    "Marengo-retrieval-2.6": 1024,
    "Marengo-retrieval-2.7": 1024,
    "marengo3.0": 512,
    "marengo3.5": 512,
    EMBEDDED_MODEL: 320,
}

#: Settings that limit the calls. Each category of endpoints is limited separately.
LIMITS = (
    *("requests_per_minute", "requests_per_hour", "requests_per_day"),
    *("video_minutes_per_hour", "video_minutes_per_day"),
    *("tokens_per_minute", "tokens_per_hour", "tokens_per_day"),
)
#: Default of `max_wait` for jobs, in seconds: one hour, after which hourly limits have been reset, and one
#: minute, because clocks differ.
JOB_WAIT = 3660.0

#: Settings that must be above 0 if they are set.
ABOVE_ZERO = (
    "concurrency",
    "timeout",
    "task_deadline",
    "poll_interval",
    "signed_url_hours",
    "prefilter_sample",
    *LIMITS,
)

SIGNED_URL_HOURS = 168  # the longest validity of a signed URL of S3 and GCS

OnError = Literal["raise", "null"]
SameContent = Literal["certain", "likely"]


def _home() -> str:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(base) / "tl_data")


@dataclass(frozen=True)
class Settings:
    """All settings, immutable and picklable. The repr does not contain the API keys."""

    api_key: str | None = field(default=None, repr=False)  # key of the service, or of a server at base_url
    base_url: str | None = None  # None: the service if there is a key, else the embedded engine
    index: str = "tl_data"  # name or id of the index for URLs and paths
    ledger: str | None = None  # a path or s3://, gs://, az:// address; None: <home>/ledger
    home: str = field(default_factory=_home)  # data of the embedded engine, ledger, caches
    search_model: str | None = None  # None: marengo3.0 (accounts of 2025: marengo2.7), or the engine's
    analyze_model: str | None = None  # None: pegasus1.5 (accounts of 2025: pegasus1.2), or the engine's
    concurrency: int = 16  # concurrent calls per process; a job counts indexing and analyses separately
    timeout: float = 600.0  # seconds for one response; an analysis may take minutes
    task_deadline: float = 4 * 3600.0  # seconds to wait for one remote task
    poll_interval: float = 5.0  # seconds between polls of one or two tasks; more tasks are polled less often
    retries: int = 5  # maximum number of retries of a call that can be repeated
    max_wait: float = 300.0  # longest wait in seconds for a rate limit; a longer wait is an error; jobs: 3660
    requests_per_minute: float | None = None  # None: the limit in the API's headers
    requests_per_hour: float | None = None  # likewise
    requests_per_day: float | None = None  # likewise
    video_minutes_per_hour: float | None = None  # likewise
    video_minutes_per_day: float | None = None  # likewise
    tokens_per_minute: float | None = None  # likewise
    tokens_per_hour: float | None = None  # likewise
    tokens_per_day: float | None = None  # likewise
    local_clip: str | None = None  # embedded engine: folder of an image-text encoder (CLIP, SigLIP) in ONNX
    local_whisper: str | None = None  # embedded engine: folder of a Whisper model for faster-whisper
    local_objects: str | None = None  # embedded engine: folder with the weights of the vision models
    local_detector: str | None = None  # embedded engine: "off" disables object detection, to save memory
    local_llm_url: str | None = None  # embedded engine: OpenAI-compatible server that writes the texts
    local_llm_model: str | None = None  # model of local_llm_url
    local_llm_key: str | None = field(default=None, repr=False)  # API key of local_llm_url, if it needs one
    local_llm_frames: int | None = None  # maximum number of pictures of a video for local_llm_url; None: 16
    local_llm_timeout: float | None = None  # seconds for one response of local_llm_url; None: 300
    text_url: str | None = None  # OpenAI-compatible endpoint that tl_agg calls, such as https://host/v1
    text_model: str | None = None  # model of text_url
    text_key: str | None = field(default=None, repr=False)  # API key of text_url, if it needs one
    sql_budget: float | None = None  # cost limit of one SQL statement; None: 10 with a key; inf: none
    sql_max_calls: int | None = None  # maximum number of paid calls of one SQL statement; None: no limit
    prefilter_sample: int = 200  # clips judged by the model before tl_filter decides others by vectors
    signed_url_hours: float = 12.0  # how long a signed URL of an object in a bucket is valid
    signing_parameters: str = ""  # further parameters of signatures, as "sid, -token"; -name excludes one
    http_headers: str | None = None  # TOML file with HTTP headers by host, for videos that need credentials
    same_content: SameContent = "certain"  # "likely": equal ETag and length make URLs one video, too
    on_error: OnError = "raise"  # "null": a failing row gives NULL instead of failing the statement

    def __post_init__(self) -> None:
        if self.on_error not in get_args(OnError):
            raise SettingsError(f"on_error is {self.on_error!r}; it must be 'raise' or 'null'")
        if self.same_content not in get_args(SameContent):
            raise SettingsError(f"same_content is {self.same_content!r}; it must be 'certain' or 'likely'")
        if self.signed_url_hours > SIGNED_URL_HOURS:
            raise SettingsError(
                f"signed_url_hours is {self.signed_url_hours}; at most {SIGNED_URL_HOURS} are possible"
            )
        for name in ABOVE_ZERO:
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise SettingsError(f"{name} is {value}; it must be above 0")
        for name in LIMITS:
            if getattr(self, name) == math.inf:
                raise SettingsError(f"{name} is inf; it must be finite. Omit it for no limit")
        for name in ("retries", "max_wait", "sql_budget", "sql_max_calls"):
            if getattr(self, name) is not None and not getattr(self, name) >= 0:
                raise SettingsError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.base_url and not self.base_url.startswith(("http://", "https://")):
            raise SettingsError(f"base_url is {self.base_url!r}; it must begin with http:// or https://")
        if self.base_url and not _has_host(self.base_url):
            raise SettingsError(f"base_url is {self.base_url!r}, which is not a URL with a host")

    @classmethod
    def load(cls, *, defaults: Mapping[str, Any] | None = None, **overrides: Any) -> Settings:
        """Read the settings: from the arguments, else the environment, else the file, else the defaults.

        Args:
            defaults: values that replace the defaults of the class.
            overrides: the arguments; None means "not given".

        Raises:
            SettingsError: a name is unknown, or a value has the wrong type. The message names the source.
        """
        values: dict[str, Any] = dict(defaults or {})
        path = os.environ.get("TL_CONFIG")
        file = Path(path or "tl_data.toml")
        if path and not file.is_file():
            raise SettingsError(f"TL_CONFIG names {path}, which is not a file")
        if file.is_file():
            try:
                table = parse_toml(file.read_text(encoding="utf-8"))
            except tomllib.TOMLDecodeError as error:
                raise SettingsError(f"{file}: {error}") from error
            except UnicodeDecodeError as error:
                raise SettingsError(f"{file} cannot be read: it is not UTF-8 text") from error
            except OSError as error:
                raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
            values |= _typed({k: v for k, v in table.items() if not isinstance(v, dict | list)}, str(file))
        names = {f.name for f in fields(cls)}
        environment = {n: os.environ[f"TL_{n.upper()}"] for n in names if os.environ.get(f"TL_{n.upper()}")}
        values |= _typed(environment, "the environment (TL_...)")
        values |= _typed({k: v for k, v in overrides.items() if v is not None}, "the arguments")
        return cls(**values)

    def but(self, **changes: Any) -> Settings:
        """A copy with other values for the named settings."""
        return replace(self, **_typed(changes, "the arguments"))

    @property
    def embedded(self) -> bool:
        """Whether calls go to the embedded engine, because there is neither an API key nor a base URL."""
        return self.api_key is None and self.base_url is None

    def key_for(self, base_url: str) -> str | None:
        """The API key for a base URL: the configured one, or the key of this user's embedded engine.

        Args:
            base_url: the address of the API or of the embedded engine.
        """
        if self.api_key or not is_loopback(base_url):
            return self.api_key
        engine = Path(self.home).resolve() / "engine"
        try:
            running = orjson.loads((engine / "engine.json").read_bytes())["base_url"]
            return (engine / "engine.key").read_text(encoding="ascii") if running == base_url else None
        except (OSError, ValueError, KeyError):
            return None

    @property
    def tiers(self) -> dict[str, str]:
        """The settings of the embedded engine's models, by the names of their environment variables."""
        names = [f.name for f in fields(self) if f.name.startswith("local_")]
        return {f"TL_{n.upper()}": str(v) for n in names if (v := getattr(self, n)) is not None}

    @property
    def dimension(self) -> int | None:
        """The dimension of the model's vectors, None if it is not known before a connection."""
        if self.search_model is not None:  # the embedded engine returns the dimension of the named model
            clip = self.search_model == EMBEDDED_MODEL and self.local_clip
            return None if clip else DIMENSIONS.get(self.search_model)
        if self.embedded:
            # The files of an image-text encoder determine the dimension: see Connection.dimension.
            return None if self.local_clip else DIMENSIONS[EMBEDDED_MODEL]
        # The vectors of an unknown server may have any dimension.
        return None if self.base_url else DIMENSIONS["marengo3.0"]

    @property
    def ledger_url(self) -> str:
        """The path or URL of the ledger."""
        return self.ledger or str(Path(self.home) / "ledger")


def _typed(values: Mapping[str, Any], source: str) -> dict[str, Any]:
    """Check the names of settings, and convert the values to the types of the fields.

    Args:
        source: where the values come from, for messages.
    """
    types = {f.name: str(f.type) for f in fields(Settings)}
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in types:
            names = ", ".join(sorted(types))
            raise SettingsError(f"{source}: unknown setting {name!r}; settings are {names}")
        kind = int if "int" in types[name] else float if "float" in types[name] else str
        try:
            typed[name] = value if value is None else kind(value)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"{source}: {name} is {value!r}; it must be of type {kind.__name__}"
            ) from error
    return typed


def _has_host(url: str) -> bool:
    """Whether a URL has a host and, if it names a port, a valid one."""
    try:
        parts = urlsplit(url)
        return bool(parts.hostname) and parts.port != 0
    except ValueError:  # a bracket, or a port above 65535
        return False
