"""A failed task that does not blame the video is tried again by the next run; one that does is not."""

from __future__ import annotations

import pytest

from tl_data.errors import TaskFailed
from tl_data.ledger.models import Failure


@pytest.mark.parametrize(
    ("code", "again"),
    [
        ("task_failed", True),
        ("internal_error", True),
        ("internal_server_error", True),
        ("video_file_broken", False),
    ],
)
def test_only_the_video_s_own_faults_are_final(code: str, again: bool) -> None:
    failure = Failure.of(TaskFailed("gave up", "t1", code))
    assert failure.retryable is again
    error = failure.exception("0123")
    assert isinstance(error, TaskFailed)
    assert error.retryable is again
    assert ("ledger forget 0123" in str(error)) is not again
