"""Addresses as they stand in text files, given to the functions."""

from __future__ import annotations

import json
import wave
from pathlib import Path

import duckdb
import pytest
from PIL import Image

import tl_data
from benchmarks.films import with_label
from tests.conftest import Engine
from tests.support.odd_server import OddServer
from tl_data import catalog
from tl_data.cli.main import exit_code
from tl_data.connection import connect
from tl_data.settings import Settings


@pytest.mark.parametrize("around", [" {}", "{}\r\n", "\ufeff{}", "\t \ufeff {} "])
def test_blanks_around_a_url_do_not_count(engine: Engine, tmp_path: Path, around: str) -> None:
    """Nothing answers at the address, so that the error says what it was taken for."""
    settings = Settings(base_url=engine.base_url, home=str(tmp_path), retries=0, index="blanks")
    url = around.format("http://127.0.0.1:9/v.mp4")
    [outcome] = connect(settings).map(catalog.FUNCTIONS["index_video"], [{"video": url}])
    assert outcome.error is not None
    assert type(outcome.error).__name__ == "ConnectionFailed"  # of a path it is MediaRefused


@pytest.fixture
def guarded(
    engine: Engine, files: OddServer, quick: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings with headers for the host of the files, in the environment, too."""
    for name in ("duckdb", "python", "cli", "url"):
        (files.folder / f"{name}.mp4").write_bytes(with_label(quick.read_bytes(), f"headers {name}"))
    Image.new("RGB", (320, 240), "red").save(files.folder / "red.jpg")
    with wave.open(str(files.folder / "tone.wav"), "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(range(256)) * 250)
    headers = tmp_path / "headers.toml"
    headers.write_text('["127.0.0.1"]\nAuthorization = "Bearer S3CRET"\n')
    settings = {
        "base_url": engine.base_url,
        "home": str(tmp_path / "home"),
        "index": "headers-by-host",
        "http_headers": str(headers),
    }
    for name, value in settings.items():
        monkeypatch.setenv(f"TL_{name.upper()}", value)
    return Settings.load()


def test_a_host_with_headers_is_asked_by_us_alone(
    guarded: Settings, files: OddServer, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """In SQL, in Python and on the command line. The API gets the file; it would send no header."""
    with duckdb.connect(str(tmp_path / "kept.db")) as con:
        tl_data.register(con, guarded)
        con.execute("CREATE TABLE videos AS SELECT $1 AS url", [files.url("duckdb.mp4")])
        con.execute("CREATE TABLE clips AS SELECT v.url, c.* FROM videos v, LATERAL tl_clips(v.url) c")
        [(clips,)] = con.sql("SELECT count(*) FROM clips").fetchall()
        pictures = con.execute(
            "SELECT tl_embed_image($1), (SELECT count(*) FROM tl_search_by_image('headers-by-host', $1)), "
            "(SELECT count(*) FROM tl_audio_vectors($2))",
            [files.url("red.jpg"), files.url("tone.wav")],
        ).fetchall()
    assert clips == 1
    assert len(pictures[0][0]) > 0
    assert pictures[0][2] == 1
    connection = connect(guarded)
    video = connection.call(catalog.FUNCTIONS["index_video"], video=files.url("python.mp4"))
    assert video["status"] == "ready"
    assert exit_code("index-video", files.url("cli.mp4"), "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["status"] == "ready"
    connection.close()
    assert {headers.get("authorization") for headers in files.headers} == {"Bearer S3CRET"}
    assert all(
        b"S3CRET" not in path.read_bytes()
        for path in [tmp_path / "kept.db", *(tmp_path / "home").rglob("*")]
        if path.is_file()
    )


def test_an_account_of_today_gets_the_file_as_an_asset(
    today: Engine, guarded: Settings, files: OddServer
) -> None:
    connection = connect(guarded.but(base_url=today.base_url, poll_interval=0.2))
    before = len(files.requests)
    title = connection.call(catalog.FUNCTIONS["gist"], video=files.url("url.mp4"))
    vector = connection.call(catalog.FUNCTIONS["embed_image"], image=files.url("red.jpg"))
    connection.close()
    assert "title" in title
    assert len(vector) == 512
    assert files.requests[before:]
    assert {headers.get("authorization") for headers in files.headers} == {"Bearer S3CRET"}
