"""A tiny image-text encoder in ONNX: random weights, and the files and names of an export by Optimum.

It sees the colours of a 4 x 4 grid through a random projection. Its words are random directions, except
that `flamingo` is what a pink picture looks like to it: that is how a test can tell that a query of a word
which nothing else explains is answered by the encoder.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer, models, pre_tokenizers, processors

Layout = Literal["two files", "onnx folder", "combined", "siglip"]
DIMENSION, SIDE, GRID = 64, 32, 4
PINK = (255, 105, 180)
WORDS = ("<pad>", "<s>", "</s>", "<unk>", "flamingo", "dog", "a", "photo", "picture", "video", "frame", "an",
         "image", "something", "welcome")  # fmt: skip
MEAN, STD = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)


def make_clip(
    folder: Path, layout: Layout = "two files", seed: int = 0, pictures: Mapping[str, Any] | None = None
) -> Path:
    """Write the encoder into `folder`.

    Args:
        pictures: more words, each with the RGB picture that it describes.
    """
    vocabulary = (*WORDS, *(pictures or ()))
    random = np.random.default_rng(seed)
    cell = SIDE // GRID
    eyes = random.normal(0, 1, (3 * GRID * GRID, DIMENSION)).astype(np.float32)
    words = random.normal(0, 1, (len(vocabulary), DIMENSION)).astype(np.float32)
    pink = (np.array(PINK, np.float32) / 255 - MEAN) / STD
    words[WORDS.index("flamingo")] = np.repeat(pink, GRID * GRID).astype(np.float32) @ eyes * 20
    words[:4] = 0  # marks of the tokenizer say nothing
    cells_of = {word: _cells(picture) for word, picture in (pictures or {}).items()}
    for word, seen in cells_of.items():
        others = np.mean([other for name, other in cells_of.items() if name != word], axis=0)
        words[vocabulary.index(word)] = (seen - others).astype(np.float32) @ eyes * 20
    siglip = layout == "siglip"
    length: int | str = 16 if siglip else "length"
    names = ("pooler_output", "pooler_output") if siglip else ("image_embeds", "text_embeds")
    cells = {"kernel_shape": [cell, cell], "strides": [cell, cell]}
    vision = [
        helper.make_node("AveragePool", ["pixel_values"], ["pooled"], **cells),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("MatMul", ["flat", "eyes"], [names[0]]),
    ]
    text = [helper.make_node("Gather", ["words", "input_ids"], ["each"])]
    if siglip:
        text.append(helper.make_node("ReduceSum", ["each", "axis"], [names[1]], keepdims=0))
    else:
        text += [
            helper.make_node("Cast", ["attention_mask"], ["kept"], to=TensorProto.FLOAT),
            helper.make_node("Unsqueeze", ["kept", "last"], ["weights"]),
            helper.make_node("Mul", ["each", "weights"], ["weighed"]),
            helper.make_node("ReduceSum", ["weighed", "axis"], [names[1]], keepdims=0),
        ]
    picture = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["pictures", 3, SIDE, SIDE])
    given = [helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["texts", length])]
    if not siglip:
        given.append(helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["texts", length]))
    out = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [kind, DIMENSION])
           for name, kind in zip(names, ("pictures", "texts"), strict=True)]  # fmt: skip
    see = [numpy_helper.from_array(eyes, "eyes")]
    read = [numpy_helper.from_array(words, "words"), numpy_helper.from_array(np.array([1]), "axis")]
    read += [] if siglip else [numpy_helper.from_array(np.array([2]), "last")]
    place = folder / "onnx" if layout == "onnx folder" else folder
    place.mkdir(parents=True, exist_ok=True)
    if layout == "combined":
        _save(place / "model.onnx", vision + text, [picture, *given], out, see + read)
    else:
        _save(place / "vision_model.onnx", vision, [picture], out[:1], see)
        _save(place / "text_model.onnx", text, given, out[1:], read)
    _configure(folder, siglip, vocabulary)
    return folder


def _cells(picture: Any) -> Any:
    """What the encoder sees of an RGB picture: the mean of each cell of the grid, channel by channel."""
    side = picture.shape[0] // GRID
    scaled = (picture.astype(np.float32) / 255 - MEAN[0]) / STD[0]
    return scaled.reshape(GRID, side, GRID, side, 3).mean((1, 3)).transpose(2, 0, 1).reshape(-1)


def _save(path: Path, nodes: list[Any], inputs: list[Any], outputs: list[Any], weights: list[Any]) -> None:
    graph = helper.make_graph(nodes, "tiny", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    onnx.save(model, str(path))


def _configure(folder: Path, siglip: bool, vocabulary: tuple[str, ...]) -> None:
    config: dict[str, Any] = {"model_type": "clip", "projection_dim": DIMENSION}
    config["text_config"] = {"max_position_embeddings": 16}
    frame: dict[str, Any] = {"size": {"shortest_edge": SIDE}, "do_center_crop": True}
    frame |= {"crop_size": {"height": SIDE, "width": SIDE}, "image_mean": MEAN, "image_std": STD}
    if siglip:
        config |= {"model_type": "siglip", "vision_config": {"hidden_size": DIMENSION}}
        frame = {"size": {"height": SIDE, "width": SIDE}, "image_mean": MEAN, "image_std": STD}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(frame))
    (folder / "tokenizer_config.json").write_text(json.dumps({"pad_token": "<pad>"}))
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(vocabulary)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))
