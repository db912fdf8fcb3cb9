"""Lists the files of the models: `python -m tl_data.local.model_files` prints them as a JSON array.

Each row is one file, with its stage, size, licence and SHA-256. Files in packages with a required version are
checked against the declared SHA-256. For other files, the SHA-256 is computed.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from tl_data.errors import SettingsError
from tl_data.local import weights
from tl_data.local.models import Tiers, model_paths, read_tiers

#: A file in the folder of a model that `model_pull` fetched: repository, commit and licence.
MANIFEST = "tl-model.json"
USED, UNUSED = "used", "not used"

Row = dict[str, Any]

#: Package, folder inside it, suffix of its files, stage, name, licence, purpose.
_UNPINNED_PACKAGES = (
    ("rapidocr", "models", ".onnx", "text on screen", "PP-OCR", "Apache-2.0", "reads text in pictures"),
    (
        "wordllama", "weights", ".safetensors", "words", "l2_supercat_256", "MIT",
        "compares the meanings of words",
    ),
)  # fmt: skip


def rows(tiers: Tiers, pulled: Path | None = None) -> list[Row]:
    """One row per file: stage, model, state, size_bytes, licence, source, file, sha256, purpose.

    Args:
        pulled: the folder of the models that `model_pull` fetched.
    """
    listed = [row for model in weights.MODELS for row in _packaged(model, tiers)]
    listed += [row for package in _UNPINNED_PACKAGES for row in _unpinned(*package)]
    configured = {tiers.clip: "vision", tiers.whisper: "speech"}
    folders = {folder: stage for folder, stage in configured.items() if folder is not None}
    if pulled is not None and pulled.is_dir():
        for manifest in sorted(pulled.glob(f"*/{MANIFEST}")):
            folders.setdefault(manifest.parent.resolve(), "")
    for folder, stage in folders.items():
        listed += _folder(folder, stage)
    return listed


def _packaged(model: weights.Model, tiers: Tiers) -> Iterator[Row]:
    """The files of a model in a package with a required version."""
    problem = weights.problem(model, tiers.objects, whole=True)
    is_speech = model.stage == "hear"
    if is_speech and model is not weights.VOICE:
        used = tiers.speech_model == model.name
    else:
        used = model is not weights.DETECTOR or tiers.detector
    for weight in model.files:
        folder = weights.folder_of(weight, tiers.objects)
        yield {
            "stage": "speech" if is_speech else "objects",
            "model": model.name,
            "state": problem or (USED if used else UNUSED),
            "size_bytes": weight.size or _size(folder / weight.name if folder else None),
            "licence": model.licence,
            "source": f"{weight.package}=={weight.version}" if weight.package else "tl_data",
            "file": weight.name,
            "sha256": weight.sha256,
            "purpose": model.does,
        }


def _unpinned(
    package: str, folder: str, suffix: str, stage: str, name: str, licence: str, purpose: str
) -> Iterator[Row]:
    """The files of a package without a required version; one row without a file if it is not installed."""
    row = {"stage": stage, "model": name, "licence": licence, "purpose": purpose}
    spec = find_spec(package)
    locations = list(spec.submodule_search_locations or ()) if spec else []
    try:
        source = f"{package}=={version(package)}"
    except PackageNotFoundError:
        source = package
    paths = sorted((Path(locations[0]) / folder).glob(f"*{suffix}")) if locations else []
    for path in paths:
        yield row | {"state": USED, "source": source} | _facts(path)
    if not paths:
        problem = f'{package} is not installed. Type: pip install "tl_data[local]"'
        yield row | {"state": problem, "source": source, "size_bytes": None, "file": None, "sha256": None}


def _folder(folder: Path, stage: str) -> Iterator[Row]:
    """The files of a model in a folder. `stage` is "" if no setting names the folder."""
    manifest: Row = {}
    if (folder / MANIFEST).is_file():
        manifest = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))
    setting = f"; set {manifest['setting']}={folder}" if "setting" in manifest else ""
    for path in model_paths(folder):
        if path.name == MANIFEST:
            continue
        yield {
            "stage": stage or manifest.get("stage"),
            "model": manifest.get("repo") or folder.name,
            "state": USED if stage else f"{UNUSED}{setting}",
            "licence": manifest.get("licence"),
            "source": f"{manifest['repo']}@{manifest['commit']}" if manifest else str(folder),
            "purpose": {"vision": "compares pictures and texts", "speech": "transcribes speech"}.get(
                stage or str(manifest.get("stage"))
            ),
        } | _facts(path, folder)


def _facts(path: Path, folder: Path | None = None) -> Row:
    """The columns about the content of a file."""
    name = str(path.relative_to(folder)) if folder else path.name
    return {"size_bytes": _size(path), "file": name, "sha256": weights.digest(path)}


def _size(path: Path | None) -> int | None:
    return path.stat().st_size if path is not None and path.is_file() else None


def main(arguments: list[str] | None = None) -> int:
    """Print the rows; returns 0, or 2 if the settings are wrong."""
    parser = argparse.ArgumentParser(prog="python -m tl_data.local.model_files", description=__doc__)
    parser.add_argument("--models", type=Path, help="folder of the models that model_pull fetched")
    options = parser.parse_args(arguments)
    try:
        listed = rows(read_tiers(), options.models)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sys.stdout.write(json.dumps(listed) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
