"""Every refusal of the API as a row: what is sent to which operation, and what its message must say.

The parameters have the API's names, those of the path among them; `{index}` and the like are ids that the
test fills in, and a `Path` names a file it makes. A message names the parameter, what came and what may come.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

NOWHERE = "0123456789abcdef01234567"
INDEX = "/indexes/{index_id}"
VIDEO = "/indexes/{index_id}/videos/{video_id}"
IMPORT = "/tasks/transfers/import/{integration_id}"
IS_ID = ("24 lower-case hexadecimal",)
OLD_MODEL = [{"model_name": "marengo2.7", "model_options": ["visual"]}]


@dataclass(frozen=True)
class Refusal:
    """One request that is refused."""

    route: str
    code: str
    words: tuple[str, ...]
    sent: dict[str, Any] = field(default_factory=dict)
    status: int = 400
    own: bool = False  # the client refuses it before anything is sent
    below: bool = False  # no method of the client can be called like this: sent by the exchange under it
    engine: str = "open"  # "strict": demands a key and takes small files; "today": the profile
    version: str = "v1.3"
    limits: dict[str, Any] | None = None  # rate limits in force meanwhile

    def __str__(self) -> str:
        shown = ", ".join(f"{name}={value}" for name, value in self.sent.items())[:60]
        return f"{self.route} {self.code} {shown}"


def no(route: str, *words: str, code: str = "parameter_invalid", **sent: Any) -> Refusal:
    """A row whose code is parameter_invalid unless said."""
    extra = {name: sent.pop(name) for name in ("own", "below", "engine", "version", "limits") if name in sent}
    if isinstance(sent.get("status"), int):  # the status of the answer; a text is a filter of lists
        extra["status"] = sent.pop("status")
    return Refusal(route, code, words, sent, **extra)


def missing(route: str, *names: str, **sent: Any) -> Refusal:
    """A row with required parameters left out."""
    return no(route, *names, "required", code="parameter_not_provided", **sent)


def unknown(route: str, collection: str, **sent: Any) -> Refusal:
    """A row with an id that is well formed but leads nowhere."""
    words = (NOWHERE, f"does not exist in {collection}")
    return no(route, *words, code="resource_not_exists", status=404, **sent)


def listing(route: str, **path: Any) -> list[Refusal]:
    """What every numbered list refuses."""
    return [
        no(route, "page_limit", "'51'", "between 1 and 50", page_limit=51, **path),
        no(route, "page_limit", "'-1'", "between 1 and 50", page_limit=-1, **path),
        no(route, "page", "'x'", "whole number", page="x", below=True, **path),
        no(route, "page", "'0'", "between 1 and", page=0, below=True, **path),
    ]


def sorting(route: str, **path: Any) -> list[Refusal]:
    """What lists refuse that can be sorted."""
    return [
        *listing(route, **path),
        no(route, "sort_by", "'name'", "created_at, updated_at", sort_by="name", **path),
        no(route, "sort_option", "'up'", "asc, desc", sort_option="up", **path),
        no(route, "created_at", "'yesterday'", "RFC 3339", created_at="yesterday", **path),
        no(route, "updated_at", "'today'", "RFC 3339", updated_at={"gte": "today"}, **path),
    ]


def ids(route: str, collection: str, name: str, **path: Any) -> list[Refusal]:
    """A malformed id, and one that leads nowhere."""
    return [
        no(route, name, "'short'", *IS_ID, **{**path, name: "short"}),
        unknown(route, collection, **{**path, name: NOWHERE}),
    ]


BOTH_OPTIONS = {"model_name": "marengo3.0", "model_options": ["visual", "audio"]}


def made(route: str = "POST /indexes", *words: str, **model: Any) -> Refusal:
    """An index with a model that is not to be."""
    return no(route, *words, index_name="n", models=[BOTH_OPTIONS | model])


INDEXES = [
    *sorting("GET /indexes"),
    no("GET /indexes", "model_options", "'smell'", "visual, audio", model_options=["smell"]),
    no("GET /indexes", "model_family", "'gpt'", "marengo, pegasus", model_family="gpt"),
    missing("POST /indexes", "index_name", models=[BOTH_OPTIONS], below=True),
    missing("POST /indexes", "models", index_name="n", below=True),
    made("POST /indexes", "model_options", "'smell'", "visual, audio", model_options=["smell"]),
    made("POST /indexes", "model_options", "[]", "visual, audio", model_options=[]),
    made("POST /indexes", "model_name", "'gpt'", "marengo3.0", "pegasus1.2", model_name="gpt"),
    no("POST /indexes", "models", "3", "one or two", index_name="n", models=[BOTH_OPTIONS] * 3),
    no("POST /indexes", "index_name", "''", "1 to 512", index_name="", models=[BOTH_OPTIONS]),
    no(
        "POST /indexes", "addons", "'sound'", "thumbnail", index_name="n", models=[BOTH_OPTIONS],
        addons=["sound"],
    ),
    no(
        "POST /indexes", "Index name open already exists", "another unique name",
        code="index_name_already_exists", status=409, index_name="open", models=OLD_MODEL,
    ),
    *ids(f"GET {INDEX}", "indexes", "index_id"),
    *ids(f"PUT {INDEX}", "indexes", "index_id", index_name="n"),
    *ids(f"DELETE {INDEX}", "indexes", "index_id"),
    no(f"PUT {INDEX}", "index_name", "' '", "1 to 512", index_id="{index}", index_name=" "),
    missing(f"PUT {INDEX}", "index_name", index_id="{index}", below=True),
    no(
        f"PUT {INDEX}", "already exists", code="index_name_already_exists", status=409, index_id="{other}",
        index_name="open",
    ),
    no(
        f"PUT {INDEX}", "index_options", "create new index", code="index_option_cannot_be_changed",
        index_id="{index}", index_name="n", index_options=["visual"], below=True,
    ),
    no(
        f"PUT {INDEX}", "engine_id", "create new index", code="index_engine_cannot_be_changed",
        index_id="{index}", index_name="n", engine_id="marengo2.6", below=True,
    ),
    no(f"GET {INDEX}", "index_id must be an id", "got ''", index_id="", own=True),
]  # fmt: skip

HERE = {"index_id": "{index}", "video_id": "{video}"}
VIDEOS = [
    *sorting("GET /indexes/{index_id}/videos", index_id="{index}"),
    *ids("GET /indexes/{index_id}/videos", "indexes", "index_id"),
    no("GET /indexes/{index_id}/videos", "duration", "'long'", "number", index_id="{index}", duration="long"),
    no(
        "GET /indexes/{index_id}/videos", "width", "'wide'", "number", index_id="{index}",
        width={"gte": "wide"},
    ),
    *(
        row
        for method in ("GET", "PATCH", "PUT", "DELETE")
        for more in ({"user_metadata": {"a": 1}} if method in ("PATCH", "PUT") else {},)
        for row in (
            no(
                f"{method} {VIDEO}", "video_id", "'short'", *IS_ID, index_id="{index}", video_id="short",
                **more,
            ),
            unknown(f"{method} {VIDEO}", "indexes", index_id=NOWHERE, video_id="{video}", **more),
            no(
                f"{method} {VIDEO}", "resource does not exist", "does not exist in index", code="not_found",
                status=404, index_id="{index}", video_id=NOWHERE, **more,
            ),
        )
    ),
    no(
        f"GET {VIDEO}", "embedding_option", "'smell'", "visual, audio", embedding_option=["audio", "smell"],
        **HERE,
    ),
    no(f"GET {VIDEO}", "transcription", "'maybe'", "true, false", transcription="maybe", **HERE),
    no(
        f"PATCH {VIDEO}", "user_metadata", "width is reserved", "filename", user_metadata={"width": 1},
        **HERE,
    ),
    no(
        f"PATCH {VIDEO}", "user_metadata", "value of a", '{"b": 1}', "string, number or boolean",
        user_metadata={"a": {"b": 1}}, **HERE,
    ),
    no(f"PATCH {VIDEO}", "user_metadata", "[1]", "JSON object", user_metadata=[1], below=True, **HERE),
    no(f"PUT {VIDEO}", "video_title", "5", "text", video_title=5, below=True, **HERE),
]  # fmt: skip

URL = {"video_url": "http://127.0.0.1:9/a.mp4"}
TASKS = [
    *sorting("GET /tasks"),
    no("GET /tasks", "status", "'done'", "ready, uploading, validating", status=["done"]),
    no("GET /tasks", "duration", "'long'", "number", duration="long"),
    missing("POST /tasks", "index_id", **URL, below=True),
    missing("POST /tasks", "video_file", "video_url", index_id="{index}"),
    no("POST /tasks", "index_id", "'short'", *IS_ID, index_id="short", **URL),
    unknown("POST /tasks", "indexes", index_id=NOWHERE, **URL),
    no(
        "POST /tasks", "video_url", "'ftp://host/a'", "http:// or https://", index_id="{index}",
        video_url="ftp://host/a", below=True,
    ),
    no(
        "POST /tasks", "ftp://host/a", "http:// or https://", code="video_url_invalid", index_id="{index}",
        video_url="ftp://host/a", own=True,
    ),
    no(
        "POST /tasks", "enable_video_stream", "'maybe'", "true, false", index_id="{index}",
        enable_video_stream="maybe", **URL,
    ),
    no(
        "POST /tasks", "user_metadata", "height is reserved", index_id="{index}",
        user_metadata={"height": 1}, **URL,
    ),
    no(
        "POST /tasks", "user_metadata", "'{'", "valid JSON", index_id="{index}", user_metadata="{",
        below=True, **URL,
    ),
    no(
        "POST /tasks", "empty", code="video_file_broken", index_id="{index}", video_file=Path("zero_bytes"),
        own=True,
    ),
    no(
        "POST /tasks", "less than 48.83KB", "more than", code="video_filesize_too_large", engine="strict",
        index_id="{index}", video_file=Path("random_bytes"),
    ),
    *ids("GET /tasks/{task_id}", "tasks", "task_id"),
    *ids("DELETE /tasks/{task_id}", "tasks", "task_id"),
    no(
        "DELETE /tasks/{task_id}", "{task}", "Delete its video first", code="task_cannot_be_deleted",
        task_id="{task}",
    ),
    no(
        "DELETE /tasks/{task_id}", "{stuck_task}", "status is indexing", "ready or failed",
        code="task_cannot_be_deleted", task_id="{stuck_task}",
    ),
    missing("GET /tasks/status", "index_id"),
    unknown("GET /tasks/status", "indexes", index_id=NOWHERE),
]  # fmt: skip

IMPORTS = [
    *(
        row
        for method, tail in (("POST", ""), ("GET", "/status"), ("GET", "/logs"))
        for more in ({} if tail == "/logs" else {"index_id": "{index}"},)
        for row in ids(f"{method} {IMPORT}{tail}", "integrations", "integration_id", **more)
    ),
    missing(f"POST {IMPORT}", "index_id", integration_id="{integration}", below=True),
    missing(f"GET {IMPORT}/status", "index_id", integration_id="{integration}", index_id=""),
    unknown(f"POST {IMPORT}", "indexes", integration_id="{integration}", index_id=NOWHERE),
    no(
        f"POST {IMPORT}", "retry_failed", "'x'", "true, false", integration_id="{integration}",
        index_id="{index}", retry_failed="x",
    ),
    no(
        f"POST {IMPORT}", "user_metadata", "fps is reserved", integration_id="{integration}",
        index_id="{index}", user_metadata={"fps": 1},
    ),
    no(
        f"POST {IMPORT}", "Another import", "still running", code="generic_error",
        integration_id="{integration}", index_id="{index}",
    ),
]  # fmt: skip
