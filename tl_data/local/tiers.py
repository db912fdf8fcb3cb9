"""Which model does the work of which stage: the built-in one, or one that a setting names.

Three stages have a place for a larger model: `vision` (an image-text encoder from a folder), `speech` (a
Whisper model from a folder) and `text` (a vision-language model behind an OpenAI-compatible address). What
vectors and words depend on is in the model's name, so that whoever compares names never mixes two of them.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import urlsplit

from tl_data.errors import SettingsError

OWN = "tl-local-1"  # the engine without any of them
OWN_PREFIX = "tl-local-"

FRAMES, MOST_FRAMES = 16, 64  # pictures of a video that a text endpoint is sent: by default, at most
TIMEOUT = 300.0  # seconds until a text endpoint must have answered

#: Files of which one of each group must be in the folder of a Whisper model (CTranslate2's form).
WHISPER_FILES = (("model.bin",), ("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt"))
_SAMPLES, _SAMPLE = 64, 4096  # places of a large file that its fingerprint reads, and bytes of each


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server with a model that reads text and pictures."""

    url: str  # up to /v1
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT  # seconds for one answer
    frames: int = FRAMES  # pictures of a video that it is sent at most


@dataclass(frozen=True)
class Tiers:
    """The models that take the place of built-in stages; None leaves the stage to the engine."""

    clip: Path | None = None  # folder of an image-text encoder in ONNX
    whisper: Path | None = None  # folder of a Whisper model for CTranslate2
    llm: Endpoint | None = None

    @property
    def sight(self) -> str:
        """The name of the encoder of pictures; "" for none."""
        return f"clip-{named(self.clip)}" if self.clip else ""

    @property
    def ears(self) -> str:
        """The name of the recogniser of speech; "" for the built-in one."""
        return f"whisper-{named(self.whisper)}" if self.whisper else ""

    @property
    def megabytes(self) -> int:
        """Memory that the models of a worker may take on top of what it takes without: twice their files."""
        folders = [folder for folder in (self.clip, self.whisper) if folder]
        return sum(path.stat().st_size for folder in folders for path in _files(folder)) * 2 >> 20

    @property
    def search_model(self) -> str:
        """What words and vectors are made by: vectors of two names are not compared."""
        if not self.sight:
            return "-".join(filter(None, (OWN, self.ears)))
        return OWN_PREFIX + "-".join(filter(None, (self.sight, self.ears)))

    @property
    def analyze_model(self) -> str:
        """What writes texts."""
        if self.llm is None:
            return self.search_model
        return OWN_PREFIX + "-".join(filter(None, (f"llm-{_plain(self.llm.model)}", self.ears)))

    def chosen(self) -> dict[str, str | None]:
        """The settings that chose them, without the key: two engines with the same are alike."""
        return {
            "clip": str(self.clip) if self.clip else None,
            "whisper": str(self.whisper) if self.whisper else None,
            "llm_url": self.llm.url if self.llm else None,
            "llm_model": self.llm.model if self.llm else None,
        }

    def stages(self) -> list[dict[str, str | None]]:
        """For each stage the tier at work, its model, and where that is."""
        clip, whisper, llm = self.clip, self.whisper, self.llm
        return [
            {
                "stage": "vision",
                "tier": "local-clip" if clip else "built in",
                "model": self.sight or "colours, motion, light, faces, text on screen",
                "where": str(clip) if clip else None,
            },
            {
                "stage": "speech",
                "tier": "local-whisper" if whisper else "built in",
                "model": self.ears or "pocketsphinx, US English",
                "where": str(whisper) if whisper else None,
            },
            {
                "stage": "text",
                "tier": "endpoint" if llm else "built in",
                "model": llm.model if llm else "sentences from evidence",
                "where": llm.url if llm else None,
            },
        ]


def read_tiers(
    clip: str | None = None,
    whisper: str | None = None,
    llm_url: str | None = None,
    llm_model: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Tiers:
    """Check what was chosen; what is not given is taken from TL_LOCAL_CLIP and its like.

    Nothing is loaded: whether the files make a model shows when they are first used.

    Raises:
        SettingsError: a folder, file, package or name is missing; says what to type.
    """
    say = environment.get
    clip, whisper = clip or say("TL_LOCAL_CLIP"), whisper or say("TL_LOCAL_WHISPER")
    url, model = llm_url or say("TL_LOCAL_LLM_URL"), llm_model or say("TL_LOCAL_LLM_MODEL")
    llm = None
    if url:
        if not model:
            raise SettingsError(
                f"TL_LOCAL_LLM_URL is {_without_secrets(url)}, but TL_LOCAL_LLM_MODEL is not set: name the "
                "model that it serves, as in TL_LOCAL_LLM_MODEL=qwen2.5vl"
            )
        llm = Endpoint(
            endpoint_url(url),
            model,
            say("TL_LOCAL_LLM_KEY") or None,
            _number(say("TL_LOCAL_LLM_TIMEOUT"), "TL_LOCAL_LLM_TIMEOUT", TIMEOUT, 1, 86400),
            int(_number(say("TL_LOCAL_LLM_FRAMES"), "TL_LOCAL_LLM_FRAMES", FRAMES, 0, MOST_FRAMES)),
        )
    return Tiers(_clip_folder(clip) if clip else None, _whisper_folder(whisper) if whisper else None, llm)


def endpoint_url(url: str) -> str:
    """The address of an OpenAI-compatible server up to `/v1`, however much of it was given.

    Raises:
        SettingsError: not http(s), or with a password in it.
    """
    url = url.strip().rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"TL_LOCAL_LLM_URL is {_without_secrets(url)!r}; it must be like http://127.0.0.1:11434/v1"
        )
    if parts.username or parts.password or parts.query:
        raise SettingsError("TL_LOCAL_LLM_URL must hold no key: give it as TL_LOCAL_LLM_KEY")
    return url if parts.path else f"{url}/v1"


@lru_cache(maxsize=8)
def named(folder: Path) -> str:
    """A folder's name with a fingerprint of what is in it: `siglip-base-1a2b3c4d`."""
    return f"{_plain(folder.name)}-{fingerprint(folder)}"


def fingerprint(folder: Path) -> str:
    """Eight hex digits that change with the files of a model.

    Large files are read in 64 places and not as a whole, so that the engine starts at once.
    """
    digest = hashlib.sha256()
    for path in _files(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _SAMPLES * _SAMPLE:
                digest.update(file.read())
                continue
            for place in range(_SAMPLES):
                file.seek(place * (size - _SAMPLE) // (_SAMPLES - 1))
                digest.update(file.read(_SAMPLE))
    return digest.hexdigest()[:8]


def _files(folder: Path) -> list[Path]:
    """The files of a model; a folder of a hub also holds pictures, notes and weights in other forms."""
    kinds = (".json", ".txt", ".onnx", ".onnx_data", ".bin")
    return sorted(path for path in folder.rglob("*") if path.suffix in kinds and path.is_file())


def is_own(model: str) -> bool:
    """Whether a name is that of an engine of this package, with whatever models."""
    return model.startswith(OWN_PREFIX)


def _clip_folder(text: str) -> Path:
    from tl_data.local.clip_files import layout

    folder = _folder(text, "TL_LOCAL_CLIP")
    layout(folder)
    for module in ("onnxruntime", "tokenizers"):
        _needs(module, "TL_LOCAL_CLIP", "local-clip")
    return folder


def _whisper_folder(text: str) -> Path:
    folder = _folder(text, "TL_LOCAL_WHISPER")
    for names in WHISPER_FILES:
        if not any((folder / name).is_file() for name in names):
            raise SettingsError(
                f"TL_LOCAL_WHISPER names {text}, where {' or '.join(names)} is missing: it must be a model "
                "for faster-whisper, as made by: ct2-transformers-converter --model openai/whisper-small "
                "--copy_files tokenizer.json preprocessor_config.json --output_dir FOLDER"
            )
    _needs("faster_whisper", "TL_LOCAL_WHISPER", "local-whisper")
    return folder


def _folder(text: str, setting: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{setting} names {text}, which is not a folder")
    return folder


def _needs(module: str, setting: str, extra: str) -> None:
    if find_spec(module) is None:
        raise SettingsError(
            f'{setting} needs {module}, which is not installed: type pip install "tl_data[{extra}]"'
        )


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9._]+", "-", name).strip("-")[:40] or "model"


def _number(text: str | None, name: str, default: float, low: float, high: float) -> float:
    try:
        value = float(text) if text else default
    except ValueError:
        value = low - 1
    if not low <= value <= high:
        raise SettingsError(f"{name} is {text!r}; it must be a number from {low:g} to {high:g}")
    return value


def _without_secrets(url: str) -> str:
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])
