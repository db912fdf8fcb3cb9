"""Pictures of videos, whole, damaged and gone."""

from __future__ import annotations

import logging
import traceback
import uuid
from pathlib import Path

import pytest

from tests.support import media
from tl_data.errors import ConnectionFailed, MediaRefused
from tl_data.media.frames import frame_at, frames_of


def test_a_file_that_is_no_video_is_reported_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for path in (media.text_named_mp4(tmp_path), media.truncated(tmp_path), tmp_path / "gone.mp4"):
        caplog.clear()
        with pytest.raises(MediaRefused) as caught:
            frames_of(str(path), 5.0)
        assert caught.value.code == "frames_unreadable"
        assert [(r.levelno, path.name in r.getMessage()) for r in caplog.records] == [(logging.WARNING, True)]
        with pytest.raises(MediaRefused):
            frame_at(str(path), 1.0)


def test_sound_has_no_pictures(tmp_path: Path) -> None:
    path = str(media.audio_only(tmp_path))
    assert frames_of(path, 5.0) == []
    assert frame_at(path, 1.0) is None


def test_a_host_that_is_gone_may_be_tried_again_and_signatures_are_not_logged(
    caplog: pytest.LogCaptureFixture,
) -> None:
    secret = uuid.uuid4().hex  # not a literal: a traceback quotes the lines of this file
    with pytest.raises(ConnectionFailed) as caught:
        frames_of(f"http://127.0.0.1:9/v.mp4?X-Amz-Signature={secret}", 5.0)
    assert caught.value.retryable
    shown = "".join(traceback.format_exception(caught.value))
    assert secret not in shown + caplog.text
    assert "127.0.0.1:9/v.mp4" in caplog.text


def test_the_whole_parts_of_a_damaged_file_have_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The index at the start is whole, the second half of the media is cut off."""
    path = media.plain(tmp_path)
    whole = frames_of(str(path), 5.0)
    data = path.read_bytes()
    start = data.index(b"mdat") if data.index(b"mdat") > data.index(b"moov") else 0
    assert start, "the index of the test's file has to come first"
    path.write_bytes(data[: start + (len(data) - start) // 2])
    rest = frames_of(str(path), 5.0)
    assert len(rest) > 0
    assert {row["sec"] for row in rest} <= {row["sec"] for row in whole}
