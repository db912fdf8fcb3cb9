"""Names from API versions before v1.3, and their replacements.

Old samples and clients still use them. Under the lenient profile, the engine rejects an old name, and its
error message has the new name. Under strict profiles, it responds as the service does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tl_data.local.errors import EngineError
from tl_data.local.profiles import Profile

LINK = "https://docs.twelvelabs.io/docs/migration-guide"

INDEX = {
    "engine_id": 'models, as in [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]',
    "engines": "models; engine_name is model_name and engine_options is model_options",
    "index_options": "model_options, inside of models",
}
MODEL = {"engine_name": "model_name", "engine_options": "model_options"}
TASK = {"disable_video_stream": "enable_video_stream, with the opposite value"}
VIDEO = {"metadata": "user_metadata"}
SEARCH = {"conversation_option": "transcription_options, with lexical or semantic"}
EMBED = {"engine_name": "model_name"}
INDEX_LIST = {"engine_family": "model_family", "index_options": "model_options"}
TASK_LIST = {"id": "_id"}
OPTIONS = {"conversation": "audio or transcription", "text_in_video": "visual", "logo": "visual"}

#: Old path, with * for an id -> its replacement.
PATHS = {
    "/classify": "POST /analyze with a prompt that names the classes",
    "/classify/bulk": "POST /analyze with a prompt that names the classes",
    "/engines": "the models that POST /indexes takes: marengo3.0",
    "/search-v2": "POST /search",
    "/text-in-video": "POST /analyze with a question about the text on screen",
    "/logo": "POST /analyze with a question about logos",
    "/search/combined": "POST /search with query_text and search_options",
    "/indexes/*/videos/*/text-in-video": "POST /analyze with a question about the text on screen",
    "/indexes/*/videos/*/logo": "POST /analyze with a question about logos",
    "/indexes/*/videos/*/thumbnail": "hls.thumbnail_urls of GET /indexes/{index_id}/videos/{video_id}",
    "/indexes/*/videos/*/transcription": "GET /indexes/{index_id}/videos/{video_id}?transcription=true",
}


def refuse_old_names(profile: Profile, names: Iterable[str], table: Mapping[str, str]) -> None:
    """Reject parameter names from before v1.3, unless the profile is strict.

    Args:
        table: old name -> current name.

    Raises:
        EngineError: parameter_unknown. The message has the current name.
    """
    if profile.strict:
        return
    for name in names:
        if name in table:
            text = f"The {name} parameter is unknown. Since v1.3 it is called {table[name]}: {LINK}"
            raise EngineError(400, "parameter_unknown", text)


def suggest_replacement(value: object, table: Mapping[str, str] = OPTIONS) -> str:
    """A sentence that names the replacement of a value from before v1.3; "" for other values."""
    if not isinstance(value, str) or value not in table:
        return ""
    return f" Since v1.3 {value} is {table[value]}: {LINK}"


def find_replacement_path(path: str) -> str | None:
    """Return the replacement of a path from before v1.3; None for other paths."""
    segments = path.split("/")
    for old, current in PATHS.items():
        expected = old.split("/")
        if len(segments) == len(expected) and all(
            wildcard in ("*", segment) for segment, wildcard in zip(segments, expected, strict=True)
        ):
            return current
    return None
