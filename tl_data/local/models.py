"""Models: the model of each stage of the engine, and the model names of the API that the engine accepts.

The stages `objects` and `speech` use weights from packages (weights.py). Three stages accept a larger model:
`vision` (an image-text encoder from a folder), `speech` (a Whisper model from a folder) and `text` (a
vision-language model behind an OpenAI-compatible URL).

The engine's model name identifies everything on which vectors and words depend, so that vectors of different
models are never mixed. `tl-local-2` is the engine with all of its built-in models. Differences are appended.

An index keeps the model names with which it was created. They determine the requests that it accepts, and the
name of the visual option of its vectors.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tl_data.errors import SettingsError
from tl_data.local import weights
from tl_data.local.errors import EngineError, invalid, not_provided, one_of
from tl_data.local.profiles import LENIENT, Profile

OWN = "tl-local-2"  # the engine with all of its built-in models and no others
OWN_PREFIX = "tl-local-"

FRAMES, MOST_FRAMES = 16, 64  # number of frames of a video sent to a text endpoint: default and maximum
TIMEOUT = 300.0  # seconds for a response of a text endpoint

#: Files of a Whisper model in CTranslate2 format; one of each group must exist.
WHISPER_FILES = (("model.bin",), ("config.json",), ("tokenizer.json",), ("vocabulary.json", "vocabulary.txt"))
_BLOCKS, _BLOCK_BYTES = 64, 4096  # blocks of a large file that `fingerprint` reads, and bytes per block


@dataclass(frozen=True)
class Endpoint:
    """An OpenAI-compatible server with a vision-language model."""

    url: str  # base URL, such as http://127.0.0.1:11434/v1
    model: str
    key: str | None = field(default=None, repr=False)
    timeout: float = TIMEOUT  # seconds for one response
    frames: int = FRAMES  # largest number of frames of a video per request


@dataclass(frozen=True)
class Tiers:
    """The configured models of the stages; None selects the built-in one."""

    clip: Path | None = None  # folder of an image-text encoder in ONNX
    whisper: Path | None = None  # folder of a Whisper model for CTranslate2
    llm: Endpoint | None = None
    objects: Path | None = None  # folder with the weights of the object models; None reads their package
    detector: bool = True  # whether objects are located and people counted

    @property
    def object_models(self) -> str:
        """The name of the object models: "see", "see-small" without the detector, "" if they are missing."""
        return "" if self.missing_object_models else "see" if self.detector else "see-small"

    @property
    def missing_object_models(self) -> str:
        """Why objects and people are not recognised, and the command that helps; "" if they are."""
        needed = [weights.CLASSIFIER, weights.POSE, weights.FACES, *[weights.DETECTOR] * self.detector]
        return next(filter(None, (weights.problem(model, self.objects) for model in needed)), "")

    @property
    def missing_speech_model(self) -> str:
        """Why speech is not transcribed, and the command that helps; "" if it is."""
        if problem := weights.problem(weights.VOICE):
            return problem
        if self.whisper or not weights.problem(weights.WHISPER_TINY):
            return ""
        return weights.problem(weights.WHISPER_BASE)

    @property
    def encoder(self) -> str:
        """The name of the image encoder; "" for none."""
        return f"clip-{name_with_fingerprint(self.clip)}" if self.clip else ""

    @property
    def speech_model(self) -> str:
        """The name of the speech model; "" for none."""
        if self.missing_speech_model:
            return ""
        if self.whisper:
            return f"whisper-{name_with_fingerprint(self.whisper)}"
        no_base = weights.problem(weights.WHISPER_BASE)
        return weights.WHISPER_TINY.name if no_base else weights.WHISPER_BASE.name

    @property
    def megabytes(self) -> int:
        """Additional memory of a worker for the configured models, in MB: twice the size of their files."""
        folders = [folder for folder in (self.clip, self.whisper) if folder]
        return sum(path.stat().st_size for folder in folders for path in model_paths(folder)) * 2 >> 20

    @property
    def search_model(self) -> str:
        """The name of the models behind words and vectors. Vectors of different names are not comparable."""
        return model_name(self.encoder, self.object_models, self.speech_model)

    @property
    def analyze_model(self) -> str:
        """The name of the model that writes texts."""
        if self.llm is None:
            return self.search_model
        parts = (
            (self.object_models or "no-see", "see"),
            (self.speech_model or "no-hear", weights.WHISPER_BASE.name),
        )
        return "-".join(
            (OWN, f"llm-{_slug(self.llm.model)}", *(name for name, default in parts if name != default))
        )

    def settings(self) -> dict[str, str | None]:
        """The settings that select the models, without the key of the text endpoint."""
        return {
            "clip": str(self.clip) if self.clip else None,
            "whisper": str(self.whisper) if self.whisper else None,
            "llm_url": self.llm.url if self.llm else None,
            "llm_model": self.llm.model if self.llm else None,
            "objects": str(self.objects) if self.objects else None,
            "detector": None if self.detector else "off",
        }

    def stages(self) -> list[dict[str, str | None]]:
        """The tier, the model and its location for each stage."""
        clip, whisper, llm = self.clip, self.whisper, self.llm
        objects_problem, speech_problem = self.missing_object_models, self.missing_speech_model
        object_models = "efficientnet-lite3, movenet, blazeface" + (
            ", ssd-mobilenet-v2" if self.detector else ""
        )
        return [
            {
                "stage": "vision",
                "tier": "local-clip" if clip else "built in",
                "model": self.encoder or "colours, motion, light, text on screen",
                "where": str(clip) if clip else None,
            },
            {
                "stage": "speech",
                "tier": "off" if speech_problem else "local-whisper" if whisper else "built in",
                "model": speech_problem or self.speech_model,
                "where": str(whisper) if whisper else None,
            },
            {
                "stage": "text",
                "tier": "endpoint" if llm else "built in",
                "model": llm.model if llm else "sentences from evidence",
                "where": llm.url if llm else None,
            },
            {
                "stage": "objects",
                "tier": "off" if objects_problem else "built in",
                "model": objects_problem or object_models,
                "where": str(self.objects) if self.objects else None,
            },
        ]


def read_tiers(
    clip: str | None = None,
    whisper: str | None = None,
    llm_url: str | None = None,
    llm_model: str | None = None,
    environment: Mapping[str, str] = os.environ,
) -> Tiers:
    """Validate the settings of the models. An argument that is None is read from the environment.

    The variables are TL_LOCAL_CLIP, TL_LOCAL_WHISPER and so on. No model is loaded, so an unusable file fails
    at its first use.

    Raises:
        SettingsError: a folder, file, package or name is missing. The message has the command that helps.
    """
    read = environment.get
    clip, whisper = clip or read("TL_LOCAL_CLIP"), whisper or read("TL_LOCAL_WHISPER")
    url, model = llm_url or read("TL_LOCAL_LLM_URL"), llm_model or read("TL_LOCAL_LLM_MODEL")
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
            read("TL_LOCAL_LLM_KEY") or None,
            _number(read("TL_LOCAL_LLM_TIMEOUT"), "TL_LOCAL_LLM_TIMEOUT", TIMEOUT, 1, 86400),
            int(_number(read("TL_LOCAL_LLM_FRAMES"), "TL_LOCAL_LLM_FRAMES", FRAMES, 0, MOST_FRAMES)),
        )
    detector = (read("TL_LOCAL_DETECTOR") or "on").lower()
    if detector not in ("on", "off"):
        raise SettingsError(f"TL_LOCAL_DETECTOR is {detector!r}; it must be on or off")
    objects = read(weights.OBJECTS_FOLDER)
    return Tiers(
        _clip_folder(clip) if clip else None,
        _whisper_folder(whisper) if whisper else None,
        llm,
        _folder(objects, weights.OBJECTS_FOLDER) if objects else None,
        detector == "on",
    )


def model_name(encoder: str, object_models: str, speech_model: str) -> str:
    """The name of the models behind words and vectors: `OWN` and each difference from the built-in models.

    Args:
        encoder: name of the image-text encoder, "" for none.
        object_models: name of the object models; "" if objects were not recognised.
        speech_model: name of the Whisper model; "" if speech was not transcribed.
    """
    parts = [OWN, encoder]
    parts += [] if object_models == "see" else [object_models or "no-see"]
    parts += [] if speech_model == weights.WHISPER_BASE.name else [speech_model or "no-hear"]
    return "-".join(filter(None, parts))


def endpoint_url(url: str) -> str:
    """The base URL of an OpenAI-compatible server. Appends a missing `/v1`, and cuts `/chat/completions`.

    Raises:
        SettingsError: the URL is not http(s), or contains credentials or a query.
    """
    url = url.strip().rstrip("/").removesuffix("/chat/completions")
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SettingsError(
            f"TL_LOCAL_LLM_URL is {_without_secrets(url)!r}; it must be like http://127.0.0.1:11434/v1"
        )
    if parts.username or parts.password or parts.query:
        raise SettingsError("TL_LOCAL_LLM_URL must not contain a key; set TL_LOCAL_LLM_KEY")
    return url if parts.path else f"{url}/v1"


@lru_cache(maxsize=8)
def name_with_fingerprint(folder: Path) -> str:
    """The name of a folder and the fingerprint of its files: `siglip-base-1a2b3c4d`."""
    return f"{_slug(folder.name)}-{fingerprint(folder)}"


def fingerprint(folder: Path) -> str:
    """Eight hex digits that identify the files of a model.

    Only 64 blocks of a large file are read, so that the engine starts fast.
    """
    digest = hashlib.sha256()
    for path in model_paths(folder):
        size = path.stat().st_size
        digest.update(f"{path.relative_to(folder)} {size}\n".encode())
        with path.open("rb") as file:
            if size <= _BLOCKS * _BLOCK_BYTES:
                digest.update(file.read())
                continue
            for block in range(_BLOCKS):
                file.seek(block * (size - _BLOCK_BYTES) // (_BLOCKS - 1))
                digest.update(file.read(_BLOCK_BYTES))
    return digest.hexdigest()[:8]


def model_paths(folder: Path) -> list[Path]:
    """The files of a model, without the images, notes and other formats that a downloaded folder contains."""
    suffixes = (".json", ".txt", ".onnx", ".onnx_data", ".bin")
    return sorted(path for path in folder.rglob("*") if path.suffix in suffixes and path.is_file())


def is_own(model: str) -> bool:
    """Whether a name is that of the embedded engine, with any of its models."""
    return model.startswith(OWN_PREFIX)


def _clip_folder(text: str) -> Path:
    """Validate the setting TL_LOCAL_CLIP."""
    folder = _folder(text, "TL_LOCAL_CLIP")
    layout(folder)
    for module in ("onnxruntime", "tokenizers"):
        _require(module, "TL_LOCAL_CLIP", "local-clip")
    return folder


def _whisper_folder(text: str) -> Path:
    """Validate the setting TL_LOCAL_WHISPER."""
    folder = _folder(text, "TL_LOCAL_WHISPER")
    for names in WHISPER_FILES:
        if not any((folder / name).is_file() for name in names):
            raise SettingsError(
                f"TL_LOCAL_WHISPER names {text}, where {' or '.join(names)} is missing: it must be a model "
                "for faster-whisper, as made by: ct2-transformers-converter --model openai/whisper-small "
                "--copy_files tokenizer.json preprocessor_config.json --output_dir FOLDER"
            )
    _require("faster_whisper", "TL_LOCAL_WHISPER", "local-whisper")
    return folder


def _folder(text: str, setting: str) -> Path:
    folder = Path(text).expanduser().resolve()
    if not folder.is_dir():
        raise SettingsError(f"{setting} names {text}, which is not a folder")
    return folder


def _require(module: str, setting: str, extra: str) -> None:
    if find_spec(module) is None:
        raise SettingsError(
            f'{setting} needs {module}, which is not installed: run pip install "tl_data[{extra}]"'
        )


def _slug(name: str) -> str:
    """A name with only letters, digits, dots, underscores and dashes, of at most 40 characters."""
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
    """A URL without credentials and query."""
    return re.sub(r"//[^/@]*@", "//", url.partition("?")[0])


@dataclass(frozen=True)
class TextModel:
    """The limits of a model that writes texts. Times are in seconds."""

    max_tokens: tuple[int, int] = (512, 98_304)  # smallest and largest allowed value of max_tokens
    segment_tokens: tuple[int, int] = (2_048, 98_304)  # the same for an analysis by segments
    default_tokens: int = 4_096
    default_segment_tokens: int = 32_768  # for an analysis by segments
    unlimited: bool = False  # supports unlimited tokens for segments, time_array fields, and images
    shortest: float = 1.0  # shortest video or window
    longest_sync: float = 3_600.0  # longest video of a synchronous request
    longest_task: float = 7_200.0  # longest video of a task, or longest window of a longer video
    longest_file: float = 14_400.0  # longest video of which a task analyzes a window
    prompt_tokens: int | None = None  # longest prompt; None sets no limit


TEXT_MODELS = {
    "pegasus1.2": TextModel(
        max_tokens=(2, 4_096), shortest=4.0, longest_task=3_600.0, longest_file=3_600.0, prompt_tokens=2_000
    ),
    "pegasus1": TextModel(max_tokens=(2, 4_096), shortest=4.0, prompt_tokens=2_000),
    "pegasus1.5": TextModel(),
    "pegasus1.6": TextModel(unlimited=True),
}
#: Limits of the engine's own model and of unknown models. They allow what any model of the service allows.
OWN_TEXT_MODEL = TextModel(
    max_tokens=(2, 98_304),
    unlimited=True,
    longest_sync=14_400.0,
    longest_task=14_400.0,
    prompt_tokens=2_000,
)


#: Model -> longest video in seconds that the service indexes or embeds.
LONGEST = {"marengo3.0": 14_400.0, "marengo3.5": 14_400.0, "marengo2.7": 7_200.0, "pegasus1.2": 3_600.0}
OWN_LONGEST = 7_200.0  # the same for the engine's own models, and for all models in the lenient profile


def longest_video(model_names: Sequence[str], profile: Profile) -> float:
    """The longest video in seconds that all of these models accept."""
    if not profile.strict:
        return OWN_LONGEST
    return min(
        LONGEST.get(name.replace("Marengo-retrieval-", "marengo"), OWN_LONGEST) for name in model_names
    )


def text_model(name: str) -> TextModel:
    """The limits of a model that writes texts."""
    return TEXT_MODELS.get(name, OWN_TEXT_MODEL)


#: Model names of the API.
MARENGO = ("marengo3.0", "marengo3.5", "marengo2.7", "Marengo-retrieval-2.7")
PEGASUS = ("pegasus1.2", "pegasus1.5", "pegasus1.6", "pegasus1")
OLD_MARENGO = ("marengo2.7", "Marengo-retrieval-2.7")
INDEX_MODELS = ("marengo3.0", "marengo2.7", "pegasus1.2", "pegasus1.5")
EMBED_MODELS = ("marengo3.0", "Marengo-retrieval-2.7", "marengo2.7")
OPTIONS = ("visual", "audio")
OLD_TOKENS, TOKENS = 77, 500  # longest text to embed, for `OLD_MARENGO` and for newer models
#: Each punctuation mark is a token. Words and numbers are one token per eight characters.
_TOKEN = re.compile(r"\w{1,8}|[^\w\s]")


def read_models(value: Any, tiers: Tiers, profile: Profile = LENIENT) -> list[dict[str, Any]]:
    """Validate the parameter `models` of a new index. Returns the models as they are stored.

    Raises:
        EngineError: the models are missing or malformed, or have unknown names or options.
    """
    if value is None:
        raise not_provided("models")
    if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
        raise invalid("models", "It must be an array of objects with model_name and model_options.", value)
    if not 1 <= len(value) <= 2:
        raise invalid("models", f"It must have one or two models, but has {len(value)}.")
    models: list[dict[str, Any]] = []
    engine_models = (tiers.search_model, tiers.analyze_model)
    known = profile.index_models or tuple(dict.fromkeys((*engine_models, *INDEX_MODELS)))
    for item in value:
        name, options = item.get("model_name"), item.get("model_options")
        if not isinstance(name, str) or not name:
            raise not_provided("model_name") if name is None else one_of("model_name", known, name)
        if name not in known:
            raise _no_index_model(name, known)
        if options is None:
            raise not_provided("model_options")
        if not isinstance(options, list) or not options or any(option not in OPTIONS for option in options):
            raise one_of("model_options", OPTIONS, options)
        if any(name == model["model_name"] for model in models):
            raise invalid("models", f"The model {name} is named twice.")
        models.append({"model_name": name, "model_options": list(dict.fromkeys(options))})
    return models


def _no_index_model(name: str, known: tuple[str, ...]) -> EngineError:
    """400 for a model that indexes do not accept. If it was withdrawn, the message says what replaces it."""
    if name == "pegasus1.2":
        return invalid("model_name", f"pegasus1.2 has been sunset. Please use {', '.join(known)}.")
    if name in PEGASUS:
        text = (
            f"{name} analyzes video directly on POST /analyze and needs no index; for search indexing, use "
            f"{', '.join(known)}."
        )
        return invalid("model_name", text)
    if name in MARENGO:
        return withdrawn_model(name, known)
    return one_of("model_name", known, name)


def withdrawn_model(name: str, known: tuple[str, ...]) -> EngineError:
    """400 for a withdrawn model, with the message of the service."""
    return invalid("model_name", f"{name} is no longer supported. Please use {', '.join(known)} instead.")


def models_in_response(
    models: list[dict[str, Any]], tiers: Tiers, analyzed_by: str | None = None
) -> list[dict[str, Any]]:
    """The models of an index as a response shows them, with requested names and engine models.

    `analyzed_by` is the engine model that analyzed the videos of the index, if it is not the active one.
    """

    def engine_model(name: str) -> str:
        if name in PEGASUS or name == tiers.analyze_model != tiers.search_model:
            return tiers.analyze_model
        return analyzed_by or tiers.search_model

    def name_in_response(name: str) -> str:
        return name if name in MARENGO or name in PEGASUS else engine_model(name)

    return [
        model
        | {
            "model_name": name_in_response(model["model_name"]),
            "requested_as": model["model_name"],
            "engine_model": engine_model(model["model_name"]),
        }
        for model in models
    ]


def search_models(models: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The models for search and vectors: the Marengo family, or the engine's own."""
    return [m for m in models if m["model_name"] in MARENGO or is_own(m["model_name"])]


def has_text_model(models: list[dict[str, Any]]) -> bool:
    """Whether the models include one that writes texts: the Pegasus family, or the engine's own."""
    return any(model["model_name"] in PEGASUS or is_own(model["model_name"]) for model in models)


def search_options(models: list[dict[str, Any]]) -> list[str]:
    """The search options of an index. Since Marengo 3.0, `transcription` is separate from `audio`."""
    options: list[str] = []
    for model in search_models(models):
        options += model["model_options"]
        if "audio" in model["model_options"] and model["model_name"] not in OLD_MARENGO:
            options.append("transcription")
    return list(dict.fromkeys(options))


def embedding_options(models: list[dict[str, Any]]) -> list[str]:
    """The embedding options of an index. Older models call `visual` `visual-text`."""
    has_old_model = any(model["model_name"] in OLD_MARENGO for model in models)
    return [
        "visual-text" if has_old_model and option == "visual" else option for option in search_options(models)
    ]


def current_option(option: str) -> str:
    """Map `visual-text` to `visual`: samples of the API for new models still use the old name."""
    return "visual" if option == "visual-text" else option


def embed_options(name: str) -> tuple[str, ...]:
    """The embedding options of an embedding model."""
    return ("visual-text", "audio") if name in OLD_MARENGO else ("visual", "audio", "transcription")


#: Embedding model -> length of its vectors.
DIMENSIONS = {"marengo3.5": 512, "marengo3.0": 512, "marengo2.7": 1024, "Marengo-retrieval-2.7": 1024}


def response_model_name(name: str, tiers: Tiers) -> str:
    """The model name in a response: the requested one if the API has it, otherwise that of the engine."""
    return name if name in DIMENSIONS or name in PEGASUS else tiers.search_model


def embedding_name(name: str) -> str:
    """The model name beside the vectors of an index. There, `marengo2.7` has another name."""
    return "Marengo-retrieval-2.7" if name == "marengo2.7" else name


def token_limit(name: str) -> int:
    """The longest text in tokens that a model embeds."""
    return OLD_TOKENS if name in OLD_MARENGO else TOKENS


def check_embed_model(name: str, tiers: Tiers, known: tuple[str, ...] = ()) -> str:
    """Validate the name of an embedding model. By default, the engine's own and `EMBED_MODELS` are valid.

    Raises:
        EngineError: the model is unknown or withdrawn.
    """
    known = known or (tiers.search_model, *EMBED_MODELS)
    if name not in known:
        if name in EMBED_MODELS:
            raise withdrawn_model(name, known)
        raise one_of("model_name", known, name)
    return name


def too_long(parameter: str, text: str, limit: int) -> EngineError:
    """400 for a text with too many tokens."""
    explanation = f"The text token length should be less than or equal to {limit}."
    return invalid(parameter, f"{explanation} You sent {count_tokens(text)} tokens.")


def count_tokens(text: str) -> int:
    """The number of tokens of a text."""
    return sum(1 for _ in _TOKEN.finditer(text))


def first_tokens(text: str, limit: int) -> str:
    """The first `limit` tokens of a text."""
    for number, token in enumerate(_TOKEN.finditer(text), 1):
        if number > limit:
            return text[: token.start()].rstrip()
    return text


def last_tokens(text: str, limit: int) -> str:
    """The last `limit` tokens of a text."""
    starts = [token.start() for token in _TOKEN.finditer(text)]
    return text[starts[-limit] :] if len(starts) > limit else text


def token_fragments(text: str, size: int = 4) -> list[str]:
    """Split a text after every `size` tokens, for a streamed response."""
    starts = [token.start() for token in _TOKEN.finditer(text)][::size]
    edges = [0, *starts[1:], len(text)]
    return [text[start:end] for start, end in pairwise(edges) if end > start]


def no_search() -> EngineError:
    """400 for a search in an index without a search model."""
    return EngineError(
        400,
        "index_not_supported_for_search",
        "You can only perform search requests on indexes with an engine from the Marengo family enabled.",
    )


def no_generate() -> EngineError:
    """400 for text generation in an index without a text model."""
    return EngineError(
        400,
        "index_not_supported_for_generate",
        "You can only summarize videos uploaded to an index with an engine from the Pegasus family enabled.",
    )


VARIANTS = ("", "_fp16", "_quantized", "_int8", "_uint8")  # endings of the names of ONNX files, best first
#: Files that every encoder needs beside the ONNX files.
NEEDED = ("config.json", "preprocessor_config.json", "tokenizer.json")


@dataclass(frozen=True)
class Layout:
    """The ONNX files of an image-text encoder. Both fields name the same file if it contains both models."""

    vision: Path
    text: Path


def layout(folder: Path) -> Layout:
    """Find the ONNX files of an encoder in its folder.

    Raises:
        SettingsError: a file is missing. The message contains the command that exports the model.
    """
    export = (
        "as made by: optimum-cli export onnx --model openai/clip-vit-base-patch32 --task "
        "zero-shot-image-classification FOLDER"
    )
    for name in NEEDED:
        if not (folder / name).is_file():
            raise SettingsError(f"TL_LOCAL_CLIP names {folder}, where {name} is missing: it must be {export}")
    for directory in (folder, folder / "onnx"):
        for variant in VARIANTS:
            paths = [directory / f"{name}_model{variant}.onnx" for name in ("vision", "text")]
            if all(path.is_file() for path in paths):
                return Layout(*paths)
            if (single := directory / f"model{variant}.onnx").is_file():
                return Layout(single, single)
    raise SettingsError(
        f"TL_LOCAL_CLIP names {folder}, where neither vision_model.onnx and text_model.onnx nor model.onnx "
        f"exists: it must be {export}"
    )
