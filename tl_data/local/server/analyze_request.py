"""Analysis requests about one video or some images: validation of the JSON body, evidence, and text."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from starlette.requests import Request

from tl_data.local import models
from tl_data.local.errors import (
    EngineError,
    MediaError,
    invalid,
    not_provided,
    one_of,
    unknown_parameter,
    unknown_resource,
)
from tl_data.local.media_validation import LENIENT_MIN_SEC, check_duration, check_picture
from tl_data.local.perception.evidence import Evidence, Probe
from tl_data.local.profiles import Profile
from tl_data.local.server import references, schema_dialect
from tl_data.local.server.context import Engine, check_id, engine_of
from tl_data.local.server.forms import read_json
from tl_data.local.server.segments import Definitions, read_definitions, write_segments
from tl_data.local.storage.database import Row, Where
from tl_data.local.tasks.inline_video import check_video_source, within_window
from tl_data.local.text.writer import GeneratedText, GenerationOptions, WriterInput

MODES = ("general", "time_based_metadata")
SEGMENTS = "time_based_metadata"
MAX_IMAGES, MAX_REFERENCES = 20, 4
SLACK_SEC = 0.05  # tolerance, because containers round the length of a video
#: Input tokens that the service counts for a video: a fixed number, and a number per second. They are
#: estimated from two recorded responses (8 s: 4406, 5.03 s: 4141).
VIDEO_TOKENS, VIDEO_TOKENS_PER_SEC = 3693, 89.25

Route = Literal["sync", "task"]


class AnalyzeRequest:
    """The JSON body of an analysis request. Each member is validated when a method reads it."""

    def __init__(self, engine: Engine, body: dict[str, Any], route: Route = "sync") -> None:
        self._engine = engine
        self._body = body
        self._route = route
        self.window = (0.0, 0.0)  # start and end in seconds, known after `writer_input`
        self.duration = 0.0  # seconds of the whole video, known after `writer_input`
        self.billed = 0.0  # seconds that the service would bill: the window of a task, else the whole video

    @classmethod
    async def from_request(cls, request: Request, *needed: str, route: Route = "sync") -> AnalyzeRequest:
        """Read the body.

        Args:
            needed: the required members; `video_id` stands for any video source.
            route: whether the request is synchronous or creates a task. Their length limits differ.
        """
        engine = engine_of(request)
        body = await read_json(request, engine.config.max_inline_bytes)
        parsed = cls(engine, body, route)
        if "video_id" in needed:
            parsed.resolve_source()
            needed = tuple(name for name in needed if name != "video_id")
        if missing := [name for name in needed if name not in body]:
            raise not_provided(*missing)
        return parsed

    def resolve_source(self) -> None:
        """Validate the video source. An asset that is an indexed video is replaced by its `video_id`.

        Raises:
            EngineError: the source is missing, or the profile does not support its kind.
        """
        body, profile = self._body, self._engine.profile
        _check_source(profile, body)
        if "image" in body:
            if "video" in body or "video_id" in body or "prompt_v2" in body:
                raise invalid("image", "It cannot be combined with video or prompt_v2.")
            if not self.limits.unlimited:
                raise invalid("image", f"{self.model()} does not support images. Please use pegasus1.6.")
            self._images()
        elif "video" in body and "video_id" not in body:
            source = check_video_source(body["video"])
            if source["type"] == "asset_id":
                check_id("asset_id", source["asset_id"])
                asset = self._engine.asset(source["asset_id"])
                if asset is None and self._engine.profile.strict:
                    raise unknown_resource(source["asset_id"], "assets")
                if asset is None or "indexed" in asset:  # a video of an index
                    body |= {"video_id": source["asset_id"], "as_asset": True}
                    return
            body["given"] = source
        elif "video_id" not in body:
            raise not_provided("video_id" if profile.video_id else "video")

    @property
    def body(self) -> dict[str, Any]:
        """The members of the request, as a task stores them."""
        return self._body

    @property
    def limits(self) -> models.TextModel:
        """The limits of the requested model."""
        return models.text_model(self.model())

    @property
    def shortest(self) -> float:
        """The shortest video or window in seconds."""
        return self.limits.shortest if self._engine.profile.strict else LENIENT_MIN_SEC

    @property
    def by_segments(self) -> bool:
        """Whether the request asks for segments instead of a text."""
        return self.choice("analysis_mode", MODES) == SEGMENTS

    def text(self, name: str) -> str | None:
        """The text of a member; None if it is absent."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(name, "It must be a text.", value)
        return value

    def prompt(self, *, needed: bool) -> str | None:
        """The prompt, with mentions of images as `<@name>`. `needed` requires a prompt that is not blank."""
        name, text = "prompt", self.text("prompt")
        if "prompt_v2" in self._body:
            if text is not None:
                raise invalid("prompt_v2", "It cannot be combined with prompt.")
            prompt = self._body["prompt_v2"]
            text = prompt.get("input_text") if isinstance(prompt, dict) else None
            if not isinstance(text, str):
                raise invalid("prompt_v2", "It must be an object with input_text.", prompt)
            name = "prompt_v2"
            references.check_mentions(name, text, self._references(), all_or_none=False)
        elif "image" in self._body and text is not None:
            references.check_mentions(name, text, self._images(), all_or_none=True)
        if needed and text is None:
            raise not_provided("prompt")
        if needed and not (text or "").strip():
            raise invalid(name, "It must not be blank.", text)
        max_tokens = self.limits.prompt_tokens
        if text and max_tokens and models.count_tokens(text) > max_tokens:
            raise models.too_long("prompt", text, max_tokens)
        return text if (text or "").strip() else None

    def _references(self) -> list[references.Reference]:
        prompt = self._body.get("prompt_v2")
        sources = (prompt.get("media_sources") or []) if isinstance(prompt, dict) else []
        return references.read_references("media_sources", sources, MAX_REFERENCES)

    def _images(self) -> list[references.Reference]:
        images = references.read_references("image", self._body["image"], MAX_IMAGES, typed=False)
        if not images:
            raise invalid("image", f"It must hold 1 to {MAX_IMAGES} pictures.", [])
        return images

    async def full_prompt(self) -> str:
        """The prompt for the writer, with mentions of images replaced by descriptions."""
        text = self.prompt(needed=True) or ""
        pictures = self._references()
        if not pictures:
            return text
        return await references.describe_mentions(self._engine, text, pictures, "media_sources")

    def model(self) -> str:
        """The name of the requested model, or the default of the profile."""
        service_models = self._engine.profile.analyze_models
        engine_models = (self._engine.config.tiers.analyze_model, *models.PEGASUS)
        allowed = service_models or engine_models
        name = self.text("model_name")
        if name is None:
            return allowed[0]
        if name not in allowed:
            if name in models.PEGASUS:
                raise models.withdrawn_model(name, service_models)
            raise one_of("model_name", allowed, name)
        return name

    def flag(self, name: str, default: bool) -> bool:
        """The boolean of a member; the default if it is absent."""
        value = self._body.get(name, default)
        if not isinstance(value, bool):
            raise one_of(name, ("true", "false"), value)
        return value

    def number(self, name: str, low: float, high: float, *, whole: bool = False) -> float | None:
        """The number of a member, from `low` to `high`; None if it is absent."""
        value = self._body.get(name)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or (whole and not isinstance(value, int)) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise invalid(name, f"It must be {kind} between {low:g} and {high:g}.", value)
        return float(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """The value of a member that allows fixed values; None if it is absent."""
        value = self._body.get(name)
        if value is not None and value not in allowed:
            raise one_of(name, allowed, value)
        return None if value is None else str(value)

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """The values of a member that is a non-empty array of fixed values."""
        value = self._body.get(name)
        if not isinstance(value, list) or not value or any(item not in allowed for item in value):
            raise one_of(name, allowed, value)
        return value

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of `response_format`, with timestamps lowered to numbers; None if it is absent."""
        response_format = self._body.get("response_format")
        if response_format is None:
            return None
        if not isinstance(response_format, dict) or response_format.get("type") != "json_schema":
            raise invalid(
                "response_format",
                'It must be {"type": "json_schema", "json_schema": {...}}.',
                response_format,
            )
        schema = response_format.get("json_schema")
        if not isinstance(schema, dict) or not schema:
            raise invalid("response_format", "json_schema must be a JSON schema.", schema)
        from tl_data.local.text.json_schema import Unsupported, check

        if self._engine.profile.schema_dialect:
            schema_dialect.check_dialect(schema)
        schema = schema_dialect.lower(schema)
        try:
            check(schema_dialect.plain_schema(schema))
        except Unsupported as error:
            raise invalid("response_format", f"{error}.") from None
        return schema

    def definitions(self) -> Definitions:
        """The definitions of the requested segments."""
        for name in ("prompt", "prompt_v2"):
            if name in self._body:
                raise invalid(name, f"It cannot be combined with the analysis mode {SEGMENTS}.")
        return read_definitions(self._body, self.limits)

    def generation_options(self) -> GenerationOptions:
        """The temperature and the limit of output tokens."""
        limits, by_segments = self.limits, self.by_segments
        max_tokens: float | None = None
        if self._body.get("max_tokens") == "unlimited":
            if not (by_segments and limits.unlimited):
                raise invalid("max_tokens", "Only pegasus1.6 supports unlimited, and only for segments.")
        else:
            low, high = limits.segment_tokens if by_segments else limits.max_tokens
            if "video_id" in self._body and "model_name" not in self._body:  # a request in the form of 2025
                low, high = models.TEXT_MODELS["pegasus1.2"].max_tokens
            low = low if self._engine.profile.strict else 2
            max_tokens = self.number("max_tokens", low, high, whole=True)
            if max_tokens is None and self._engine.profile.strict:
                max_tokens = limits.default_segment_tokens if by_segments else limits.default_tokens
        temperature = self.number("temperature", 0, 1)
        return GenerationOptions(temperature, None if max_tokens is None else int(max_tokens))

    def window_bounds(self) -> tuple[float | None, float | None]:
        """Start and end of the requested window of the video, in seconds.

        Raises:
            EngineError: the window ends before it begins, or is too short or too long for the model.
        """
        start, end = self.number("start_time", 0, 1e6), self.number("end_time", 0, 1e6)
        if end is not None:
            if not (start or 0.0) < end:
                text = f"end_time must be greater than start_time, which is {start or 0:g}."
                raise invalid("end_time", text, end)
            self._check_window(end - (start or 0.0), end)
        return start, end

    def _check_window(self, seconds: float, end: float) -> None:
        limits = self.limits
        if seconds < self.shortest - 1e-6:
            text = f"The window has {seconds:g} seconds; it must have at least {self.shortest:g}."
            raise invalid("end_time", text, end)
        if seconds > limits.longest_task + SLACK_SEC:
            text = f"The window has {seconds:g} seconds; it must have at most {limits.longest_task:g}."
            raise invalid("end_time", text, end)

    def check(self) -> None:
        """Validate everything that does not need the video, and the length of an asset if it is known."""
        if self.by_segments:
            self.definitions()
        else:
            self.prompt(needed=True)
            self.schema()
        self.generation_options()
        self.window_bounds()
        if (row := self.asset()) and row["duration"] is not None:
            try:
                self.check_length(row["duration"])
            except MediaError as error:
                raise EngineError(400, error.code, error.message) from None

    def asset(self) -> Row | None:
        """The asset of the request; None if it has another source.

        Raises:
            EngineError: the asset is unknown or not ready.
        """
        source = self._body.get("given") or {}
        if source.get("type") != "asset_id":
            return None
        return self._engine.ready_asset(source["asset_id"])

    def check_length(self, seconds: float) -> None:
        """Validate the length of the video and of the window against the limits of the model.

        Raises:
            MediaError: the whole video is too short or too long.
            EngineError: the window is not within the video, or too short or too long.
        """
        start, end = self.window_bounds()
        limits = self.limits
        longest = limits.longest_sync
        if self._route == "task":
            longest = limits.longest_task if start is None and end is None else limits.longest_file
        check_duration(seconds, self.shortest, longest)
        strict = self._engine.profile.strict
        if start is not None and start >= seconds:
            raise invalid("start_time", f"It must be less than the length, {seconds:.2f} seconds.", start)
        if end is not None and end > seconds + (SLACK_SEC if strict else 1e6):
            raise invalid("end_time", f"It must be at most the length, {seconds:.2f} seconds.", end)
        if start is not None or end is not None:
            stop = seconds if end is None else min(end, seconds)
            self._check_window(stop - (start or 0.0) + SLACK_SEC, stop)

    async def writer_input(self) -> WriterInput:
        """The evidence of the video, or of the part between `start_time` and `end_time`.

        Raises:
            EngineError: the id is malformed or unknown, the video is not ready or has a wrong length, or its
                index does not support analysis.
        """
        start, end = self.window_bounds()
        if "image" in self._body:
            evidence = await references.build_image_evidence(self._engine, self._images())
            return WriterInput(evidence)
        if "given" in self._body:
            self.asset()
            inline = await self._engine.inline_videos.writer_input(
                self._body["given"], check=self._make_probe_check()
            )
            full_evidence, frames = inline.evidence, inline.frames
        else:
            video_id = check_id("video_id", self.text("video_id") or "")
            full_evidence = await self._indexed_evidence(video_id)
            frames = await self._engine.stages.frames(video_id, full_evidence)
        seconds = full_evidence.probe.duration_sec
        try:
            self.check_length(round(seconds, 3))
        except MediaError as error:
            raise EngineError(400, error.code, error.message) from None
        stop = seconds if end is None else min(end, seconds)
        evidence = within_window(full_evidence, start, end)
        if start is not None or end is not None:
            frames = tuple(frame for frame in frames if (start or 0.0) <= frame.time <= stop)
        self.duration = self.billed = seconds
        self.window = (start or 0.0, stop)
        if self._route == "task":
            self.billed = stop - (start or 0.0)
        self._engine.rates.consume("analyze", "Duration", self.billed / 60)
        return WriterInput(evidence, frames)

    def _make_probe_check(self) -> Callable[[Probe], None]:
        """Make the function that validates a probed file. The limits of the model apply to its length."""

        def check(probe: Probe) -> None:
            check_picture(probe, self._engine.profile)
            try:
                self.check_length(round(probe.duration_sec, 3))
            except EngineError as error:
                raise MediaError(error.code, error.message) from None

        return check

    async def _indexed_evidence(self, video_id: str) -> Evidence:
        store = self._engine.store
        as_asset = bool(self._body.get("as_asset"))
        row = store.get("videos", video_id)
        if row is None:
            tasks = store.rows("tasks", [Where("video_id", "=", video_id)], limit=1)
            if tasks and tasks[0]["status"] not in ("ready", "failed"):
                text = f"Video {video_id} is not ready yet: its task is in the status {tasks[0]['status']}."
                raise EngineError(400, "video_not_ready", text)
            raise unknown_resource(video_id, "assets" if as_asset else "videos")
        index = store.get("indexes", row["index_id"])
        if index is None or not (as_asset or models.has_text_model(index["models"])):
            raise models.no_generate()
        try:
            return await self._engine.stages.evidence(video_id)
        except KeyError:
            raise unknown_resource(video_id, "videos") from None

    async def write(self) -> GeneratedText:
        """Write the text, or the segments as JSON text.

        Raises:
            EngineError: the request is invalid, its video cannot be used, or segments exceed `max_tokens`.
        """
        if self.by_segments:
            definitions, options = self.definitions(), self.generation_options()
            writer_input = await self.writer_input()
            generated, exceeds_limit = await write_segments(
                self._engine, writer_input, definitions, options, self.window
            )
            if exceeds_limit:
                text = "The segments need more tokens than max_tokens allows."
                raise EngineError(400, "token_limit_exceeded", text)
            return generated
        prompt, schema, options = await self.full_prompt(), self.schema(), self.generation_options()
        plain = schema_dialect.plain_schema(schema) if schema else None
        writer_input = await self.writer_input()
        generated = await self._engine.stages.writer.analyze(writer_input, prompt, plain, options)
        if schema and generated.reason != "length":
            generated = replace(generated, text=schema_dialect.format_timestamps(generated.text, schema))
        return generated


def _check_source(profile: Profile, body: dict[str, Any]) -> None:
    """Reject a kind of video source that the profile does not support."""
    if "video_id" in body and not profile.video_id:
        name = body.get("model_name") or profile.analyze_models[0]
        instead = "use video object (url, asset_id, or base64_string) instead"
        raise EngineError(400, "parameter_invalid", f"video_id is not supported for {name}, {instead}")
    if "video" in body and not profile.video_object:
        raise unknown_parameter("video")


def count_usage(
    engine: Engine,
    generated: GeneratedText,
    prompt: str | None,
    parsed: AnalyzeRequest,
    *,
    definitions: int = 1,
) -> dict[str, int]:
    """Count the tokens of a generated text as the service does, and add them to the bill."""
    output_tokens, input_tokens = generated.output_tokens, generated.input_tokens
    if output_tokens is None:
        output_tokens = models.count_tokens(generated.text)
    if input_tokens is None:
        input_tokens = models.count_tokens(prompt or "")
    if engine.profile.video_tokens:
        input_tokens += round(VIDEO_TOKENS + VIDEO_TOKENS_PER_SEC * parsed.billed)
    engine.store.increment("output tokens", output_tokens)
    engine.rates.consume("analyze", "OutputToken", output_tokens)
    engine.bill.charge(
        "analyze",
        seconds=parsed.billed * definitions,
        input_tokens=input_tokens,
        output_tokens=output_tokens,
    )
    return {"output_tokens": output_tokens, "input_tokens": input_tokens}


def truncation_warning(reason: str) -> dict[str, Any]:
    """The warning in a response that reached the token limit; {} for other reasons to finish."""
    if reason != "length":
        return {}
    text = "output truncated: the generation reached the configured max_tokens."
    return {"error": {"message": text}}
