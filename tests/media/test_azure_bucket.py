"""Videos in Azure's blob storage: signatures; with AZURITE set, against Microsoft's own emulator.

`make test-azure` installs the emulator (186 MB from npm) and runs this.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import obstore
import pytest
from obstore.store import AzureStore

from benchmarks.films import with_label
from tests.support.buckets import check_reads, indexed_by_sql
from tests.support.library import Library
from tl_data.errors import MediaRefused
from tl_data.media.listing import files_below
from tl_data.object_store import Buckets, _azure_signed

ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="  # of Azurite


@pytest.fixture
def azure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", ACCOUNT)
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", KEY)
    monkeypatch.delenv("AZURE_STORAGE_ENDPOINT", raising=False)


@pytest.mark.parametrize("place", ["az://videos", f"abfss://videos@{ACCOUNT}.dfs.core.windows.net"])
def test_a_path_that_needs_no_encoding_is_signed_as_obstore_signs_it(azure: None, place: str) -> None:
    signed = asyncio.run(Buckets(1).sign("GET", f"{place}/a/v.mp4"))
    assert urlsplit(signed).path == "/videos/a/v.mp4"
    assert parse_qs(urlsplit(_azure_signed(signed, "v")).query) == parse_qs(urlsplit(signed).query)


def test_a_path_with_letters_needs_the_key_of_the_account(
    azure: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed = asyncio.run(Buckets(1).sign("HEAD", "az://videos/é b.mp4"))
    assert urlsplit(signed).path == "/videos/%C3%A9%20b.mp4"
    assert parse_qs(urlsplit(signed).query)["sp"] == ["r"], "who may read may ask for headers"
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_KEY")
    with pytest.raises(MediaRefused) as refused:
        _azure_signed(signed, "az://videos/é b.mp4")
    assert refused.value.code == "video_url_not_allowed"


@pytest.fixture
def emulator(azure: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Azurite with an empty container `videos`."""
    program = os.environ.get("AZURITE")
    if not program:
        pytest.skip("make test-azure runs this: it needs Azurite")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--blobPort", str(port), "--silent", "--inMemoryPersistence", "--skipApiVersionCheck"]
    server = subprocess.Popen([program, *options, "--disableTelemetry"], cwd=tmp_path)
    base = f"http://127.0.0.1:{port}/{ACCOUNT}"
    monkeypatch.setenv("AZURE_STORAGE_ENDPOINT", base)
    try:
        for _ in range(300):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                break
            time.sleep(0.1)
        headers = {
            "x-ms-date": f"{datetime.now(UTC):%a, %d %b %Y %H:%M:%S GMT}",
            "x-ms-version": "2023-11-03",
        }
        shown = "".join(f"{name}:{value}\n" for name, value in sorted(headers.items()))
        text = "PUT" + "\n" * 12 + f"{shown}/{ACCOUNT}/{ACCOUNT}/videos\nrestype:container"
        digest = base64.b64encode(hmac.digest(base64.b64decode(KEY), text.encode(), "sha256")).decode()
        headers["authorization"] = f"SharedKey {ACCOUNT}:{digest}"
        assert httpx.put(f"{base}/videos?restype=container", headers=headers).status_code == 201
        yield
    finally:
        server.terminate()
        server.wait(30)


def test_blobs_are_listed_signed_read_and_known_by_their_content(emulator: None) -> None:
    store = AzureStore("videos", client_options={"allow_http": True})
    body = b"0123456789" * 100
    for name in ("a/é b.mp4", "a/c.mp4", "notes.txt"):
        obstore.put(store, name, body)
    listed = [file.address for file in files_below("az://videos/**/*.mp4")]
    assert listed == ["az://videos/a/c.mp4", "az://videos/a/é b.mp4"]

    check_reads((*listed, f"abfss://videos@{ACCOUNT}.dfs.core.windows.net/a/c.mp4"), "az://videos/none.mp4")


def test_sql_takes_a_container_and_pays_once_for_copies(
    emulator: None, library: Library, quick: Path
) -> None:
    store = AzureStore("videos", client_options={"allow_http": True})
    for name in ("in/é b.mp4", "in/copy.mp4"):
        obstore.put(store, name, with_label(quick.read_bytes(), "azure"))
    rows = indexed_by_sql(library, "az://videos/in/**")
    assert [(video, status) for video, status, _ in rows] == [
        ("az://videos/in/copy.mp4", "ready"),
        ("az://videos/in/é b.mp4", "ready"),
    ]
    assert len({video_id for *_, video_id in rows}) == 1
