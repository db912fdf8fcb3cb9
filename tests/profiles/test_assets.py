"""Assets: uploads in parts that go on where they broke off, and indexing without /tasks."""

from __future__ import annotations

from pathlib import Path

from tests.profiles.conftest import Account
from tl_data.client import Client


def test_an_upload_in_parts_goes_on_where_it_broke_off(account: Account, tmp_path: Path) -> None:
    file = tmp_path / "large.mp4"
    file.write_bytes(account.path.read_bytes() + bytes(17 << 20))
    size = file.stat().st_size
    client: Client = account.connection.session.client
    sent: list[int] = []

    async def upload() -> tuple[str, list[int], list[int]]:
        begun = await client.create_upload(file.name, size)
        urls = {u["chunk_index"]: u["url"] for u in begun["upload_urls"]}
        length = begun["chunk_size"]
        etag = await client._put_part(file, urls[2] if 2 in urls else (
            await client.upload_urls(begun["upload_id"], 2, 1))[0]["url"], length, length)  # fmt: skip
        done = {"chunk_index": 2, "proof": etag, "proof_type": "etag", "chunk_size": length}
        await client.report_chunks(begun["upload_id"], [done])
        await client.upload_parts(file, begun, on_progress=lambda n, _: sent.append(n))
        first = list(sent)
        await client.upload_parts(file, begun, on_progress=lambda n, _: sent.append(n))
        state = await client.retrieve_upload(begun["upload_id"])
        return state["status"], first, sent

    status, first, all_sent = account.run(upload())
    assert status == "completed"
    assert first[-1] == size
    assert len(first) == 2  # of three parts one was there
    assert all_sent == first


def test_a_video_is_indexed_as_an_asset_where_tasks_are_gone(account: Account) -> None:
    session = account.connection.session
    session._tasks_gone = True
    before = account.requests("POST /tasks")
    try:
        record = account.call("index_video", video=str(account.path), index_id="by assets")
    finally:
        session._tasks_gone = False
    assert account.requests("POST /tasks") == before
    assert record["status"] == "ready"
    assert (record["duration_sec"], record["width"]) == (8.0, 1280)
    assert record["asset_id"]
    assert record["task_id"] is None
    assert account.call("clips", video=record["video_id"], index_id="by assets")
