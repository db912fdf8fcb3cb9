"""The same ledger in a bucket: a real S3-compatible server, over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import uuid
from typing import Any

import httpx
import pyarrow as pa
import pytest

from tests.support.environments import ROOT
from tests.support.platform_in_small import platform
from tl_data.errors import LakeError, LedgerError
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS
from tl_data.ledger.ledger import Ledger
from tl_data.ledger.models import Call
from tl_data.object_store import Storage
from tl_data.ratelimit.shared import Limit, SharedLimits


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of an empty bucket."""
    said = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }
    for name, value in said.items():
        monkeypatch.setenv(name, value)
    name = f"ledger-{uuid.uuid4().hex[:8]}"
    assert httpx.put(f"{s3_endpoint}/{name}").status_code == 200
    return f"s3://{name}/a/b"


async def answer() -> dict[str, int]:
    return {"a": 1}


def test_one_of_many_creates_a_name(bucket: str) -> None:
    async def main() -> None:
        storage = Storage(bucket)
        for turn in range(10):
            won = await asyncio.gather(*(storage.create(f"x/{turn}", b"%d" % n) for n in range(16)))
            assert sum(won) == 1
            assert await storage.read(f"x/{turn}") == b"%d" % won.index(True)

    asyncio.run(main())


def test_the_way_of_a_call(bucket: str) -> None:
    async def main() -> None:
        ledger = Ledger.open(bucket)
        call = Call("video_vectors", "k1", {"model": "m"})

        async def send() -> str:
            return "task-1"

        async def find() -> str | None:
            return None

        assert (await ledger.submit(call, send, find)).state == "submitted"
        vectors = pa.table({"vector": pa.array([[0.1, 0.2]], pa.list_(pa.float32()))})
        await ledger.finish(call, vectors)
        assert (await Ledger.open(bucket).once(call, answer)).result.equals(vectors)
        await ledger.once(Call("analyze", "k2"), answer)
        assert [e.state async for e in ledger.entries()] == ["done", "done"]
        assert [e.operation async for e in ledger.entries(operation="analyze")] == ["analyze"]
        assert await ledger.forget(call.key)
        assert (await ledger.export()).num_rows == 1

    asyncio.run(main())


def test_processes_share_a_bucket(bucket: str) -> None:
    worker = str(ROOT / "tests" / "support" / "ledger_worker.py")
    with platform() as server:
        said: dict[str, Any] = {"ledger": bucket, "platform": server.url, "way": "submit", "rows": 8}
        crew = [
            subprocess.Popen([sys.executable, worker, json.dumps(said)], stdout=subprocess.PIPE, text=True)
            for _ in range(3)
        ]
        results = [json.loads(p.communicate(timeout=120)[0].splitlines()[-1]) for p in crew]
        assert sum(r["submitted"] for r in results) == 8
        assert set(server.made.values()) == {1}


def test_a_budget_in_a_bucket(bucket: str) -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        lines = [
            SharedLimits(Storage(bucket), "a").minute_limit("search", "requests", Limit(600, 60))
            for _ in range(2)
        ]
        began = loop.time()
        await asyncio.gather(*(line.take(1) for line in lines for _ in range(12)))
        return loop.time() - began

    assert 1.5 < asyncio.run(main()) < 5


def test_a_lake_in_a_bucket(bucket: str) -> None:
    """Over plain HTTP, like the ledger, because the server's address says so."""
    row = {"source_key": "k", "url": "u", "code": "c"}
    Lake(bucket).table(ERRORS).append(rows_of(ERRORS, [row]))
    assert Lake(bucket).read(ERRORS, list(row)).to_pylist() == [row]
    with pytest.raises(LakeError, match="s3://nowhere/at/errors: cannot be read"):
        Lake("s3://nowhere/at").read(ERRORS)


def test_a_bucket_that_does_not_exist(bucket: str) -> None:
    ledger = Ledger.open("s3://nowhere/at/all")
    with pytest.raises(LedgerError, match=r"the ledger cannot .* s3://nowhere/at/all"):
        asyncio.run(ledger.once(Call("analyze", "k"), answer))
