"""Text analyses of videos, each paid at most once: requests, their ledger keys, and how they are sent.

    request = TextRequest(video, parts_of(["summary", "chapters"]))
    [result] = await session.analyze_many([request])
    result.answers                      # {0: {...}, 1: {...}}: by the position of the part in the request
    result.errors                       # the errors of the parts that failed, by the same positions

A request is about one video and has one or more parts. Each part is a separate call in the ledger. Parts
without a record are requested together: one analysis with one JSON schema, billed once. The record of each
part has the id of the analysis' task. So a part that a job has paid is free in SQL and vice versa. After a
crash, the task is found by each part that has a record, or else by the ledger key of its first part.

The endpoint depends on the generation of the account (`AnalyzeTaskMethods.account_generation`):

    today   POST /analyze/tasks with a video object; `analyze_many` puts ready assets into batches of up to
            1,000. The ledger key of the first part is the task's `custom_id`, by which a lost task is found.
    2025    POST /analyze, /gist, /summarize with the id of an indexed video, one call per part. These calls
            have no key, so that a call is paid again if the process is killed while it waits.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

from tl_data.client.analyze import cleaned
from tl_data.client.analyze_batches import Batches
from tl_data.client.presets import (
    ANNOTATION_PRESETS,
    PRESETS,
    as_presets,
    no_annotations,
    prompt_v2,
    schema_of,
)
from tl_data.client.schema import complete_properties, read_json
from tl_data.client.task_poller import MAX_CLOCK_DIFFERENCE
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
from tl_data.ledger.recovery import keyed_analyses
from tl_data.media.identity import media_source
from tl_data.models import TEXT_MODEL, TEXT_MODEL_2025, TextModel, text_model
from tl_data.usage import about, counting, current

if TYPE_CHECKING:
    from tl_data.client import Client
    from tl_data.client.task_poller import TaskWatcher
    from tl_data.ledger.ledger import Ledger

Json = dict[str, Any]

#: Largest number of tokens for each part of a combined answer. It is the API's default for a whole answer.
PART_TOKENS = 4096


@dataclass(frozen=True)
class VideoRef:
    """A reference to a video. At least one of url, asset_id and video_id is set."""

    video_id: str | None = None
    index_id: str | None = None
    asset_id: str | None = None
    url: str | None = None  # as sent to the API, including a signature
    content_key: str | None = None
    canonical: str | None = None
    duration_sec: float | None = None
    #: Ids of the same content in other indexes. Answers that were paid under these ids are reused.
    former_ids: tuple[str, ...] = ()

    @classmethod
    def of(cls, record: Mapping[str, Any], **more: Any) -> VideoRef:
        """A reference to the video of a record of type `types.VIDEO`."""
        names = ("video_id", "index_id", "asset_id", "duration_sec")
        fields_: Json = {name: record.get(name) for name in names}
        return cls(**fields_, **more)

    @property
    def object(self) -> Json | None:
        """The video object of the API; None if only the id of an indexed video is known."""
        if self.asset_id:
            return {"type": "asset_id", "asset_id": self.asset_id}
        return {"type": "url", "url": self.url} if self.url else None

    @property
    def contents(self) -> list[str]:
        """The identifiers of the video in ledger keys, the preferred one first.

        They are the video's id, its content key, and the ids of the same content in other indexes. If none of
        these is known, the identifier is the id of the asset.
        """
        keys = [f"video:{self.video_id}" if self.video_id else None, self.content_key]
        keys += [f"video:{video_id}" for video_id in self.former_ids if video_id != self.video_id]
        return [key for key in keys if key] or [f"asset:{self.asset_id}"]

    @property
    def name(self) -> str:
        """The name of the video in messages."""
        if self.canonical:
            return self.canonical
        return f"video {self.video_id}" if self.video_id else f"asset {self.asset_id}"


@dataclass(frozen=True)
class Window:
    """A time range of a video, in seconds from its start."""

    start_sec: float | None = None  # None: the beginning of the video
    end_sec: float | None = None  # None: the end of the video

    @property
    def given(self) -> bool:
        """Whether the window is limited. False for the whole video."""
        return self.start_sec is not None or self.end_sec is not None

    @property
    def params(self) -> Json:
        """The parameters in ledger keys; {} for the whole video."""
        return {n: v for n, v in vars(self).items() if v is not None}

    def seconds(self, duration: float | None) -> float | None:
        """The billed length in seconds; None if it depends on the unknown length of the video."""
        end = self.end_sec if duration is None else min(self.end_sec or duration, duration)
        return None if end is None else max(0.0, end - (self.start_sec or 0.0))

    def check(self, duration: float | None, model: TextModel | None) -> None:
        """Validate the window against the model's limits.

        Raises:
            SchemaMismatch: the window is reversed, too short, too long or outside of the video, or the model
                supports no windows.
        """
        if not self.given:
            return
        start, end = self.start_sec or 0.0, self.end_sec
        window = f"start_sec = {start:g}, end_sec = {'the end' if end is None else f'{end:g}'}"
        if start < 0 or (end is not None and end <= start):
            raise SchemaMismatch(f"{window} is invalid: start_sec must be at least 0 and below end_sec")
        if duration is not None and (start >= duration or (end is not None and end > duration + 0.5)):
            raise SchemaMismatch(f"{window} is outside of the video, which is {duration:g} s long")
        if model is None:
            return
        if not model.windows:
            raise SchemaMismatch(
                f"{model.name} analyzes whole videos only: omit start_sec and end_sec, or use an "
                "account with Pegasus 1.5"
            )
        length = self.seconds(duration)
        if length is not None and length < model.shortest_sec - 1e-6:  # 1.4 - 0.4 is below 1
            raise SchemaMismatch(
                f"{window} is {length:g} s long; {model.name} needs at least {model.shortest_sec:g} s"
            )
        if length is not None and length > model.window_sec:
            raise SchemaMismatch(
                f"{window} is {length:g} s long; {model.name} accepts at most {model.window_sec:g} s: "
                "request several shorter windows"
            )


WHOLE = Window()


@dataclass(frozen=True)
class Part:
    """One part of a request, with its own record in the ledger.

    A part with `properties` (name -> JSON schema) can be combined with other parts in one analysis. A part
    without them is a separate analysis, with its prompt and `response_format`.
    """

    operation: str
    params: Json  # parameters of the ledger's key, as JSON values
    prompt: str | None
    properties: Mapping[str, Json] = field(default_factory=dict)
    response_format: Json | None = None

    @property
    def alone(self) -> bool:
        """Whether it needs a separate analysis."""
        return not self.properties


def summary_part(prompt: str | None = None, temperature: float | None = None) -> Part:
    """A summary. `prompt` has instructions for it."""
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


def annotations_part() -> Part:
    """What is seen: words on the screen, and objects. Accounts of 2025 get an error for it."""
    text = " ".join(p.prompt for p in ANNOTATION_PRESETS)
    return Part("annotation", {}, text, {p.name: p.schema for p in ANNOTATION_PRESETS})


def _preset_part(
    operation: str, kinds: list[str], prompt: str | None = None, temperature: float | None = None
) -> Part:
    presets = [PRESETS[kind] for kind in kinds]
    text = " ".join([p.prompt for p in presets] + ([prompt] if prompt else []))
    params = {} if operation == "gist" else {"prompt": prompt, "temperature": temperature}
    return Part(operation, params, text, {p.name: p.schema for p in presets})


#: The outputs that `parts_of` accepts, in the order in which they are requested.
OUTPUTS = ("summary", "title", "topics", "hashtags", "chapters", "highlights")


def parts_of(
    outputs: Iterable[str], prompts: Sequence[str | None] = (None,), temperature: float | None = None
) -> tuple[Part, ...]:
    """The parts for some outputs, in a fixed order. Title, topics and hashtags are one part.

    Args:
        outputs: some of OUTPUTS.
        prompts: one per summary; None is a plain summary.

    Raises:
        SchemaMismatch: an output is unknown.
    """
    names = set(outputs)
    if unknown := names - set(OUTPUTS):
        raise SchemaMismatch(f"unknown output {', '.join(sorted(unknown))}; use {', '.join(OUTPUTS)}")
    parts = [summary_part(prompt or None, temperature) for prompt in prompts if "summary" in names]
    parts += [gist_part()] if names & {"title", "topics", "hashtags"} else []
    parts += [chapters_part(None, temperature)] if "chapters" in names else []
    parts += [highlights_part(None, temperature)] if "highlights" in names else []
    return tuple(parts)


@dataclass(frozen=True)
class TextRequest:
    """A request about one video.

    With `definitions`, the answer has the segments of the video by these definitions. `pictures` are URLs or
    paths of images that the prompt refers to.
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
        """How many times the length is billed: once, or once per segment definition."""
        return max(1, len(self.definitions))


@dataclass
class TextResult:
    """The result of a request: an answer or an error for each part, by its position in `parts`."""

    request: TextRequest
    answers: dict[int, Json] = field(default_factory=dict)
    errors: dict[int, TLDataError] = field(default_factory=dict)
    models: dict[int, str] = field(default_factory=dict)  # the models that wrote the answers

    def raised(self) -> TextResult:
        """Return the result itself, or raise the first error if a part failed."""
        if self.errors:
            raise self.errors[min(self.errors)]
        return self


class Analyses:
    """Runs the requests of a session. Each part is paid at most once."""

    def __init__(self, client: Client, ledger: Ledger, watcher: TaskWatcher, model: str | None) -> None:
        """
        Args:
            model: the configured model, or the model of the embedded engine; None: the account's default.
        """
        self._client, self._ledger, self._watcher = client, ledger, watcher
        self._configured_model = model
        self._batches = Batches(client, client.settings)

    async def aclose(self) -> None:
        """Stop background work."""
        await self._batches.aclose()

    def announced(self) -> AbstractContextManager[Callable[[], None]]:
        """Announce the texts of a video that is not ready yet, so that the next batch waits for them.

        Gives a function to call when the texts are about to be requested.
        """
        return self._batches.announced()

    @property
    def model(self) -> str:
        """The model that writes texts. A default may change once the account's generation is known."""
        if self._configured_model:
            return self._configured_model
        return TEXT_MODEL_2025 if self._client.generation == "2025" else TEXT_MODEL

    @property
    def _models(self) -> list[str]:
        """The models whose answers in the ledger are reused: the current one first."""
        others = [] if self._configured_model else [TEXT_MODEL, TEXT_MODEL_2025]
        return list(dict.fromkeys([self.model, *others]))

    def call(self, part: Part, video: VideoRef, window: Window = WHOLE, minutes: float = 0.0) -> Call:
        """The ledger's call for a part of a request."""
        return self._calls(part, video, window, minutes)[0]

    def _calls(self, part: Part, video: VideoRef, window: Window, minutes: float = 0.0) -> list[Call]:
        """The ledger's call for a part, and the other calls under which the ledger may have its answer."""
        params = {n: v for n, v in {**part.params, **window.params}.items() if v is not None}
        return [
            Call(part.operation, content, params, model, content=video.name, video_minutes=minutes)
            for content in video.contents
            for model in self._models
        ]

    async def known(self, part: Part, video: VideoRef, window: Window = WHOLE) -> Entry | None:
        """The record of a part's answer, under any of its calls; None if there is none."""
        first, *others = self._calls(part, video, window)
        entry = await self._ledger.get(first)
        if entry is not None and entry.state == "done":
            return entry
        for call in others:
            entry = await self._ledger.get(call)
            if entry is not None and entry.state == "done":
                # Record it under the first call too, because a later request may know only the video's id.
                result = {**entry.record(), "model_name": _author(entry, self.model)}
                await self._ledger.finish(first, result, video_minutes=0.0)
                return entry
        return None

    async def state(self, part: Part, video: VideoRef, window: Window = WHOLE) -> Entry | None:
        """The record of a part under any of its calls, a finished one first; writes nothing."""
        records = [await self._ledger.get(call) for call in self._calls(part, video, window)]
        entries = [entry for entry in records if entry is not None]
        return next((e for e in entries if e.state == "done"), entries[0] if entries else None)

    async def run(self, request: TextRequest, *, batched: bool = False) -> TextResult:
        """Run all parts of a request, from the ledger or by calls. Errors are in the result.

        Args:
            batched: whether a video that is an asset may be analyzed in a batch with other requests.
        """
        generation = await self._client.account_generation()
        result = TextResult(request)
        missing = []  # indexes of the parts without an answer
        for number, part in enumerate(request.parts):
            entry = await self.known(part, request.video, request.window)
            if entry is None:
                missing.append(number)
                continue
            self._note_reused(entry)
            result.answers[number], result.models[number] = entry.record(), _author(entry, self.model)
        if not missing:
            return result
        try:
            checked = self._check(request)
        except TLDataError as refused:
            result.errors |= dict.fromkeys(missing, refused)
            return result
        if generation == "2025":
            await self._run_synchronously(checked, missing, result)
        else:
            await self._run_by_task(checked, missing, result, batched)
        return result

    async def run_many(self, requests: Sequence[TextRequest]) -> list[TextResult]:
        """Run many requests, in batches if account and videos allow it. Results are in the same order."""
        return list(await asyncio.gather(*(self.run(request, batched=True) for request in requests)))

    def _check(self, request: TextRequest) -> TextRequest:
        """Validate a request against the model's limits.

        Raises:
            SchemaMismatch: the model does not support the window, tokens, pictures or segments.
            MediaRefused: the video is too long for the model without a window.
        """
        model, seconds = text_model(self.model), request.video.duration_sec
        request.window.check(seconds, model)
        if model is None:
            return request
        tokens = request.max_tokens
        if tokens == "unlimited" and not (model.time_arrays and request.definitions):
            raise SchemaMismatch("max_tokens unlimited is only supported for segments by pegasus1.6")
        minimum = 2048 if request.definitions else model.least_tokens
        if isinstance(tokens, int) and not minimum <= tokens <= model.most_tokens:
            raise SchemaMismatch(
                f"max_tokens is {tokens}; {model.name} allows {minimum} to {model.most_tokens}"
            )
        if request.definitions and not model.segments:
            raise SchemaMismatch(f"{model.name} does not support segments; use Pegasus 1.5")
        if len(request.pictures) > model.reference_images:
            raise SchemaMismatch(
                f"{len(request.pictures)} pictures given; {model.name} allows {model.reference_images}"
            )
        longest = model.task_sec or model.sync_sec
        if seconds is not None and seconds > (model.windowed_sec if request.window.given else longest) + 0.5:
            advice = f" Request windows of at most {model.window_sec:g} s with start_sec and end_sec"
            raise MediaRefused(
                f"the video is {seconds:g} s long; {model.name} accepts at most {longest:g} s."
                + (advice if model.windows else ""),
                "video_duration_too_long",
            )
        return request

    # ---- today: by task -------------------------------------------------------------------------

    async def _run_by_task(
        self, request: TextRequest, missing: list[int], result: TextResult, batched: bool
    ) -> None:
        """Request the missing parts by one task, and record each of them.

        The parts are submitted one after the other, always in the same order, so that two processes cannot
        wait for each other. The first part sends one task for all parts without a record, and the other parts
        record the same task. If another process has submitted a part, its answer comes from that process'
        task.

        Args:
            missing: indexes of the parts without an answer.
            result: receives answers and errors.
        """
        minutes = (request.window.seconds(request.video.duration_sec) or 0.0) / 60 * request.billed_times
        covering: dict[int, str] = {}  # index of a part -> the task that includes it
        tasks: dict[str, list[tuple[int, Call, Entry]]] = {}
        answers: dict[str, Json] = {}
        for position, number in enumerate(missing):
            part = request.parts[number]
            shares_task = number in covering  # then the part costs nothing by itself
            call = self.call(part, request.video, request.window, 0.0 if shares_task else minutes)
            if shares_task:
                call = replace(call, units=0)
            sent_here = False
            rest = missing[position:]

            async def send(number: int = number, rest: list[int] = rest, call: Call = call) -> str:
                nonlocal sent_here
                sent_here = True
                if number in covering:
                    return covering[number]
                combined = self._combinable(request, rest)
                failures = await self._ledger.failures(call)
                body = self._body(request, combined, f"{call.key}-{failures}", call.key)
                try:
                    with about(minutes):
                        if batched and self._fits_batch(body):
                            task_id = await self._batches.add(body, minutes)
                        else:
                            task_id = str((await self._client.create_analyze_task(**body))["task_id"])
                except BadRequest as refused:
                    if refused.http_status == 422 and not request.parts[number].alone:
                        refused.retryable = True  # another release may send another schema
                    raise
                covering.update(dict.fromkeys(combined, task_id))
                return task_id

            async def find(call: Call = call) -> str | None:
                return await self._lost_task(call, request.video)

            try:
                entry = await self._ledger.submit(call, send, find)
            except TLDataError as error:
                result.errors[number] = error
                if not part.alone and number not in covering:
                    # The platform would refuse the same request for the other parts.
                    rest = [n for n in missing[position + 1 :] if n not in covering]
                    result.errors |= dict.fromkeys(rest, result.errors[number])
                    missing = missing[: position + 1] + [n for n in missing[position + 1 :] if n in covering]
                    if not any(n in covering for n in missing[position + 1 :]):
                        break
                continue
            if entry.state == "done":
                result.answers[number], result.models[number] = entry.record(), _author(entry, self.model)
                continue
            task_id = str(entry.task_id)
            tasks.setdefault(task_id, []).append((number, call, entry))
            if not sent_here and not part.alone and task_id not in answers:
                answer = await self._answer(task_id, entry, result, [number], call)
                if answer is not None:
                    answers[task_id] = answer
                    covering.update(self._parts_in(request, missing[position + 1 :], answer, task_id))
        for task_id, submitted in tasks.items():
            numbers = [number for number, _, _ in submitted]
            answer = answers.get(task_id) or await self._answer(
                task_id, submitted[0][2], result, numbers, *(call for _, call, _ in submitted)
            )
            if answer is not None:
                await self._record(request, submitted, answer, result)

    def _combinable(self, request: TextRequest, numbers: list[int]) -> list[int]:
        """The parts to request by one task: the first part alone, or all parts that can share a schema."""
        if request.parts[numbers[0]].alone:
            return numbers[:1]
        return [n for n in numbers if not request.parts[n].alone]

    def _property(self, request: TextRequest, number: int, name: str) -> str:
        """The name of a part's property in a combined answer.

        For a part with a prompt, the name ends with the first digits of the part's ledger key.
        """
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
            body |= {"prompt": None, "prompt_v2": prompt_v2(str(prompt), map(media_source, request.pictures))}
        return {name: value for name, value in body.items() if value is not None}

    def _fits_batch(self, body: Json) -> bool:
        """Whether a request may be in a batch, by its video, model and options."""
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
        """The task of an earlier request for this call, if the request was sent and its response was lost."""
        since = await self._ledger.unsettled_since(call)
        sent_after = None if since is None else datetime.fromtimestamp(since, UTC) - MAX_CLOCK_DIFFERENCE
        try:
            async for key, task_id in keyed_analyses(self._client, sent_after, video.asset_id):
                if key == call.key:
                    return task_id
        except NotFound:
            return None
        return None

    async def _answer(
        self, task_id: str, entry: Entry, result: TextResult, numbers: list[int], *calls: Call
    ) -> Json | None:
        """Wait for a task and return its answer, with `model_name`.

        If the task fails, its error is added to `result` for the parts `numbers`, and to the records of
        `calls`.
        """
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
        answer = task.get("result") or {}
        params = task.get("request_params") or {}
        return {
            "id": answer.get("generation_id"),
            "data": answer.get("data"),
            "finish_reason": answer.get("finish_reason"),
            "usage": answer.get("usage"),
            "warning": (task.get("error") or {}).get("message"),
            "model_name": params.get("model_name") or task.get("model_name") or entry.model or self.model,
            "duration": ((task.get("video_source") or {}).get("system_metadata") or {}).get("duration"),
        }

    def _parts_in(
        self, request: TextRequest, numbers: list[int], answer: Json, task_id: str
    ) -> dict[int, str]:
        """The parts among `numbers` that the answer of a task contains, which another process submitted."""
        values = complete_properties(str(answer.get("data") or ""))
        return {
            n: task_id
            for n in numbers
            if request.parts[n].properties
            and all(self._property(request, n, name) in values for name in request.parts[n].properties)
        }

    async def _record(
        self,
        request: TextRequest,
        submitted: list[tuple[int, Call, Entry]],
        answer: Json,
        result: TextResult,
    ) -> None:
        """Record the answer of a task part by part. The cost is recorded with the first part."""
        usage = answer.get("usage") or {}
        tokens = int(usage.get("input_tokens") or 0), int(usage.get("output_tokens") or 0)
        duration = answer["duration"] if answer["duration"] is not None else request.video.duration_sec
        seconds = request.window.seconds(None if duration is None else float(duration))
        billed_minutes = (seconds or 0.0) / 60 * request.billed_times
        for position, (number, call, entry) in enumerate(submitted):
            if call.units == 0:  # another part has the cost
                minutes = 0.0
            else:
                minutes = billed_minutes if seconds is not None else call.video_minutes
            part_tokens = tokens if position == 0 else (0, 0)
            try:
                value = self._value(request, number, [n for n, _, _ in submitted], answer)
            except TLDataError as error:
                result.errors[number] = error
                await self._ledger.fail(call, error, tokens=part_tokens)
                continue
            value = {k: v for k, v in value.items() if v is not None} | {"model_name": answer["model_name"]}
            await self._ledger.finish(call, value, video_minutes=minutes, tokens=part_tokens)
            result.answers[number], result.models[number] = value, str(answer["model_name"])
            if not entry.reused:
                receipt = current()
                receipt.video_minutes += minutes - call.video_minutes
        if any(not entry.reused for _, _, entry in submitted):
            self._client.note_usage(usage)

    def _value(self, request: TextRequest, number: int, numbers: list[int], answer: Json) -> Json:
        """The answer of one part.

        Raises:
            BadRequest: with code `answer_truncated`: the answer exceeded max_tokens.
            TaskFailed: with code `answer_unreadable`: the answer does not conform to its schema.
        """
        part = request.parts[number]
        common = {name: answer[name] for name in ("id", "finish_reason", "usage", "warning")}
        text = str(answer.get("data") or "")
        if part.alone:
            # An answer with segments is JSON too.
            form = part.response_format or ({"type": "segment_definitions"} if request.definitions else None)
            return {**common, **_parse(lambda: cleaned({**common, "data": text}, form), answer)}
        if not text.lstrip().startswith(("{", "```")) and part.operation == "summary":
            return {**common, "summary": text.strip("\r\n")}
        if part.operation == "summary" and len(numbers) == 1 and not _is_object(text):
            return {**common, "summary": text.strip("\r\n")}
        values = complete_properties(text)
        keys = {name: self._property(request, number, name) for name in part.properties}
        if any(key not in values for key in keys.values()):
            _parse(lambda: cleaned({**common, "data": text}, {"type": "json_schema"}), answer)
            lacking = next(name for name, key in keys.items() if key not in values)
            raise TaskFailed(f"the structured answer lacks {lacking}", None, "answer_unreadable")
        fields = {name: values[key] for name, key in keys.items()}
        return {**common, **_parse(lambda: as_presets(fields, list(fields)), answer)}

    def _note_reused(self, entry: Entry) -> None:
        """Add a reused answer to the receipt of the current call."""
        receipt = current()
        receipt.content_key, receipt.task_id = entry.content_key, entry.task_id
        receipt.reused += 1
        receipt.model = _author(entry, self.model)

    # ---- 2025: synchronous ----------------------------------------------------------------------

    async def _run_synchronously(self, request: TextRequest, missing: list[int], result: TextResult) -> None:
        """Request each missing part with the id of the indexed video."""
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
                if part.operation == "annotation":
                    raise no_annotations()
                if video_id is None:
                    raise BadRequest(
                        "this account analyzes indexed videos only: set index_id to index the video first",
                        "video_not_indexed",
                    )
                with counting():
                    entry = await self._ledger.once(call, ask)
            except TLDataError as error:
                result.errors[number] = error
                continue
            result.answers[number], result.models[number] = entry.record(), _author(entry, self.model)

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


def _author(entry: Entry, model: str) -> str:
    """The model that wrote an answer; `model` if the record does not name it."""
    result = entry.result if isinstance(entry.result, dict) else {}
    return str(result.get("model_name") or entry.model or model)


def _is_object(text: str) -> bool:
    try:
        return isinstance(read_json(text)[0], dict)
    except (ValueError, orjson.JSONDecodeError):
        return False


def _parse(read: Any, answer: Json) -> Json:
    """Call `read`, which parses an answer. An unusable answer counts as a failure of the task.

    A truncated answer is not requested again with the same limit of tokens. An answer that is not JSON is
    requested again by a later run.

    Raises:
        BadRequest: with code `answer_truncated`.
        TaskFailed: with code `answer_unreadable`.
    """
    try:
        parsed = read()
        assert isinstance(parsed, dict)
        return parsed
    except BadRequest:
        raise
    except APIError as error:
        raise TaskFailed(error.message, None, error.code or "answer_unreadable") from None
