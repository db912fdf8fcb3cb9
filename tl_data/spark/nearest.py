"""Exact nearest neighbours in Spark: each partition selects its best rows, and these are merged."""

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
    """The `k` rows whose vectors are most similar to a query, best first, with a column `similarity`.

    The cosine is computed in float64 for every row; filter `df` to search a part of it. Rows without a
    vector, or with a zero vector, are excluded.

    Args:
        df: rows with a column of vectors.
        vector: the query as a vector, such as that of a clip ("more like this").
        k: the number of rows.
        text: the query as text.
        image: the query as the URL or path of a picture.
        audio: the query as the URL or path of an audio file; its first vector is used.
        column: the column of vectors.
        scope: only rows with this `embedding_scope`, if `df` has the column, so that results do not mix
            videos and clips. None: all rows.

    Raises:
        SchemaMismatch: there is not exactly one query, the query has no vector, or a vector has another
            length than the query.
    """
    from pyspark.sql.types import DoubleType, StructField, StructType

    if sum(q is not None for q in (vector, text, image, audio)) != 1:
        raise SchemaMismatch("nearest needs exactly one query: vector=, text=, image= or audio=")
    if k < 1:
        raise SchemaMismatch(f"k is {k}; it must be at least 1")
    if column not in df.columns or "similarity" in df.columns:
        raise SchemaMismatch(
            f"nearest needs a column {column!r}, and no column similarity; columns: {df.columns}"
        )
    if text is not None:
        vector = connect(settings).call(FUNCTIONS["embed_text"], text=text)
    elif image is not None:
        vector = connect(settings).call(FUNCTIONS["embed_image"], image=image)
    elif audio is not None:
        audio_rows = connect(settings).call(FUNCTIONS["audio_vectors"], audio=audio)
        vector = audio_rows[0]["vector"] if audio_rows else None
    if vector is None:
        raise SchemaMismatch("the query has no vector: it has no comparable content")
    if scope is not None and "embedding_scope" in df.columns:
        df = df.filter(df["embedding_scope"] == scope)
    query = [float(x) for x in vector]
    schema = StructType([*df.schema.fields, StructField("similarity", DoubleType())])

    def best(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        import numpy as np

        kept: pa.Table | None = None
        for batch in batches:
            scored = batch.append_column("similarity", _cosines(batch.column(column), query))
            table = pa.Table.from_batches([scored])
            table = table.filter(pa.compute.is_valid(table.column("similarity")))
            merged = table if kept is None else pa.concat_tables([kept, table])
            scores = merged.column("similarity").to_numpy()
            kept = merged.take(np.argsort(-scores, kind="stable")[:k])
        if kept is not None:
            yield from kept.combine_chunks().to_batches()

    candidates = df.mapInArrow(best, schema)
    return candidates.orderBy(candidates["similarity"].desc()).limit(k)


def _cosines(vectors: Any, query: Sequence[float]) -> pa.Array:
    """The cosine of each vector with the query; NULL for a missing or zero vector."""
    import numpy as np
    import pyarrow.compute as pc

    dimensions = pc.list_value_length(vectors)
    if len(other := [n for n in pc.unique(dimensions).to_pylist() if n not in (None, len(query))]):
        raise SchemaMismatch(
            f"the query has {len(query)} dimensions, but there are vectors of {other[0]}: "
            "they are of different models"
        )
    query_vector = np.asarray(query, dtype=np.float64)
    cosines = np.full(len(vectors), np.nan)
    is_present = np.asarray(pc.is_valid(vectors))
    if is_present.any():
        values = np.asarray(pc.list_flatten(vectors), dtype=np.float64)
        matrix = values.reshape(-1, len(query))
        with np.errstate(invalid="ignore", divide="ignore"):
            lengths = np.linalg.norm(matrix, axis=1) * np.linalg.norm(query_vector)
            cosines[is_present] = matrix @ query_vector / lengths
    return pa.array(np.clip(cosines, -1.0, 1.0), from_pandas=True)
