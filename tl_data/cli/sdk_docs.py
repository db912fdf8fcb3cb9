"""Which operations the official SDKs carry out in the tests: each tells the engine a story of its own.

The stories are in tests/sdk. The engine counts what they ask for, and its counts are compared with what is
said here, so that the table of the documents claims nothing that no SDK does.
"""

from __future__ import annotations

_ALL = frozenset(
    (
        *("POST /indexes", "GET /indexes"),
        *("GET /indexes/{index_id}", "PUT /indexes/{index_id}", "DELETE /indexes/{index_id}"),
        *("GET /indexes/{index_id}/videos", "GET /indexes/{index_id}/videos/{video_id}"),
        "DELETE /indexes/{index_id}/videos/{video_id}",
        *("POST /tasks", "GET /tasks", "GET /tasks/{task_id}", "DELETE /tasks/{task_id}"),
        *("POST /search", "GET /search/{page_token}"),
        "POST /analyze",
        *("POST /embed", "POST /embed/tasks", "GET /embed/tasks"),
        *("GET /embed/tasks/{task_id}", "GET /embed/tasks/{task_id}/status"),
    )
)
_GONE = frozenset(  # from the SDKs of today
    (
        *("POST /gist", "POST /summarize"),
        "POST /tasks/transfers/import/{integration_id}",
        "GET /tasks/transfers/import/{integration_id}/status",
        "GET /tasks/transfers/import/{integration_id}/logs",
    )
)
_ASSETS = frozenset(  # what the SDKs of today begin with
    (
        *("POST /assets", "GET /assets", "GET /assets/{asset_id}", "DELETE /assets/{asset_id}"),
        "GET /assets/{asset_id}/indexed-assets",
        *("POST /indexes/{index_id}/indexed-assets", "GET /indexes/{index_id}/indexed-assets"),
        "GET /indexes/{index_id}/indexed-assets/{indexed_asset_id}",
        "PATCH /indexes/{index_id}/indexed-assets/{indexed_asset_id}",
        "DELETE /indexes/{index_id}/indexed-assets/{indexed_asset_id}",
        *("POST /embed-v2", "POST /embed-v2/tasks", "GET /embed-v2/tasks", "GET /embed-v2/tasks/{task_id}"),
        *(f"{verb} /assets/{{asset_id}}/user-metadata" for verb in ("PATCH", "PUT", "DELETE")),
        "GET /assets/{asset_id}/transcription",
        *("POST /analyze/tasks", "GET /analyze/tasks"),
        *("GET /analyze/tasks/{task_id}", "DELETE /analyze/tasks/{task_id}"),
        *("POST /assets/multipart-uploads", "GET /assets/multipart-uploads"),
        *("POST /assets/multipart-uploads/{upload_id}", "GET /assets/multipart-uploads/{upload_id}"),
        "POST /assets/multipart-uploads/{upload_id}/presigned-urls",
    )
)
_PUT, _PATCH = (frozenset([f"{verb} /indexes/{{index_id}}/videos/{{video_id}}"]) for verb in ("PUT", "PATCH"))

#: Language and version of an SDK -> the operations that its story carries out.
SDKS: dict[tuple[str, str], frozenset[str]] = {
    ("Python", "0.4.11"): _ALL | _GONE | _PUT | {"POST /generate", "GET /tasks/status"},
    ("Python", "1.3.6"): _ALL | _ASSETS | _PATCH,
    ("JS", "1.0.2"): _ALL | _GONE | _PATCH,
    ("JS", "1.3.4"): _ALL | _ASSETS | _PATCH,
}


def sdks_of(route: str) -> str:
    """The SDKs that carry out an operation: `Python 0.4.11, 1.3.6; JS 1.0.2`."""
    versions: dict[str, list[str]] = {}
    for (language, version), routes in SDKS.items():
        if route in routes:
            versions.setdefault(language, []).append(version)
    return "; ".join(f"{language} {', '.join(found)}" for language, found in versions.items())
