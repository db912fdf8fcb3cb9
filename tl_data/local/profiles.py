"""Profiles: the versions of the service that the engine reproduces.

A profile is a record of the differences between versions. The routes read their behaviour from it. `today`
and `2025` accept, refuse and answer requests as the service does, so that a client tested against them works
with the service. `lenient`, the default, accepts the requests of both and returns the fields of both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ProfileName = Literal["lenient", "today", "2025"]
NAMES: tuple[ProfileName, ...] = get_args(ProfileName)


@dataclass(frozen=True)
class Profile:
    """A version of the service. An empty tuple of models allows every model that the engine knows.

    The defaults are those of `lenient`.
    """

    name: ProfileName

    # ------------------------------------------------------------------------------- requests
    json_forms: bool = True  # accept JSON bodies where the API requires multipart/form-data
    video_id: bool = True  # /analyze accepts the id of an indexed video
    video_object: bool = True  # /analyze accepts {"type": "url" | "asset_id" | "base64_string"}
    gone: tuple[str, ...] = ()  # paths that answer with 410
    missing: tuple[str, ...] = ()  # prefixes of paths that answer with 404; * stands for an id
    index_models: tuple[str, ...] = ()
    embed_models: tuple[str, ...] = ()
    embed_v2_models: tuple[str, ...] = ()
    analyze_models: tuple[str, ...] = ()
    least_page_limit: int = 1  # smallest page_limit of a search
    lone_transcription_options: bool = True  # accept transcription_options without the option `transcription`
    upload_bytes: int | None = None  # largest file of a multipart upload; None: that of `Config`
    schema_dialect: bool = False  # JSON schemas must follow the dialect of the service
    ranked_parameters: bool = True  # threshold, sort_option and adjust_confidence_level have an effect

    # ------------------------------------------------------------------------------- responses
    scores: bool = True  # hits have a score and a confidence beside their rank
    ranks_all: bool = False  # a search returns all clips, ranked
    speech_in_audio: bool = True  # for Marengo 3.0, the option `audio` also finds speech
    version_on_refusals: bool = True  # error responses have the header X-Api-Version
    nested_errors: bool = False  # errors are nested in {"error": {...}} where the service does so
    video_tokens: bool = False  # input tokens include the video, and only tasks report them
    whole_tasks: bool = True  # POST /tasks returns the task; otherwise only its two ids, which are equal
    task_states: tuple[tuple[str, str], ...] = ()  # state in the engine -> state in the response
    task_metadata: tuple[str, ...] = ()  # metadata fields of a task; empty for all
    single_precision: bool = False  # round numbers of user metadata and times of hits to float32
    asset_of_video: bool = True  # a video has an asset_id
    inherits: bool = True  # an indexed asset initially has the metadata of its asset
    streams_indexed_assets: bool = True  # make a stream unless the request says otherwise
    ready_at_once: bool = True  # the response that creates an asset waits until it is ready, at most 30 s
    whole_seconds: bool = False  # times of analysis tasks and page tokens have no fraction
    plain_hashtags: bool = False  # hashtags have no leading #
    plain_video_times: bool = False  # created_at in whole seconds; updated_at is null before the first update
    plain_tokens: bool = False  # page tokens consist of hexadecimal digits without dashes
    nanoseconds: bool = False  # hls.updated_at has nanoseconds
    refilling_limits: bool = False  # rate limits refill continuously, not at the end of a window
    own_fields: bool = True  # include fields that only the engine has, such as `requested_as` of a model

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
