"""`tl-data models`: what each stage uses, and models from a hub: resumed, checked, tested, refused."""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hub_server import HubServer, Repository
from tests.support.tiny_clip import make_clip
from tl_data.errors import SettingsError
from tl_data.local import weights
from tl_data.local.model_files import MANIFEST
from tl_data.local.model_pull import CAPTIONS, drawn_pictures, parse_source, wanted_files
from tl_data.local.perception.audio import whisper

WHISPER = weights.read(weights.WHISPER_TINY)


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubServer]:
    """A hub with a Whisper model, an encoder that passes the self-test, one that fails, and others."""
    folder = tmp_path_factory.mktemp("models")
    words = dict(zip((caption.split()[1] for caption in CAPTIONS), drawn_pictures(), strict=True))
    good, random = make_clip(folder / "good", "onnx folder", pictures=words), make_clip(folder / "random")
    backwards = make_clip(
        folder / "backwards", pictures=dict(zip(words, reversed(list(words.values())), strict=True))
    )
    broken = Repository.of(random)
    broken.files = {**broken.files, "vision_model.onnx": b"\x08\x09 no model"}
    models = {
        "speech/tiny": Repository({**WHISPER, "README.md": b"# Whisper", "pytorch_model.bin": bytes(99)}),
        "pictures/good": Repository.of(good),
        "pictures/backwards": Repository.of(backwards),
        "pictures/broken": broken,
        "texts/bert": Repository({"config.json": b"{}", "model.safetensors": b"x"}),
        "texts/gated": Repository({}, gated=True),
    }
    with HubServer(models) as server:
        yield server


def pull(hub: HubServer, source: str, home: Path, *options: str) -> subprocess.CompletedProcess[str]:
    """`tl-data models pull`, without the rest of the command line."""
    command = [sys.executable, "-m", "tl_data.local.model_pull", source, "--models", str(home / "models")]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(home / "hub")}
    environment.pop("HF_HUB_OFFLINE", None)
    return subprocess.run([*command, *options], env=environment, check=False, capture_output=True, text=True)


def test_an_interrupted_whisper_model_is_resumed_tested_and_listed(hub: HubServer, tmp_path: Path) -> None:
    hub.cut_at = 25 << 20  # the client writes blocks of 10 MiB
    first = pull(hub, "speech/tiny@main", tmp_path)
    assert (first.returncode, first.stdout) == (1, "")
    assert "continues" in first.stderr
    assert not list((tmp_path / "models").glob(f"*/{MANIFEST}"))
    hub.cut_at, seen = None, len(hub.requests)

    command = [sys.executable, "-m", "tl_data", "models", "pull", "speech/tiny"]
    environment = {
        **os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "hub"), "TL_HOME": str(tmp_path),
    }  # fmt: skip
    environment.pop("HF_HUB_OFFLINE", None)
    second = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert second.returncode == 0, second.stderr
    hub.requests = hub.requests[seen:]
    [start] = hub.starts("model.bin")
    assert 10 << 20 <= start <= 25 << 20
    assert not hub.starts("pytorch_model.bin")
    setting, _, folder = second.stdout.strip().removeprefix("export ").partition("=")
    assert setting == "TL_LOCAL_WHISPER"
    assert {path.name for path in Path(folder).iterdir()} == {*WHISPER, MANIFEST}
    assert whisper.load(Path(folder)).model.is_multilingual is False
    whisper.load.cache_clear()

    listing = subprocess.run(
        [sys.executable, "-m", "tl_data", "models", "list", "--json"],
        env=environment | {setting: folder}, check=True, capture_output=True, text=True,
    )  # fmt: skip
    rows = json.loads(listing.stdout)
    pulled = {row["file"]: row for row in rows if row["model"] == "speech/tiny"}
    expected = {weight.name: weight.sha256 for weight in weights.WHISPER_TINY.files}
    assert {name: row["sha256"] for name, row in pulled.items()} == expected
    assert {(row["state"], row["stage"], row["licence"]) for row in pulled.values()} == {
        ("used", "speech", "mit")
    }
    assert {row["state"] for row in rows if row["model"] == "whisper-base"} == {"not used"}
    assert {row["state"] for row in rows if row["model"] == "ssd-mobilenet-v2"} == {"used"}


def test_an_encoder_passes_or_fails_its_test(hub: HubServer, tmp_path: Path) -> None:
    good = pull(hub, "pictures/good", tmp_path)
    assert good.returncode == 0, good.stderr
    folder = Path(good.stdout.strip().removeprefix("export TL_LOCAL_CLIP="))
    assert (folder / "onnx" / "vision_model.onnx").is_file()
    asked = len(hub.requests)
    assert pull(hub, "pictures/good", tmp_path).stdout == good.stdout
    assert len(hub.requests) == asked + 1  # the commit; nothing is fetched again
    backwards = pull(hub, "pictures/backwards", tmp_path)
    assert (backwards.returncode, backwards.stdout) == (1, "")
    assert CAPTIONS[0] in backwards.stderr
    broken = pull(hub, "pictures/broken", tmp_path)
    assert broken.returncode == 1
    assert "vision_model.onnx" in broken.stderr
    assert [path.name.partition("-")[0] for path in (tmp_path / "models").glob("*--*")] == ["pictures"]


def test_a_file_that_differs_from_its_checksum_is_removed(hub: HubServer, tmp_path: Path) -> None:
    hub.altered = "onnx/text_model.onnx"
    first = pull(hub, "pictures/good", tmp_path)
    hub.altered = ""
    assert first.returncode == 1
    assert "text_model.onnx" in first.stderr
    assert not list((tmp_path / "models").rglob("text_model.onnx"))
    assert pull(hub, "pictures/good", tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("source", "word"),
    [
        ("texts/bert", "model.safetensors"),
        ("texts/none", "private"),
        ("texts/gated", "HF_TOKEN"),
        ("pictures/good@v9", "v9"),
    ],
)
def test_what_cannot_be_fetched_says_why(hub: HubServer, tmp_path: Path, source: str, word: str) -> None:
    refused = pull(hub, source, tmp_path)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert word in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_dry_run_fetches_nothing(hub: HubServer, tmp_path: Path) -> None:
    seen = len(hub.requests)
    planned = pull(hub, "speech/tiny", tmp_path, "--dry-run")
    assert planned.returncode == 0
    assert {request.path.split("/")[1] for request in hub.requests[seen:]} == {"api"}
    assert f"{len(WHISPER['model.bin']):,}" in planned.stderr
    assert not (tmp_path / "models").exists()


@pytest.mark.parametrize("omitted", ["size", "blobId"])
def test_a_file_that_could_not_be_checked_is_not_fetched(
    hub: HubServer, tmp_path: Path, omitted: str
) -> None:
    hub.omitted, seen = (omitted,), len(hub.requests)
    refused = pull(hub, "speech/tiny", tmp_path)
    hub.omitted = ()
    assert (refused.returncode, refused.stdout) == (1, "")
    assert {"size": "no size", "blobId": "no checksum"}[omitted] in refused.stderr
    assert {request.path.split("/")[1] for request in hub.requests[seen:]} == {"api"}


def test_a_folder_in_the_way_and_another_process_are_explained(hub: HubServer, tmp_path: Path) -> None:
    models = tmp_path / "models"
    folder = f"speech--tiny-{hub.repositories['speech/tiny'].commit[:8]}"
    (models / folder).mkdir(parents=True)
    (models / folder / "rest.bin").touch()
    seen = len(hub.requests)
    blocked = pull(hub, "speech/tiny", tmp_path)
    assert (blocked.returncode, blocked.stdout) == (1, "")
    assert folder in blocked.stderr
    with (models / ".partial" / f"{folder}.lock").open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        second = pull(hub, "speech/tiny", tmp_path)
    assert (second.returncode, second.stdout) == (1, "")
    assert "another process" in second.stderr
    (tmp_path / "file" / "models").parent.mkdir()
    (tmp_path / "file" / "models").touch()
    no_folder = pull(hub, "speech/tiny", tmp_path / "file")
    assert (no_folder.returncode, no_folder.stdout) == (1, "")
    assert not any("Traceback" in result.stderr for result in (blocked, second, no_folder))
    assert {request.path.split("/")[1] for request in hub.requests[seen:]} == {"api"}


def test_names_and_repositories() -> None:
    assert parse_source("whisper-small") == ("Systran/faster-whisper-small", None)
    assert parse_source("a/b@v1") == ("a/b", "v1")
    for source in ("bert", "a/b/c", "/b", "a/"):
        with pytest.raises(SettingsError):
            parse_source(source)


def test_the_best_variant_of_an_encoder_is_fetched() -> None:
    base = {"config.json", "preprocessor_config.json", "tokenizer.json"}
    both = {f"onnx/{half}_model{v}.onnx" for half in ("vision", "text") for v in ("", "_quantized")}
    assert wanted_files(base | both) == (
        "clip", [*sorted(base), "onnx/vision_model.onnx", "onnx/text_model.onnx"],
    )  # fmt: skip
    single = {"model_quantized.onnx", "model_quantized.onnx_data"}
    assert wanted_files(base | single) == ("clip", [*sorted(base), *sorted(single)])
    assert wanted_files(base | {"onnx/vision_model.onnx"}) is None
