"""The vision stage by an image-text encoder: tiny ones of random weights, in every layout of the files."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import get_args

import cv2
import duckdb
import httpx
import numpy as np
import pytest

import tl_data
from tests.conftest import Engine as ServedEngine
from tests.support import media
from tests.support.known import SALES, SHAPES
from tests.support.tiny_clip import DIMENSION, PINK, Layout, make_clip
from tl_data.connection import connect
from tl_data.errors import SettingsError
from tl_data.functions import FUNCTIONS
from tl_data.local.models import Tiers, read_tiers
from tl_data.local.perception.evidence import Evidence, ModelFailed, from_json, to_json
from tl_data.local.perception.vision.image_encoder import OnnxImageEncoder, as_numbers, load_encoder
from tl_data.local.perception.worker_pool import WorkerPool
from tl_data.local.search import embeddings
from tl_data.local.search.query import Query
from tl_data.local.storage.library import Library
from tl_data.settings import Settings


def filled(color: tuple[int, int, int], width: int = 640, height: int = 360) -> np.ndarray:
    return np.full((height, width, 3), color, np.uint8)


def png(picture: np.ndarray) -> bytes:
    return cv2.imencode(".png", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))[1].tobytes()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_clip(tmp_path_factory.mktemp("models") / "tiny-clip")


@pytest.fixture(scope="module")
def image_encoder(folder: Path) -> OnnxImageEncoder:
    return load_encoder(folder, read_tiers(clip=str(folder), environment={}).encoder)


@pytest.mark.parametrize("layout", get_args(Layout))
def test_pictures_and_texts_in_every_layout(tmp_path: Path, layout: Layout) -> None:
    made = OnnxImageEncoder(make_clip(tmp_path / "model", layout), "tiny")
    pictures = made.pictures([filled(PINK), filled((0, 0, 255), 360, 640), filled(PINK, 90, 90)])
    texts = made.texts(["flamingo", "dog", "flamingo " * 40])  # the last is longer than the model takes
    assert pictures.shape == texts.shape == (3, DIMENSION)
    assert made.dimension == DIMENSION
    assert np.linalg.norm(np.concatenate([pictures, texts]), axis=1) == pytest.approx(1)
    assert float(pictures[0] @ texts[0]) > 0.99
    assert float(pictures[0] @ pictures[2]) > 0.99  # whatever the size of the picture
    assert float(pictures[1] @ texts[0]) < 0.5
    assert abs(float(pictures[0] @ texts[1])) < 0.5
    alone, together = made.texts(["dog"])[0], made.texts(["dog", "a photo something"])[0]
    assert np.abs(alone - together).max() < 1e-6  # padding says nothing


def test_missing_or_broken_files_are_named(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    partly = shutil.copytree(folder, tmp_path / "partly")
    (partly / "text_model.onnx").unlink()
    with pytest.raises(SettingsError, match=r"model\.onnx exists.*optimum-cli export onnx"):
        read_tiers(clip=str(partly), environment={})
    (partly / "tokenizer.json").unlink()
    with pytest.raises(SettingsError, match=r"tokenizer\.json is missing"):
        read_tiers(clip=str(partly), environment={})
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "tokenizers", None)  # to the importer: not there
        with pytest.raises(SettingsError, match=r"pip install .tl_data\[local-clip\]"):
            read_tiers(clip=str(folder), environment={})
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "text_model.onnx").write_bytes(b"not a model")
    with pytest.raises(ModelFailed, match=r"TL_LOCAL_CLIP.*text_model\.onnx cannot be loaded"):
        OnnxImageEncoder(broken, "broken").texts(["a"])
    other = shutil.copytree(folder, tmp_path / "other")
    (other / "config.json").write_text('{"model_type": "clip", "projection_dim": 512}')
    with pytest.raises(ModelFailed, match=r"config\.json.*512 numbers"):
        OnnxImageEncoder(other, "other").texts(["a"])


def test_the_name_changes_with_the_weights(folder: Path, tmp_path: Path) -> None:
    chosen = read_tiers(clip=str(folder), environment={})
    assert chosen.search_model.startswith("tl-local-2-clip-tiny-clip-")
    other = make_clip(tmp_path / "tiny-clip", seed=1)
    assert read_tiers(clip=str(other), environment={}).search_model != chosen.search_model
    same = shutil.copytree(folder, tmp_path / "again" / "tiny-clip")
    assert read_tiers(clip=str(same), environment={}).search_model == chosen.search_model


# ------------------------------------------------------------------------------------ space and search


def seen(evidence: Evidence, image_encoder: OnnxImageEncoder, colors: list[tuple[int, int, int]]) -> Evidence:
    """Evidence whose clips an encoder saw in these colours."""
    vectors = image_encoder.pictures([filled(color) for color in colors])
    clips = tuple(
        replace(c, encoder_vector=as_numbers(v)) for c, v in zip(evidence.clips, vectors, strict=True)
    )
    return replace(evidence, clips=clips, encoder=image_encoder.name)


def test_texts_pictures_and_clips_share_a_space(image_encoder: OnnxImageEncoder) -> None:
    evidence = seen(SALES, image_encoder, [(0, 0, 255), (255, 255, 255), PINK, (0, 0, 0)])
    assert from_json(to_json(evidence)) == evidence
    query = embeddings.embed_text("flamingo", image_encoder)
    assert query.shape == (embeddings.dimension(image_encoder),) == (embeddings.DIMENSION + DIMENSION,)
    clips = [embeddings.embed_clip(clip, evidence, "visual", image_encoder) for clip in evidence.clips]
    assert int(np.argmax([clip @ query for clip in clips])) == 2
    image = embeddings.embed_image(png(filled(PINK)), image_encoder)
    assert int(np.argmax([clip @ image for clip in clips])) == 2
    shown = embeddings.embed_text("Thank you", image_encoder)  # read on screen in the last: words count still
    assert int(np.argmax([clip @ shown for clip in clips])) == 3
    said = embeddings.embed_clip(evidence.clips[1], evidence, "transcription", image_encoder)
    assert float(said @ embeddings.embed_text("Our revenue grew", image_encoder)) > float(said @ query)
    assert not said[embeddings.DIMENSION :].any()  # sound is compared by words alone
    segments = embeddings.segments_of(evidence, ("visual",), ("clip", "video"), 6.0, 0.0, 24.0, image_encoder)
    assert {len(segment.vector) for segment in segments} == {embeddings.dimension(image_encoder)}
    assert [s.embedding_scope for s in segments] == ["clip"] * 4 + ["video"]


@pytest.fixture
def library(tmp_path: Path, image_encoder: OnnxImageEncoder) -> Iterator[Library]:
    made = Library(tmp_path / "library.db", image_encoder)
    made.add("index", "sales", seen(SALES, image_encoder, [(0, 0, 255), (255, 255, 255), PINK, (0, 0, 0)]))
    made.add("index", "old", SHAPES)  # looked at before there was an encoder
    yield made
    made.close()


def test_search_finds_what_only_the_encoder_sees(library: Library, tmp_path: Path) -> None:
    [best, *_] = library.search(Query("index", "flamingo"))
    assert (best.video_id, best.clip_number, best.confidence) == ("sales", 2, "high")
    assert best.evidence == ("picture: flamingo",)
    assert library.search(Query("index", "flamingo", options=("audio",))) == []
    assert library.search(Query("index", "flamingo", transcription_options=("lexical",))) == []
    [shown, *_] = library.search(Query("index", "quarterly review"))
    assert (shown.video_id, shown.clip_number) == ("sales", 0)  # words are found as before
    [old, *_] = library.search(Query("index", "purple", options=("visual",)))
    assert old.video_id == "old"  # and what the encoder never saw, by everything else
    again = Library(tmp_path / "library.db", library._encoder)
    assert again.search(Query("index", "flamingo"))[0].clip_number == 2
    again.close()
    without = Library(tmp_path / "library.db")
    assert without.search(Query("index", "flamingo")) == []
    assert without.search(Query("index", "quarterly review"))[0].video_id == "sales"
    without.close()


def test_an_image_finds_what_the_encoder_sees_alike(library: Library) -> None:
    [best, *_] = library.search(Query("index", images=(png(filled(PINK, 200, 500)),), options=("visual",)))
    assert (best.video_id, best.clip_number) == ("sales", 2)
    assert best.score > 70


# ----------------------------------------------------------------------------------- the whole engine


def test_a_worker_uses_the_encoder_and_names_it(folder: Path, tmp_path: Path) -> None:
    chosen = read_tiers(clip=str(folder), environment={})

    async def looked() -> Evidence:
        pool = WorkerPool(1, tiers=chosen)
        try:
            return await pool.analyze(media.plain(tmp_path), tmp_path / "frames")
        finally:
            await pool.aclose()

    evidence = asyncio.run(looked())
    assert (evidence.encoder, evidence.speech_model) == (chosen.encoder, chosen.speech_model)
    for clip in evidence.clips:
        keyframe = cv2.cvtColor(cv2.imread(str(tmp_path / "frames" / clip.keyframe)), cv2.COLOR_BGR2RGB)
        again = load_encoder(folder, chosen.encoder).pictures([keyframe])[0]
        assert float(again @ np.array(clip.encoder_vector, np.float32)) > 0.999


def test_every_surface_follows_the_model(folder: Path, tmp_path: Path) -> None:
    """From the settings to the vector's type in SQL: name and dimension are the encoder's."""
    chosen = Tiers(clip=folder)
    settings = Settings(home=str(tmp_path / "home"), local_clip=str(folder), retries=0, poll_interval=0.3)
    connection = connect(settings)
    con = duckdb.connect()
    try:
        tl_data.register(con, settings)
        film = media.plain(tmp_path)
        run = FUNCTIONS
        video = connection.call(run["index_video"], video=str(film))["video_id"]
        wanted = embeddings.DIMENSION + DIMENSION
        assert connection.dimension == wanted
        assert connection.session.search_model == connection.session.analyze_model == chosen.search_model
        [(kind,)] = con.sql("SELECT typeof(tl_embed_text('a red circle'))").fetchall()
        assert kind == f"FLOAT[{wanted}]"
        vectors = connection.call(run["video_vectors"], video=video)
        assert {len(row["vector"]) for row in vectors} == {wanted}
        [hit, *_] = connection.call(run["search"], index_id=settings.index, query_text="a red circle")
        assert hit["video_id"] == video
        [index] = connection.run(_indexes(connection.session.client))
        assert {model["model_name"] for model in index["models"]} == {chosen.search_model}
    finally:
        con.close()
        connection.close(stop_engine=True)


def test_weights_are_read_at_first_use(
    folder: Path, tmp_path: Path, start_engine: Callable[..., ServedEngine]
) -> None:
    """The engine is up at once; calls that need the weights report what is wrong with them."""
    broken = shutil.copytree(folder, tmp_path / "broken")
    (broken / "text_model.onnx").write_bytes(b"not a model")
    served = start_engine("--clip", str(broken))
    root = served.base_url.removesuffix("/v1.3")
    tiers = httpx.get(f"{root}/_engine/tiers").json()
    assert tiers["dimension"] == embeddings.DIMENSION + DIMENSION
    assert tiers["stages"][0]["tier"] == "local-clip"
    fields = {"model_name": (None, tiers["search_model"]), "text": (None, "a dog")}
    answer = httpx.post(f"{served.base_url}/embed", files=fields)
    assert (answer.status_code, answer.json()["code"]) == (424, "engine_model_failed")
    assert "TL_LOCAL_CLIP" in answer.json()["message"]
    fields["model_name"] = (None, "tl-local-2")
    refused = httpx.post(f"{served.base_url}/embed", files=fields)
    assert refused.status_code == 400
    assert tiers["search_model"] in refused.json()["message"]  # the name that this engine has now


async def _indexes(client):  # type: ignore[no-untyped-def]
    return [index async for index in client.list_indexes()]
