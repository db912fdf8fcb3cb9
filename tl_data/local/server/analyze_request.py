"""What is asked about one video: the JSON of a request, checked, and what is known of the video it means."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request

from tl_data.local import models, tokens
from tl_data.local.errors import (
    APIProblem,
    invalid,
    not_provided,
    one_of,
    unknown_parameter,
    unknown_resource,
)
from tl_data.local.perception.evidence import Evidence
from tl_data.local.profiles import Profile
from tl_data.local.server.context import Engine, engine_of, well_formed
from tl_data.local.server.forms import read_json
from tl_data.local.storage.database import Where
from tl_data.local.tasks.inline_video import check_given, stretch
from tl_data.local.text.writer import Manner, Material, Written

MAX_TOKENS = (2, 4096)


class Ask:
    """The JSON of a request about one video, its members checked as they are read."""

    def __init__(self, engine: Engine, body: dict[str, Any]) -> None:
        self._engine = engine
        self._body = body

    @classmethod
    async def of(cls, request: Request, *needed: str) -> Ask:
        """Read the body; the members `needed` must be there."""
        engine = engine_of(request)
        body = await read_json(request, engine.config.max_inline_bytes)
        _check_source(engine.profile, body)
        if "video_id" in needed and "video_id" not in body and "video" in body:
            given = check_given(body["video"])
            # An indexed video may stand for its asset.
            indexed = given["type"] == "asset_id" and not engine.store.get("assets", given["asset_id"])
            body |= {"video_id": given["asset_id"]} if indexed else {"given": given}
            needed = tuple(name for name in needed if name != "video_id")
        if "prompt" in needed and "prompt" not in body and isinstance(body.get("prompt_v2"), dict):
            body |= {"prompt": body["prompt_v2"].get("input_text", "")}
        if missing := [name for name in needed if name not in body]:
            raise not_provided(*missing)
        return cls(engine, body)

    @property
    def body(self) -> dict[str, Any]:
        """The members, as they can be kept and read again."""
        return self._body

    def text(self, name: str) -> str | None:
        """A text, or None."""
        value = self._body.get(name)
        if value is not None and not isinstance(value, str):
            raise invalid(name, "It must be a text.", value)
        return value

    def prompt(self, *, needed: bool) -> str | None:
        """The prompt."""
        text = self.text("prompt")
        if needed and not (text or "").strip():
            raise invalid("prompt", "It must not be blank.", text)
        if text and tokens.count(text) > models.PROMPT_TOKENS:
            raise models.too_long("prompt", text, models.PROMPT_TOKENS)
        return text if (text or "").strip() else None

    def model(self) -> str:
        """The model that is asked, by name; the server's default if none is named."""
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
        """The JSON schema of `response_format`, if one is asked for."""
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

        try:
            check(schema)
        except Unsupported as error:
            raise invalid("response_format", f"{error}.") from None
        return schema

    def manner(self) -> Manner:
        """How the text is wanted."""
        most = self.number("max_tokens", *MAX_TOKENS, whole=True)
        return Manner(self.number("temperature", 0, 1), None if most is None else int(most))

    def part(self) -> tuple[float | None, float | None]:
        """Where the part of the video that is meant begins and ends, in seconds."""
        return self.number("start_time", 0, 1e6), self.number("end_time", 0, 1e6)

    async def material(self) -> Material:
        """What is known of the video, or of the part between `start_time` and `end_time`.

        A video of an index must be ready, and the index's models must write.

        Raises:
            APIProblem: malformed or unknown id, not ready yet, or an index that cannot.
        """
        start, end = self.part()
        if "given" in self._body:
            known = await self._engine.given.material(self._body["given"])
            evidence = stretch(known.evidence, start, end)
            low, high = start or 0.0, evidence.probe.duration_sec if end is None else end
            frames = tuple(frame for frame in known.frames if low <= frame.time <= high)
        else:
            video_id = well_formed("video_id", self.text("video_id") or "")
            evidence = stretch(await self._indexed(video_id), start, end)
            frames = await self._engine.stages.frames(video_id, evidence)
        self._engine.rates.spend("analyze", "Duration", evidence.probe.duration_sec / 60)
        return Material(evidence, frames)

    async def _indexed(self, video_id: str) -> Evidence:
        store = self._engine.store
        row = store.get("videos", video_id)
        if row is None:
            tasks = store.rows("tasks", [Where("video_id", "=", video_id)], limit=1)
            if tasks and tasks[0]["status"] not in ("ready", "failed"):
                text = f"Video {video_id} is not ready yet: its task is in the status {tasks[0]['status']}."
                raise APIProblem(400, "video_not_ready", text)
            raise unknown_resource(video_id, "videos")
        index = store.get("indexes", row["index_id"])
        if index is None or not models.generates(index["models"]):
            raise models.no_generate()
        try:
            return await self._engine.stages.evidence(video_id)
        except KeyError:
            raise unknown_resource(video_id, "videos") from None


def _check_source(profile: Profile, body: dict[str, Any]) -> None:
    """Refuse a video that is named in a way that the server does not know."""
    if "video_id" in body and not profile.video_id:
        name = body.get("model_name") or profile.analyze_models[0]
        instead = "use video object (url, asset_id, or base64_string) instead"
        raise APIProblem(400, "parameter_invalid", f"video_id is not supported for {name}, {instead}")
    if "video" in body and not profile.video_object:
        raise unknown_parameter("video")


def usage_of(engine: Engine, written: Written, prompt: str | None) -> dict[str, int]:
    """What a text took: as its model counts, or as the engine does."""
    spent, read = written.output_tokens, written.input_tokens
    spent = tokens.count(written.text) if spent is None else spent
    engine.store.count("output tokens", spent)
    engine.rates.spend("analyze", "OutputToken", spent)
    return {"output_tokens": spent, "input_tokens": tokens.count(prompt or "") if read is None else read}
