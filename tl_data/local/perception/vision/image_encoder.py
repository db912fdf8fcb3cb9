"""Image-text encoders (CLIP, SigLIP), run by ONNX Runtime from a folder in the layout of Optimum.

An encoder scores how well a text describes a picture. Search uses the score in addition to the other evidence
(search.py), and the vectors of clips contain its vectors (embeddings.py).

    config.json  preprocessor_config.json  tokenizer.json
    vision_model.onnx and text_model.onnx, or model.onnx with both; beside them or in onnx/

Names of inputs and outputs, sizes, means and lengths are read from the files. Pictures are resized by area
averaging, where the models' own scripts use antialiased bicubic; the difference is below JPEG artefacts.
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

#: Neutral captions. The score of a text is its cosine above theirs, because the cosines of unrelated pairs
#: differ between encoders.
NEUTRAL = ("a photo", "a picture", "a video frame", "an image", "something")

#: Cosine above the neutral captions at scores of 0 and of _MOST. In published examples of CLIP and SigLIP a
#: correct caption is about 0.08 above a neutral one. It was not measured here.
_FROM, _TO, _MOST = 0.0, 0.08, 0.85
_RANK = 0.1  # range of scores beyond _TO, which keeps the order of good captions


class ImageEncoder(Protocol):
    """An image-text encoder. Its methods may raise `ModelFailed`."""

    name: str
    dimension: int

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """RGB pictures as vectors of length 1, a row each."""

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as vectors of length 1, a row each."""


def configured_encoder(tiers: Tiers) -> ImageEncoder | None:
    """The configured encoder; None without one. Its weights are loaded at first use."""
    if tiers.clip is None:
        return None
    return load_encoder(tiers.clip, tiers.encoder)


def as_numbers(vector: Vectors) -> tuple[float, ...]:
    """A vector for the evidence, rounded to five digits: cosines change by less than 0.001."""
    return tuple(round(float(number), 5) for number in vector)


def caption_scores(cosines: Vectors, neutral: Vectors) -> Vectors:
    """How well a text describes pictures, 0 to 0.95.

    Args:
        cosines: of the text and each picture.
        neutral: the largest cosine of a neutral caption and each picture.
    """
    above = cosines - neutral
    fit = _MOST * np.clip((above - _FROM) / (_TO - _FROM), 0, 1)
    return np.asarray(fit + _RANK * np.maximum(above - _TO, 0) / (2 - _TO), np.float32)


_BATCH = 16
_KINDS = {"tensor(float)": np.float32, "tensor(float16)": np.float16, "tensor(int64)": np.int64,
          "tensor(int32)": np.int32}  # fmt: skip


@lru_cache(maxsize=1)
def load_encoder(folder: Path, name: str) -> OnnxImageEncoder:
    """The encoder of a folder, loaded once per process."""
    return OnnxImageEncoder(folder, name)


class OnnxImageEncoder:
    """An image-text encoder in ONNX. Each half is loaded at first use."""

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self._folder, self._layout = folder, layout(folder)
        self._config = _read(folder / "config.json")
        self._frame = _read(folder / "preprocessor_config.json")
        self._kind = str(self._config.get("model_type", "clip"))
        self._text_config = self._config.get("text_config") or {}
        self.dimension = self._dimension()
        self._loading = threading.RLock()
        self._sessions: dict[Path, Any] = {}
        self._tokenizer: Any = None

    def pictures(self, pictures: Sequence[Picture]) -> Vectors:
        """RGB pictures as vectors of length 1, a row each."""
        found = []
        for at in range(0, len(pictures), _BATCH):
            frames = np.stack([self._prepared(picture) for picture in pictures[at : at + _BATCH]])
            found.append(self._run(self._layout.vision, {"pixel_values": frames}, "image_embeds"))
        return np.concatenate(found) if found else np.zeros((0, self.dimension), np.float32)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """Texts as vectors of length 1, a row each."""
        if not texts:
            return np.zeros((0, self.dimension), np.float32)
        tokens = self._tokens([self._plain(text) for text in texts])
        given = {
            "input_ids": np.array([one.ids for one in tokens], np.int64),
            "attention_mask": np.array([one.attention_mask for one in tokens], np.int64),
        }
        return self._run(self._layout.text, given, "text_embeds")

    # ------------------------------------------------------------------------------------ inside

    def _dimension(self) -> int:
        """The length of a vector by the configuration; verified with the first vector."""
        if self._kind.startswith("siglip"):
            inner = self._config.get("vision_config") or {}
            return int(self._text_config.get("projection_size") or inner.get("hidden_size") or 768)
        return int(self._config.get("projection_dim") or 512)

    def _plain(self, text: str) -> str:
        """The text normalised for SigLIP, whose tokenizer file lacks it: lower case without punctuation."""
        if not self._kind.startswith("siglip"):
            return text
        text = text.lower()
        return " ".join(re.sub(r"[^\w\s]", "", text).split()) if self._kind == "siglip" else text

    def _tokens(self, texts: list[str]) -> Any:
        with self._loading:
            if self._tokenizer is None:
                self._tokenizer = self._load_tokenizer()
        return self._tokenizer.encode_batch(texts)

    def _load_tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_file(str(self._folder / "tokenizer.json"))
        except Exception as error:
            raise self._failed(f"tokenizer.json cannot be read: {error}") from error
        always = self._kind.startswith("siglip")
        most = int(self._text_config.get("max_position_embeddings") or (64 if always else 77))
        fixed = self._input(self._layout.text, "input_ids").shape[-1]
        if isinstance(fixed, int):
            most, always = fixed, True
        pad, number = self._padding(tokenizer)
        tokenizer.enable_truncation(most)
        tokenizer.enable_padding(length=most if always else None, pad_id=number, pad_token=pad)
        return tokenizer

    def _padding(self, tokenizer: Any) -> tuple[str, int]:
        file = self._folder / "tokenizer_config.json"
        pad = (_read(file) if file.is_file() else {}).get("pad_token") or ""
        pad = pad.get("content", "") if isinstance(pad, dict) else str(pad)
        number = tokenizer.token_to_id(pad) if pad else None
        if number is None:
            number = int(self._text_config.get("pad_token_id") or 0)
            pad = tokenizer.id_to_token(number) or ""
        return pad, number

    def _prepared(self, picture: Picture) -> Vectors:
        """The input of the model: resized, cropped, normalised, channels first."""
        frame = self._frame
        size, crop = frame.get("size") or 224, frame.get("crop_size") or 224
        height, width = picture.shape[:2]
        if frame.get("do_resize", True):
            if isinstance(size, dict) and "height" in size:
                high, wide = int(size["height"]), int(size["width"])
            else:
                edge = int(size.get("shortest_edge", 224) if isinstance(size, dict) else size)
                scale = edge / min(height, width)
                high, wide = max(edge, round(height * scale)), max(edge, round(width * scale))
            how = cv2.INTER_AREA if high <= height and wide <= width else cv2.INTER_CUBIC
            picture = cv2.resize(picture, (wide, high), interpolation=how)
        if frame.get("do_center_crop", False):
            high, wide = (
                (int(crop["height"]), int(crop["width"])) if isinstance(crop, dict) else (int(crop),) * 2
            )
            top, left = (picture.shape[0] - high) // 2, (picture.shape[1] - wide) // 2
            picture = picture[max(0, top) : max(0, top) + high, max(0, left) : max(0, left) + wide]
        values = picture.astype(np.float32)
        if frame.get("do_rescale", True):
            values *= float(frame.get("rescale_factor") or 1 / 255)
        if frame.get("do_normalize", True):
            mean = np.asarray(frame.get("image_mean") or (0.5,) * 3, np.float32)
            spread = np.asarray(frame.get("image_std") or (0.5,) * 3, np.float32)
            values = np.asarray((values - mean) / spread, np.float32)
        return np.ascontiguousarray(values.transpose(2, 0, 1), np.float32)

    def _session(self, path: Path) -> Any:
        with self._loading:
            if path not in self._sessions:
                self._sessions[path] = self._load(path)
            return self._sessions[path]

    def _load(self, path: Path) -> Any:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = max(1, (os.cpu_count() or 2) // 2)
        options.log_severity_level = 3
        try:
            return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        except Exception as error:
            raise self._failed(f"{path.name} cannot be loaded: {error}") from error

    def _input(self, path: Path, name: str) -> Any:
        for known in self._session(path).get_inputs():
            if known.name == name:
                return known
        raise self._failed(f"{path.name} has no input {name}")

    def _run(self, path: Path, given: dict[str, Any], wanted: str) -> Vectors:
        """Run one half. A model with both halves gets a blank input for the other."""
        session = self._session(path)
        outputs = [output.name for output in session.get_outputs()]
        name = next((n for n in (wanted, "pooler_output") if n in outputs), None)
        if name is None:
            raise self._failed(f"{path.name} gives {', '.join(outputs)}, but not {wanted}")
        feed = {}
        for known in session.get_inputs():
            value = given.get(known.name)
            if value is None:
                value = self._nothing(known)
            feed[known.name] = value.astype(_KINDS.get(known.type, np.float32))
        try:
            [found] = session.run([name], feed)
        except Exception as error:
            raise self._failed(f"{path.name} failed: {str(error)[:300]}") from error
        vectors = np.asarray(found, np.float32)
        if vectors.ndim != 2 or vectors.shape[1] != self.dimension:
            raise self._failed(
                f"{path.name} gives {name} of the shape {vectors.shape}, but by config.json a vector has "
                f"{self.dimension} numbers"
            )
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        return np.asarray(vectors / np.maximum(lengths, 1e-12), np.float32)

    def _nothing(self, known: Any) -> Any:
        if known.name == "pixel_values":
            return self._prepared(np.zeros((224, 224, 3), np.uint8))[None]
        length = known.shape[-1] if isinstance(known.shape[-1], int) else 2
        return np.ones((1, length), np.int64) if known.name == "attention_mask" else np.zeros((1, length))

    def _failed(self, why: str) -> ModelFailed:
        return ModelFailed(f"the encoder in {self._folder} (TL_LOCAL_CLIP) cannot be used: {why}")


def _read(path: Path) -> dict[str, Any]:
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFailed(f"{path} is not JSON: {error}") from error
    return value if isinstance(value, dict) else {}
