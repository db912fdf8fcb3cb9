"""The types of `tl_data.search` and the other functions of the catalog.

Printed by `tl-data docs`: change the declarations in tl_data/functions, not this file. There is no module of
this name when a program runs: `tl_data` makes the functions from the catalog when they are first used.
"""

from collections.abc import Mapping
from datetime import datetime
from os import PathLike
from typing import Any, Protocol, overload

from tl_data.display import Rows
from tl_data.settings import Settings

class _Column(Protocol):
    """A pandas or Polars Series."""

    def __len__(self) -> int: ...
    def to_list(self) -> list[Any]: ...

_Text = str | PathLike[str] | Mapping[str, Any]

@overload
def agg(
    texts: list[str] | tuple[str, ...],
    instruction: _Text,
    max_tokens: int | None = 1024,
    *,
    settings: Settings | None = None,
) -> str | None:
    """Write one text from the texts of a group, with your own language model.

    Args:
        texts: the texts of the group. NULL and empty texts are ignored; if no text is left, the result is
            NULL.
        instruction: what to write about the texts. NULL gives NULL.
        max_tokens: maximum number of tokens of the answer.
    """
@overload
def agg(
    texts: list[str] | tuple[str, ...] | _Column,
    instruction: _Text | _Column,
    max_tokens: int | _Column | None = 1024,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def summarize(
    video: _Text,
    prompt: _Text | None = None,
    index_id: _Text | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> str | None:
    """Summarize a video as text.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: purpose, length or format of the summary.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        temperature: 0 to 1, randomness of the text; 0.2 by default
        max_tokens: maximum number of tokens to write; 4,096 by default
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
    """
@overload
def summarize(
    video: _Text | _Column,
    prompt: _Text | _Column | None = None,
    index_id: _Text | _Column | None = None,
    temperature: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def chapters(
    video: _Text,
    prompt: _Text | None = None,
    index_id: _Text | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The chapters of a video, in order, with titles and summaries.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what to divide the video by, such as topics.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        temperature: 0 to 1, randomness of the text; 0.2 by default
        max_tokens: maximum number of tokens to write; 4,096 by default
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
    """
@overload
def chapters(
    video: _Text | _Column,
    prompt: _Text | _Column | None = None,
    index_id: _Text | _Column | None = None,
    temperature: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def highlights(
    video: _Text,
    prompt: _Text | None = None,
    index_id: _Text | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The most notable parts of a video.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what counts as notable.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        temperature: 0 to 1, randomness of the text; 0.2 by default
        max_tokens: maximum number of tokens to write; 4,096 by default
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
    """
@overload
def highlights(
    video: _Text | _Column,
    prompt: _Text | _Column | None = None,
    index_id: _Text | _Column | None = None,
    temperature: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def gist(
    video: _Text,
    index_id: _Text | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> dict[str, Any] | None:
    """Title, topics and hashtags of a video.

    Args:
        video: URL, path or id of a video, or id of an asset.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
    """
@overload
def gist(
    video: _Text | _Column,
    index_id: _Text | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def analyze(
    video: _Text,
    prompt: _Text,
    index_id: _Text | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    images: list[str] | tuple[str, ...] | None = None,
    *,
    settings: Settings | None = None,
) -> str | None:
    """Answer a prompt about a video, as text.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: the question or task. NULL gives NULL.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        temperature: 0 to 1, randomness of the text; 0.2 by default
        max_tokens: maximum number of tokens to write; 4,096 by default
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        images: up to 4 URLs or paths of pictures; the prompt refers to them as <@image1>, <@image2>
    """
@overload
def analyze(
    video: _Text | _Column,
    prompt: _Text | _Column,
    index_id: _Text | _Column | None = None,
    temperature: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    images: list[str] | tuple[str, ...] | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def extract(
    video: _Text,
    prompt: _Text,
    json_schema: _Text,
    index_id: _Text | None = None,
    temperature: float | None = None,
    max_tokens: int | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    images: list[str] | tuple[str, ...] | None = None,
    *,
    settings: Settings | None = None,
) -> str | None:
    """Answer a prompt about a video as JSON that conforms to a schema.

    Args:
        video: URL, path or id of a video, or id of an asset.
        prompt: what to extract. NULL gives NULL.
        json_schema: the JSON Schema of the answer, as text. NULL gives NULL.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        temperature: 0 to 1, randomness of the text; 0.2 by default
        max_tokens: maximum number of tokens to write; 4,096 by default
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        images: up to 4 URLs or paths of pictures; the prompt refers to them as <@image1>, <@image2>
    """
@overload
def extract(
    video: _Text | _Column,
    prompt: _Text | _Column,
    json_schema: _Text | _Column,
    index_id: _Text | _Column | None = None,
    temperature: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    images: list[str] | tuple[str, ...] | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def segments(
    video: _Text,
    definitions: _Text,
    index_id: _Text | None = None,
    start_sec: float | None = None,
    end_sec: float | None = None,
    min_segment_sec: float | None = None,
    max_segment_sec: float | None = None,
    max_tokens: int | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The segments of a video that match definitions: one row per segment, with its fields as JSON.

    Args:
        video: URL, path or id of a video, or id of an asset.
        definitions: JSON list of objects with id, description and fields (name, type, description); NULL
            gives no rows.
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        min_segment_sec: minimum length of a segment in seconds, 2 or more
        max_segment_sec: maximum length of a segment in seconds
        max_tokens: maximum number of tokens to write; 32,768 by default
    """
@overload
def segments(
    video: _Text | _Column,
    definitions: _Text | _Column,
    index_id: _Text | _Column | None = None,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    min_segment_sec: float | _Column | None = None,
    max_segment_sec: float | _Column | None = None,
    max_tokens: int | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def search(
    index_id: _Text,
    query_text: _Text,
    max_hits: int | None = 10,
    search_options: list[str] | tuple[str, ...] | None = None,
    filter: _Text | None = None,
    operator: _Text | None = None,
    group_by: _Text | None = None,
    threshold: _Text | None = None,
    adjust_confidence_level: float | None = None,
    sort_option: _Text | None = None,
    page_limit: int | None = None,
    include_user_metadata: bool | None = None,
    transcription_options: list[str] | tuple[str, ...] | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """Search an index by words: one row per matching clip, best first.

    Args:
        index_id: name or id of the index.
        query_text: what to look for, in words; NULL gives no rows.
        max_hits: maximum number of clips (of videos, if grouped), over all pages
        search_options: sources to search: visual, audio, transcription (speech). NULL is all of the index
        filter: JSON object over metadata, such as {"duration": {"gte": 60}}
        operator: how several sources combine: or (the default), and
        group_by: clip (the default) or video; the rows are clips either way
        threshold: minimum confidence of a hit: high, medium, low, none; for models with scores
        adjust_confidence_level: 0 to 1, shifts the boundaries between the levels of confidence; for models
            with scores
        sort_option: score or clip_count; for models with scores
        page_limit: clips per request, 1 to 50
        include_user_metadata: whether to return the metadata of the videos as JSON
        transcription_options: lexical, semantic or both, for transcription
    """
@overload
def search(
    index_id: _Text | _Column,
    query_text: _Text | _Column,
    max_hits: int | _Column | None = 10,
    search_options: list[str] | tuple[str, ...] | _Column | None = None,
    filter: _Text | _Column | None = None,
    operator: _Text | _Column | None = None,
    group_by: _Text | _Column | None = None,
    threshold: _Text | _Column | None = None,
    adjust_confidence_level: float | _Column | None = None,
    sort_option: _Text | _Column | None = None,
    page_limit: int | _Column | None = None,
    include_user_metadata: bool | _Column | None = None,
    transcription_options: list[str] | tuple[str, ...] | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def search_by_image(
    index_id: _Text,
    image: _Text,
    query_text: _Text | None = None,
    max_hits: int | None = 10,
    search_options: list[str] | tuple[str, ...] | None = None,
    filter: _Text | None = None,
    operator: _Text | None = None,
    group_by: _Text | None = None,
    threshold: _Text | None = None,
    adjust_confidence_level: float | None = None,
    sort_option: _Text | None = None,
    page_limit: int | None = None,
    include_user_metadata: bool | None = None,
    transcription_options: list[str] | tuple[str, ...] | None = None,
    images: list[str] | tuple[str, ...] | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """Search an index by a picture: one row per matching clip, best first.

    Args:
        index_id: name or id of the index.
        image: URL or path of a JPEG or PNG; NULL gives no rows.
        query_text: words to narrow the picture down (Marengo 3.0 and the embedded engine).
        max_hits: maximum number of clips (of videos, if grouped), over all pages
        search_options: sources to search: visual, audio, transcription (speech). NULL is all of the index
        filter: JSON object over metadata, such as {"duration": {"gte": 60}}
        operator: how several sources combine: or (the default), and
        group_by: clip (the default) or video; the rows are clips either way
        threshold: minimum confidence of a hit: high, medium, low, none; for models with scores
        adjust_confidence_level: 0 to 1, shifts the boundaries between the levels of confidence; for models
            with scores
        sort_option: score or clip_count; for models with scores
        page_limit: clips per request, 1 to 50
        include_user_metadata: whether to return the metadata of the videos as JSON
        transcription_options: lexical, semantic or both, for transcription
        images: URLs or paths of further pictures; at most 10 pictures in total
    """
@overload
def search_by_image(
    index_id: _Text | _Column,
    image: _Text | _Column,
    query_text: _Text | _Column | None = None,
    max_hits: int | _Column | None = 10,
    search_options: list[str] | tuple[str, ...] | _Column | None = None,
    filter: _Text | _Column | None = None,
    operator: _Text | _Column | None = None,
    group_by: _Text | _Column | None = None,
    threshold: _Text | _Column | None = None,
    adjust_confidence_level: float | _Column | None = None,
    sort_option: _Text | _Column | None = None,
    page_limit: int | _Column | None = None,
    include_user_metadata: bool | _Column | None = None,
    transcription_options: list[str] | tuple[str, ...] | _Column | None = None,
    images: list[str] | tuple[str, ...] | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def embed_text(
    text: _Text,
    text_truncate: _Text | None = None,
    model_name: _Text | None = None,
    embedding_dimension: int | None = None,
    *,
    settings: Settings | None = None,
) -> list[float] | None:
    """The vector of a text, comparable with those of clips.

    Args:
        text: what to embed.
        text_truncate: where to cut a text that is too long: end, start or none (an error). In the service,
            Marengo 3.0 does not accept this option, and Marengo 3.5 accepts end and none.
        model_name: marengo3.0 or marengo3.5; NULL is the session's model
        embedding_dimension: numbers per vector; marengo3.5 makes 256 or 512
    """
@overload
def embed_text(
    text: _Text | _Column,
    text_truncate: _Text | _Column | None = None,
    model_name: _Text | _Column | None = None,
    embedding_dimension: int | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def embed_image(
    image: _Text,
    model_name: _Text | None = None,
    embedding_dimension: int | None = None,
    *,
    settings: Settings | None = None,
) -> list[float] | None:
    """The vector of a picture, comparable with those of clips.

    Args:
        image: URL or path of a JPEG or PNG.
        model_name: marengo3.0 or marengo3.5; NULL is the session's model
        embedding_dimension: numbers per vector; marengo3.5 makes 256 or 512
    """
@overload
def embed_image(
    image: _Text | _Column,
    model_name: _Text | _Column | None = None,
    embedding_dimension: int | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def audio_vectors(
    audio: _Text,
    audio_start_offset_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The vectors of an audio file, comparable with those of clips.

    Args:
        audio: URL or path of a WAV, MP3 or FLAC.
        audio_start_offset_sec: start of the part to embed, in seconds.
    """
@overload
def audio_vectors(
    audio: _Text | _Column,
    audio_start_offset_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def video_vectors(
    video: _Text,
    index_id: _Text | None = None,
    embedding_option: list[str] | tuple[str, ...] | None = None,
    video_embedding_scope: list[str] | tuple[str, ...] | None = None,
    video_clip_length: int | None = None,
    video_start_offset_sec: float | None = None,
    video_end_offset_sec: float | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The vectors of a video: one row per clip (or whole video) and kind of evidence.

    Args:
        video: id of an indexed video, or URL or path of a video file.
        index_id: name or id of the index of a video id. NULL is the session's index.
        embedding_option: kinds of evidence: visual, audio, transcription. NULL is all of them.
        video_embedding_scope: clip (the default), video, or both. For a URL or path.
        video_clip_length: seconds per clip, 2 to 10; 6 by default. For a URL or path.
        video_start_offset_sec: start of the part to embed, in seconds; requires the end. For a URL or path.
        video_end_offset_sec: end of the part to embed, in seconds; requires the start. For a URL or path.
    """
@overload
def video_vectors(
    video: _Text | _Column,
    index_id: _Text | _Column | None = None,
    embedding_option: list[str] | tuple[str, ...] | _Column | None = None,
    video_embedding_scope: list[str] | tuple[str, ...] | _Column | None = None,
    video_clip_length: int | _Column | None = None,
    video_start_offset_sec: float | _Column | None = None,
    video_end_offset_sec: float | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def index_video(
    video: _Text,
    index_id: _Text | None = None,
    user_metadata: _Text | None = None,
    enable_video_stream: bool | None = None,
    *,
    settings: Settings | None = None,
) -> dict[str, Any] | None:
    """Index a video once and return its record.

    Args:
        video: URL of a video file, path of a local one, or the id of an indexed video.
        index_id: name or id of the index; an unknown name creates an index. NULL is the session's index.
        user_metadata: JSON object to keep with a newly indexed video; search can filter by it.
        enable_video_stream: whether the platform keeps a stream for playback; true by default.
    """
@overload
def index_video(
    video: _Text | _Column,
    index_id: _Text | _Column | None = None,
    user_metadata: _Text | _Column | None = None,
    enable_video_stream: bool | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def clips(
    video: _Text,
    index_id: _Text | None = None,
    embedding_option: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The clips of a video: times, speech, thumbnail and vector.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
        embedding_option: which vector: visual (the default), audio or transcription.
    """
@overload
def clips(
    video: _Text | _Column,
    index_id: _Text | _Column | None = None,
    embedding_option: _Text | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def transcript(
    video: _Text,
    index_id: _Text | None = None,
    unit: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The spoken words of a video, with times; with `unit => 'speaker'`, also the speakers.

    Args:
        video: URL, path or id; a URL or path is indexed first, once.
        index_id: name or id of the index; NULL is the session's index.
        unit: word, sentence or speaker, read from the video's asset, without an index. NULL: the parts of
            the index's transcript.
    """
@overload
def transcript(
    video: _Text | _Column,
    index_id: _Text | _Column | None = None,
    unit: _Text | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def filter(
    video: _Text,
    condition: _Text,
    start_sec: float | None = None,
    end_sec: float | None = None,
    index_id: _Text | None = None,
    vector: list[float] | tuple[float, ...] | None = None,
    *,
    settings: Settings | None = None,
) -> bool | None:
    """Whether a statement is true of a video or a part of it; NULL when it cannot be decided.

    Args:
        video: URL, path or id of a video, or id of an asset.
        condition: a statement that is true or false, such as "a person wears a helmet". NULL gives NULL.
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
        vector: vector of this part of the video, as in a table of vectors. With it, a clip whose
            tl_similarity is not between two thresholds is decided without a call, once the first 200
            answers about the condition have calibrated the thresholds (TL_PREFILTER_SAMPLE). NULL: every
            row is analyzed
    """
@overload
def filter(
    video: _Text | _Column,
    condition: _Text | _Column,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    index_id: _Text | _Column | None = None,
    vector: list[float] | tuple[float, ...] | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def classify(
    video: _Text,
    labels: list[str] | tuple[str, ...],
    start_sec: float | None = None,
    end_sec: float | None = None,
    index_id: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> str | None:
    """The one label that fits a video or a part of it best; NULL when none fits or it cannot be decided.

    Args:
        video: URL, path or id of a video, or id of an asset.
        labels: 2 to 100 different texts. NULL gives NULL.
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
    """
@overload
def classify(
    video: _Text | _Column,
    labels: list[str] | tuple[str, ...] | _Column,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    index_id: _Text | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def classify_multi(
    video: _Text,
    labels: list[str] | tuple[str, ...],
    start_sec: float | None = None,
    end_sec: float | None = None,
    index_id: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> list[str] | None:
    """All labels that fit a video or a part of it, in sorted order; NULL when it cannot be decided.

    Args:
        video: URL, path or id of a video, or id of an asset.
        labels: 2 to 100 different texts. NULL gives NULL.
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
    """
@overload
def classify_multi(
    video: _Text | _Column,
    labels: list[str] | tuple[str, ...] | _Column,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    index_id: _Text | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

@overload
def score(
    video: _Text,
    what: _Text,
    start_sec: float | None = None,
    end_sec: float | None = None,
    index_id: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> float | None:
    """Rate a video or a part of it, 0 to 1; NULL when it cannot be decided.

    Args:
        video: URL, path or id of a video, or id of an asset.
        what: what to rate, such as "how crowded the place is". NULL gives NULL.
        start_sec: start of the part to analyze, in seconds; 0 by default
        end_sec: end of the part, in seconds; NULL is the end of the video. The part's length sets the price
        index_id: name or id of an index. A URL or path is first indexed into it, once. NULL: a video id is
            looked up in the session's index; a URL is analyzed without an index
    """
@overload
def score(
    video: _Text | _Column,
    what: _Text | _Column,
    start_sec: float | _Column | None = None,
    end_sec: float | _Column | None = None,
    index_id: _Text | _Column | None = None,
    *,
    settings: Settings | None = None,
) -> Any: ...

def estimate(
    function_name: _Text,
    videos: list[str] | tuple[str, ...],
    arguments: _Text | None = None,
    moments: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The maximum cost of calls of a function, as one row. No paid call is made.

    Args:
        function_name: name in the catalog, such as summarize or tl_summarize.
        videos: values of the function's first argument other than index_id: videos, texts or images.
        arguments: JSON object of further arguments, such as {"index_id": "demo", "prompt": "..."}.
        moments: JSON list of objects with further arguments of each value of videos, in the same order,
            such as [{"start_sec": 0, "end_sec": 6, "vector": [0.1, 0.2]}].
    """

def indexes(
    index_name: _Text | None = None,
    model_family: _Text | None = None,
    created_at: _Text | None = None,
    updated_at: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The indexes of the account, newest first.

    Args:
        index_name: only the index of this name.
        model_family: only indexes with a model of this family: marengo, pegasus.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
    """

def videos(
    index_id: _Text | None = None,
    filename: _Text | None = None,
    created_at: _Text | None = None,
    updated_at: _Text | None = None,
    metadata_filter: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The ready videos of an index, newest first.

    Args:
        index_id: name or id of the index; NULL is the session's index.
        filename: only videos of this file name.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
        metadata_filter: JSON object of system or user metadata, such as {"team": "news", "width": 1280}.
    """

def tasks(
    index_id: _Text | None = None,
    status: list[str] | tuple[str, ...] | None = None,
    created_at: _Text | None = None,
    updated_at: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The indexing tasks of the account, newest first.

    Args:
        index_id: name or id of an index; NULL is all of them.
        status: only these: validating, pending, queued, indexing, ready, failed.
        created_at: only those created at or after this time (RFC 3339).
        updated_at: only those changed at or after this time (RFC 3339).
    """

def embed_tasks(
    status: _Text | None = None,
    started_at: _Text | None = None,
    ended_at: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The embedding tasks of the account, newest first; by default those of the last seven days.

    Args:
        status: only these: processing, ready, failed.
        started_at: only those created at or after this time (RFC 3339).
        ended_at: only those created at or before this time (RFC 3339).
    """

def assets(
    asset_types: list[str] | tuple[str, ...] | None = None,
    filename: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The uploaded files of the account, newest first.

    Args:
        asset_types: only these: video, audio, image, document.
        filename: only those whose name contains this, ignoring case.
    """

def entities(
    collection_id: _Text | None = None,
    name: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The entities of the account: people with their pictures. A search text refers to one as `<@entity_id>`.

    Args:
        collection_id: only those of this collection.
        name: only those of this name.
    """

def analyze_tasks(
    status: _Text | None = None,
    asset_id: _Text | None = None,
    video_url: _Text | None = None,
    analysis_mode: _Text | None = None,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The analysis tasks of the account, newest first; `custom_id` is the ledger's key.

    Args:
        status: only these: queued, pending, processing, ready, failed, canceled.
        asset_id: only those about this asset.
        video_url: only those about this URL, exactly as it was sent.
        analysis_mode: general or time_based_metadata.
    """

def files(
    place: _Text,
    *,
    settings: Settings | None = None,
) -> Rows:
    """The video files of a folder or a bucket: one row per file, whose `video` column functions accept.

    Args:
        place: a folder, `s3://`, `gs://`, `az://` or `abfss://` with bucket and prefix, or a pattern.
    """
