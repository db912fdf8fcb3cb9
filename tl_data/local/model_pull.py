"""Fetches a model from a hub: `python -m tl_data.local.model_pull REPO[@REVISION] --models FOLDER`.

A repository must hold an image-text encoder (CLIP, SigLIP) in ONNX, or a Whisper model for CTranslate2.
Only the files that the engine reads are fetched, by huggingface_hub, from HF_ENDPOINT or huggingface.co. An
interrupted download continues. Before the model gets its place in FOLDER, the checksum of every file is
compared with that of the hub, and the model must pass a self-test: an encoder must match two drawn pictures
with their captions, a Whisper model must transcribe a spoken sentence.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tl_data.errors import SettingsError, TLDataError
from tl_data.local.errors import ModelFailed
from tl_data.local.model_files import MANIFEST
from tl_data.local.models import NEEDED, VARIANTS, WHISPER_FILES

Kind = Literal["clip", "whisper"]

#: Short names, and the repositories that they stand for.
NAMES = {
    "clip": "Xenova/clip-vit-base-patch32",
    "siglip": "Xenova/siglip-base-patch16-224",
    "whisper-base": "Systran/faster-whisper-base",
    "whisper-small": "Systran/faster-whisper-small",
    "whisper-medium": "Systran/faster-whisper-medium",
    "whisper-large-v3": "Systran/faster-whisper-large-v3",
}
SETTINGS: dict[Kind, str] = {"clip": "TL_LOCAL_CLIP", "whisper": "TL_LOCAL_WHISPER"}
_OPTIONAL = {"clip": ("tokenizer_config.json",), "whisper": ("preprocessor_config.json",)}
_TIMEOUT = 30.0  # seconds for the description of a repository
_SPARE = 64 << 20  # bytes that must stay free on the disk

SENTENCE = "A small boat carries seven red apples across the quiet river."
#: The sentence, spoken by espeak-ng.
RECORDING = Path(__file__).parent / "perception" / "audio" / "self_test.ogg"
_LEAST_WORDS = 0.5  # share of the words of the sentence that a Whisper model must find
CAPTIONS = ("a red circle", "a blue square")


class PullFailed(TLDataError):
    """A model cannot be fetched. The message says why and what to do."""


@dataclass(frozen=True)
class RemoteFile:
    """A file of a repository."""

    name: str
    size: int
    sha256: str | None  # of large files
    blob: str | None  # Git's SHA-1 of all others


@dataclass(frozen=True)
class RemoteModel:
    """The files of a repository that the engine reads, at one commit."""

    repo: str
    commit: str
    licence: str
    kind: Kind
    files: tuple[RemoteFile, ...]

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def folder(self) -> str:
        """The name of its folder."""
        return f"{self.repo.replace('/', '--')}-{self.commit[:8]}"


def parse_source(source: str) -> tuple[str, str | None]:
    """Split `NAME`, `OWNER/NAME` or `OWNER/NAME@REVISION` into the repository and the revision.

    Raises:
        SettingsError: it is neither a known name nor a repository.
    """
    name, _, revision = source.partition("@")
    repo = NAMES.get(name.lower(), name)
    owner, slash, rest = repo.partition("/")
    if not (owner and slash and rest) or "/" in rest:
        raise SettingsError(f"{name!r} must be OWNER/NAME[@REVISION] or one of {', '.join(NAMES)}")
    return repo, revision or None


def wanted_files(names: set[str]) -> tuple[Kind, list[str]] | None:
    """The kind of model that these files are, and the files that the engine reads; None for another kind."""
    whisper = [next((name for name in group if name in names), "") for group in WHISPER_FILES]
    if all(whisper):
        return "whisper", [*whisper, *(name for name in _OPTIONAL["whisper"] if name in names)]
    if not names.issuperset(NEEDED):
        return None
    for folder in ("", "onnx/"):
        for variant in VARIANTS:
            for stems in (("vision_model", "text_model"), ("model",)):
                models = [f"{folder}{stem}{variant}.onnx" for stem in stems]
                if names.issuperset(models):
                    data = [f"{name}_data" for name in models if f"{name}_data" in names]
                    optional = [name for name in _OPTIONAL["clip"] if name in names]
                    return "clip", [*NEEDED, *optional, *models, *data]
    return None


def find_model(repo: str, revision: str | None) -> RemoteModel:
    """Ask the hub for the files of a repository.

    Raises:
        PullFailed: the hub does not answer, has no such repository or revision, declares no size or checksum
            of a file, or the model is of another kind.
    """
    from huggingface_hub import HfApi

    with _hub_errors(repo, revision):
        info = HfApi().model_info(repo, revision=revision, files_metadata=True, timeout=_TIMEOUT)
    siblings = {sibling.rfilename: sibling for sibling in info.siblings or ()}
    found = wanted_files(set(siblings))
    if found is None or not info.sha:
        raise PullFailed(
            f"{repo} is neither an image-text encoder in ONNX ({', '.join(NEEDED)}, vision_model.onnx and "
            "text_model.onnx or model.onnx) nor a Whisper model for CTranslate2 (model.bin, config.json, "
            f"tokenizer.json, a vocabulary). It has: {', '.join(sorted(siblings)[:12]) or 'no files'}"
        )
    kind, names = found
    files = []
    for name in names:
        sibling = siblings[name]
        sha256, blob = (sibling.lfs.sha256, None) if sibling.lfs else (None, sibling.blob_id)
        if sibling.size is None or not (sha256 or blob):
            missing = "size" if sibling.size is None else "checksum"
            raise PullFailed(
                f"the hub declares no {missing} of {name} in {repo}, so a download could not be checked. "
                "Nothing was fetched"
            )
        files.append(RemoteFile(name, sibling.size, sha256, blob))
    tags = [tag.partition(":")[2] for tag in info.tags or () if tag.startswith("license:")]
    declared = getattr(info.card_data, "license", None) or next(iter(tags), "not declared")
    return RemoteModel(repo, info.sha, str(declared), kind, tuple(files))


def pull(model: RemoteModel, models: Path) -> Path:
    """Fetch, check and test a model. Returns its folder below `models`.

    Raises:
        PullFailed: a file cannot be fetched or written, or differs from that of the hub; or another process
            fetches the same model. What arrived is kept, and the next call continues.
        ModelFailed: the model cannot be loaded, or fails its self-test. Its files are removed.
    """
    target = models / model.folder
    try:
        if not (target / MANIFEST).is_file():
            with _locked(models / ".partial" / f"{model.folder}.lock", model):
                _pull(model, models, target)
    except OSError as error:
        raise PullFailed(
            f"{model.repo} cannot be written to {models}: {error}. Run the command again: it continues"
        ) from error
    return target


@contextmanager
def _locked(path: Path, model: RemoteModel) -> Iterator[None]:
    """Hold the lock of a model's folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise PullFailed(f"another process fetches {model.repo} already: wait until it ends") from None
        yield


def _pull(model: RemoteModel, models: Path, target: Path) -> None:
    """Fetch, check and test a model, then move it to `target`. The caller holds the lock of the folder."""
    if (target / MANIFEST).is_file():  # another process has fetched it since
        return
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        raise PullFailed(f"{target} exists without {MANIFEST}: remove it, then run the command again")
    partial = models / ".partial" / model.folder
    partial.mkdir(parents=True, exist_ok=True)
    arrived = sum(path.stat().st_size for path in partial.rglob("*") if path.is_file())
    needed, free = model.size - arrived + _SPARE, shutil.disk_usage(partial).free
    if needed > free:
        raise PullFailed(f"{model.repo} needs {needed >> 20} MB in {models}, where {free >> 20} MB are free")
    for file in model.files:
        with _hub_errors(model.repo, model.commit):
            _fetch(file, partial, model)
        _check(file, partial, model)
    try:
        test(model.kind, partial)
    except ModelFailed:
        shutil.rmtree(partial)
        raise
    manifest = {
        "repo": model.repo,
        "commit": model.commit,
        "licence": model.licence,
        "stage": "vision" if model.kind == "clip" else "speech",
        "setting": SETTINGS[model.kind],
    }
    (partial / MANIFEST).write_text(json.dumps(manifest, indent=1), encoding="utf-8")
    partial.rename(target)


def _fetch(file: RemoteFile, folder: Path, model: RemoteModel) -> None:
    """Fetch a file, or the part of it that is missing.

    `huggingface_hub.hf_hub_download` is not used, because since its version 2 an interrupted process leaves
    nothing behind that the next one could continue.
    """
    from huggingface_hub import get_token, hf_hub_url
    from huggingface_hub.file_download import http_get

    path = folder / file.name
    if path.is_file():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    incomplete = path.with_name(f"{path.name}.incomplete")
    incomplete.touch()
    with incomplete.open("r+b") as content:
        arrived = content.seek(0, os.SEEK_END)
        if arrived > file.size:
            arrived = content.seek(0)
            content.truncate()
        http_get(
            hf_hub_url(model.repo, file.name, revision=model.commit),
            content,
            resume_size=arrived,
            headers={"Authorization": f"Bearer {token}"} if (token := get_token()) else {},
            expected_size=file.size,
            displayed_filename=file.name,
        )
    incomplete.rename(path)


def _check(file: RemoteFile, folder: Path, model: RemoteModel) -> None:
    """Compare a file with the size and checksum that the hub declares. A file that differs is removed."""
    path = folder / file.name
    if not path.is_file():
        raise PullFailed(f"{file.name} of {model.repo} did not arrive. Run the command again")
    size = path.stat().st_size
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {size}\0".encode())
    with path.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    if size != file.size or digest.hexdigest() != (file.sha256 or file.blob):
        path.unlink()
        raise PullFailed(
            f"{file.name} of {model.repo} differs from the checksum that the hub declares, and was removed. "
            "Run the command again"
        )


def test(kind: Kind, folder: Path) -> None:
    """Load a model and run a small task with it.

    Raises:
        ModelFailed: it cannot be loaded, or fails the task.
    """
    if kind == "clip":
        _test_encoder(folder)
    else:
        _test_whisper(folder)


def drawn_pictures() -> list[Any]:
    """Two RGB pictures of 224x224 pixels, in the order of `CAPTIONS`."""
    import cv2
    import numpy as np

    pictures = [np.full((224, 224, 3), 255, np.uint8) for _ in CAPTIONS]
    cv2.circle(pictures[0], (112, 112), 80, (220, 20, 20), -1, cv2.LINE_AA)
    cv2.rectangle(pictures[1], (32, 32), (192, 192), (20, 40, 220), -1)
    return pictures


def _test_encoder(folder: Path) -> None:
    from tl_data.local.perception.vision.image_encoder import OnnxImageEncoder

    encoder = OnnxImageEncoder(folder, folder.name)
    cosines = encoder.pictures(drawn_pictures()) @ encoder.texts(CAPTIONS).T
    for number, caption in enumerate(CAPTIONS):
        if not cosines[number, number] > cosines[number, 1 - number]:
            raise ModelFailed(
                f"the self-test failed: for a picture of {caption}, the encoder prefers the caption "
                f"{CAPTIONS[1 - number]!r}"
            )


def _test_whisper(folder: Path) -> None:
    import numpy as np

    from tl_data.local.perception import decode
    from tl_data.local.perception.audio import whisper

    wave = np.concatenate(list(decode.sound(RECORDING))).astype(np.float32) / 32768
    try:
        segments, _ = whisper.load(folder).transcribe(wave, language="en", beam_size=1, temperature=0.0)
        text = " ".join(segment.text for segment in segments)
    except (RuntimeError, ValueError) as error:
        raise ModelFailed(f"the Whisper model failed: {error}") from error
    words, found = _words(SENTENCE), set(_words(text))
    share = sum(word in found for word in words) / len(words)
    if share < _LEAST_WORDS:
        raise ModelFailed(
            f"the self-test failed: of the spoken sentence {SENTENCE!r} the model found {share:.0%} of the "
            f"words: {text.strip()[:200]!r}"
        )


def _words(text: str) -> list[str]:
    return [word for word in "".join(c if c.isalnum() else " " for c in text.lower()).split() if word]


@contextmanager
def _hub_errors(repo: str, revision: str | None) -> Iterator[None]:
    """Convert the errors of huggingface_hub."""
    from huggingface_hub import errors

    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    try:
        yield
    except errors.OfflineModeIsEnabled:
        raise PullFailed("HF_HUB_OFFLINE is set, so nothing is fetched. Unset it to pull a model") from None
    except errors.GatedRepoError:
        raise PullFailed(
            f"{repo} is gated: accept its terms on {endpoint}/{repo}, then set HF_TOKEN"
        ) from None
    except errors.RevisionNotFoundError:
        raise PullFailed(f"{repo} has no revision {revision}") from None
    except errors.RepositoryNotFoundError:
        raise PullFailed(f"{endpoint} has no model {repo}, or it is private: set HF_TOKEN") from None
    except errors.HFValidationError as error:
        raise PullFailed(f"{repo} is not a repository: {error}") from None
    except Exception as error:  # the HTTP library, and so the classes of its errors, differ between versions
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise PullFailed(
            f"{repo} could not be fetched from {endpoint}: {reason[0]}. Run the command again: it continues "
            "where it ended"
        ) from error


def main(arguments: list[str] | None = None) -> int:
    """Fetch a model; returns 0, 1 if it failed, or 2 if the command is wrong."""
    parser = argparse.ArgumentParser(prog="tl-data models pull", description=__doc__)
    parser.add_argument("source", metavar="NAME|OWNER/NAME[@REVISION]")
    parser.add_argument("--models", type=Path, required=True, help="folder of the models")
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be fetched, and fetch nothing"
    )
    options = parser.parse_args(arguments)
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    write = sys.stderr.write
    try:
        model = find_model(*parse_source(options.source))
        write(
            f"{model.repo} at {model.commit[:12]}: {len(model.files)} files, {model.size / 1e6:.1f} MB, "
            f"licence {model.licence}\n"
        )
        if options.dry_run:
            for file in model.files:
                write(f"  {file.size:>12,} {file.name}\n")
            return 0
        folder = pull(model, options.models.resolve())
    except SettingsError as error:
        write(f"Error: {error}\n")
        return 2
    except TLDataError as error:
        write(f"Failed: {error}\n")
        return 1
    except ImportError as error:
        write(f'Error: {error.name} is not installed. Type: pip install "tl_data[local,local-clip]"\n')
        return 2
    write("Checksums and self-test passed. To use it, type:\n")
    sys.stdout.write(f"export {SETTINGS[model.kind]}={folder}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
