"""Exact nearest neighbours in Spark: the best of each partition, merged. Recall is 1.0 by construction."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS
from tl_data.settings import Settings

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


def nearest(
    df: DataFrame,
    vector: Sequence[float] | None = None,
    k: int = 10,
    *,
    text: str | None = None,
    image: str | None = None,
    audio: str | None = None,
    column: str = "vector",
    scope: str | None = "clip",
    settings: Settings | None = None,
) -> DataFrame:
    """The `k` rows whose vectors are most similar to a question, best first, with a column `similarity`.

    The cosine is computed in float64 for every row; filter `df` before to search a part of it. Rows without
    a vector, or with one that is all zeros, are never among them.

    Args:
        df: rows with a column of vectors.
        vector: the question as a vector, such as that of a clip ("more like this").
        k: most rows to give.
        text: the question in words, instead.
        image: the question as a picture, URL or path, instead.
        audio: the question as a sound, URL or path of an audio file, instead; its first vector is taken.
        column: the column of vectors.
        scope: of a table with a column `embedding_scope`, as the lake's `vectors`, the rows of this scope
            alone, so that no whole video stands among clips. None: all rows.

    Raises:
        SchemaMismatch: not exactly one question, one without a vector, or vectors of another length.
    """
    from pyspark.sql.types import DoubleType, StructField, StructType

    if sum(q is not None for q in (vector, text, image, audio)) != 1:
        raise SchemaMismatch("nearest takes exactly one question: vector=, text=, image= or audio=")
    if k < 1:
        raise SchemaMismatch(f"k is {k}; it must be 1 or more")
    if column not in df.columns or "similarity" in df.columns:
        raise SchemaMismatch(
            f"nearest needs a column {column!r}, and none called similarity; there are {df.columns}"
        )
    if text is not None:
        vector = connect(settings).call(FUNCTIONS["embed_text"], text=text)
    elif image is not None:
        vector = connect(settings).call(FUNCTIONS["embed_image"], image=image)
    elif audio is not None:
        sounds = connect(settings).call(FUNCTIONS["audio_vectors"], audio=audio)
        vector = sounds[0]["vector"] if sounds else None
    if vector is None:
        raise SchemaMismatch("the question has no vector: it holds nothing that could be compared")
    if scope is not None and "embedding_scope" in df.columns:
        df = df.filter(df["embedding_scope"] == scope)
    question = [float(x) for x in vector]
    schema = StructType([*df.schema.fields, StructField("similarity", DoubleType())])

    def best(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np

        kept: pa.Table | None = None
        for batch in batches:
            scored = batch.append_column("similarity", _cosines(batch.column(column), question))
            table = pa.Table.from_batches([scored])
            table = table.filter(pa.compute.is_valid(table.column("similarity")))
            merged = table if kept is None else pa.concat_tables([kept, table])
            scores = merged.column("similarity").to_numpy()
            kept = merged.take(np.argsort(-scores, kind="stable")[:k])
        if kept is not None:
            yield from kept.combine_chunks().to_batches()

    found = df.mapInArrow(best, schema)
    return found.orderBy(found["similarity"].desc()).limit(k)


def _cosines(vectors: Any, question: Sequence[float]) -> pa.Array:
    """The cosine of each vector with the question; NULL where there is none."""
    import numpy as np
    import pyarrow.compute as pc

    lengths = pc.list_value_length(vectors)
    if len(other := [n for n in pc.unique(lengths).to_pylist() if n not in (None, len(question))]):
        raise SchemaMismatch(
            f"the question has {len(question)} dimensions, and there are vectors of {other[0]}: "
            "they come from different models"
        )
    asked = np.asarray(question, dtype=np.float64)
    cosines = np.full(len(vectors), np.nan)
    there = np.asarray(pc.is_valid(vectors))
    if there.any():
        values = np.asarray(pc.list_flatten(vectors), dtype=np.float64)
        matrix = values.reshape(-1, len(question))
        with np.errstate(invalid="ignore", divide="ignore"):
            cosines[there] = matrix @ asked / (np.linalg.norm(matrix, axis=1) * np.linalg.norm(asked))
    return pa.array(np.clip(cosines, -1.0, 1.0), from_pandas=True)
