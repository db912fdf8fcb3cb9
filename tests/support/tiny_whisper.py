"""A Whisper model of random weights, some 0.4 MB, as faster-whisper loads it: it hears words of its own.

Written with CTranslate2's own specification, so no training framework is needed. The architecture, the
vocabulary's order and the files are those of an English-only Whisper; only the sizes are tiny. With languages
it is a multilingual one: CTranslate2 tells these by an empty word in the vocabulary.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

WIDTH, HEADS, MELS = 16, 2, 80
WORDS = ("river", "lantern", "seven", "copper", "window", "maybe", "harvest", "under", "violet", "engine")


def make_whisper(folder: Path, seed: int = 2, languages: Mapping[str, float] | None = None) -> Path:
    """Write the model into `folder`.

    Args:
        languages: codes of the languages that it knows, each with how much it is given to hearing it.
    """
    from ctranslate2.specs import WhisperSpec

    folder.mkdir(parents=True, exist_ok=True)
    spoken = {f"<|{code}|>": bias for code, bias in (languages or {}).items()}
    special = (
        *("<|endoftext|>", "<|startoftranscript|>", *spoken, "<|translate|>", "<|transcribe|>"),
        *("<|startoflm|>", "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>"),
    )
    tokens = _tokenizer(folder, special, bool(languages))
    random = np.random.default_rng(seed)
    spec = WhisperSpec(1, HEADS, 1, HEADS)

    def some(*shape: int) -> Any:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def norm(layer: Any) -> None:
        layer.gamma, layer.beta = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)

    def linear(layer: Any, into: int, out: int) -> None:
        layer.weight, layer.bias = some(out, into), np.zeros(out, np.float32)

    def block(layer: Any) -> None:
        norm(layer.self_attention.layer_norm)
        linear(layer.self_attention.linear[0], WIDTH, 3 * WIDTH)
        linear(layer.self_attention.linear[1], WIDTH, WIDTH)
        norm(layer.ffn.layer_norm)
        linear(layer.ffn.linear_0, WIDTH, 2 * WIDTH)
        linear(layer.ffn.linear_1, 2 * WIDTH, WIDTH)

    spec.encoder.conv1.weight, spec.encoder.conv1.bias = some(WIDTH, MELS, 3), np.zeros(WIDTH, np.float32)
    spec.encoder.conv2.weight, spec.encoder.conv2.bias = some(WIDTH, WIDTH, 3), np.zeros(WIDTH, np.float32)
    spec.encoder.position_encodings.encodings = some(1500, WIDTH)
    spec.decoder.position_encodings.encodings = some(448, WIDTH)
    for part in (spec.encoder, spec.decoder):
        norm(part.layer_norm)
        block(part.layer[0])
    across = spec.decoder.layer[0].attention
    norm(across.layer_norm)
    for layer, out in zip(across.linear, (WIDTH, 2 * WIDTH, WIDTH), strict=True):
        linear(layer, WIDTH, out)
    spec.decoder.embeddings.weight = some(len(tokens), WIDTH)
    linear(spec.decoder.projection, WIDTH, len(tokens))
    # Words, times and an early end are what it may say; single letters would be no words. It is as sure as
    # a trained one: Whisper tries an unsure window again and again.
    spec.decoder.projection.weight *= 4
    bias = {name: 0.0 if name.strip("Ġ") in WORDS or name.startswith("<|") else -90.0 for name in tokens}
    bias |= {"<|endoftext|>": 3.0} | dict.fromkeys(special[1:], -90.0)
    # A language is what may come right after the beginning, which one number of 16 says, and nowhere else.
    for name, given in spoken.items():
        spec.decoder.projection.weight[tokens.index(name), 0] = 60.0
        bias[name] = given - 200.0
    if spoken:
        spec.decoder.embeddings.weight[tokens.index("<|startoftranscript|>"), 0] = 50.0
    spec.decoder.projection.bias = np.array(list(bias.values()), np.float32)
    spec.config.suppress_ids = spec.config.suppress_ids_begin = []
    spec.config.lang_ids = [tokens.index(name) for name in spoken]
    spec.config.alignment_heads = [(0, 0), (0, 1)]
    spec.register_vocabulary(tokens)
    spec.validate()
    spec.save(str(folder))
    (folder / "preprocessor_config.json").write_text(json.dumps({"feature_size": MELS}))
    return folder


def _tokenizer(folder: Path, special: tuple[str, ...], multilingual: bool) -> list[str]:
    """Write `tokenizer.json`; answers the vocabulary in order, times included."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*alphabet, *(f"Ġ{word}" for word in WORDS)]
    names += [""] if multilingual else []
    made = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, []))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    times = [f"<|{0.02 * n:.2f}|>" for n in range(1501)]
    made.add_special_tokens([AddedToken(name, special=True) for name in special])
    made.add_tokens([AddedToken(name, special=False) for name in times])
    made.save(str(folder / "tokenizer.json"))
    return [*names, *special, *times]
