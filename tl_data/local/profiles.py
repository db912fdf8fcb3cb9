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
    ranked_parameters: bool = True  # threshold, sort_option, adjust_confidence_level have an effect

    # ------------------------------------------------------------------------------- what is answered
    scores: bool = True  # hits have a score and a confidence beside their rank
    ranks_all: bool = False  # a search ranks all clips, however badly they fit
    speech_in_audio: bool = True  # of Marengo 3.0: its `audio` finds speech, too
    version_on_refusals: bool = True  # X-Api-Version

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
)

PROFILES: dict[str, Profile] = {profile.name: profile for profile in (LENIENT, TODAY, ACCOUNT_2025)}
