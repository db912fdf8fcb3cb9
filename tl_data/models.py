"""The models of the service, with the inputs, options and limits of each.

The API changed at the beginning of 2026. An account of 2025 analyzes only indexed videos, and has the older
models. An account of today also analyzes URLs and assets, and runs analyses as tasks.

Durations are in seconds, sizes in bytes. For a model that is not in these tables, nothing is checked before
the request, and the server decides.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

MB, GB = 1 << 20, 1 << 30
HOUR = 3600.0


@dataclass(frozen=True)
class TextModel:
    """A model that writes texts about videos (Pegasus)."""

    name: str
    by_object: bool  # accepts the `video` object: a URL or an asset
    by_video_id: bool  # accepts the id of an indexed video
    windows: bool  # accepts a window of the video: start_time and end_time
    segments: bool  # accepts segment definitions, in analysis tasks
    batches: bool  # can be used in /analyze/batches
    images: int  # maximum number of pictures in place of a video
    reference_images: int  # maximum number of pictures that a prompt may refer to
    time_arrays: bool  # supports segment fields of type time_array, and max_tokens `unlimited`
    least_tokens: int  # minimum of max_tokens
    most_tokens: int  # maximum of max_tokens
    default_tokens: int  # default of max_tokens
    segment_tokens: int  # default of max_tokens for segments
    shortest_sec: float  # minimum duration of a video and of a window
    sync_sec: float  # maximum duration of a video for POST /analyze
    task_sec: float  # maximum duration of a video for a task without a window; 0: no tasks
    windowed_sec: float  # maximum duration of a video for a task with a window
    window_sec: float  # maximum duration of a window


@dataclass(frozen=True)
class SearchModel:
    """A model that indexes, searches and embeds (Marengo)."""

    name: str
    indexes: bool  # can be a model of an index
    options: tuple[str, ...]  # the possible search_options
    vectors: tuple[str, ...]  # the possible embedding options: each has its own vectors
    dimension: int  # default dimension of the vectors
    dimensions: tuple[int, ...]  # dimensions that a request may choose; empty: only `dimension`
    ranks_only: bool  # hits have a rank and neither score nor confidence; `threshold` is ignored
    query_images: int  # maximum number of images in a search query
    embed_v2: bool  # can be used in /embed-v2
    multi_input_only: bool  # /embed-v2 accepts only the input type `multi_input`


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

#: The models that requests name if no setting does.
TEXT_MODEL, SEARCH_MODEL = "pegasus1.5", "marengo3.0"
#: The same for accounts of 2025 (see above).
TEXT_MODEL_2025, SEARCH_MODEL_2025 = "pegasus1.2", "marengo2.7"


def text_model(name: str) -> TextModel | None:
    """The entry of a model in `TEXT_MODELS`; None if it has none, such as the embedded engine's model."""
    return TEXT_MODELS.get(name)


def search_model(name: str) -> SearchModel | None:
    """The entry of a model in `SEARCH_MODELS`, by a name of the API or of /embed; None if it has none."""
    return SEARCH_MODELS.get(short_name(name))


def short_name(model: str) -> str:
    """The short name of a model. Older models also have a long one: Marengo-retrieval-2.7 is marengo2.7."""
    return model.lower().replace("-retrieval-", "")


def embed_name(name: str) -> str:
    """The name of a model for /embed, where marengo2.7 is called Marengo-retrieval-2.7."""
    return name.replace("marengo2.", "Marengo-retrieval-2.")


#: The service's page about names of version 1.2, which old samples use.
MIGRATION_GUIDE = "https://docs.twelvelabs.io/docs/migration-guide"

#: Old name of a parameter, value or endpoint -> today's name.
OLD_NAMES = {
    "bulk_classify": "classify(video, labels) for each video",
    "classify_bulk": "classify(video, labels) for each video",
    "combined_search": "search with query_text and search_options",
    "conversation": "transcription for spoken words, audio for other sound",
    "conversation_option": "transcription_options, with lexical or semantic",
    "disable_video_stream": "enable_video_stream, with the opposite value",
    "engine": "the models of an index: models",
    "engine_family": "model_family",
    "engine_id": "model_name",
    "engine_name": "model_name",
    "engine_options": "model_options",
    "engines": "models",
    "generate": "analyze(video, prompt)",
    "index_options": "model_options",
    "logo": "visual; for the logos of a video ask analyze(video, prompt)",
    "metadata": "user_metadata",
    "query": "query_text",
    "search_combined": "search with query_text and search_options",
    "search_v2": "search",
    "text_in_video": "visual; for the text on screen ask analyze(video, prompt)",
    "video_title": "a key of user_metadata",
}


def name_of_today(names: Iterable[object]) -> str:
    """A sentence for each old name among `names`, and a link; "" if there is none."""
    old = [name for name in dict.fromkeys(map(str, names)) if _plain_name(name) in OLD_NAMES]
    if not old:
        return ""
    parts = [f"{name} is a name of API v1.2; today it is {OLD_NAMES[_plain_name(name)]}" for name in old]
    return f" {'. '.join(parts)}: {MIGRATION_GUIDE}"


def _plain_name(name: str) -> str:
    """A name as in `OLD_NAMES`: `/search-v2` and `tl_search_v2` are `search_v2`."""
    return name.strip("/").replace("-", "_").replace("/", "_").removeprefix("tl_")
