"""The codes of refusals: all that are documented or were seen, and those that the engine has no cause for."""

from __future__ import annotations

#: The codes of the service's documents, with those seen in its answers.
DOCUMENTED = (
    "parameter_invalid", "parameter_not_provided", "parameter_unknown", "resource_not_exist",
    "resource_not_exists", "not_found", "api_key_invalid", "tags_not_allowed", "api_upgrade_required",
    "too_many_requests", "api_allowed_for_paid_plan", "api_not_allowed", "unauthorized",
    "region_not_allowed", "request_canceled_or_timed_out", "index_option_cannot_be_changed",
    "index_engine_cannot_be_changed", "index_name_already_exists", "video_resolution_too_low",
    "video_resolution_too_high", "video_resolution_invalid_aspect_ratio", "video_duration_too_short",
    "video_duration_too_long", "video_file_broken", "video_filesize_too_large", "task_cannot_be_deleted",
    "usage_limit_exceeded", "insufficient_funds", "search_option_not_supported",
    "search_option_combination_not_supported", "search_filter_invalid", "search_page_token_expired",
    "search_video_not_in_same_index", "index_not_supported_for_search", "token_limit_exceeded",
    "index_not_supported_for_generate", "video_not_ready", "content_type_invalid", "endpoint_not_exists",
    "endpoint_deprecated", "read_not_allowed", "generic_error", "search_parameter_not_allowed",
    "search_video_duration_too_long", "transcription_not_supported", "transcription_url_not_accessible",
    "transcription_url_not_exists", "video_audio_track_not_exists", "video_duration_out_of_range",
    "video_resolution_out_of_range",
)  # fmt: skip

#: Codes of the service's documents that the engine never answers with, and why.
ELSEWHERE = {
    "parameter_unknown": "parameters that nobody knows are passed over: SDKs and old samples send some",
    "resource_not_exist": "the other spelling of resource_not_exists",
    "tags_not_allowed": "no request of v1.3 has tags",
    "api_allowed_for_paid_plan": "the engine has no plans to pay for",
    "api_not_allowed": "every key may do everything",
    "unauthorized": "a newer name of api_key_invalid",
    "region_not_allowed": "the engine is on this machine",
    "request_canceled_or_timed_out": "it is answered when the client has gone, so that nobody reads it",
    "usage_limit_exceeded": "nothing is charged",
    "insufficient_funds": "nothing is charged",
    "token_limit_exceeded": "no video is too long for the engine's own texts",
    "endpoint_deprecated": "/gist and /summarize are still served",
    "read_not_allowed": "an engine has one account",
    "search_parameter_not_allowed": "known by name only",
    "search_video_duration_too_long": "known by name only",
    "transcription_not_supported": "known by name only",
    "transcription_url_not_accessible": "transcripts are not taken, and never were in v1.3",
    "transcription_url_not_exists": "transcripts are not taken, and never were in v1.3",
    "video_duration_out_of_range": "too_short and too_long say which",
    "video_resolution_out_of_range": "too_low and too_high say which",
}
#: Statuses of those that are not 400.
STATUS = {"resource_not_exist": 404, "endpoint_deprecated": 410, "unauthorized": 401} | dict.fromkeys(
    ("api_allowed_for_paid_plan", "api_not_allowed", "region_not_allowed", "read_not_allowed"), 403
)

#: What the client makes of a status, or of a code; anything else is a BadRequest.
KIND = {401: "NotAllowed", 403: "NotAllowed", 404: "NotFound", 410: "NotFound"}
KINDS = {
    "request_canceled_or_timed_out": "ServerFailed",
    "usage_limit_exceeded": "QuotaExhausted",
    "insufficient_funds": "QuotaExhausted",
    "video_duration_out_of_range": "MediaRefused",
    "video_resolution_out_of_range": "MediaRefused",
}
