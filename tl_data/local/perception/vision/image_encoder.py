"""Runs image-text encoders (CLIP, SigLIP) with ONNX Runtime, from a folder in the layout of Optimum.

An encoder scores how well a text describes a picture. Search uses the score in addition to the other evidence
(`search/search.py`). The vectors of clips contain the vectors of the encoder (`search/embeddings.py`).

A folder contains these files:

    config.json  preprocessor_config.json  tokenizer.json
    vision_model.onnx and text_model.onnx, or model.onnx with both halves; in the folder itself or in onnx/

Names of inputs and outputs, sizes, means and lengths are read from the files. Pictures are resized by area
averaging. The models' own scripts use antialiased bicubic interpolation; the difference is smaller than the
artefacts of JPEG.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np
from numpy.typing import NDArray

from tl_data.local.models import Tiers, layout
from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import ModelFailed

Vectors = NDArray[np.float32]
THREADS = 0  # threads of a model; 0: half of the cores

#: Neutral captions. The score of a text depends on how far its cosine is above theirs, because the cosines of
#: unrelated pairs differ between encoders.
NEUTRAL = ("a photo", "a picture", "a video frame", "an image", "something")

#: Cosines this far above the neutral captions give a score of 0 and of `_SCORE_AT_TO`. In published examples
#: of CLIP and SigLIP, a correct caption is about 0.08 above a neutral one; this project has not measured it.
_FROM, _TO, _SCORE_AT_TO = 0.0, 0.08, 0.85
_RANGE_ABOVE = 0.1  # range of the scores of larger cosines, which keeps the order of good captions


class ImageEncoder(Protocol):
    """An image-text encoder. Its methods may raise `ModelFailed`."""

    name: str
    dimension: int

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """Encode RGB pictures as vectors of length 1, one row each."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts as vectors of length 1, one row each."""


def configured_encoder(tiers: Tiers) -> ImageEncoder | None:
    """The configured encoder; None without one. Its weights are loaded at first use."""
    if tiers.clip is None:
        return None
    return load_encoder(tiers.clip, tiers.encoder)


def as_numbers(vector: Vectors) -> tuple[float, ...]:
    """Convert a vector for the evidence. Rounding to five digits changes cosines by less than 0.001."""
    return tuple(round(float(number), 5) for number in vector)


def caption_scores(cosines: Vectors, neutral: Vectors) -> Vectors:
    """How well a text describes pictures, 0 to 0.95.

    Args:
        cosines: the cosine of the text and each picture.
        neutral: for each picture, the largest cosine of a neutral caption.
    """
    above = cosines - neutral
    fit = _SCORE_AT_TO * np.clip((above - _FROM) / (_TO - _FROM), 0, 1)
    return np.asarray(fit + _RANGE_ABOVE * np.maximum(above - _TO, 0) / (2 - _TO), np.float32)


_BATCH = 16  # pictures per run of the model
#: Type of an ONNX input -> type of the array.
_DTYPES = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
          "tensor(int32)": np.int32}  # fmt: skip


@lru_cache(maxsize=1)
def load_encoder(folder: Path, name: str) -> OnnxImageEncoder:
    """Load the encoder of a folder, once per process."""
    return OnnxImageEncoder(folder, name)


class OnnxImageEncoder:
    """An image-text encoder in ONNX. Each half is loaded at first use."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder, self._layout = folder, layout(folder)
        self._config = _read(folder / "config.json")
        self._preprocessing = _read(folder / "preprocessor_config.json")
        self._kind = str(self._config.get("model_type", "clip"))
        self._text_config = self._config.get("text_config") or {}
        self.dimension = self._dimension()
        self._loading = threading.RLock()
        self._sessions: dict[Path, Any] = {}
        self._tokenizer: Any = None

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """Encode RGB pictures as vectors of length 1, one row each."""
        batches = []
        for start in range(0, len(pictures), _BATCH):
            frames = np.stack([self._prepare(picture) for picture in pictures[start : start + _BATCH]])
            batches.append(self._run(self._layout.vision, {"pixel_values": frames}, "image_embeds"))
        return np.concatenate(batches) if batches else np.zeros((0, self.dimension), np.float32)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Encode texts as vectors of length 1, one row each."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        tokens = self._tokens([self._normalise(text) for text in texts])
        inputs = {
            "input_ids": np.array([encoding.ids for encoding in tokens], np.int64),
            "attention_mask": np.array([encoding.attention_mask for encoding in tokens], np.int64),
        }
        return self._run(self._layout.text, inputs, "text_embeds")

    def _dimension(self) -> int:
        """The length of a vector by the configuration. Each output is checked against it."""
        if self._kind.startswith("siglip"):
            inner = self._config.get("vision_config") or {}
            return int(self._text_config.get("projection_size") or inner.get("hidden_size") or 768)
        return int(self._config.get("projection_dim") or 512)

    def _normalise(self, text: str) -> str:
        """Normalise a text for SigLIP, whose tokenizer file does not: lower case, no punctuation."""
        if not self._kind.startswith("siglip"):
            return text
        text = text.lower()
        return " ".join(re.sub(r"[^\w\s]", "", text).split()) if self._kind == "siglip" else text

    def _tokens(self, texts: list[str]) -> Any:
        """Split texts into tokens. The tokenizer is loaded at first use."""
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
        return self._tokenizer.encode_batch(texts)

    def _load_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:
            raise self._error(f"tokenizer.json cannot be read: {error}") from error
        pads_to_maximum = self._kind.startswith("siglip")
        max_tokens = int(self._text_config.get("max_position_embeddings") or (64 if pads_to_maximum else 77))
        fixed_length = self._input(self._layout.text, "input_ids").shape[-1]
        if isinstance(fixed_length, int):
            max_tokens, pads_to_maximum = fixed_length, True
        pad, pad_id = self._padding(tokenizer)
        tokenizer.enable_truncation(max_tokens)
        tokenizer.enable_padding(length=max_tokens if pads_to_maximum else None, pad_id=pad_id, pad_token=pad)
        return tokenizer

    def _padding(self, tokenizer: Any) -> tuple[str, int]:
        """The token that fills short texts up, and its number."""
        file = self._folder / "tokenizer_config.json"
        pad = (_read(file) if file.is_file() else {}).get("pad_token") or ""
        pad = pad.get("content", "") if isinstance(pad, dict) else str(pad)
        pad_id = tokenizer.token_to_id(pad) if pad else None
        if pad_id is None:
            pad_id = int(self._text_config.get("pad_token_id") or 0)
            pad = tokenizer.id_to_token(pad_id) or ""
        return pad, pad_id

    def _prepare(self, picture: Picture) -> Vectors:
        """Resize, crop and normalise a picture for the model, and put its channels first."""
        settings = self._preprocessing
        size, crop = settings.get("size") or 224, settings.get("crop_size") or 224
        height, width = picture.shape[:2]
        if settings.get("do_resize", True):
            if isinstance(size, dict) and "height" in size:
                new_height, new_width = int(size["height"]), int(size["width"])
            else:
                edge = int(size.get("shortest_edge", 224) if isinstance(size, dict) else size)
                scale = edge / min(height, width)
                new_height, new_width = max(edge, round(height * scale)), max(edge, round(width * scale))
            interpolation = cv2.INTER_AREA if new_height <= height and new_width <= width else cv2.INTER_CUBIC
            picture = cv2.resize(picture, (new_width, new_height), interpolation=interpolation)
        if settings.get("do_center_crop", False):
            new_height, new_width = (
                (int(crop["height"]), int(crop["width"])) if isinstance(crop, dict) else (int(crop),) * 2
            )
            top, left = (picture.shape[0] - new_height) // 2, (picture.shape[1] - new_width) // 2
            picture = picture[max(0, top) : max(0, top) + new_height, max(0, left) : max(0, left) + new_width]
        values = picture.astype(np.float32)
        if settings.get("do_rescale", True):
            values *= float(settings.get("rescale_factor") or 1 / 255)
        if settings.get("do_normalize", True):
            mean = np.asarray(settings.get("image_mean") or (0.5,) * 3, np.float32)
            deviation = np.asarray(settings.get("image_std") or (0.5,) * 3, np.float32)
            values = np.asarray((values - mean) / deviation, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)

    def _session(self, path: Path) -> Any:
        """The model of a file, loaded at first use."""
        with self._loading:
            if path not in self._sessions:
                self._sessions[path] = self._load(path)
            return self._sessions[path]

    def _load(self, path: Path) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS or max(1, (os.cpu_count() or 2) // 2)
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._error(f"{path.name} cannot be loaded: {error}") from error

    def _input(self, path: Path, name: str) -> Any:
        """The description of the model input `name`."""
        for model_input in self._session(path).get_inputs():
            if model_input.name == name:
                return model_input
        raise self._error(f"{path.name} has no input {name}")

    def _run(self, path: Path, inputs: dict[str, Any], output_name: str) -> Vectors:
        """Run one half of the encoder and return its vectors, scaled to length 1.

        A file with both halves gets a blank input for the other half.

        Args:
            inputs: the arrays by name of the input.
            output_name: the name of the output with the vectors.
        """
        session = self._session(path)
        outputs = [output.name for output in session.get_outputs()]
        name = next((n for n in (output_name, "pooler_output") if n in outputs), None)
        if name is None:
            raise self._error(f"{path.name} has the outputs {', '.join(outputs)}, but not {output_name}")
        feed = {}
        for model_input in session.get_inputs():
            value = inputs.get(model_input.name)
            if value is None:
                value = self._blank_input(model_input)
            feed[model_input.name] = value.astype(_DTYPES.get(model_input.type, np.float32))
        try:
            [result] = session.run([name], feed)
        except Exception as error:
            raise self._error(f"{path.name} failed: {str(error)[:300]}") from error
        vectors = np.asarray(result, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise self._error(
                f"{path.name} returns {name} of shape {vectors.shape}, but by config.json "
                f"a vector has {self.dimension} numbers"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    def _blank_input(self, model_input: Any) -> Any:
        """A blank array for an input."""
        if model_input.name == "pixel_values":
            return self._prepare(np.zeros((224, 224, 3), np.uint8))[None]
        length = model_input.shape[-1] if isinstance(model_input.shape[-1], int) else 2
        return (
            np.ones((1, length), np.int64) if model_input.name == "attention_mask" else np.zeros((1, length))
        )

    def _error(self, reason: str) -> ModelFailed:
        """The error that names the folder, its setting and the reason."""
        return ModelFailed(f"the encoder in {self._folder} (TL_LOCAL_CLIP) cannot be used: {reason}")


def _read(path: Path) -> dict[str, Any]:
    """Read a JSON object; {} if the file contains another value."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFailed(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
