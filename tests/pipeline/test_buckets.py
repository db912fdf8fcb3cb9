"""Videos in a bucket of a real S3-compatible server: listed, signed when they are sent, copies recognised."""

from __future__ import annotations

import asyncio
import json
import shutil
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tests.support.odd_server import OddServer
from tl_data.connection import connect
from tl_data.errors import MediaRefused, SettingsError
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ERRORS, VIDEOS
from tl_data.media.listing import files_below, matches
from tl_data.object_store import Buckets
from tl_data.pipeline import plan, run
from tl_data.pipeline.job import Job, Source
from tl_data.settings import Settings


@pytest.fixture
def bucket(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of an empty bucket that the environment has credentials for."""
    for name, value in {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ACCESS_KEY_ID": "key",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    name = f"videos-{uuid.uuid4().hex[:8]}"
    assert httpx.put(f"{s3_endpoint}/{name}").status_code == 200
    return name


@pytest.fixture
def store(bucket: str, s3_endpoint: str) -> Callable[[str, bytes], str]:
    """Put an object into the bucket; gives its address."""

    def put(key: str, body: bytes) -> str:
        url = f"{s3_endpoint}/{bucket}/{httpx.URL(path='/' + key).raw_path.decode()[1:]}"
        assert httpx.put(url, content=body).status_code == 200
        return f"s3://{bucket}/{key}"

    return put


def test_a_job_takes_the_videos_that_match_and_pays_once_for_copies(
    bucket: str, store: Callable[[str, bytes], str], make_job: Callable[..., Job], quick: Path, tmp_path: Path
) -> None:
    body = quick.read_bytes()
    store("in/2026/a b.mp4", body)
    store("in/2026/b/copy é.mp4", body)
    store("in/c.mp4", body + (12).to_bytes(4, "big") + b"freeother"[:8])
    store("in/notes.txt", b"no video")
    store("out/d.mp4", body)
    job = make_job(Source("folder", f"s3://{bucket}/in/**/*.mp4"), tables=("clips",))
    planned = plan(job)
    assert (planned.rows, planned.new, planned.known) == (3, 2, 1), "one of them is a copy"
    report = run(job)
    assert (report.failed, report.rows) == (0, 3)
    rows = {row["source_key"]: row for row in Lake(job.folder, job.format).read(VIDEOS).to_pylist()}
    place = f"s3://{bucket}/in"
    assert rows.keys() == {f"{place}/2026/a b.mp4", f"{place}/2026/b/copy é.mp4", f"{place}/c.mp4"}
    assert all(row["url"] == row["canonical_url"] == key for key, row in rows.items())
    one, copy, other = (rows[key]["video_id"] for key in sorted(rows))
    assert one == copy != other
    assert report.submitted == 2
    again = run(job)
    assert (again.unchanged, again.calls) == (3, 0)
    written = b"".join(p.read_bytes() for p in tmp_path.rglob("*") if p.is_file())
    assert b"X-Amz-Signature" not in written, "no signature is kept anywhere"


def test_what_temporary_credentials_sign_for_too_short_a_time_is_uploaded(
    store: Callable[[str, bytes], str],
    make_job: Callable[..., Job],
    quick: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    address = store("v.mp4", quick.read_bytes() + (12).to_bytes(4, "big") + b"freetemp")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token")

    async def lasting(hours: float) -> bool:
        return await Buckets(hours).lasts(address)

    assert not asyncio.run(lasting(12)), "nobody says how long these credentials last"
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2099-01-01T00:00:00Z")
    assert asyncio.run(lasting(12))
    monkeypatch.setenv("AWS_CREDENTIAL_EXPIRATION", "2026-01-01T00:00:00Z")
    assert not asyncio.run(lasting(12))
    report = run(make_job([address], tables=("clips",)))
    assert (report.failed, report.submitted) == (0, 1)


def test_pages_of_a_listing_and_refusals(
    bucket: str, store: Callable[[str, bytes], str], s3_endpoint: str, s3_log: Path
) -> None:
    with httpx.Client() as client:
        for n in range(45):
            assert client.put(f"{s3_endpoint}/{bucket}/many/{n:04}.json", content=b"{}").status_code == 200
    store("many/x/1.mp4", b"1")
    store("many/x/2.MOV", b"2")
    store("many/z.mp4", b"3")
    sizes = [len(page) for page in Buckets(1).pages(f"s3://{bucket}/many")]
    assert sum(sizes) == 48
    pages = [line for line in s3_log.read_text().splitlines() if "GET" in line and bucket in line]
    assert sum("continuation-token" in line for line in pages) == 2, "three pages of 20"
    listed = [file.address for file in files_below(f"s3://{bucket}/many/")]
    assert listed == [f"s3://{bucket}/many/{name}" for name in ("x/1.mp4", "x/2.MOV", "z.mp4")]
    assert [file.size_bytes for file in files_below(f"s3://{bucket}/**/z.*")] == [1]
    with pytest.raises(SettingsError, match="cannot be listed"):
        next(files_below(f"s3://{bucket}-none/"))
    for key in ("", "a//b", "a/../b"):
        with pytest.raises(MediaRefused) as refused:
            asyncio.run(Buckets(1).sign("GET", f"s3://{bucket}/{key}"))
        assert refused.value.code == "video_url_invalid"


@pytest.mark.parametrize(
    ("pattern", "found"),
    [
        ("*.mp4", ["b.mp4"]),
        ("**/*.mp4", ["b.mp4", "x/a.mp4", "x/y/[1].mp4"]),
        ("x/**", ["x/a.mp4", "x/y/[1].mp4"]),
        ("x/*/*.mp4", ["x/y/[1].mp4"]),
        ("**/?.mp4", ["b.mp4", "x/a.mp4"]),
        ("**/[[]1[]].mp4", ["x/y/[1].mp4"]),
        ("**/**/**/**/**/q", []),
    ],
)
def test_patterns(pattern: str, found: list[str]) -> None:
    assert [name for name in ("b.mp4", "x/a.mp4", "x/y/[1].mp4") if matches(name, pattern)] == found


def test_an_object_that_is_not_there_is_a_row_of_errors(bucket: str, make_job: Callable[..., Job]) -> None:
    job = make_job([f"s3://{bucket}/none.mp4", "dbfs:/Volumes/c/s/v/none.mp4"], tables=("clips",))
    assert run(job).failed == 2
    rows = {row["source_key"]: row for row in Lake(job.folder, job.format).read(ERRORS).to_pylist()}
    assert rows[f"s3://{bucket}/none.mp4"]["code"] == "video_url_not_found"
    assert rows["dbfs:/Volumes/c/s/v/none.mp4"]["code"] == "video_url_invalid"
    assert "mounted" in rows["dbfs:/Volumes/c/s/v/none.mp4"]["message"]


def test_a_strict_profile_of_today_analyses_an_object_by_a_signed_url(
    today: Engine, store: Callable[[str, bytes], str], quick: Path, tmp_path: Path
) -> None:
    address = store("today.mp4", quick.read_bytes() + (12).to_bytes(4, "big") + b"freetday")
    settings = Settings(
        base_url=today.base_url, home=str(tmp_path), ledger=str(tmp_path / "ledger"), poll_interval=0.2
    )
    connection = connect(settings)
    texts: Any = connection.run(connection.session.texts(address, ["title"]))
    connection.close()
    assert "title" in texts
    kept = "".join(p.read_text() for p in (tmp_path / "ledger").rglob("*") if p.is_file())
    assert address in kept
    assert "X-Amz" not in kept


def test_hosts_get_their_headers_and_the_api_gets_the_file(
    make_job: Callable[..., Job], quick: Path, files: OddServer, tmp_path: Path
) -> None:
    body = quick.read_bytes() + (12).to_bytes(4, "big") + b"freehead"
    (files.folder / "v.mp4").write_bytes(body)
    url = files.url("v.mp4")
    headers = tmp_path / "headers.toml"
    headers.write_text(json.dumps("127.0.0.1").join(("[", "]")) + '\nAuthorization = "Bearer S3CRET"\n')
    job = make_job([url], tables=("clips",), settings={"http_headers": str(headers)})
    assert run(job).failed == 0
    assert {h.get("authorization") for h in files.headers} == {"Bearer S3CRET"}, "the engine did not ask"
    for place in ("lake", "ledger"):
        assert b"S3CRET" not in b"".join(p.read_bytes() for p in (tmp_path / place).rglob("*") if p.is_file())
    headers.write_text("Authorization = 1")
    shutil.rmtree(tmp_path / "lake")
    with pytest.raises(SettingsError, match="must be a table"):
        run(job.but(settings={**job.settings, "index": "other", "home": str(tmp_path / "other")}))
