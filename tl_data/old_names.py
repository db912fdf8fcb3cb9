"""Names of version 1.2 of the API, and the names of today, for messages about unknown names.

Old samples use these names. An unknown argument, key or value gets a sentence with today's name and a link.
The embedded engine has a table of its own (`tl_data.local.server.old_names`).
"""

from __future__ import annotations

from collections.abc import Iterable

LINK = "https://docs.twelvelabs.io/docs/migration-guide"

#: Old name of a parameter, value or endpoint -> today's name.
REPLACEMENTS = {
    "bulk_classify": "classify(video, labels) for each video",
    "classify_bulk": "classify(video, labels) for each video",
    "combined_search": "search with query_text and search_options",
    "conversation": "transcription for what is said, audio for other sound",
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


def pointer(names: Iterable[object]) -> str:
    """A sentence for each old name among `names`, and a link; "" if there is none."""
    old = [name for name in dict.fromkeys(map(str, names)) if _plain(name) in REPLACEMENTS]
    if not old:
        return ""
    parts = [f"{name} is a name of API v1.2; today it is {REPLACEMENTS[_plain(name)]}" for name in old]
    return f" {'. '.join(parts)}: {LINK}"


def _plain(name: str) -> str:
    """A name as in `REPLACEMENTS`: `/search-v2` and `tl_search_v2` are `search_v2`."""
    return name.strip("/").replace("-", "_").replace("/", "_").removeprefix("tl_")
