"""Collections of entities, and the search for one by its pictures."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.local.conftest import API, IndexedVideos, problem
from tests.support import media
from tl_data.demo.scene import painter

NOWHERE = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
def picture(api: API, tmp_path_factory: pytest.TempPathFactory) -> str:
    """An asset: a frame of the film."""
    from PIL import Image

    file = tmp_path_factory.mktemp("picture") / "frame.png"
    Image.fromarray(painter(media.SCENE, 480, 360)(0.5)).save(file)
    made = api.form("/assets", ("method", "direct"), ("file", ("frame.png", file.read_bytes())))
    assert made.json()["status"] == "ready"
    return str(made.json()["_id"])


def test_from_collection_to_search(api: API, indexed: IndexedVideos, picture: str, film: Path) -> None:
    made = api.post("/entity-collections", json={"name": "team", "description": "d"})
    assert made.status_code == 201
    base = f"/entity-collections/{made.json()['_id']}"
    assert api.patch(base, json={"name": "team2"}).json()["name"] == "team2"
    found = api.get("/entity-collections", params={"name": "team2", "sort_by": "name"}).json()
    assert [one["_id"] for one in found["data"]] == [made.json()["_id"]]
    ada = api.post(
        f"{base}/entities", json={"name": "Ada", "asset_ids": [picture], "metadata": {"role": "host"}}
    )
    assert (ada.status_code, ada.json()["status"]) == (201, "ready")
    path = f"{base}/entities/{ada.json()['_id']}"
    assert api.patch(path, json={"metadata": {"n": 1}}).json()["metadata"] == {"n": 1}
    assert [one["_id"] for one in api.get(f"/assets/{picture}/entities").json()["data"]] == [
        ada.json()["_id"]
    ]
    assert problem(api.request("DELETE", f"{path}/assets", json={"asset_ids": [picture]}))[0] == 400
    assert api.post(f"{path}/assets", json={"asset_ids": [picture]}).json()["asset_ids"] == [picture]
    many = [{"name": "Bob", "asset_ids": [NOWHERE]}, {"name": "Eve", "asset_ids": [picture]}]
    bulk = api.post(f"{base}/entities/bulk", json={"entities": many}).json()
    assert (bulk["success_count"], bulk["failed_count"]) == (1, 1)
    assert (bulk["errors"][0]["entity_index"], bulk["errors"][0]["entity_name"]) == (0, "Bob")
    who = f"<@{ada.json()['_id']}>"
    for text in (who, f"{who} with a blue ship"):
        hits = api.form(
            "/search", ("index_id", indexed.index_id), ("search_options", "visual"), ("query_text", text)
        )
        assert hits.status_code == 200, hits.text
        assert {hit["video_id"] for hit in hits.json()["data"]} == set(indexed.videos)
    lost = ("query_text", f"<@{NOWHERE}>")
    refused = api.form("/search", ("index_id", indexed.index_id), ("search_options", "visual"), lost)
    assert problem(refused) == (
        404, "resource_not_exists",
    )  # fmt: skip
    assert api.get(f"{base}/entities", params={"status": "processing"}).json()["data"] == []
    assert api.delete(base).status_code == 204
    assert problem(api.get(path))[0] == 404


@pytest.mark.parametrize("body", [{}, {"name": " "}, {"name": "a"}, {"name": "a", "asset_ids": []}])
def test_refusals(api: API, body: dict[str, object]) -> None:
    collection = api.post("/entity-collections", json={"name": "wrong"}).json()["_id"]
    assert problem(api.post(f"/entity-collections/{collection}/entities", json=body))[0] == 400
