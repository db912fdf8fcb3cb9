"""Files that are damaged in many ways: each is a refusal of its own row, and opens nothing else.

`FUZZ_FILES` sets how many files are made (`make test-fuzz`).
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support import media
from tests.support.mutations import bases, mutated, unknown_codec
from tests.support.odd_server import OddServer
from tl_data.errors import MediaRefused
from tl_data.media.preflight import MediaFacts, facts_of

Run = Callable[..., Any]
FILES = int(os.environ.get("FUZZ_FILES", "90"))


def test_a_damaged_header_is_a_refusal_and_nothing_else(run: Run, tmp_path: Path) -> None:
    originals = bases(tmp_path / "originals")
    seen: Counter[str] = Counter()

    async def measure(client: Any) -> None:
        for seed in range(FILES):
            name, data = mutated(seed, originals)
            path = tmp_path / name
            path.write_bytes(data)
            try:
                facts = await asyncio.wait_for(facts_of(client, path), 60)
                assert isinstance(facts, MediaFacts)
                seen["facts"] += 1
            except MediaRefused as refused:
                seen[refused.code] += 1
            path.unlink()

    run(measure)
    assert seen.keys() == {"facts", "video_file_broken"}  # both happen, and nothing else
    assert seen.total() == FILES


@pytest.mark.parametrize("remote", [False, True])
def test_an_unknown_codec(run: Run, tmp_path: Path, files: OddServer, remote: bool) -> None:
    path = files.folder / "raw.mp4"
    path.write_bytes(unknown_codec(media.no_audio(tmp_path)))
    with pytest.raises(MediaRefused) as caught:
        run(lambda client: facts_of(client, files.url("raw.mp4") if remote else path))
    assert caught.value.code == "video_file_broken"


@pytest.mark.parametrize("remote", [False, True])
def test_scripts_and_playlists_open_nothing(
    run: Run, tmp_path: Path, files: OddServer, monkeypatch: pytest.MonkeyPatch, remote: bool
) -> None:
    """FFmpeg can read files that name other files, or sockets."""
    inner = media.transport_stream(files.folder)
    monkeypatch.chdir(files.folder)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    sdp = f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
    hostile = {
        "concat.mp4": f"ffconcat version 1.0\nfile {inner.name}\n",
        "session.mp4": f"{sdp}a=rtpmap:96 H264/90000\n",
        "list.m3u8": f"{head}{inner.name}\n#EXT-X-ENDLIST\n",
        "list.mp4": f"{head}{files.url(inner.name)}\n#EXT-X-ENDLIST\n",
    }
    for name, text in hostile.items():
        (files.folder / name).write_text(text)
        with pytest.raises(MediaRefused):
            run(lambda client, name=name: facts_of(client, files.url(name) if remote else Path(name)))
    assert not [path for _, path in files.requests if path.endswith(inner.name)]
