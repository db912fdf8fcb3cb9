"""Profiles: which version of the service the engine reproduces.

A profile is one record of differences, and the routes read them from it. `today` and `2025` answer as the
service does and refuse what it refuses, so that a client tested against them works with the service.
`lenient`, the default, accepts the requests of both and returns the fields of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ProfileName = Literal["lenient", "today", "2025"]
NAMES: tuple[ProfileName, ...] = get_args(ProfileName)


@dataclass(frozen=True)
class Profile:
    """One version of the service. An empty tuple of models allows every model that the engine knows."""

    name: ProfileName

    # ------------------------------------------------------------------------------- requests
    json_forms: bool = True  # JSON bodies where the API requires multipart/form-data
    video_id: bool = True  # /analyze of an indexed video by its id
    video_object: bool = True  # /analyze by {"type": "url" | "asset_id" | "base64_string"}
    gone: tuple[str, ...] = ()  # paths that answer 410
    missing: tuple[str, ...] = ()  # prefixes of paths that answer 404
    index_models: tuple[str, ...] = ()
    embed_models: tuple[str, ...] = ()
    embed_v2_models: tuple[str, ...] = ()
    analyze_models: tuple[str, ...] = ()
    least_page_limit: int = 1  # of a search
    lone_transcription_options: bool = True  # without `transcription` among the search options
    upload_bytes: int | None = None  # largest file of a multipart upload; None: as the engine is configured
    schema_dialect: bool = False  # JSON schemas must follow the dialect of the service
    ranked_parameters: bool = True  # threshold, sort_option, adjust_confidence_level have an effect

    # ------------------------------------------------------------------------------- responses
    scores: bool = True  # hits have a score and a confidence beside their rank
    ranks_all: bool = False  # a search returns all clips, ranked
    speech_in_audio: bool = True  # for Marengo 3.0, the option `audio` also finds speech
    version_on_refusals: bool = True  # X-Api-Version on error responses
    nested_errors: bool = False  # {"error": {...}} where the service nests
    video_tokens: bool = False  # input tokens count the video, and only tasks report them
    whole_tasks: bool = True  # POST /tasks returns the task; else two equal ids
    task_states: tuple[tuple[str, str], ...] = ()  # state in the engine -> state in the response
    task_metadata: tuple[str, ...] = ()  # fields of a task; empty: all
    single_precision: bool = False  # numbers of user metadata, times of hits
    asset_of_video: bool = True  # a video has an asset_id
    inherits: bool = True  # an indexed asset starts with the metadata of its asset
    streams_indexed_assets: bool = True  # unless the request says otherwise
    ready_at_once: bool = True  # small assets are ready in the response that creates them
    whole_seconds: bool = False  # times of analysis tasks and of page tokens
    plain_hashtags: bool = False  # without #
    plain_video_times: bool = False  # created_at in whole seconds; updated_at is null before the first update
    plain_tokens: bool = False  # page tokens are hexadecimal digits without dashes
    nanoseconds: bool = False  # hls.updated_at
    refilling_limits: bool = False  # rate limits refill continuously
    own_fields: bool = True  # fields of the engine alone: error of a task, requested_as of a model

    @property
    def strict(self) -> bool:
        """Whether the profile reproduces one version of the service exactly."""
        return self.name != "lenient"


LENIENT = Profile("lenient")

TODAY = Profile(
    "today",
    json_forms=False,
    video_id=False,
    gone=("/gist", "/summarize"),
    missing=("/generate", "/tasks/transfers", "/tasks/status"),
    index_models=("marengo3.0",),
    embed_models=("marengo3.0",),
    embed_v2_models=("marengo3.0", "marengo3.5"),
    analyze_models=("pegasus1.5", "pegasus1.6"),
    least_page_limit=0,
    lone_transcription_options=False,
    ranked_parameters=False,
    scores=False,
    ranks_all=True,
    speech_in_audio=False,
    version_on_refusals=False,
    upload_bytes=10 << 30,
    schema_dialect=True,
    nested_errors=True,
    video_tokens=True,
    whole_tasks=False,
    task_states=(
        ("validating", "uploading"),
        ("pending", "queued"),
        ("queued", "queued"),
        ("indexing", "indexing"),
    ),
    task_metadata=("filename", "duration", "width", "height"),
    single_precision=True,
    inherits=False,
    streams_indexed_assets=False,
    ready_at_once=False,
    whole_seconds=True,
    plain_tokens=True,
    nanoseconds=True,
    refilling_limits=True,
    own_fields=False,
)

ACCOUNT_2025 = Profile(
    "2025",
    json_forms=False,
    video_object=False,
    missing=(
        "/analyze/tasks",
        "/analyze/batches",
        "/embed-v2",
        "/entity-collections",
        "/assets/*/entities",
        "/assets/*/transcription",
    ),
    index_models=("marengo2.7", "pegasus1.2"),
    embed_models=("Marengo-retrieval-2.7",),
    analyze_models=("pegasus1.2",),
    version_on_refusals=False,
    whole_tasks=False,
    task_states=(
        ("validating", "pending"),
        ("pending", "pending"),
        ("queued", "pending"),
        ("indexing", "indexing"),
    ),
    task_metadata=("filename", "duration", "width", "height"),
    asset_of_video=False,
    plain_hashtags=True,
    plain_video_times=True,
    own_fields=False,
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (LENIENT, TODAY, ACCOUNT_2025)}
