"""What a server of the API is: the service of today, that of 2025, or an engine for clients of both.

A profile is one record of differences; the routes ask it and decide nothing themselves. `today` and `2025`
answer as the service does and refuse what it refuses, so that a client tested against them works with it.
`lenient`, the default, takes the requests of both and answers with all that either would say.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

ProfileName = Literal["lenient", "today", "2025"]
NAMES: tuple[ProfileName, ...] = get_args(ProfileName)


@dataclass(frozen=True)
class Profile:
    """One kind of server. A tuple of models that is empty means: every model that the engine knows."""

    name: ProfileName

    # ------------------------------------------------------------------------------- what is accepted
    json_forms: bool = True  # JSON where the API wants multipart/form-data
    video_id: bool = True  # /analyze of an indexed video by its id
    video_object: bool = True  # /analyze by {"type": "url" | "asset_id" | "base64_string"}
    gone: tuple[str, ...] = ()  # paths that answer 410
    missing: tuple[str, ...] = ()  # beginnings of paths that answer 404
    index_models: tuple[str, ...] = ()
    embed_models: tuple[str, ...] = ()
    embed_v2_models: tuple[str, ...] = ()
    analyze_models: tuple[str, ...] = ()
    least_page_limit: int = 1  # of a search
    lone_transcription_options: bool = True  # without `transcription` among the search options
    schema_dialect: bool = False  # JSON schemas are held to the service's own dialect
    ranked_parameters: bool = True  # threshold, sort_option, adjust_confidence_level have an effect

    # ------------------------------------------------------------------------------- what is answered
    scores: bool = True  # hits have a score and a confidence beside their rank
    ranks_all: bool = False  # a search ranks all clips, however badly they fit
    speech_in_audio: bool = True  # of Marengo 3.0: its `audio` finds speech, too
    version_on_refusals: bool = True  # X-Api-Version
    nested_errors: bool = False  # {"error": {...}} where the service nests
    video_tokens: bool = False  # input tokens count the video, in answers of tasks alone
    whole_tasks: bool = True  # POST /tasks answers the task; else its two ids, which are equal
    task_states: tuple[tuple[str, str], ...] = ()  # the engine's state of a task -> the one that is shown
    task_metadata: tuple[str, ...] = ()  # of a task; empty: all that is known
    single_precision: bool = False  # numbers of user metadata, times of hits
    asset_of_video: bool = True  # a video says which asset it is made of
    inherits: bool = True  # an indexed asset begins with the metadata of its asset
    streams_indexed_assets: bool = True  # unless the request says otherwise
    ready_at_once: bool = True  # small assets are ready when they are made
    whole_seconds: bool = False  # times of analysis tasks and of page tokens
    plain_hashtags: bool = False  # without #
    plain_video_times: bool = False  # made at a whole second; updated_at is null before the first change
    plain_tokens: bool = False  # of pages: hexadecimal digits without dashes
    nanoseconds: bool = False  # hls.updated_at
    refilling_limits: bool = False  # rate limits come free bit by bit
    own_fields: bool = True  # fields that no service has: error of a task, requested_as of a model

    @property
    def strict(self) -> bool:
        """Whether it is the service of one time, and nothing else."""
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
