"""/indexes: created, listed, filtered, renamed, deleted; every refusal once."""

from __future__ import annotations

from typing import Any

import pytest

from tests.local.conftest import API, BOTH, IndexedVideos, problem

NOWHERE = "0123456789abcdef01234567"


def test_an_index_says_what_it_was_created_with(api: API) -> None:
    answer = api.post(
        "/indexes", json={"index_name": "one", "models": BOTH, "addons": ["thumbnail"], "x": None}
    )
    assert answer.status_code == 201
    assert answer.headers["x-api-version"] == "1.3"
    assert answer.headers["content-type"].startswith("application/json")
    index = api.get(f"/indexes/{answer.json()['_id']}").json()
    assert index["index_name"] == "one"
    assert index["addons"] == ["thumbnail"]
    assert (index["video_count"], index["total_duration"], index["expires_at"]) == (0, 0, None)
    assert [model["model_name"] for model in index["models"]] == ["marengo3.0", "pegasus1.2"]
    assert [model["engine_model"] for model in index["models"]] == ["tl-local-2", "tl-local-2"]
    assert [model["requested_as"] for model in index["models"]] == ["marengo3.0", "pegasus1.2"]
    assert index["models"][0]["model_options"] == ["visual", "audio"]
    assert index["created_at"].endswith("Z")


def test_counts_follow_the_videos(api: API, indexed: IndexedVideos) -> None:
    index = api.get(f"/indexes/{indexed.index_id}").json()
    assert index["video_count"] == 3
    assert index["total_duration"] == pytest.approx(15, abs=0.5)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"models": BOTH}, "parameter_not_provided"),
        ({"index_name": "x"}, "parameter_not_provided"),
        ({"index_name": "", "models": BOTH}, "parameter_invalid"),
        ({"index_name": 5, "models": BOTH}, "parameter_invalid"),
        ({"index_name": "x", "models": []}, "parameter_invalid"),
        ({"index_name": "x", "models": {}}, "parameter_invalid"),
        ({"index_name": "x", "models": [*BOTH, *BOTH]}, "parameter_invalid"),
        ({"index_name": "x", "models": [BOTH[0], BOTH[0]]}, "parameter_invalid"),
        ({"index_name": "x", "models": [{"model_name": "gpt"}]}, "parameter_invalid"),
        ({"index_name": "x", "models": [{"model_options": ["visual"]}]}, "parameter_not_provided"),
        ({"index_name": "x", "models": [{"model_name": "marengo3.0"}]}, "parameter_not_provided"),
        (
            {"index_name": "x", "models": [{"model_name": "marengo3.0", "model_options": ["smell"]}]},
            "parameter_invalid",
        ),
        ({"index_name": "x", "models": BOTH, "addons": ["gold"]}, "parameter_invalid"),
    ],
)
def test_bad_indexes_are_refused(api: API, body: dict[str, Any], code: str) -> None:
    assert problem(api.post("/indexes", json=body)) == (400, code)


@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b'{"index_name": "\\ud800", "models": []}', b"NaN", b"\xff"]
)
def test_bodies_that_are_no_json_objects(api: API, body: bytes) -> None:
    answer = api.post("/indexes", content=body, headers={"content-type": "application/json"})
    assert problem(answer) == (400, "parameter_invalid")


def test_a_form_where_json_belongs(api: API) -> None:
    assert problem(api.form("/indexes", ("index_name", "x"))) == (400, "content_type_invalid")


def test_a_name_is_taken_once(api: API) -> None:
    api.new_index("taken")
    again = api.post("/indexes", json={"index_name": "taken", "models": BOTH})
    assert problem(again) == (409, "index_name_already_exists")
    assert "taken" in again.json()["message"]
    other = api.new_index("free")
    assert problem(api.put(f"/indexes/{other}", json={"index_name": "taken"})) == (
        409,
        "index_name_already_exists",
    )


def test_rename_and_delete(api: API) -> None:
    index_id = api.new_index("before")
    assert api.put(f"/indexes/{index_id}", json={"index_name": "after"}).status_code == 204
    assert api.get(f"/indexes/{index_id}").json()["index_name"] == "after"
    for body, code in (
        ({}, "parameter_not_provided"),
        ({"index_options": []}, "index_option_cannot_be_changed"),
        ({"engine_id": "x"}, "index_engine_cannot_be_changed"),
    ):
        assert problem(api.put(f"/indexes/{index_id}", json=body)) == (400, code)
    deleted = api.delete(f"/indexes/{index_id}")
    assert (deleted.status_code, deleted.content) == (204, b"")
    assert problem(api.get(f"/indexes/{index_id}")) == (404, "resource_not_exists")


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_ids_that_are_none_or_unknown(api: API, method: str) -> None:
    assert problem(api.request(method, "/indexes/short")) == (400, "parameter_invalid")
    assert problem(api.request(method, f"/indexes/{NOWHERE}")) == (404, "resource_not_exists")


def test_pages(api: API) -> None:
    ids = [api.new_index(f"page {number}") for number in range(5)]
    first = api.get("/indexes", params={"page_limit": 2}).json()
    assert [index["_id"] for index in first["data"]] == [ids[4], ids[3]]
    info = first["page_info"]
    assert info == {
        "limit_per_page": 2,
        "page": 1,
        "total_page": -(-info["total_results"] // 2),
        "total_results": info["total_results"],
    }
    assert api.get("/indexes", params={"page_limit": 2, "page": 2}).json()["data"][0]["_id"] == ids[2]
    past = api.get("/indexes", params={"page": 10**12})
    assert (past.status_code, past.json()["data"]) == (200, [])
    oldest = api.get("/indexes", params={"sort_option": "asc", "page_limit": 50}).json()["data"]
    assert [index["_id"] for index in oldest][-5:] == ids


def test_filters(api: API) -> None:
    index_id = api.new_index("Only me", [{"model_name": "marengo2.7", "model_options": ["audio"]}])
    made = api.get(f"/indexes/{index_id}").json()

    def found(**query: Any) -> list[str]:
        query.setdefault("page_limit", 50)
        return [index["_id"] for index in api.get("/indexes", params=query).json()["data"]]

    assert found(index_name="Only me") == [index_id]
    assert found(index_name="only me") == []
    assert found(_id=index_id) == [index_id]
    assert index_id in found(model_options="audio")
    assert index_id not in found(model_options="visual,audio")
    assert index_id not in found(model_options=["visual", "audio"])
    assert index_id in found(model_family="marengo")
    assert index_id not in found(model_family="pegasus")
    assert found(created_at=made["created_at"]) == [index_id]
    assert index_id in found(**{"created_at[lte]": made["created_at"]})
    assert found(created_at="2999-01-01T00:00:00Z") == []
    assert found(updated_at="2999-01-01T00:00:00+02:00") == []


@pytest.mark.parametrize(
    "query",
    [
        {"page": "0"}, {"page": "x"}, {"page_limit": "51"}, {"page_limit": "0"}, {"page_limit": "-1"},
        {"sort_by": "name; DROP TABLE indexes"}, {"sort_option": "up"}, {"created_at": "yesterday"},
        {"model_options": "smell"}, {"model_family": "gpt"},
    ],
)  # fmt: skip
def test_bad_queries(api: API, query: dict[str, str]) -> None:
    answer = api.get("/indexes", params=query)
    assert problem(answer) == (400, "parameter_invalid")
    assert next(iter(query)) in answer.json()["message"]


def test_what_does_not_exist(api: API) -> None:
    assert problem(api.get("/nothing")) == (404, "endpoint_not_exists")
    assert problem(api.get("/engines")) == (404, "endpoint_not_exists")
    for path in ("/search/", "/indexes/", f"/indexes/{NOWHERE}/"):  # no redirects either
        assert problem(api.get(path)) == (404, "endpoint_not_exists")
    assert problem(api.delete("/search")) == (405, "method_not_allowed")
    old = api.get(f"{api.root}/v1.2/indexes")
    assert problem(old) == (400, "api_upgrade_required")
    assert "version 1.3. Your version is 1.2" in old.json()["message"]
