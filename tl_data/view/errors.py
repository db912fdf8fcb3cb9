"""What a person does next about a row of the table `errors`."""

from __future__ import annotations

from typing import Any

#: Next steps by code; a code that is not here is answered by its class, and that by whether it is retried.
BY_CODE = {
    "video_url_invalid": "Correct the address in the source. It must open without a login.",
    "video_file_broken": "Check that the file plays. Encode it again if it does not.",
    "video_duration_too_short": "The model needs a longer video. Take the row out of the source.",
    "video_duration_too_long": "Cut the video into parts, or choose a model with a higher limit.",
    "video_resolution_too_low": "Give a version with a higher resolution.",
    "video_resolution_too_high": "Give a version with a lower resolution.",
    "video_filesize_too_large": "Encode the video with a lower bit rate, or cut it.",
    "video_audio_too_short": "Give a longer recording.",
    "api_key_invalid": "Set TL_API_KEY to a valid key, then run the job again.",
    "usage_limit_exceeded": "Wait until the quota is renewed or raise it, then run the job again.",
    "task_failed": "Run the job again. If it fails again, report the request id.",
    "task_still_running": "Run the job again later: it picks the task up and pays nothing twice.",
}
BY_CLASS = {
    "ConnectionFailed": "Check the network, then run the job again.",
    "RateLimited": "Run the job again later, or set a lower limit.",
    "ServerFailed": "Run the job again. If it fails again, report the request id.",
    "QuotaExhausted": "Wait until the quota is renewed or raise it, then run the job again.",
    "NotAllowed": "Check the key and its rights, then run the job again.",
    "NotFound": "Check the id or address in the source.",
    "MediaRefused": "Replace the file, or take its row out of the source.",
    "BadRequest": "Change the job as the message says, then run it again.",
}


def next_step(row: dict[str, Any]) -> str:
    """One sentence: what to do about a row of `errors`."""
    known = BY_CODE.get(str(row.get("code"))) or BY_CLASS.get(str(row.get("class")))
    if known:
        return known
    if row.get("retryable"):
        return "Run the job again: this may succeed next time."
    return "Correct the source as the message says, then run the job again."
