"""The models of the service and what each takes: one table, read by client, preflight, plans and functions.

Lengths are seconds, sizes bytes. A model that is not in the table limits nothing here; the server decides.
"""

from __future__ import annotations

from dataclasses import dataclass

MB, GB = 1 << 20, 1 << 30
HOUR = 3600.0


@dataclass(frozen=True)
class TextModel:
    """A model that writes texts about videos (Pegasus)."""

    name: str
    by_object: bool  # takes the `video` object: a URL or an asset
    by_video_id: bool  # takes the id of an indexed video
    windows: bool  # takes start_time and end_time
    segments: bool  # takes segment definitions, by task
    batches: bool
    images: int  # most pictures it takes in place of a video
    reference_images: int  # most pictures that a prompt may name
    time_arrays: bool  # segment fields of type time_array, and max_tokens `unlimited`
    least_tokens: int  # of max_tokens
    most_tokens: int
    default_tokens: int
    segment_tokens: int  # default of max_tokens for segments
    shortest_sec: float  # of a video and of a window
    sync_sec: float  # longest video at once
    task_sec: float  # longest video by task, without a window
    windowed_sec: float  # longest video by task, with a window
    window_sec: float  # longest window


@dataclass(frozen=True)
class SearchModel:
    """A model that indexes, searches and embeds (Marengo)."""

    name: str
    indexes: bool  # may be a model of an index
    options: tuple[str, ...]  # of a search, all there are
    vectors: tuple[str, ...]  # kinds of evidence that have vectors of their own
    dimension: int
    dimensions: tuple[int, ...]  # that may be asked for; empty: only `dimension`
    ranks_only: bool  # hits have a rank and neither score nor confidence; `threshold` is ignored
    query_images: int
    embed_v2: bool
    multi_input_only: bool  # /embed-v2 takes `multi_input` alone


_PEGASUS_15 = TextModel(
    "pegasus1.5",
    by_object=True,
    by_video_id=False,
    windows=True,
    segments=True,
    batches=True,
    images=0,
    reference_images=4,
    time_arrays=False,
    least_tokens=512,
    most_tokens=98_304,
    default_tokens=4_096,
    segment_tokens=32_768,
    shortest_sec=1.0,
    sync_sec=HOUR,
    task_sec=2 * HOUR,
    windowed_sec=4 * HOUR,
    window_sec=2 * HOUR,
)

TEXT_MODELS: dict[str, TextModel] = {
    "pegasus1.2": TextModel(
        "pegasus1.2",
        by_object=False,
        by_video_id=True,
        windows=False,
        segments=False,
        batches=False,
        images=0,
        reference_images=0,
        time_arrays=False,
        least_tokens=1,
        most_tokens=4_096,
        default_tokens=4_096,
        segment_tokens=0,
        shortest_sec=4.0,
        sync_sec=HOUR,
        task_sec=0.0,
        windowed_sec=0.0,
        window_sec=0.0,
    ),
    "pegasus1.5": _PEGASUS_15,
    "pegasus1.6": TextModel(
        **{
            **vars(_PEGASUS_15),
            "name": "pegasus1.6",
            "batches": False,
            "images": 20,
            "time_arrays": True,
        }
    ),
}

SEARCH_MODELS: dict[str, SearchModel] = {
    "marengo2.7": SearchModel(
        "marengo2.7",
        indexes=True,
        options=("visual", "audio"),
        vectors=("visual-text", "audio"),
        dimension=1024,
        dimensions=(),
        ranks_only=False,
        query_images=1,
        embed_v2=False,
        multi_input_only=False,
    ),
    "marengo3.0": SearchModel(
        "marengo3.0",
        indexes=True,
        options=("visual", "audio", "transcription"),
        vectors=("visual", "audio", "transcription"),
        dimension=512,
        dimensions=(),
        ranks_only=True,
        query_images=10,
        embed_v2=True,
        multi_input_only=False,
    ),
    "marengo3.5": SearchModel(
        "marengo3.5",
        indexes=False,
        options=(),
        vectors=("visual", "audio"),
        dimension=512,
        dimensions=(256, 512),
        ranks_only=True,
        query_images=0,
        embed_v2=True,
        multi_input_only=True,
    ),
}

#: What the client asks for when no setting names a model.
TEXT_MODEL, SEARCH_MODEL = "pegasus1.5", "marengo3.0"
#: The same on an account of 2025.
TEXT_MODEL_2025, SEARCH_MODEL_2025 = "pegasus1.2", "marengo2.7"


def text_model(name: str) -> TextModel | None:
    """The row of a text model; None if the table does not know it, as with the embedded engine's own."""
    return TEXT_MODELS.get(name)


def search_model(name: str) -> SearchModel | None:
    """The row of a model of indexes and vectors, under either of its spellings; None if it is not known."""
    return SEARCH_MODELS.get(name.lower().replace("-retrieval-", ""))


def embed_name(name: str) -> str:
    """The spelling that /embed takes: models before 3.0 have one of their own there."""
    return name.replace("marengo2.", "Marengo-retrieval-2.")
