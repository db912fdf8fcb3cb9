"""Large files in parts: sent in any order, proven, put together once, and what is refused."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.local.conftest import API, problem
from tests.local.server.routes.test_assets import NOWHERE, settled

UPLOADS = "/assets/multipart-uploads"


@pytest.fixture(scope="module")
def large(film: Path) -> bytes:
    """A video of two parts: what follows the film is free space of its container."""
    free = 9 << 20
    return film.read_bytes() + struct.pack(">I4s", free, b"free") + bytes(free - 8)


def begun(api: API, size: int, **more: Any) -> dict[str, Any]:
    """A new upload."""
    made = api.post(UPLOADS, json={"filename": "large.mp4", "type": "video", "total_size": size, **more})
    assert made.status_code == 201, made.text
    return dict(made.json())


def sent(upload: dict[str, Any], body: bytes, index: int) -> dict[str, Any]:
    """Send one part, without a key; what is reported of it."""
    size, url = upload["chunk_size"], upload["upload_urls"][index - 1]["url"]
    part = body[(index - 1) * size : index * size]
    answer = httpx.put(url, content=part)
    assert answer.status_code == 200, answer.text
    proof = answer.headers["etag"].strip('"')
    return {"chunk_index": index, "proof": proof, "proof_type": "etag", "chunk_size": len(part)}


def test_two_parts_become_an_asset(api: API, large: bytes) -> None:
    upload = begun(api, len(large), user_metadata={"in": "parts"})
    assert upload["total_chunks"] == len(upload["upload_urls"]) == 2
    path = f"{UPLOADS}/{upload['upload_id']}"
    second = sent(upload, large, 2)
    reported = api.post(path, json={"completed_chunks": [second]}).json()
    assert (reported["processed_chunks"], reported["total_completed"], "url" in reported) == (1, 1, False)
    state = api.get(path).json()
    assert [chunk["status"] for chunk in state["uploaded_chunks"]] == ["pending", "completed"]
    assert (state["status"], state["uploaded_size"]) == ("active", second["chunk_size"])
    assert upload["upload_id"] in [one["upload_id"] for one in api.get(UPLOADS).json()["data"]]
    again = api.post(f"{path}/presigned-urls", json={"start": 1, "count": 1}).json()["upload_urls"]
    first = sent(upload | {"upload_urls": again}, large, 1)
    reported = api.post(path, json={"completed_chunks": [first, second]}).json()
    assert (reported["duplicate_chunks"], reported["total_completed"]) == (1, 2)
    asset = settled(api, f"/assets/{upload['asset_id']}")
    assert reported["url"].endswith(f"/v1.3/assets/{asset['_id']}")
    assert (asset["status"], asset["size"], asset["filename"]) == ("ready", len(large), "large.mp4")
    assert asset["user_metadata"] == {"in": "parts"}
    assert api.get(path).json()["status"] == "completed"
    assert upload["upload_id"] not in [one["upload_id"] for one in api.get(UPLOADS).json()["data"]]


def test_refusals(api: API) -> None:
    asked = {"filename": "a.mp4", "type": "video", "total_size": 10}
    for change, words in (
        ({"type": "disc"}, "video, audio, image. You sent 'disc'"),
        ({"total_size": 0}, "between 1 and 2147483648. You sent 0"),
        ({"filename": 5}, "filename parameter is invalid"),
        ({"user_metadata": [1]}, "user_metadata parameter is invalid"),
    ):
        refused = api.post(UPLOADS, json=asked | change)
        assert problem(refused) == (400, "parameter_invalid")
        assert words in refused.json()["message"]
    assert problem(api.post(UPLOADS, json={"type": "video"})) == (400, "parameter_not_provided")
    assert problem(api.get(f"{UPLOADS}/{NOWHERE}")) == (404, "resource_not_exists")
    upload = begun(api, 10)
    path, url = f"{UPLOADS}/{upload['upload_id']}", upload["upload_urls"][0]["url"]
    short = httpx.put(url, content=b"x" * 9)
    assert problem(short) == (400, "parameter_invalid")
    assert "must have 10 bytes. You sent 9" in short.json()["message"]
    assert httpx.put(url.replace("000001", "000002"), content=b"x").status_code == 404
    assert httpx.put(url.replace("/media/", "/media/9"), content=b"x" * 10).status_code == 404
    report = {"chunk_index": 1, "proof": "0", "proof_type": "etag", "chunk_size": 10}
    unsent = api.post(path, json={"completed_chunks": [report]})
    assert "No part was sent" in unsent.json()["message"]
    assert httpx.put(url, content=b"x" * 10).status_code == 200
    wrong = api.post(path, json={"completed_chunks": [report]})
    assert "proof parameter is invalid" in wrong.json()["message"]
    beyond = api.post(f"{path}/presigned-urls", json={"start": 2, "count": 1})
    assert "between 1 and 1. You sent 2" in beyond.json()["message"]
