"""Videos in storage of Google, on an emulator: `make test-gcs` builds it from its Go module and runs this."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote, urlsplit

import httpx
import pytest

from benchmarks.films import with_label
from tests.support.buckets import check_reads, indexed_by_sql
from tests.support.library import Library
from tl_data.errors import SettingsError
from tl_data.media.listing import files_below
from tl_data.object_store import Buckets


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of the emulator, with an empty bucket `videos` and an account that signs."""
    program = os.environ.get("FAKE_GCS")
    if not program:
        pytest.skip("make test-gcs runs this: it needs fake-gcs-server")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    server = subprocess.Popen([program, *options, "-public-host", f"127.0.0.1:{port}", "-log-level", "error"])
    base = f"http://127.0.0.1:{port}"
    pem = subprocess.run(["openssl", "genpkey", "-algorithm", "RSA"], capture_output=True, check=True).stdout
    account = {
        "client_email": "tests@example.com",
        "private_key": pem.decode(),
        "private_key_id": "1",
        "gcs_base_url": base,
    }
    (key := tmp_path / "account.json").write_text(json.dumps(account))
    monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT", str(key))
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", base)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        assert httpx.post(f"{base}/storage/v1/b?project=p", json={"name": "videos"}).status_code == 200
        yield base
    finally:
        server.terminate()
        server.wait(30)


def test_objects_are_listed_signed_read_and_known_by_their_content(emulator: str) -> None:
    body = b"0123456789" * 100
    for name in ("a/é b.mp4", "a/c.mp4", "notes.txt"):
        upload = f"{emulator}/upload/storage/v1/b/videos/o?uploadType=media&name={quote(name, safe='')}"
        assert httpx.post(upload, content=body).status_code == 200
    listed = [file.address for file in files_below("gs://videos/**/*.mp4")]
    assert listed == ["gs://videos/a/c.mp4", "gs://videos/a/é b.mp4"]
    signed = asyncio.run(Buckets(1).sign("GET", listed[1]))
    assert "X-Goog-Signature=" in signed
    assert urlsplit(signed).netloc == urlsplit(emulator).netloc
    assert httpx.get(signed).content == body

    check_reads(listed, "gs://videos/none.mp4")
    with pytest.raises(SettingsError, match="cannot be listed"):
        list(files_below("gs://none/"))


def test_sql_takes_a_bucket_and_pays_once_for_copies(emulator: str, library: Library, quick: Path) -> None:
    for name in ("in/é b.mp4", "in/copy.mp4"):
        upload = f"{emulator}/upload/storage/v1/b/videos/o?uploadType=media&name={quote(name, safe='')}"
        assert httpx.post(upload, content=with_label(quick.read_bytes(), "google")).status_code == 200
    rows = indexed_by_sql(library, "gs://videos/in/**")
    assert [(video, status) for video, status, _ in rows] == [
        ("gs://videos/in/copy.mp4", "ready"),
        ("gs://videos/in/é b.mp4", "ready"),
    ]
    assert len({video_id for *_, video_id in rows}) == 1
