"""Requests about one video: validation of the JSON body, and the evidence of the video."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

from starlette.requests import Request

from tl_data.local import models
from tl_data.local.errors import (
    APIProblem,
    MediaProblem,
    invalid,
    not_provided,
    one_of,
    unknown_parameter,
    unknown_resource,
)
from tl_data.local.media_validation import check_duration, check_video
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
SLACK_SEC = 0.05  # containers round
#: Tokens that the service counts for a video, read off two recorded answers (8 s: 4406, 5.03 s: 4141).
VIDEO_TOKENS, VIDEO_TOKENS_PER_SEC = 3693, 89.25

Route = Literal["sync", "task"]


class AnalyzeRequest:
    """The JSON body of a request about one video; members are validated when they are read."""

    def __init__(self, engine: Engine, body: dict[str, Any], route: Route = "sync") -> None:
        self._engine = engine
        self._body = body
        self._route = route
        self.window = (0.0, 0.0)  # seconds, known after `writer_input`
        self.duration = 0.0  # seconds of the whole video, known after `writer_input`
        self.billed = 0.0  # seconds that the service would bill: the window of a task, else the whole

    @classmethod
    async def from_request(cls, request: Request, *needed: str, route: Route = "sync") -> AnalyzeRequest:
        """Read the body; requires the members `needed`, and for `video_id` any video source."""
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
        """Validate the video source; an asset that is an indexed video becomes its `video_id`.

        Raises:
            APIProblem: it is missing, or of a kind that the profile does not support.
        """
        body, profile = self._body, self._engine.profile
        _check_source(profile, body)
        if "image" in body:
            if "video" in body or "video_id" in body or "prompt_v2" in body:
                raise invalid("image", "It excludes video and prompt_v2.")
            if not self.limits.unlimited:
                raise invalid("image", f"{self.model()} does not support images. Please use pegasus1.6.")
            self._images()
        elif "video" in body and "video_id" not in body:
            given = check_video_source(body["video"])
            if given["type"] == "asset_id":
                check_id("asset_id", given["asset_id"])
                asset = self._engine.asset(given["asset_id"])
                if asset is None and self._engine.profile.strict:
                    raise unknown_resource(given["asset_id"], "assets")
                if asset is None or "indexed" in asset:  # a video of an index
                    body |= {"video_id": given["asset_id"], "as_asset": True}
                    return
            body["given"] = given
        elif "video_id" not in body:
            raise not_provided("video_id" if profile.video_id else "video")

    @property
    def body(self) -> dict[str, Any]:
        """The members, as tasks store them."""
        return self._body

    @property
    def limits(self) -> models.TextModel:
        """The limits of the requested model."""
        return models.text_model(self.model())

    @property
    def by_segments(self) -> bool:
        """Whether the request asks for segments instead of a text."""
        return self.choice("analysis_mode", MODES) == SEGMENTS

    def text(self, name: str) -> str | None:
        """A text, or None."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(name, "It must be a text.", value)
        return value

    def prompt(self, *, needed: bool) -> str | None:
        """The prompt, with its mentions of images unresolved."""
        name, text = "prompt", self.text("prompt")
        if "prompt_v2" in self._body:
            if text is not None:
                raise invalid("prompt_v2", "It excludes prompt.")
            given = self._body["prompt_v2"]
            text = given.get("input_text") if isinstance(given, dict) else None
            if not isinstance(text, str):
                raise invalid("prompt_v2", "It must be an object with input_text.", given)
            name = "prompt_v2"
            references.check_mentions(name, text, self._references(), all_or_none=False)
        elif "image" in self._body and text is not None:
            references.check_mentions(name, text, self._images(), all_or_none=True)
        if needed and text is None:
            raise not_provided("prompt")
        if needed and not (text or "").strip():
            raise invalid(name, "It must not be blank.", text)
        most = self.limits.prompt_tokens
        if text and most and models.count_tokens(text) > most:
            raise models.too_long("prompt", text, most)
        return text if (text or "").strip() else None

    def _references(self) -> list[references.Reference]:
        given = self._body.get("prompt_v2")
        sources = (given.get("media_sources") or []) if isinstance(given, dict) else []
        return references.read_references("media_sources", sources, MAX_REFERENCES)

    def _images(self) -> list[references.Reference]:
        images = references.read_references("image", self._body["image"], MAX_IMAGES, typed=False)
        if not images:
            raise invalid("image", f"It must hold 1 to {MAX_IMAGES} pictures.", [])
        return images

    async def full_prompt(self) -> str:
        """The prompt for the writer: mentions of images are replaced by descriptions."""
        text = self.prompt(needed=True) or ""
        named = self._references()
        return (
            await references.describe_mentions(self._engine, text, named, "media_sources") if named else text
        )

    def model(self) -> str:
        """The name of the requested model, or the default of the profile."""
        known = self._engine.profile.analyze_models
        own = (self._engine.config.tiers.analyze_model, *models.PEGASUS)
        name = self.text("model_name")
        if name is None:
            return known[0] if known else own[0]
        if name not in (known or own):
            if name in models.PEGASUS:
                raise models.no_longer(name, known)
            raise one_of("model_name", known or own, name)
        return name

    def flag(self, name: str, default: bool) -> bool:
        """A boolean."""
        value = self._body.get(name, default)
        if not isinstance(value, bool):
            raise one_of(name, ("true", "false"), value)
        return value

    def number(self, name: str, low: float, high: float, *, whole: bool = False) -> float | None:
        """A number in a range."""
        value = self._body.get(name)
        if value is None:
            return None
        number = isinstance(value, int | float) and not isinstance(value, bool)
        if not number or (whole and not isinstance(value, int)) or not low <= value <= high:
            kind = "a whole number" if whole else "a number"
            raise invalid(name, f"It must be {kind} between {low:g} and {high:g}.", value)
        return float(value)

    def choice(self, name: str, allowed: tuple[str, ...]) -> str | None:
        """One of fixed values, or None."""
        value = self._body.get(name)
        if value is not None and value not in allowed:
            raise one_of(name, allowed, value)
        return None if value is None else str(value)

    def choices(self, name: str, allowed: tuple[str, ...]) -> list[str]:
        """A non-empty array of fixed values."""
        value = self._body.get(name)
        if not isinstance(value, list) or not value or any(item not in allowed for item in value):
            raise one_of(name, allowed, value)
        return value

    def schema(self) -> dict[str, Any] | None:
        """The JSON schema of `response_format`, if there is one, with timestamps lowered to numbers."""
        given = self._body.get("response_format")
        if given is None:
            return None
        if not isinstance(given, dict) or given.get("type") != "json_schema":
            raise invalid(
                "response_format", 'It must be {"type": "json_schema", "json_schema": {...}}.', given
            )
        schema = given.get("json_schema")
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
        """The requested segments."""
        for name in ("prompt", "prompt_v2"):
            if name in self._body:
                raise invalid(name, f"It is not used with the analysis mode {SEGMENTS}.")
        return read_definitions(self._body, self.limits)

    def generation_options(self) -> GenerationOptions:
        """Temperature and limit of tokens."""
        limits, by_segments = self.limits, self.by_segments
        most: float | None = None
        if self._body.get("max_tokens") == "unlimited":
            if not (by_segments and limits.unlimited):
                raise invalid("max_tokens", "unlimited is for segments by pegasus1.6 alone.")
        else:
            low, high = limits.segment_tokens if by_segments else limits.max_tokens
            if "video_id" in self._body and "model_name" not in self._body:  # a request of 2025
                low, high = models.TEXT_MODELS["pegasus1.2"].max_tokens
            low = low if self._engine.profile.strict else 2
            most = self.number("max_tokens", low, high, whole=True)
            if most is None and self._engine.profile.strict:
                most = limits.default_segment_tokens if by_segments else limits.default_tokens
        return GenerationOptions(self.number("temperature", 0, 1), None if most is None else int(most))

    def window_bounds(self) -> tuple[float | None, float | None]:
        """Start and end of the requested window of the video, in seconds.

        Raises:
            APIProblem: it ends before it begins, or is shorter or longer than the model takes.
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
        if seconds < limits.shortest - 1e-6:
            text = f"The window has {seconds:g} seconds; it must have at least {limits.shortest:g}."
            raise invalid("end_time", text, end)
        if seconds > limits.longest_task + SLACK_SEC:
            text = f"The window has {seconds:g} seconds; it must have at most {limits.longest_task:g}."
            raise invalid("end_time", text, end)

    def check(self) -> None:
        """Validate everything that can be validated without the video; with a ready asset also its length."""
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
            except MediaProblem as problem:
                raise APIProblem(400, problem.code, problem.message) from None

    def asset(self) -> Row | None:
        """The ready asset of the request; None if it has another source.

        Raises:
            APIProblem: unknown, or not ready.
        """
        given = self._body.get("given") or {}
        if given.get("type") != "asset_id":
            return None
        return self._engine.ready_asset(given["asset_id"])

    def check_length(self, seconds: float) -> None:
        """Validate the length of the video and of the window against the limits of the model.

        Raises:
            MediaProblem: the video itself is too short or too long.
            APIProblem: the window lies outside.
        """
        start, end = self.window_bounds()
        limits = self.limits
        longest = limits.longest_sync
        if self._route == "task":
            longest = limits.longest_task if start is None and end is None else limits.longest_file
        check_duration(seconds, limits.shortest, longest)
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
            APIProblem: malformed or unknown id, not ready yet, an index that cannot, a wrong length.
        """
        start, end = self.window_bounds()
        if "image" in self._body:
            evidence = await references.build_image_evidence(self._engine, self._images())
            return WriterInput(evidence)
        if "given" in self._body:
            self.asset()
            known = await self._engine.inline_videos.writer_input(
                self._body["given"], check=self._probe_check()
            )
            whole, frames = known.evidence, known.frames
        else:
            video_id = check_id("video_id", self.text("video_id") or "")
            whole = await self._indexed(video_id)
            frames = await self._engine.stages.frames(video_id, whole)
        seconds = whole.probe.duration_sec
        try:
            self.check_length(round(seconds, 3))
        except MediaProblem as problem:
            raise APIProblem(400, problem.code, problem.message) from None
        stop = seconds if end is None else min(end, seconds)
        evidence = within_window(whole, start, end)
        if start is not None or end is not None:
            frames = tuple(frame for frame in frames if (start or 0.0) <= frame.time <= stop)
        self.duration = self.billed = seconds
        self.window = (start or 0.0, stop)
        if self._route == "task":
            self.billed = stop - (start or 0.0)
        self._engine.rates.consume("analyze", "Duration", self.billed / 60)
        return WriterInput(evidence, frames)

    def _probe_check(self) -> Callable[[Probe], None]:
        """Validation of the container; the length is checked against the limits of the model."""

        def check(probe: Probe) -> None:
            check_video(replace(probe, duration_sec=max(4.0, min(probe.duration_sec, 7200.0))))
            try:
                self.check_length(round(probe.duration_sec, 3))
            except APIProblem as problem:
                raise MediaProblem(problem.code, problem.message) from None

        return check

    async def _indexed(self, video_id: str) -> Evidence:
        store = self._engine.store
        as_asset = bool(self._body.get("as_asset"))
        row = store.get("videos", video_id)
        if row is None:
            tasks = store.rows("tasks", [Where("video_id", "=", video_id)], limit=1)
            if tasks and tasks[0]["status"] not in ("ready", "failed"):
                text = f"Video {video_id} is not ready yet: its task is in the status {tasks[0]['status']}."
                raise APIProblem(400, "video_not_ready", text)
            raise unknown_resource(video_id, "assets" if as_asset else "videos")
        index = store.get("indexes", row["index_id"])
        if index is None or not (as_asset or models.generates(index["models"])):
            raise models.no_generate()
        try:
            return await self._engine.stages.evidence(video_id)
        except KeyError:
            raise unknown_resource(video_id, "videos") from None

    async def write(self) -> GeneratedText:
        """Write the text, or the segments as JSON text.

        Raises:
            APIProblem: the request is invalid, or its video cannot be used.
        """
        if self.by_segments:
            wanted, options = self.definitions(), self.generation_options()
            writer_input = await self.writer_input()
            generated, over = await write_segments(self._engine, writer_input, wanted, options, self.window)
            if over:
                text = "The segments need more tokens than max_tokens allows."
                raise APIProblem(400, "token_limit_exceeded", text)
            return generated
        prompt, schema, options = await self.full_prompt(), self.schema(), self.generation_options()
        plain = schema_dialect.plain_schema(schema) if schema else None
        writer_input = await self.writer_input()
        generated = await self._engine.stages.writer.analyze(writer_input, prompt, plain, options)
        if schema and generated.reason != "length":
            generated = replace(generated, text=schema_dialect.format_timestamps(generated.text, schema))
        return generated


def _check_source(profile: Profile, body: dict[str, Any]) -> None:
    """Refuse a kind of video source that the profile does not support."""
    if "video_id" in body and not profile.video_id:
        name = body.get("model_name") or profile.analyze_models[0]
        instead = "use video object (url, asset_id, or base64_string) instead"
        raise APIProblem(400, "parameter_invalid", f"video_id is not supported for {name}, {instead}")
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
    """The tokens of a text, as the service counts them; also adds them to the bill."""
    spent, read = generated.output_tokens, generated.input_tokens
    spent = models.count_tokens(generated.text) if spent is None else spent
    read = models.count_tokens(prompt or "") if read is None else read
    if engine.profile.video_tokens:
        read += round(VIDEO_TOKENS + VIDEO_TOKENS_PER_SEC * parsed.billed)
    engine.store.increment("output tokens", spent)
    engine.rates.consume("analyze", "OutputToken", spent)
    engine.bill.charge("analyze", seconds=parsed.billed * definitions, input_tokens=read, output_tokens=spent)
    return {"output_tokens": spent, "input_tokens": read}


def truncation_warning(reason: str) -> dict[str, Any]:
    """The warning of a response that reached the limit of tokens; {} for other reasons."""
    if reason != "length":
        return {}
    text = "output truncated: the generation reached the configured max_tokens."
    return {"error": {"message": text}}
