"""The refusals of what the API has since 2026: analysis tasks, batches, assets, embed-v2 and entities."""

from __future__ import annotations

from typing import Any

from tests.support.refusals import NOWHERE, Refusal, missing, no, unknown

META = {"user_metadata": {"a": 1}}
COLLECTION = "/entity-collections/{entity_collection_id}"
ENTITY = COLLECTION + "/entities/{entity_id}"
INDEXED = "/indexes/{index_id}/indexed-assets"
UPLOADS = "/assets/multipart-uploads"
IN_COLLECTION = {"entity_collection_id": NOWHERE}
IN_ENTITY = {**IN_COLLECTION, "entity_id": NOWHERE}
IN_INDEX = {"index_id": NOWHERE, "indexed_asset_id": NOWHERE}

#: Route, what the engine calls the collection, and the arguments of the client's method, ids first.
NO_SUCH: list[tuple[str, str, dict[str, Any]]] = [
    ("GET /analyze/tasks/{task_id}", "analyze_tasks", {"task_id": NOWHERE}),
    ("DELETE /analyze/tasks/{task_id}", "analyze_tasks", {"task_id": NOWHERE}),
    ("POST /analyze/tasks/{task_id}/cancel", "analyze_tasks", {"task_id": NOWHERE}),
    ("GET /analyze/batches/{batch_id}", "batches", {"batch_id": NOWHERE}),
    ("GET /analyze/batches/{batch_id}/results", "batches", {"batch_id": NOWHERE}),
    ("POST /analyze/batches/{batch_id}/cancel", "batches", {"batch_id": NOWHERE}),
    ("DELETE /analyze/batches/{batch_id}", "batches", {"batch_id": NOWHERE}),
    ("GET /assets/{asset_id}", "assets", {"asset_id": NOWHERE}),
    ("DELETE /assets/{asset_id}", "assets", {"asset_id": NOWHERE}),
    ("GET /assets/{asset_id}/transcription", "assets", {"asset_id": NOWHERE}),
    ("PATCH /assets/{asset_id}/user-metadata", "assets", {"asset_id": NOWHERE, **META}),
    ("PUT /assets/{asset_id}/user-metadata", "assets", {"asset_id": NOWHERE, **META}),
    ("DELETE /assets/{asset_id}/user-metadata", "assets", {"asset_id": NOWHERE}),
    ("GET /assets/{asset_id}/indexed-assets", "assets", {"asset_id": NOWHERE}),
    ("GET /assets/{asset_id}/entities", "assets", {"asset_id": NOWHERE}),
    (f"GET {UPLOADS}/{{upload_id}}", "multipart-uploads", {"upload_id": NOWHERE}),
    (f"POST {UPLOADS}/{{upload_id}}", "multipart-uploads", {"upload_id": NOWHERE, "completed_chunks": [{}]}),
    (
        f"POST {UPLOADS}/{{upload_id}}/presigned-urls",
        "multipart-uploads",
        {"upload_id": NOWHERE, "start": 1, "count": 1},
    ),
    (f"POST {INDEXED}", "indexes", {"index_id": NOWHERE, "asset_id": NOWHERE}),
    (f"GET {INDEXED}", "indexes", {"index_id": NOWHERE}),
    (f"GET {INDEXED}/{{indexed_asset_id}}", "indexes", IN_INDEX),
    (f"PATCH {INDEXED}/{{indexed_asset_id}}", "indexes", {**IN_INDEX, **META}),
    (f"DELETE {INDEXED}/{{indexed_asset_id}}", "indexes", IN_INDEX),
    ("GET /embed-v2/tasks/{task_id}", "embed_tasks", {"task_id": NOWHERE}),
    (f"GET {COLLECTION}", "collections", IN_COLLECTION),
    (f"PATCH {COLLECTION}", "collections", {**IN_COLLECTION, "name": "n"}),
    (f"DELETE {COLLECTION}", "collections", IN_COLLECTION),
    (f"POST {COLLECTION}/entities", "collections", {**IN_COLLECTION, "name": "n", "asset_ids": [NOWHERE]}),
    (f"POST {COLLECTION}/entities/bulk", "collections", {**IN_COLLECTION, "entities": [{"name": "n"}]}),
    (f"GET {COLLECTION}/entities", "collections", IN_COLLECTION),
    (f"GET {ENTITY}", "collections", IN_ENTITY),
    (f"PATCH {ENTITY}", "collections", {**IN_ENTITY, "name": "n"}),
    (f"DELETE {ENTITY}", "collections", IN_ENTITY),
    (f"POST {ENTITY}/assets", "collections", {**IN_ENTITY, "asset_ids": [NOWHERE]}),
    (f"DELETE {ENTITY}/assets", "collections", {**IN_ENTITY, "asset_ids": [NOWHERE]}),
]

LISTS = ("/analyze/tasks", "/analyze/batches", "/assets", UPLOADS, "/embed-v2/tasks", "/entity-collections")

TODAY: list[Refusal] = [
    *(unknown(route, collection, **sent) for route, collection, sent in NO_SUCH),
    *(no(f"GET {path}", "page_limit", "'51'", "between 1 and 50", page_limit=51) for path in LISTS),
    missing("POST /assets", "method", below=True),
    missing("POST /analyze/tasks", "video", below=True),
    missing("POST /analyze/batches", "model_name", "analysis_mode", "requests", below=True),
    missing(f"POST {UPLOADS}", "filename", "type", "total_size", below=True),
    missing("POST /embed-v2", "input_type", "model_name", below=True),
    missing("POST /embed-v2/tasks", "input_type", "model_name", below=True),
    missing("POST /entity-collections", "name", below=True),
]
