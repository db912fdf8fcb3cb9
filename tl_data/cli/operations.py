"""The table of the API's operations: client method, function, command, accounts and SDKs of each.

`operations()` returns the table for the reference. It also lists the operations that the package leaves out,
with the reason. Tests compare the table with the routes of the engine, the operations of an account of today
(tests/data/operations-today.txt), and the operations that the test scripts of the SDKs ("stories", in
tests/sdk) call. `make test-clients` runs these scripts.
"""

from __future__ import annotations

import re

from tl_data import catalog
from tl_data.client import OPERATIONS

#: Client methods by which functions of one video create an analysis task and wait for it.
_BY_TASK = ("create_analyze_task", "list_analyze_tasks", "retrieve_analyze_task")
#: Client methods that index a video as an uploaded asset.
_UPLOAD = (
    *("create_asset", "list_assets", "retrieve_asset", "create_upload", "retrieve_upload", "upload_urls"),
    *("report_chunks", "index_asset", "list_indexed_assets", "retrieve_indexed_asset"),
)
#: Function or listing -> the client methods that it calls, except those that index its video.
CALLS: dict[str, tuple[str, ...]] = {
    "index_video": (
        *("create_index", "list_indexes", "retrieve_index", "create_task", "list_tasks", "retrieve_task"),
        *("retrieve_video", *_UPLOAD),
    ),
    "search": ("search", "retrieve_index"),
    "search_by_image": ("search", "retrieve_index"),
    "clips": ("retrieve_video",),
    "transcript": ("retrieve_video", "asset_transcription"),
    "summarize": (*_BY_TASK, "summarize"),
    "chapters": (*_BY_TASK, "summarize"),
    "highlights": (*_BY_TASK, "summarize"),
    "gist": (*_BY_TASK, "gist"),
    "analyze": (*_BY_TASK, "analyze"),
    "extract": (*_BY_TASK, "analyze"),
    "segments": _BY_TASK,
    "embed_text": ("embed_v2", "embed"),
    "embed_image": ("embed_v2", "embed"),
    "audio_vectors": ("embed_v2", "embed"),
    "video_vectors": (
        *("create_embed_task", "list_embed_tasks", "retrieve_embed_task", "embed_task_status"),
        *("create_embed_v2_task", "list_embed_v2_tasks", "retrieve_embed_v2_task", "retrieve_video"),
    ),
    "indexes": ("list_indexes",),
    "videos": ("list_videos",),
    "tasks": ("list_tasks",),
    "embed_tasks": ("list_embed_tasks",),
    "estimate": (),
    "files": (),
    "agg": (),
    **dict.fromkeys(("filter", "classify", "classify_multi", "score"), (*_BY_TASK, "analyze")),
    "assets": ("list_assets",),
    "entities": ("list_entity_collections", "retrieve_entity_collection", "list_entities"),
    "analyze_tasks": ("list_analyze_tasks",),
}

_JOBS = "jobs, `session.analyze_many`"
_CHANGE = "Python only: it changes or deletes something"
_PROGRAM = "Python only"
#: Client method that no SQL function calls -> its caller, as text for the table.
OTHER_CALLERS: dict[str, str] = {
    **dict.fromkeys(("create_batch", "retrieve_batch", "batch_results"), _JOBS),
    "analyze_stream": "Python only: a stream has no rows",
    **dict.fromkeys(("delete_video", "delete_asset"), "`tl-data remove --platform`"),
    **dict.fromkeys(
        (
            *("delete_analyze_task", "cancel_analyze_task", "cancel_batch", "delete_batch", "update_index"),
            *("delete_index", "update_video", "update_asset_metadata"),
            *("replace_asset_metadata", "delete_asset_metadata", "update_indexed_asset"),
            *("delete_indexed_asset", "delete_task", "create_entity_collection"),
            *("update_entity_collection", "delete_entity_collection", "create_entity", "create_entities"),
            *("update_entity", "delete_entity", "add_entity_assets", "remove_entity_assets"),
            "create_import",
        ),
        _CHANGE,
    ),
    **dict.fromkeys(
        (
            *("list_batches", "list_uploads", "asset_indexes", "retrieve_entity", "asset_entities"),
            *("import_status", "import_logs"),
        ),
        _PROGRAM,
    ),
}

#: Prefixes of paths that exist only on an account of 2025.
ONLY_2025 = ("/gist", "/summarize", "/tasks/transfers")
#: Prefixes of paths that exist only on an account of today.
ONLY_TODAY = (
    *("/analyze/tasks", "/analyze/batches", "/embed-v2", "/entity-collections"),
    *("/assets/*/entities", "/assets/*/transcription"),
)

_STORE = "/knowledge-stores/{knowledge_store_id}"
_COLLECTION = f"{_STORE}/item-collections/{{collection_id}}"
_CONNECTION = "/connections/{connection_id}"
_URIS = "/connections/redirect-uris"
#: Reason -> operations of an account of today that the package leaves out. The engine returns 501
#: `not_supported`.
LEFT_OUT: dict[str, tuple[str, ...]] = {
    "the service keeps a knowledge store, without rows to join: index the videos and search the index": (
        *("GET /knowledge-stores", "POST /knowledge-stores", f"GET {_STORE}", f"PATCH {_STORE}"),
        *(f"DELETE {_STORE}", f"POST {_STORE}/search", f"GET {_STORE}/items", f"POST {_STORE}/items"),
        *(f"GET {_STORE}/items/{{item_id}}", f"DELETE {_STORE}/items/{{item_id}}"),
        *(f"GET {_STORE}/item-collections", f"POST {_STORE}/item-collections", f"GET {_COLLECTION}"),
        *(f"PATCH {_COLLECTION}", f"DELETE {_COLLECTION}", f"GET {_COLLECTION}/items"),
        *(f"POST {_COLLECTION}/items/add", f"POST {_COLLECTION}/items/remove"),
    ),
    "a conversation over a knowledge store: `tl_analyze` asks one video a question": ("POST /responses",),
    "Google Drive after a login in a browser: pass URLs, paths or buckets": (
        *("POST /connections:authorize", "GET /connections", f"GET {_CONNECTION}", f"DELETE {_CONNECTION}"),
        *(f"POST {_CONNECTION}/picker-token", f"GET {_URIS}", f"POST {_URIS}"),
        *(f"DELETE {_URIS}/{{redirect_uri_id}}", f"GET {_CONNECTION}/imports"),
        *(f"POST {_CONNECTION}/imports", f"GET {_CONNECTION}/imports/{{import_id}}"),
    ),
}

#: Operations that the test scripts of all SDKs call.
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
#: Operations of the scripts of SDKs before 1.3 that those of 1.3 do not call.
_BEFORE_1_3 = frozenset(
    (
        *("POST /gist", "POST /summarize"),
        "POST /tasks/transfers/import/{integration_id}",
        "GET /tasks/transfers/import/{integration_id}/status",
        "GET /tasks/transfers/import/{integration_id}/logs",
    )
)
#: Operations that only the scripts of the SDKs 1.3 call.
_SINCE_1_3 = frozenset(
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

_BATCH, _ENTITY_COLLECTION = "/analyze/batches/{batch_id}", "/entity-collections/{entity_collection_id}"
_ENTITY = f"{_ENTITY_COLLECTION}/entities/{{entity_id}}"
#: Further operations that the test scripts call under the profile `today`.
_BATCHES_AND_ENTITIES = frozenset(
    (
        *("POST /analyze/tasks/{task_id}/cancel", "POST /analyze/batches", "GET /analyze/batches"),
        *(f"GET {_BATCH}", f"POST {_BATCH}/cancel", f"GET {_BATCH}/results", f"DELETE {_BATCH}"),
        *(
            "POST /entity-collections",
            "GET /entity-collections",
            f"GET {_ENTITY_COLLECTION}",
            f"PATCH {_ENTITY_COLLECTION}",
        ),
        *(
            f"DELETE {_ENTITY_COLLECTION}",
            f"POST {_ENTITY_COLLECTION}/entities",
            f"GET {_ENTITY_COLLECTION}/entities",
        ),
        *(
            f"POST {_ENTITY_COLLECTION}/entities/bulk",
            f"GET {_ENTITY}",
            f"PATCH {_ENTITY}",
            f"DELETE {_ENTITY}",
        ),
        *(f"POST {_ENTITY}/assets", "GET /assets/{asset_id}/entities"),
    )
)

#: Language and version of an SDK -> the operations of its script in tests/sdk. Python 1.2.8 is not among
#: them: its script runs, but its operations are not counted.
SDKS: dict[tuple[str, str], frozenset[str]] = {
    ("Python", "0.4.11"): _ALL | _BEFORE_1_3 | _PUT | {"POST /generate", "GET /tasks/status"},
    ("Python", "1.3.6"): _ALL | _SINCE_1_3 | _PATCH,
    ("JS", "1.0.2"): _ALL | _BEFORE_1_3 | _PATCH,
    ("JS", "1.3.4"): _ALL | _SINCE_1_3 | _PATCH,
}

#: The test video is silent: under the profile `today`, its transcription is answered with 404.
_SPOKEN = {"GET /assets/{asset_id}/transcription"}
#: Like `SDKS`, for the scripts that run under the profile `today`.
SDKS_TODAY: dict[tuple[str, str], frozenset[str]] = {
    ("Python", "1.3.6"): (_ALL | _SINCE_1_3 | _PATCH | _BATCHES_AND_ENTITIES) - _SPOKEN,
    ("JS", "1.3.4"): (_ALL | _SINCE_1_3 | _PATCH) - _SPOKEN,
}
#: Lines of Markdown: the profiles of the engine that each SDK runs against in `make test-clients`.
STORIES = (
    "`make test-clients` runs the official SDKs, unchanged, against the engine:",
    "",
    "| SDK | profiles |",
    "| --- | --- |",
    "| Python 1.3.6 | today, lenient; the code of its README: lenient |",
    "| JavaScript 1.3.4 | today, lenient; the code of its README: lenient |",
    "| Python 1.2.8 | 2025 |",
    "| Python 0.4.11 | 2025, lenient; the code of its README: lenient |",
    "| JavaScript 1.0.2 | lenient; the code of its README: lenient |",
)
#: Operations that the engine serves for an older SDK and for which the client has no method.
SERVED = ("GET /tasks/status", "POST /generate")


def sdks_of(route: str) -> str:
    """The SDKs whose test scripts call an operation, such as `Python 0.4.11, 1.3.6; JS 1.0.2`."""
    versions: dict[str, list[str]] = {}
    for (language, version), routes in SDKS.items():
        if route in routes | SDKS_TODAY.get((language, version), frozenset()):
            versions.setdefault(language, []).append(version)
    return "; ".join(f"{language} {', '.join(numbers)}" for language, numbers in versions.items())


def operations() -> str:
    """The section about operations in the reference, in Markdown."""
    lines = [
        "## Operations of the API",
        "",
        "Every supported operation has a method in `tl_data.client.Client`. The column `accounts` names the",
        "accounts that have the operation and the profiles of the engine that serve it (`tl-data serve",
        "--profile today` or `2025`); the profile `lenient` serves all. The tests call the operation with",
        "the SDKs in the last column, against the engine. Python 1.2.8 runs, too, but its operations are not",
        "counted. Webhooks are left out: tasks are polled.",
        "",
        "| operation | client method | accounts | SQL, or who else calls it | command | SDKs |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for operation in OPERATIONS:
        names = [r.name for r in catalog.records() if operation.method in CALLS[r.name]]
        sql = ", ".join(f"`tl_{name}`" for name in names) or OTHER_CALLERS[operation.method]
        commands = ", ".join(f"`tl-data {name.replace('_', '-')}`" for name in names)
        route = operation.route
        facts = (f"`{operation.method}`", accounts_of(route), sql, commands, sdks_of(route))
        lines.append(f"| `{route}` | {' | '.join(facts)} |")
    lines += [
        "",
        "Left out, with the reason. The engine answers them with 501 `not_supported` under every profile:",
        "",
        "| operation | why |",
        "| --- | --- |",
        *(f"| `{route}` | {reason} |" for reason, routes in LEFT_OUT.items() for route in routes),
    ]
    lines += ["", *STORIES, ""]
    lines += ["The embedded engine also serves these operations, for programs written with an older SDK:", ""]
    lines += [f"- `{route}` ({sdks_of(route)})" for route in SERVED]
    return "\n".join(lines) + "\n"


def accounts_of(route: str) -> str:
    """The accounts on which an operation exists: `today`, `2025`, or `today and 2025`."""
    path = route.partition(" ")[2]

    def begins_with(patterns: tuple[str, ...]) -> bool:
        return any(re.match(re.escape(p).replace(r"\*", "[^/]+") + "(/|$)", path) for p in patterns)

    return "2025" if begins_with(ONLY_2025) else "today" if begins_with(ONLY_TODAY) else "today and 2025"
