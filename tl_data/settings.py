"""Settings: from arguments, then the environment, then a TOML file, then defaults.

    Settings.load()                      from the environment and the file
    Settings.load(index="news")          with one value given here

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

import orjson

from tl_data.errors import SettingsError
from tl_data.urls import is_loopback

SERVICE_URL = "https://api.twelvelabs.io/v1.3"

#: The model name of the embedded engine. Names of the service's models are used for the service alone.
EMBEDDED_MODEL = "tl-local-2"

#: Dimension of the vectors of each model: the service's (docs, "Marengo") and the embedded engine's.
DIMENSIONS: dict[str, int] = {
    "marengo2.6": 1024,
    "marengo2.7": 1024,
    "Marengo-retrieval-2.6": 1024,
    "Marengo-retrieval-2.7": 1024,
    "marengo3.0": 512,
    "marengo3.5": 512,
    EMBEDDED_MODEL: 320,
}

#: Configurable limits of each category of endpoints.
LIMITS = (
    *("requests_per_minute", "requests_per_hour", "requests_per_day"),
    *("video_minutes_per_hour", "video_minutes_per_day"),
    *("tokens_per_minute", "tokens_per_hour", "tokens_per_day"),
)
#: Default of `max_wait` for jobs, in seconds: until the next hour begins, with a minute for different clocks.
JOB_WAIT = 3660.0

#: Settings that are numbers above 0, if they are set.
ABOVE_ZERO = ("concurrency", "timeout", "task_deadline", "poll_interval", "signed_url_hours", *LIMITS)

SIGNED_URL_HOURS = 168  # the most that S3 and GCS sign for

OnError = Literal["raise", "null"]
SameContent = Literal["certain", "likely"]


def _home() -> str:
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return str(Path(base) / "tl_data")


@dataclass(frozen=True)
class Settings:
    """All settings, immutable and picklable. The repr does not contain the API keys."""

    api_key: str | None = field(default=None, repr=False)
    base_url: str | None = None  # None: the service with a key, the embedded engine without
    index: str = "tl_data"  # name or id of the index that URLs and paths are indexed into
    ledger: str | None = None  # a path or s3://, gs://, az:// address; None: <home>/ledger
    home: str = field(default_factory=_home)  # data of the embedded engine, ledger, caches
    search_model: str | None = None  # None: marengo3.0 (2025: marengo2.7), or the engine's own
    analyze_model: str | None = None  # None: pegasus1.5 (2025: pegasus1.2), or the engine's own
    concurrency: int = 16  # calls in flight, per process; of a job: of indexing and of analysis each
    timeout: float = 600.0  # seconds for one response; an analysis may take minutes
    task_deadline: float = 4 * 3600.0  # seconds to wait for one remote task
    poll_interval: float = 5.0  # seconds between polls of unfinished tasks
    retries: int = 5  # attempts after the first, for calls that can be repeated
    max_wait: float = 300.0  # longest wait in seconds for a limit before it is an error; jobs: JOB_WAIT
    requests_per_minute: float | None = None  # None: taken from the API's headers; the same for all limits
    requests_per_hour: float | None = None
    requests_per_day: float | None = None
    video_minutes_per_hour: float | None = None
    video_minutes_per_day: float | None = None
    tokens_per_minute: float | None = None
    tokens_per_hour: float | None = None
    tokens_per_day: float | None = None
    local_clip: str | None = None  # embedded engine: folder of an image-text encoder (CLIP, SigLIP) in ONNX
    local_whisper: str | None = None  # likewise: folder of a Whisper model for faster-whisper
    local_objects: str | None = None  # likewise: folder with the weights of the models that see
    local_detector: str | None = None  # likewise: "off" leaves the detector out, to save time and memory
    local_llm_url: str | None = None  # likewise: OpenAI-compatible server that writes the texts
    local_llm_model: str | None = None  # its model
    local_llm_key: str | None = field(default=None, repr=False)  # its key, if it wants one
    local_llm_frames: int | None = None  # pictures of a video that it is sent at most; None: 16
    local_llm_timeout: float | None = None  # seconds for one of its answers; None: 300
    text_url: str | None = None  # OpenAI-compatible endpoint that tl_agg asks, such as https://host/v1
    text_model: str | None = None  # its model
    text_key: str | None = field(default=None, repr=False)  # its key, if it wants one
    sql_budget: float | None = (
        None  # most that one SQL statement may cost; None: 10 with a key; inf: no limit
    )
    sql_max_calls: int | None = None  # most paid calls of one SQL statement; None: no limit
    signed_url_hours: float = 12.0  # how long a signed URL of an object in a bucket is valid
    signing_parameters: str = ""  # more URL parameters that only sign, as "sid, -token"; -name: it does not
    http_headers: str | None = None  # TOML file with HTTP headers by host, for videos that need credentials
    # When two URLs are one video: "certain" by a digest of the content, "likely" also by ETag and length.
    same_content: SameContent = "certain"
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

    @classmethod
    def load(cls, *, defaults: Mapping[str, Any] | None = None, **overrides: Any) -> Settings:
        """Merge arguments over the environment over the file over the defaults.

        Args:
            defaults: replace the defaults of the class.
            overrides: the arguments; None means "not given".

        Raises:
            SettingsError: an unknown name, or a value of the wrong type, and its source.
        """
        values: dict[str, Any] = dict(defaults or {})
        path = os.environ.get("TL_CONFIG")
        file = Path(path or "tl_data.toml")
        if path and not file.is_file():
            raise SettingsError(f"TL_CONFIG names {path}, which is not a file")
        if file.is_file():
            try:
                table = tomllib.loads(file.read_text(encoding="utf-8"))
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
        """A copy with other values."""
        return replace(self, **_typed(changes, "the arguments"))

    @property
    def embedded(self) -> bool:
        """Whether the embedded engine is used: there is neither an API key nor a base URL."""
        return self.api_key is None and self.base_url is None

    def key_for(self, base_url: str) -> str | None:
        """The API key for a base URL: the configured one, or the key of this user's embedded engine.

        Args:
            base_url: of the API, or of the embedded engine.
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
        """The settings of the embedded engine's larger models, by their names in the environment."""
        names = [f.name for f in fields(self) if f.name.startswith("local_")]
        return {f"TL_{n.upper()}": str(v) for n in names if (v := getattr(self, n)) is not None}

    @property
    def dimension(self) -> int | None:
        """The dimension of the model's vectors, None if it is not known before a connection."""
        if self.search_model is not None:  # the embedded engine's vectors have the length of the named model
            clip = self.search_model == EMBEDDED_MODEL and self.local_clip
            return None if clip else DIMENSIONS.get(self.search_model)
        if self.embedded:
            # The files of the encoder determine it: see Connection.dimension.
            return None if self.local_clip else DIMENSIONS[EMBEDDED_MODEL]
        # The vectors of an unknown server may have any dimension.
        return None if self.base_url else DIMENSIONS["marengo3.0"]

    @property
    def ledger_url(self) -> str:
        """The path or URL of the ledger."""
        return self.ledger or str(Path(self.home) / "ledger")


def _typed(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Check the names, and convert the values to the types of the fields."""
    kinds = {f.name: str(f.type) for f in fields(Settings)}
    typed: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            names = ", ".join(sorted(kinds))
            raise SettingsError(f"{where}: unknown setting {name!r}; settings are {names}")
        wanted = int if "int" in kinds[name] else float if "float" in kinds[name] else str
        try:
            typed[name] = value if value is None else wanted(value)
        except (TypeError, ValueError) as error:
            raise SettingsError(
                f"{where}: {name} is {value!r}; it must be of type {wanted.__name__}"
            ) from error
    return typed
