"""Texts from videos, paid once: what is asked, under which keys the ledger keeps it, and how it is sent.

    request = TextRequest(video, parts_of(["summary", "chapters"]))
    [result] = await session.analyze_many([request])
    result.answers                      # {"summary": {...}, "chapter": {...}}: by the parts' names
    result.errors                       # the same for the parts that failed

A request is about one video and has one part or more; each part is a call of the ledger of its own. Parts
that no record knows are asked together: one analysis with one JSON schema, billed once, and each part's
record holds the id of the same task. So a part that was asked in a job is free in SQL and the other way
around, and a process that was killed finds its task by any of its parts.

Where it goes (`AnalyzeTaskMethods.account_generation`):

    today   POST /analyze/tasks with a video object; `analyze_many` puts assets that are ready into batches
            of up to 1,000. The ledger's key is the task's `custom_id`, so that a lost task is found again.
    2025    POST /analyze, /gist, /summarize with the id of an indexed video, one call a part. Nothing keeps
            a key there: a process that is killed while it waits pays again.
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from tl_data.client.analyze import cleaned
from tl_data.client.analyze_batches import Batches
from tl_data.client.presets import PRESETS, as_presets, schema_of
from tl_data.client.schema import complete_properties, read_json
from tl_data.errors import (
    APIError,
    BadRequest,
    MediaRefused,
    NotFound,
    SchemaMismatch,
    TaskFailed,
    TLDataError,
)
from tl_data.ledger.models import Billed, Call, Entry
from tl_data.ledger.recovery import CLOCKS
from tl_data.media.identity import NOT_A_PLACE, is_url, local_path
from tl_data.models import TEXT_MODEL, TEXT_MODEL_2025, TextModel, text_model
from tl_data.ratelimit.headers import moment
from tl_data.urls import redacted
from tl_data.usage import about, current

if TYPE_CHECKING:
    from tl_data.client import Client
    from tl_data.client.task_poller import TaskWatcher
    from tl_data.ledger.ledger import Ledger

Json = dict[str, Any]

#: Tokens that each part of a combined answer may take; the API's own default for a whole answer.
PART_TOKENS = 4096


@dataclass(frozen=True)
class VideoRef:
    """A video by every name it is known under; at least one of url, asset_id and video_id is set."""

    video_id: str | None = None
    index_id: str | None = None
    asset_id: str | None = None
    url: str | None = None  # as it is sent, signature included
    content_key: str | None = None
    canonical: str | None = None
    duration_sec: float | None = None

    @classmethod
    def of(cls, record: Mapping[str, Any], **more: Any) -> VideoRef:
        """The video of a record of type `types.VIDEO`."""
        names = ("video_id", "index_id", "asset_id", "duration_sec")
        return cls(**{name: record.get(name) for name in names}, **more)

    @property
    def object(self) -> Json | None:
        """The API's video object; None if only the id of an indexed video is known."""
        if self.asset_id:
            return {"type": "asset_id", "asset_id": self.asset_id}
        return {"type": "url", "url": self.url} if self.url else None

    @property
    def contents(self) -> list[str]:
        """What ledger keys are made of: the video's id, then its content; without both, the asset's id."""
        keys = [f"video:{self.video_id}" if self.video_id else None, self.content_key]
        return [key for key in keys if key] or [f"asset:{self.asset_id}"]

    @property
    def name(self) -> str:
        """What people call it."""
        if self.canonical:
            return self.canonical
        return f"video {self.video_id}" if self.video_id else f"asset {self.asset_id}"


@dataclass(frozen=True)
class Window:
    """A part of a video, in seconds on the clock of the file; None is its beginning or end."""

    start_sec: float | None = None
    end_sec: float | None = None

    @property
    def given(self) -> bool:
        return self.start_sec is not None or self.end_sec is not None

    @property
    def params(self) -> Json:
        """As they stand in ledger keys: nothing for the whole video."""
        return {n: v for n, v in vars(self).items() if v is not None}

    def seconds(self, duration: float | None) -> float | None:
        """Its length, which is billed; None if the video's own is not known and needed."""
        end = self.end_sec if duration is None else min(self.end_sec or duration, duration)
        return None if end is None else max(0.0, end - (self.start_sec or 0.0))

    def check(self, duration: float | None, model: TextModel | None) -> None:
        """Refuse a window that no model takes.

        Raises:
            SchemaMismatch: it is reversed, too short, too long or outside the video; or the model has none.
        """
        if not self.given:
            return
        start, end = self.start_sec or 0.0, self.end_sec
        shown = f"start_sec = {start:g}, end_sec = {'the end' if end is None else f'{end:g}'}"
        if start < 0 or (end is not None and end <= start):
            raise SchemaMismatch(f"{shown} is no part of a video: start_sec is 0 or more, end_sec is later")
        if duration is not None and (start >= duration or (end is not None and end > duration + 0.5)):
            raise SchemaMismatch(f"{shown} lies outside the video, which is {duration:g} s long")
        if model is None:
            return
        if not model.windows:
            raise SchemaMismatch(
                f"{model.name} looks at whole videos only: leave start_sec and end_sec out, or use an "
                "account with Pegasus 1.5"
            )
        length = self.seconds(duration)
        if length is not None and length < model.shortest_sec:
            raise SchemaMismatch(
                f"{shown} is {length:g} s long; {model.name} takes {model.shortest_sec:g} s or more"
            )
        if length is not None and length > model.window_sec:
            raise SchemaMismatch(
                f"{shown} is {length:g} s long; {model.name} takes {model.window_sec:g} s at most: "
                "ask for several parts"
            )


WHOLE = Window()


@dataclass(frozen=True)
class Part:
    """One thing that is asked of a video, with a record of its own in the ledger.

    `properties` (name -> JSON schema) make it a part of a combined answer; without them its prompt and
    `response_format` stand alone.
    """

    operation: str
    params: Json  # of the ledger's key, JSON values
    prompt: str | None
    properties: Mapping[str, Json] = field(default_factory=dict)
    response_format: Json | None = None

    @property
    def alone(self) -> bool:
        """Whether it cannot share an analysis with other parts."""
        return not self.properties


def summary_part(prompt: str | None = None, temperature: float | None = None) -> Part:
    """A summary; `prompt` says what it is for."""
    return _preset_part("summary", ["summary"], prompt, temperature)


def gist_part() -> Part:
    """Title, topics and hashtags."""
    return _preset_part("gist", ["title", "topic", "hashtag"])


def chapters_part(prompt: str | None = None, temperature: float | None = None) -> Part:
    """Chapters."""
    return _preset_part("chapter", ["chapter"], prompt, temperature)


def highlights_part(prompt: str | None = None, temperature: float | None = None) -> Part:
    """Highlights."""
    return _preset_part("highlight", ["highlight"], prompt, temperature)


def _preset_part(
    operation: str, kinds: list[str], prompt: str | None = None, temperature: float | None = None
) -> Part:
    presets = [PRESETS[kind] for kind in kinds]
    text = " ".join([p.prompt for p in presets] + ([prompt] if prompt else []))
    params = {} if operation == "gist" else {"prompt": prompt, "temperature": temperature}
    return Part(operation, params, text, {p.name: p.schema for p in presets})


#: Outputs of `parts_of` in the order in which they are asked.
OUTPUTS = ("summary", "title", "topics", "hashtags", "chapters", "highlights")


def parts_of(
    outputs: Iterable[str], prompts: Sequence[str | None] = (None,), temperature: float | None = None
) -> tuple[Part, ...]:
    """The parts that outputs take, in a fixed order; title, topics and hashtags are one.

    Args:
        outputs: names of OUTPUTS.
        prompts: of the summaries, one each; an empty one is a plain summary.

    Raises:
        SchemaMismatch: an output that there is not.
    """
    wanted = set(outputs)
    if unknown := wanted - set(OUTPUTS):
        raise SchemaMismatch(f"no output is called {', '.join(sorted(unknown))}; use {', '.join(OUTPUTS)}")
    parts = [summary_part(prompt or None, temperature) for prompt in prompts if "summary" in wanted]
    parts += [gist_part()] if wanted & {"title", "topics", "hashtags"} else []
    parts += [chapters_part(None, temperature)] if "chapters" in wanted else []
    parts += [highlights_part(None, temperature)] if "highlights" in wanted else []
    return tuple(parts)


@dataclass(frozen=True)
class TextRequest:
    """What is asked of one video.

    `definitions` makes it an analysis of segments. `pictures` are URLs or paths that the prompt refers to.
    """

    video: VideoRef
    parts: tuple[Part, ...]
    window: Window = WHOLE
    temperature: float | None = None
    max_tokens: int | str | None = None
    pictures: tuple[str, ...] = ()
    definitions: tuple[Json, ...] = ()
    min_segment_sec: float | None = None
    max_segment_sec: float | None = None

    @property
    def billed_times(self) -> int:
        """How often its length is billed: once, or once per segment definition."""
        return max(1, len(self.definitions))


@dataclass
class TextResult:
    """What became of a request: an answer or an error for each of its parts, by number."""

    request: TextRequest
    answers: dict[int, Json] = field(default_factory=dict)
    errors: dict[int, TLDataError] = field(default_factory=dict)
    models: dict[int, str] = field(default_factory=dict)  # that wrote the answers

    def raised(self) -> TextResult:
        """The same, if nothing failed; else the first error is raised."""
        if self.errors:
            raise self.errors[min(self.errors)]
        return self


class Analyses:
    """Runs requests, each part at most once. Belongs to a session."""

    def __init__(self, client: Client, ledger: Ledger, watcher: TaskWatcher, model: str | None) -> None:
        """
        Args:
            model: what the settings or the embedded engine name; None is the default of the account.
        """
        self._client, self._ledger, self._watcher = client, ledger, watcher
        self._named = model
        self._batches = Batches(client, client.settings)

    async def aclose(self) -> None:
        """End what runs in the background."""
        await self._batches.aclose()

    @property
    def model(self) -> str:
        """The model that texts are asked of, as far as the account is known."""
        if self._named:
            return self._named
        return TEXT_MODEL_2025 if self._client.generation == "2025" else TEXT_MODEL

    @property
    def _models(self) -> list[str]:
        """The models whose records answer a call: the one that is asked, then the other generation's."""
        others = [] if self._named else [TEXT_MODEL, TEXT_MODEL_2025]
        return list(dict.fromkeys([self.model, *others]))

    def call(self, part: Part, video: VideoRef, window: Window = WHOLE, minutes: float = 0.0) -> Call:
        """The ledger's name for a part of a request."""
        return self._calls(part, video, window, minutes)[0]

    def _calls(self, part: Part, video: VideoRef, window: Window, minutes: float = 0.0) -> list[Call]:
        """The call, and the names under which earlier records may hold its answer."""
        params = {n: v for n, v in {**part.params, **window.params}.items() if v is not None}
        return [
            Call(part.operation, content, params, model, content=video.name, video_minutes=minutes)
            for content in video.contents
            for model in self._models
        ]

    async def known(self, part: Part, video: VideoRef, window: Window = WHOLE) -> Entry | None:
        """The record of an answer that was paid for already, under any of its names."""
        first, *others = self._calls(part, video, window)
        entry = await self._ledger.get(first)
        if entry is not None and entry.state == "done":
            return entry
        for call in others:
            entry = await self._ledger.get(call)
            if entry is not None and entry.state == "done":
                # Under its first name, too: who knows the video's id alone finds it there.
                result = {**entry.result, "model_name": _author(entry, self.model)}
                await self._ledger.finish(first, result, video_minutes=0.0)
                return entry
        return None

    async def state(self, part: Part, video: VideoRef, window: Window = WHOLE) -> Entry | None:
        """What the ledger knows of a part, under any of its names; nothing is written."""
        entries = [await self._ledger.get(call) for call in self._calls(part, video, window)]
        found = [entry for entry in entries if entry is not None]
        return next((e for e in found if e.state == "done"), found[0] if found else None)

    async def run(self, request: TextRequest, *, batched: bool = False) -> TextResult:
        """Answer all parts of a request, from the ledger or by asking. Errors are in the result.

        Args:
            batched: let it go with others into a batch, if its video is an asset.
        """
        generation = await self._client.account_generation()
        result = TextResult(request)
        missing = []
        for number, part in enumerate(request.parts):
            entry = await self.known(part, request.video, request.window)
            if entry is None:
                missing.append(number)
                continue
            self._note_reused(entry)
            result.answers[number], result.models[number] = dict(entry.result), _author(entry, self.model)
        if not missing:
            return result
        try:
            checked = self._checked(request)
        except TLDataError as refused:
            result.errors |= dict.fromkeys(missing, refused)
            return result
        if generation == "2025":
            await self._at_once(checked, missing, result)
        else:
            await self._by_task(checked, missing, result, batched)
        return result

    async def run_many(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """Answer many requests, in batches where the account and the videos allow it, in their order."""
        return list(await asyncio.gather(*(self.run(request, batched=True) for request in requests)))

    def _checked(self, request: TextRequest) -> TextRequest:
        """The request, if the model can take it.

        Raises:
            SchemaMismatch: window, tokens, pictures or segments are not what the model takes.
            MediaRefused: the video is too long for the model without a window.
        """
        model, seconds = text_model(self.model), request.video.duration_sec
        request.window.check(seconds, model)
        if model is None:
            return request
        tokens = request.max_tokens
        if tokens == "unlimited" and not (model.time_arrays and request.definitions):
            raise SchemaMismatch("max_tokens is unlimited; only segments by pegasus1.6 take that")
        least = 2048 if request.definitions else model.least_tokens
        if isinstance(tokens, int) and not least <= tokens <= model.most_tokens:
            raise SchemaMismatch(f"max_tokens is {tokens}; {model.name} takes {least} to {model.most_tokens}")
        if request.definitions and not model.segments:
            raise SchemaMismatch(f"{model.name} makes no segments; they need Pegasus 1.5")
        if len(request.pictures) > model.reference_images:
            raise SchemaMismatch(
                f"{len(request.pictures)} pictures are given; {model.name} takes {model.reference_images}"
            )
        longest = model.task_sec or model.sync_sec
        if seconds is not None and seconds > (model.windowed_sec if request.window.given else longest) + 0.5:
            advice = f" Ask for parts of at most {model.window_sec:g} s with start_sec and end_sec"
            raise MediaRefused(
                f"the video is {seconds:g} s long; {model.name} writes about {longest:g} s at once."
                + (advice if model.windows else ""),
                "video_duration_too_long",
            )
        return request

    # ---- today: by task -------------------------------------------------------------------------

    async def _by_task(
        self, request: TextRequest, missing: list[int], result: TextResult, batched: bool
    ) -> None:
        """Ask for the missing parts by one task and keep each of them.

        The parts are submitted one after the other, always in the same order: the first sends a task for all
        that nobody has asked for, and the others write down the same task. Two processes cannot wait for each
        other, and what a third has begun is found in its task.
        """
        minutes = (request.window.seconds(request.video.duration_sec) or 0.0) / 60 * request.billed_times
        covering: dict[int, str] = {}  # number of a part -> the task that answers it, too
        tasks: dict[str, list[tuple[int, Call, Entry]]] = {}
        answers: dict[str, Json] = {}
        for position, number in enumerate(missing):
            part = request.parts[number]
            rides = number in covering
            call = self.call(part, request.video, request.window, 0.0 if rides else minutes)
            if rides:
                call = replace(call, units=0)
            ours = False

            rest = missing[position:]

            async def send(number: int = number, rest: list[int] = rest, call: Call = call) -> str:
                nonlocal ours
                ours = True
                if number in covering:
                    return covering[number]
                together = self._together(request, rest)
                failures = await self._ledger.failures(call)
                body = self._body(request, together, f"{call.key}-{failures}", call.key)
                with about(minutes):
                    if batched and self._fits_batch(body):
                        task_id = await self._batches.add(body, minutes)
                    else:
                        task_id = str((await self._client.create_analyze_task(**body))["task_id"])
                covering.update(dict.fromkeys(together, task_id))
                return task_id

            async def find(call: Call = call) -> str | None:
                return await self._lost_task(call, request.video)

            try:
                entry = await self._ledger.submit(call, send, find)
            except TLDataError as error:
                result.errors[number] = error
                if not part.alone and number not in covering:
                    # The same request would be refused for the others, too.
                    rest = [n for n in missing[position + 1 :] if n not in covering]
                    result.errors |= dict.fromkeys(rest, result.errors[number])
                    missing = missing[: position + 1] + [n for n in missing[position + 1 :] if n in covering]
                    if not any(n in covering for n in missing[position + 1 :]):
                        break
                continue
            if entry.state == "done":
                result.answers[number], result.models[number] = dict(entry.result), _author(entry, self.model)
                continue
            task_id = str(entry.task_id)
            tasks.setdefault(task_id, []).append((number, call, entry))
            if not ours and not part.alone and task_id not in answers:
                with_others = await self._answer(task_id, entry, result, [number], call)
                if with_others is not None:
                    answers[task_id] = with_others
                    covering.update(self._covered(request, missing[position + 1 :], with_others, task_id))
        for task_id, submitted in tasks.items():
            numbers = [number for number, _, _ in submitted]
            answer = answers.get(task_id) or await self._answer(
                task_id, submitted[0][2], result, numbers, *(call for _, call, _ in submitted)
            )
            if answer is not None:
                await self._keep(request, submitted, answer, result)

    def _together(self, request: TextRequest, numbers: list[int]) -> list[int]:
        """The parts that one task answers: the first alone, or all that share a schema."""
        if request.parts[numbers[0]].alone:
            return numbers[:1]
        return [n for n in numbers if not request.parts[n].alone]

    def _property(self, request: TextRequest, number: int, name: str) -> str:
        """The name of a property in a combined answer; that of a part with a prompt ends in its key."""
        part = request.parts[number]
        if not part.params.get("prompt"):
            return name
        return f"{name}_{self.call(part, request.video, request.window).key[:8]}"

    def _body(self, request: TextRequest, numbers: list[int], idempotency: str, custom_id: str) -> Json:
        """The arguments of `create_analyze_task`."""
        parts = [request.parts[n] for n in numbers]
        prompt, form, tokens = parts[0].prompt, parts[0].response_format, request.max_tokens
        if not parts[0].alone and [p.operation for p in parts] != ["summary"]:
            schemas = {
                self._property(request, n, name): schema
                for n in numbers
                for name, schema in request.parts[n].properties.items()
            }
            sentences = [
                f"{self._property(request, n, next(iter(p.properties)))}: {p.prompt}"
                if p.params.get("prompt") and len(parts) > 1
                else str(p.prompt)
                for n, p in zip(numbers, parts, strict=True)
            ]
            prompt, form = " ".join(sentences), schema_of(schemas)
            model = text_model(self.model)
            if tokens is None and model is not None and len(parts) > 1:
                tokens = min(PART_TOKENS * len(parts), model.most_tokens)
        body: Json = {
            "video": request.video.object or request.video.video_id,
            "model_name": self.model if request.video.object else None,
            "prompt": prompt,
            "response_format": form,
            "temperature": request.temperature,
            "max_tokens": tokens,
            "start_time": request.window.start_sec,
            "end_time": request.window.end_sec,
            "custom_id": custom_id,
            "idempotency_key": idempotency,
        }
        if request.definitions:
            form = {"type": "segment_definitions", "segment_definitions": list(request.definitions)}
            body |= {
                "analysis_mode": "time_based_metadata",
                "prompt": None,
                "response_format": form,
                "min_segment_duration": request.min_segment_sec,
                "max_segment_duration": request.max_segment_sec,
            }
        elif request.pictures:
            body |= {"prompt": None, "prompt_v2": with_pictures(str(prompt), request.pictures)}
        return {name: value for name, value in body.items() if value is not None}

    def _fits_batch(self, body: Json) -> bool:
        """Whether a batch takes it: an asset, the model of batches, and nothing that only tasks have."""
        model = text_model(self.model)
        video = body["video"]
        return (
            model is not None
            and model.batches
            and isinstance(video, dict)
            and video["type"] == "asset_id"
            and body.get("max_tokens") != "unlimited"
        )

    async def _lost_task(self, call: Call, video: VideoRef) -> str | None:
        """The task that an earlier, lost request made for this call: the one with its key."""
        since = await self._ledger.unsettled_since(call)
        begun = None if since is None else datetime.fromtimestamp(since, UTC) - CLOCKS
        try:
            async for task in self._client.list_analyze_tasks(asset_id=video.asset_id):
                if task.get("custom_id") == call.key and task.get("status") not in ("failed", "canceled"):
                    return str(task["task_id"])
                created = moment(task.get("created_at"))
                if begun is not None and created is not None and created < begun:
                    return None
        except NotFound:
            return None
        return None

    async def _answer(
        self, task_id: str, entry: Entry, result: TextResult, numbers: list[int], *calls: Call
    ) -> Json | None:
        """Wait for a task; what it answers, with `model_name`. Errors go to the parts and their records."""
        try:
            task = await self._batches.wait(task_id) or await self._watcher.wait_analyze(task_id)
        except (TaskFailed, NotFound) as failed:
            for call in calls:
                await self._ledger.fail(call, failed)
            result.errors |= dict.fromkeys(numbers, failed)
            return None
        except TLDataError as error:
            result.errors |= dict.fromkeys(numbers, error)
            return None
        given = task.get("result") or {}
        params = task.get("request_params") or {}
        return {
            "id": given.get("generation_id"),
            "data": given.get("data"),
            "finish_reason": given.get("finish_reason"),
            "usage": given.get("usage"),
            "warning": (task.get("error") or {}).get("message"),
            "model_name": params.get("model_name") or task.get("model_name") or entry.model or self.model,
            "duration": ((task.get("video_source") or {}).get("system_metadata") or {}).get("duration"),
        }

    def _covered(
        self, request: TextRequest, numbers: list[int], answer: Json, task_id: str
    ) -> dict[int, str]:
        """The parts that a task of another process answers as well."""
        values = complete_properties(str(answer.get("data") or ""))
        return {
            n: task_id
            for n in numbers
            if request.parts[n].properties
            and all(self._property(request, n, name) in values for name in request.parts[n].properties)
        }

    async def _keep(
        self,
        request: TextRequest,
        submitted: list[tuple[int, Call, Entry]],
        answer: Json,
        result: TextResult,
    ) -> None:
        """Write down what a task answered, part by part; what it cost goes with the first."""
        usage = answer.get("usage") or {}
        tokens = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        duration = answer["duration"] if answer["duration"] is not None else request.video.duration_sec
        seconds = request.window.seconds(None if duration is None else float(duration))
        paid = (seconds or 0.0) / 60 * request.billed_times
        for at, (number, call, entry) in enumerate(submitted):
            rides = call.units == 0
            mine = (paid if seconds is not None else call.video_minutes) if not rides else 0.0
            spent = tokens if at == 0 else (0, 0)
            try:
                value = self._value(request, number, [n for n, _, _ in submitted], answer)
            except TLDataError as error:
                result.errors[number] = error
                await self._ledger.fail(call, error, tokens=spent)
                continue
            value = {k: v for k, v in value.items() if v is not None} | {"model_name": answer["model_name"]}
            await self._ledger.finish(call, value, video_minutes=mine, tokens=spent)
            result.answers[number], result.models[number] = value, str(answer["model_name"])
            if not entry.reused:
                receipt = current()
                receipt.video_minutes += mine - call.video_minutes
        if any(not entry.reused for _, _, entry in submitted):
            self._client.note_usage(usage)

    def _value(self, request: TextRequest, number: int, numbers: list[int], answer: Json) -> Json:
        """A part's own answer.

        Raises:
            BadRequest: with `answer_truncated`, it did not fit into max_tokens.
            TaskFailed: with `answer_unreadable`, it is not what its schema says.
        """
        part = request.parts[number]
        own = {name: answer[name] for name in ("id", "finish_reason", "usage", "warning")}
        text = str(answer.get("data") or "")
        if part.alone:
            # Segments are JSON, too.
            form = part.response_format or ({"type": "segment_definitions"} if request.definitions else None)
            return {**own, **_unfailing(lambda: cleaned({**own, "data": text}, form), answer)}
        if not text.lstrip().startswith(("{", "```")) and part.operation == "summary":
            return {**own, "summary": text.strip("\r\n")}
        if part.operation == "summary" and len(numbers) == 1 and not _is_object(text):
            return {**own, "summary": text.strip("\r\n")}
        values = complete_properties(text)
        wanted = {name: self._property(request, number, name) for name in part.properties}
        if any(there not in values for there in wanted.values()):
            _unfailing(lambda: cleaned({**own, "data": text}, {"type": "json_schema"}), answer)
            lacking = next(name for name, there in wanted.items() if there not in values)
            raise TaskFailed(f"the structured answer holds no {lacking}", None, "answer_unreadable")
        fields = {name: values[there] for name, there in wanted.items()}
        return {**own, **_unfailing(lambda: as_presets(fields, list(fields)), answer)}

    def _note_reused(self, entry: Entry) -> None:
        receipt = current()
        receipt.content_key, receipt.task_id = entry.content_key, entry.task_id
        receipt.reused += 1
        receipt.model = _author(entry, self.model)

    # ---- 2025: at once --------------------------------------------------------------------------

    async def _at_once(self, request: TextRequest, missing: list[int], result: TextResult) -> None:
        """Ask for each missing part with the id of the indexed video."""
        video_id = request.video.video_id
        minutes = (request.video.duration_sec or 0.0) / 60
        for number in missing:
            part = request.parts[number]
            call = self.call(part, request.video, request.window, minutes)

            async def ask(part: Part = part) -> Billed:
                with about(minutes):
                    answer = await self._ask_2025(str(video_id), part, request)
                return Billed({**answer, "model_name": self.model}, minutes)

            try:
                if video_id is None:
                    raise BadRequest(
                        "this account analyses indexed videos only: give index_id, to index the video first",
                        "video_not_indexed",
                    )
                entry = await self._ledger.once(call, ask)
            except TLDataError as error:
                result.errors[number] = error
                continue
            result.answers[number], result.models[number] = dict(entry.result), _author(entry, self.model)

    async def _ask_2025(self, video_id: str, part: Part, request: TextRequest) -> Json:
        prompt, temperature = part.params.get("prompt"), request.temperature
        if part.operation == "gist":
            return await self._client.gist(video_id, ["title", "topic", "hashtag"])
        if part.operation in ("summary", "chapter", "highlight"):
            return await self._client.summarize(video_id, part.operation, prompt, temperature)
        return await self._client.analyze(
            video_id,
            part.prompt,
            temperature=temperature,
            max_tokens=request.max_tokens if isinstance(request.max_tokens, int) else None,
            response_format=part.response_format,
        )


def with_pictures(prompt: str, pictures: Sequence[str]) -> Json:
    """`prompt_v2`: a prompt with pictures that it names, as <@image1>, <@image2> and so on.

    Raises:
        SchemaMismatch: a picture is neither a URL nor a file here.
    """
    sources = []
    for number, picture in enumerate(pictures, 1):
        source: Json = {"name": f"image{number}", "media_type": "image"}
        if is_url(picture):
            source["url"] = picture
        else:
            path = local_path(picture)
            if not path.is_file():
                raise SchemaMismatch(f"{redacted(picture)} is {NOT_A_PLACE}")
            source["base64_string"] = base64.b64encode(path.read_bytes()).decode()
        sources.append(source)
    unnamed = [f"<@{source['name']}>" for source in sources if f"<@{source['name']}>" not in prompt]
    text = f"{prompt} The pictures are {', '.join(unnamed)}." if unnamed else prompt
    return {"input_text": text, "media_sources": sources}


def _author(entry: Entry, model: str) -> str:
    """The model that wrote an answer."""
    result = entry.result if isinstance(entry.result, dict) else {}
    return str(result.get("model_name") or entry.model or model)


def _is_object(text: str) -> bool:
    try:
        return isinstance(read_json(text)[0], dict)
    except (ValueError, orjson.JSONDecodeError):
        return False


def _unfailing(read: Any, answer: Json) -> Json:
    """What is read of an answer. One that cannot be used is the task's failure: it is not asked for again
    with the same limit of tokens, and once more by a later run where it is no JSON.

    Raises:
        BadRequest: with `answer_truncated`.
        TaskFailed: with `answer_unreadable`.
    """
    try:
        found = read()
        assert isinstance(found, dict)
        return found
    except BadRequest:
        raise
    except APIError as error:
        raise TaskFailed(error.message, None, error.code or "answer_unreadable") from None
