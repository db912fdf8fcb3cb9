"""`tl-data models`: the model files of the embedded engine, and models from a hub.

The engine is a separate program in the same package, so its modules are started, not imported.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import click
import orjson
import pyarrow as pa

from tl_data.cli.output import echo, output_options, show
from tl_data.client.local_server import engine_environment
from tl_data.errors import SettingsError
from tl_data.settings import Settings

SCHEMA = pa.schema(
    [
        ("stage", pa.string()),
        ("model", pa.string()),
        ("state", pa.string()),
        ("size_bytes", pa.int64()),
        ("licence", pa.string()),
        ("source", pa.string()),
        ("file", pa.string()),
        ("sha256", pa.string()),
        ("purpose", pa.string()),
    ]
)


@click.group()
def models() -> None:
    """List the model files of the embedded engine, or fetch a model from a hub."""


def _list(to: str, file: str | None) -> None:
    """List the files of each stage: size, licence, source, and SHA-256.

    A state that does not begin with `used` or `not used` is a problem, with the command that solves it.
    Pulled models are listed too.
    """
    settings = Settings.load()
    command = [sys.executable, "-m", "tl_data.local.model_files", "--models", str(_folder(settings))]
    finished = subprocess.run(
        command,
        env=engine_environment(settings.tiers),
        check=False,
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise SettingsError(finished.stderr.strip().rpartition("\n")[2] or "the models are unknown")
    rows = orjson.loads(finished.stdout)
    if to == "table":
        for line in _lines(rows):
            echo(line)
    else:
        show(pa.Table.from_pylist(rows, SCHEMA), to, file)


def _lines(rows: list[dict[str, Any]]) -> Iterator[str]:
    """The rows as text: a paragraph for each model with a line for each file."""
    for (stage, model), files in groupby(rows, lambda row: (row["stage"], row["model"])):
        group = list(files)
        megabytes = sum(row["size_bytes"] or 0 for row in group) / 1e6
        yield f"{stage}: {model}, {megabytes:.1f} MB: {group[0]['purpose']}"
        yield f"  {group[0]['state']}"
        sources = " ".join(dict.fromkeys(row["source"] for row in group))
        yield f"  {sources}, licence: {group[0]['licence']}"
        yield from (f"  {row['sha256']}  {row['file']}" for row in group if row["file"])


models.add_command(
    output_options(
        click.Command("list", callback=_list, help=_list.__doc__, short_help="List the model files.")
    )
)


@models.command()
@click.argument("source", metavar="NAME|OWNER/NAME[@REVISION]")
@click.option("--dry-run", is_flag=True, help="print what would be fetched, and fetch nothing")
def pull(source: str, dry_run: bool) -> None:
    """Fetch an image-text encoder (ONNX) or a Whisper model (CTranslate2) from a hub.

    Names: clip, siglip, whisper-base, whisper-small, whisper-medium, whisper-large-v3. The hub is that of
    HF_ENDPOINT, else huggingface.co; HF_TOKEN is its key, for gated models. An interrupted download
    continues. The model must have the checksums that the hub declares and pass a self-test: an encoder must
    match two drawn pictures with their captions, a Whisper model must transcribe a spoken sentence. The
    command prints the setting that selects the model.
    """
    settings = Settings.load()
    command = [sys.executable, "-m", "tl_data.local.model_pull", source, "--models", str(_folder(settings))]
    if dry_run:
        command.append("--dry-run")
    sys.exit(subprocess.run(command, env=engine_environment(settings.tiers), check=False).returncode)


def _folder(settings: Settings) -> Path:
    """The folder of the pulled models."""
    return Path(settings.home).resolve() / "models"
