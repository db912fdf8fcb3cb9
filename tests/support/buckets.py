"""Buckets of a real S3-compatible server, for tests of functions that take objects as videos."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import duckdb
import httpx
import obstore
import pytest
from obstore.store import S3Store

import tl_data
from tests.support.library import Library
from tl_data.client import Client
from tl_data.errors import MediaRefused
from tl_data.media.identity import identify
from tl_data.settings import Settings

#: Credentials that the server accepts; it checks none.
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_REGION": "us-east-1"}


@dataclass(frozen=True)
class Bucket:
    """A bucket; `put` gives the address of an object."""

    endpoint: str
    name: str

    @classmethod
    def make(cls, endpoint: str) -> Bucket:
        """An empty bucket."""
        bucket = cls(endpoint, f"videos-{uuid.uuid4().hex[:8]}")
        bucket.request("PUT")
        return bucket

    def request(self, method: str, path: str = "", content: bytes = b"") -> None:
        url = f"{self.endpoint}/{self.name}{path}"
        assert httpx.request(method, url, content=content).status_code in (200, 204)

    def put(self, key: str, content: bytes) -> str:
        """Signed: the server lets nobody else overwrite an object."""
        options: dict[str, Any] = {"endpoint": self.endpoint, "client_options": {"allow_http": True}}
        names = ("access_key_id", "secret_access_key", "region")
        store = S3Store(self.name, **dict(zip(names, CREDENTIALS.values(), strict=True)), **options)
        obstore.put(store, key, content)
        return f"s3://{self.name}/{key}"

    def keep_versions(self) -> None:
        """Keep what is overwritten."""
        body = b"<VersioningConfiguration><Status>Enabled</Status></VersioningConfiguration>"
        self.request("PUT", "?versioning", body)

    def deny(self, *actions: str) -> None:
        """Refuse these actions, such as s3:GetObject, to everybody."""
        arn = f"arn:aws:s3:::{self.name}"
        denied = {"Effect": "Deny", "Principal": "*", "Action": list(actions), "Resource": [arn, f"{arn}/*"]}
        self.request("PUT", "?policy", json.dumps({"Version": "2012-10-17", "Statement": [denied]}).encode())


def check_reads(addresses: Iterable[str], absent: str) -> None:
    """The client reads objects with 100 times the ten digits: a range, the size, and one digest for all.

    Args:
        absent: the address of an object that does not exist.
    """

    async def main() -> set[str | None]:
        settings, digests = Settings(base_url="http://127.0.0.1:9", retries=0), set()
        async with Client(settings, base_url="http://127.0.0.1:9") as client:
            for address in addresses:
                assert await client.read_range(address, 5, 15) == b"5678901234"
                known = await identify(client, address)
                assert (known.canonical, known.size_bytes) == (address, 1000)
                digests.add(known.digest)
            with pytest.raises(MediaRefused) as refused:
                await client.probe_url(absent)
            assert refused.value.code == "video_url_not_found"
        return digests

    [digest] = asyncio.run(main())
    assert digest is not None


def indexed_by_sql(library: Library, place: str) -> list[tuple[str, str, str]]:
    """Address, status and id of each video of a listing, indexed by one statement of DuckDB."""
    with duckdb.connect() as con:
        tl_data.register(con, library.settings, index=f"place-{uuid.uuid4().hex[:8]}")
        statement = "SELECT video, v.status, v.video_id FROM (SELECT video, tl_index_video(video) AS v FROM "
        return con.sql(f"{statement} tl_files('{place}')) ORDER BY video").fetchall()
