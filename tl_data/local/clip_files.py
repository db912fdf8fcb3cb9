"""The files of an image-text encoder in a folder: found and checked by name, before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tl_data.errors import SettingsError

VARIANTS = ("", "_fp16", "_quantized", "_int8", "_uint8")  # of the weights, by what their files are called
NEEDED = ("config.json", "preprocessor_config.json", "tokenizer.json")


@dataclass(frozen=True)
class Layout:
    """The files of an encoder: two models, or the same one twice."""

    vision: Path
    text: Path


def layout(folder: Path) -> Layout:
    """Find the files of an encoder.

    Raises:
        SettingsError: one is missing; says which and how to make them.
    """
    export = (
        "as made by: optimum-cli export onnx --model openai/clip-vit-base-patch32 --task "
        "zero-shot-image-classification FOLDER"
    )
    for name in NEEDED:
        if not (folder / name).is_file():
            raise SettingsError(f"TL_LOCAL_CLIP names {folder}, where {name} is missing: it must be {export}")
    for place in (folder, folder / "onnx"):
        for variant in VARIANTS:
            both = [place / f"{name}_model{variant}.onnx" for name in ("vision", "text")]
            if all(path.is_file() for path in both):
                return Layout(*both)
            if (one := place / f"model{variant}.onnx").is_file():
                return Layout(one, one)
    raise SettingsError(
        f"TL_LOCAL_CLIP names {folder}, where neither vision_model.onnx and text_model.onnx nor model.onnx "
        f"is to be found: it must be {export}"
    )
