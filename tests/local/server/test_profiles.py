"""The differences between the profiles, as recorded answers of the service have them."""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.local.conftest import API

MARENGO3 = [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
MARENGO27 = [
    {"model_name": "marengo2.7", "model_options": ["visual", "audio"]},
    {"model_name": "pegasus1.2", "model_options": ["visual", "audio"]},
]
ID = "650000000000000000000001"


@pytest.fixture(scope="module")
def apis(api: API, today: Engine, account_2025: Engine) -> Iterator[dict[str, API]]:
    """A client of each profile."""
    with API(today.base_url) as now, API(account_2025.base_url) as old:
        yield {"lenient": api, "today": now, "2025": old}


def as_form(**fields: Any) -> dict[str, Any]:
    """A multipart body."""
    return {
        "files": [(n, (None, v)) for n, vs in fields.items() for v in (vs if isinstance(vs, list) else [vs])]
    }


def index_with(*names: str) -> dict[str, Any]:
    models = [{"model_name": name, "model_options": ["visual"]} for name in names]
    return {"json": {"index_name": "-".join(names), "models": models}}


#: (method, path, options of the request, profile -> status and code). A code of "" is a success.
REFUSALS: list[tuple[str, str, dict[str, Any], dict[str, tuple[int, str]]]] = [
    (
        "POST", "/analyze", {"json": {"model_name": "pegasus1.5", "video_id": ID, "prompt": "What?"}},
        {"today": (400, "parameter_invalid"), "lenient": (404, "resource_not_exists")},
    ),
    (
        "POST", "/analyze", {"json": {"video_id": ID, "prompt": "What?"}},
        {"today": (400, "parameter_invalid"), "2025": (404, "resource_not_exists")},
    ),
    (
        "POST", "/analyze", {"json": {"video": {"type": "asset_id", "asset_id": ID}, "prompt": "What?"}},
        {"2025": (400, "parameter_unknown")},
    ),
    (
        "POST", "/analyze", {"json": {"model_name": "pegasus1.5", "video_id": ID, "prompt": "What?"}},
        {"2025": (400, "parameter_invalid")},
    ),
    (
        "POST", "/gist", {"json": {"video_id": ID, "types": ["title"]}},
        {"today": (410, "endpoint_deprecated"), "2025": (404, "resource_not_exists")},
    ),
    (
        "POST", "/summarize", {"json": {"video_id": ID, "type": "summary"}},
        {"today": (410, "endpoint_deprecated"), "2025": (404, "resource_not_exists")},
    ),
    ("POST", "/generate", {"json": {"video_id": ID, "prompt": "x"}}, {"today": (404, "endpoint_not_exists")}),
    (
        "POST", "/indexes", index_with("marengo3.0", "pegasus1.2"),
        {"today": (400, "parameter_invalid"), "lenient": (201, "")},
    ),
    ("POST", "/indexes", index_with("pegasus1.5"), {"today": (400, "parameter_invalid")}),
    ("POST", "/indexes", index_with("marengo2.7"), {"today": (400, "parameter_invalid"), "2025": (201, "")}),
    ("POST", "/indexes", index_with("marengo3.0"), {"today": (201, ""), "2025": (400, "parameter_invalid")}),
    (
        "POST", "/search", {"json": {"index_id": ID, "search_options": ["visual"], "query_text": "x"}},
        {
            "today": (400, "content_type_invalid"), "2025": (400, "content_type_invalid"),
            "lenient": (404, "resource_not_exists"),
        },
    ),
    (
        "POST", "/embed", {"json": {"model_name": "marengo3.0", "text": "a rabbit in a forest"}},
        {"today": (400, "content_type_invalid"), "lenient": (200, "")},
    ),
    (
        "POST", "/embed", as_form(model_name="Marengo-retrieval-2.7", text="a rabbit"),
        {"today": (400, "parameter_invalid"), "2025": (200, ""), "lenient": (200, "")},
    ),
    (
        "POST", "/embed", as_form(model_name="marengo3.0", text="a rabbit"),
        {"2025": (400, "parameter_invalid")},
    ),
    (
        "POST", "/search",
        as_form(index_id=ID, search_options="visual", query_text="x", transcription_options="lexical"),
        {"today": (400, "parameter_invalid"), "lenient": (404, "resource_not_exists")},
    ),
    (
        "POST", "/search", as_form(index_id=ID, search_options="visual", query_text="x", page_limit="0"),
        {"today": (404, "resource_not_exists"), "2025": (400, "parameter_invalid")},
    ),
    (
        "POST", "/embed-v2", {"json": {"model_name": "marengo3.0", "input_type": "text", "text": "a rabbit"}},
        {"2025": (404, "endpoint_not_exists")},
    ),
    ("GET", "/analyze/tasks", {}, {"today": (200, ""), "2025": (404, "endpoint_not_exists")}),
    ("GET", "/tasks/status", {}, {"today": (404, "endpoint_not_exists")}),
    *(
        (method, path, {}, dict.fromkeys(("today", "2025", "lenient"), (501, "not_supported")))
        for method, path in (
            ("GET", "/knowledge-stores"), ("POST", "/responses"), ("POST", "/connections:authorize"),
            ("GET", "/connections/redirect-uris"), ("GET", f"/knowledge-stores/{ID}/items"),
        )
    ),
]  # fmt: skip
ROWS = [
    (profile, method, path, options, wanted)
    for method, path, options, by_profile in REFUSALS
    for profile, wanted in by_profile.items()
]


@pytest.mark.parametrize(("profile", "method", "path", "options", "wanted"), ROWS)
def test_profiles_refuse_what_the_service_refuses(
    apis: dict[str, API],
    profile: str,
    method: str,
    path: str,
    options: dict[str, Any],
    wanted: tuple[int, str],
) -> None:
    answer = apis[profile].request(method, path, **options)
    assert (answer.status_code, code_of(answer)) == wanted, answer.text


def as_body(**fields: Any) -> dict[str, Any]:
    return {"json": fields}


#: Requests of before v1.3, and the name of now that the lenient engine points to.
OLD_NAMES: list[tuple[str, str, dict[str, Any], str]] = [
    ("POST", "/indexes", as_body(index_name="o", engine_id="marengo2.6", index_options=["visual"]), "models"),
    ("POST", "/indexes", as_body(index_name="o", engines=[{"engine_name": "marengo2.6"}]), "model_name"),
    ("POST", "/indexes", as_body(index_name="o", models=[{"engine_name": "marengo2.6"}]), "model_name"),
    ("GET", "/indexes?engine_family=marengo", {}, "model_family"),
    ("GET", "/tasks?id=1", {}, "_id"),
    ("POST", "/tasks", as_form(index_id=ID, disable_video_stream="true"), "enable_video_stream"),
    ("POST", "/embed", as_form(engine_name="Marengo-retrieval-2.6", text="x"), "model_name"),
    ("POST", "/classify", as_body(), "/analyze"),
    ("GET", "/engines", {}, "/indexes"),
    ("POST", "/search-v2", as_body(), "/search"),
    ("POST", "/search/combined", as_body(), "search_options"),
    ("GET", f"/indexes/{ID}/videos/{ID}/transcription", {}, "transcription=true"),
    ("POST", "/classify/bulk", as_body(), "/analyze"),
    ("POST", "/text-in-video", as_body(), "/analyze"),
    ("POST", "/logo", as_body(), "/analyze"),
    ("GET", f"/indexes/{ID}/videos/{ID}/text-in-video", {}, "/analyze"),
    ("GET", f"/indexes/{ID}/videos/{ID}/logo", {}, "/analyze"),
    ("GET", f"/indexes/{ID}/videos/{ID}/thumbnail", {}, "thumbnail_urls"),
    ("POST", "/search", as_form(index_id=ID, query_text="x", conversation_option="semantic"),
     "transcription_options"),
    *(
        ("POST", "/indexes", as_body(
            index_name="o", models=[{"model_name": "marengo3.0", "model_options": ["visual", option]}]), now)
        for option, now in (
            ("conversation", "transcription"), ("logo", "visual"), ("text_in_video", "visual")
        )
    ),
]  # fmt: skip


@pytest.mark.parametrize(("method", "path", "options", "now"), OLD_NAMES)
def test_old_names_are_refused_with_the_name_of_now(
    api: API, method: str, path: str, options: dict[str, Any], now: str
) -> None:
    answer = api.request(method, path, **options)
    assert answer.status_code in (400, 404)
    assert code_of(answer) in ("parameter_unknown", "parameter_invalid", "endpoint_not_exists")
    assert now in answer.json()["message"]
    assert answer.json()["message"].endswith("https://docs.twelvelabs.io/docs/migration-guide")


@pytest.mark.parametrize(("method", "path", "options", "now"), OLD_NAMES)
def test_strict_profiles_answer_old_names_as_the_service_does(
    apis: dict[str, API], method: str, path: str, options: dict[str, Any], now: str
) -> None:
    for profile in ("today", "2025"):
        answer = apis[profile].request(method, path, **options)
        assert answer.status_code < 500
        assert "migration-guide" not in answer.text
        assert "Since v1.3" not in answer.text


def test_an_unknown_search_option_has_the_code_of_live_suites(apis: dict[str, API]) -> None:
    for profile, api in apis.items():
        index_id = api.new_index("options", MARENGO27 if profile == "2025" else MARENGO3)
        for option in ("invalid_option", "conversation"):
            answer = api.post("/search", **as_form(index_id=index_id, search_options=option, query_text="x"))
            assert (answer.status_code, code_of(answer)) == (400, "search_option_not_supported")
            points = profile == "lenient" and option == "conversation"
            assert ("Since v1.3" in answer.json()["message"]) == points


def code_of(answer: httpx.Response) -> str:
    """The code of a refusal, flat or nested; "" of a success."""
    body = answer.json() if answer.status_code >= 400 else {}
    return str(body.get("code") or body.get("error", {}).get("code", ""))


def test_refusals_of_the_service_do_not_name_the_version(apis: dict[str, API]) -> None:
    for profile, names_it in (("today", False), ("2025", False), ("lenient", True)):
        refused = apis[profile].get(f"/indexes/{ID}")
        assert refused.status_code == 404
        assert ("x-api-version" in refused.headers) == names_it
        assert apis[profile].get("/indexes").headers["x-api-version"] == "1.3"


@pytest.mark.parametrize(("name", "code"), [("today", 0), ("", 0), ("2024", 2)])
def test_the_environment_sets_the_profile_of_an_engine_that_starts_by_itself(
    tmp_path: Path, name: str, code: int
) -> None:
    command = [sys.executable, "-m", "tl_data.local", "--home", str(tmp_path), "--describe"]
    environment = os.environ | {"TL_ENGINE_PROFILE": name}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == code, ended.stderr
    if code == 0:
        assert json.loads(ended.stdout)["profile"] == (name or "lenient")


@pytest.fixture(scope="module")
def found(apis: dict[str, API], film: Path) -> dict[str, dict[str, Any]]:
    """What a search answers in an index with one video, by profile."""
    pages = {}
    for profile, api in apis.items():
        index_id = api.new_index("searched", MARENGO27 if profile == "2025" else MARENGO3)
        assert api.settled(api.upload(index_id, film)["_id"])["status"] == "ready"
        wanted = as_form(index_id=index_id, search_options="visual", query_text="a giraffe", threshold="high")
        answer = api.post("/search", **wanted)
        assert answer.status_code == 200, answer.text
        pages[profile] = answer.json() | {"index_id": index_id}
    return pages


def test_numbers_times_and_tokens_of_a_page_are_as_recorded(
    apis: dict[str, API], found: dict[str, dict[str, Any]]
) -> None:
    wanted = as_form(
        index_id=found["today"]["index_id"], search_options="visual", query_text="ship", page_limit="1"
    )
    page = apis["today"].post("/search", **wanted).json()
    assert len(page["page_info"]["page_expires_at"]) == len("2026-07-20T20:50:35Z")
    assert page["search_pool"]["total_duration"] == 5  # whole seconds
    hit = page["data"][0]
    for time in (hit["start"], hit["end"]):  # in single precision, whole ones as integers
        assert isinstance(time, int) or struct.unpack("f", struct.pack("f", time))[0] == time
    if page["page_info"]["total_results"] > 1:
        token = page["page_info"]["next_page_token"]
        assert re.fullmatch(r"[0-9a-f]{32}-1", token)
        assert apis["today"].get(f"/search/{token}").json()["data"][0]["rank"] == 2


def test_texts_of_2025_are_as_recorded(apis: dict[str, API], found: dict[str, dict[str, Any]]) -> None:
    api, index_id = apis["2025"], found["2025"]["index_id"]
    (video,) = api.get(f"/indexes/{index_id}/videos").json()["data"]
    gist = api.post("/gist", json={"video_id": video["_id"], "types": ["hashtag"]}).json()
    assert gist["hashtags"]
    assert not any(tag.startswith("#") for tag in gist["hashtags"])
    assert "asset_id" not in video
    assert (len(video["created_at"]), video["updated_at"]) == (len("2025-06-19T01:18:39Z"), None)
    asked = {"video_id": video["_id"], "prompt": "What text is shown?", "stream": False}
    usage = api.post("/analyze", json=asked).json()["usage"]
    assert 0 < usage["input_tokens"] < 50  # those of the prompt alone
    task = api.get("/tasks", params={"status": "ready"}).json()["data"][0]
    assert (task["_id"], set(task["system_metadata"])) == (
        task["video_id"], {"filename", "duration", "width", "height"},
    )  # fmt: skip
    vectors = api.get(
        f"/indexes/{index_id}/videos/{video['_id']}", params={"embedding_option": "visual-text"}
    )
    (size,) = {len(s["float"]) for s in vectors.json()["embedding"]["video_embedding"]["segments"]}
    assert (vectors.json()["embedding"]["model_name"], size) == ("Marengo-retrieval-2.7", 1024)


def test_today_all_clips_are_ranked_and_carry_nothing_but_a_rank(found: dict[str, dict[str, Any]]) -> None:
    hits = found["today"]["data"]
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
    assert {name for hit in hits for name in hit} == {"rank", "start", "end", "video_id"}
    assert sum(hit["end"] - hit["start"] for hit in hits) == pytest.approx(5, abs=0.3)  # the whole film
    assert found["2025"]["data"] == found["lenient"]["data"] == []  # a threshold, and nothing fits
