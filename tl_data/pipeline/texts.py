"""Creates the texts of a video for jobs: one analysis for all missing texts, with windows for long videos.

Summaries, title, topics, hashtags, chapters, highlights and annotations come from one analysis with one JSON
schema, which is billed once. Texts that a job adds later take another analysis. A video that exceeds the
model's limit is analyzed in windows, and the answers are joined.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tl_data.analysis import (
    PART_TOKENS,
    WHOLE,
    Part,
    TextRequest,
    TextResult,
    VideoRef,
    Window,
    annotations_part,
    chapters_part,
    gist_part,
    highlights_part,
    summary_part,
)
from tl_data.client.presets import no_annotations
from tl_data.errors import MediaRefused, TLDataError
from tl_data.functions.analyze import chapter_rows, gist_row, highlight_rows
from tl_data.lake.base import rows_of
from tl_data.lake.schemas import ANNOTATIONS, CHAPTERS, HIGHLIGHTS, SUMMARIES, LakeSchema
from tl_data.models import TextModel, text_model
from tl_data.session import Session

Json = dict[str, Any]

LENGTH_TOLERANCE = 0.5  # largest difference between the lengths by file header and by platform, in seconds


@dataclass(frozen=True)
class Analysis:
    """An analysis that is not paid yet."""

    seconds: float | None  # billed seconds; None: unknown
    tokens: int  # largest number of output tokens


@dataclass(frozen=True)
class Texts:
    """The texts that a job needs of a video, as parts of one analysis per window."""

    parts: tuple[Part, ...]
    outputs: Mapping[str, tuple[int, ...]]  # name of an output -> indexes of its parts in `parts`

    @classmethod
    def of(cls, names: Iterable[str]) -> Texts | None:
        """The texts among these outputs; None if there are none."""
        all_names = list(names)
        prompts = [name.removeprefix("summaries:") for name in all_names if name.startswith("summaries:")]
        parts = [summary_part(prompt or None) for prompt in prompts]
        outputs: dict[str, tuple[int, ...]] = {
            f"summaries:{prompt}": (number, len(prompts)) for number, prompt in enumerate(prompts)
        }
        if prompts:
            parts.append(gist_part())
        for name, part in _PARTS.items():
            if name in all_names:
                outputs[name] = (len(parts),)
                parts.append(part)
        return cls(tuple(parts), outputs) if parts else None

    def requests(self, session: Session, video: VideoRef) -> list[TextRequest]:
        """One request for the whole video, or one per window of a long video."""
        windows = windows_of(video.duration_sec, text_model(session.analyze_model))
        return [TextRequest(video, self.parts, window) for window in windows]

    async def missing(
        self, session: Session, video: VideoRef
    ) -> tuple[list[Analysis], dict[str, TLDataError]]:
        """The unpaid analyses, and the outputs with a final refusal; writes nothing.

        An account of 2025 needs one analysis per part.
        """
        combined = await session.client.account_generation() != "2025"
        model = text_model(session.analyze_model)
        max_tokens = model.most_tokens if model else math.inf
        unpaid: list[Analysis] = []
        refused: dict[int, TLDataError] = {}
        if (
            model
            and video.duration_sec
            and video.duration_sec > (model.windowed_sec or model.sync_sec) + LENGTH_TOLERANCE
        ):
            return [], dict.fromkeys(self.outputs, _too_long(video.duration_sec, model))
        for request in self.requests(session, video):
            numbers = []  # parts that are not paid yet
            for number, part in enumerate(request.parts):
                if not combined and part.operation == "annotation":
                    refused[number] = no_annotations()
                    continue
                entry = await session.analyses.state(part, request.video, request.window)
                if entry is None or entry.state == "claimed":
                    numbers.append(number)
                elif entry.state == "failed" and entry.failure is not None:
                    if entry.failure.retryable:
                        numbers.append(number)
                    else:
                        refused[number] = entry.failure.exception(entry.key)
            seconds = request.window.seconds(video.duration_sec)
            if combined and numbers:
                unpaid.append(Analysis(seconds, int(min(PART_TOKENS * len(numbers), max_tokens))))
            else:
                unpaid += [Analysis(seconds, PART_TOKENS) for _ in numbers]
        errors = {
            name: refused[number]
            for name, numbers in self.outputs.items()
            for number in numbers
            if number in refused
        }
        return unpaid, errors

    async def make(
        self, session: Session, video: VideoRef
    ) -> tuple[dict[str, pa.Table], dict[str, TLDataError]]:
        """Run the missing analyses.

        Returns:
            The rows of the created outputs, and the errors of the failed ones, by output.
        """
        results = await session.analyze_many(self.requests(session, video))
        tables: dict[str, pa.Table] = {}
        errors: dict[str, TLDataError] = {}
        for name, numbers in self.outputs.items():
            failed = [r.errors[n] for r in results for n in numbers if n in r.errors]
            if failed:
                errors[name] = failed[0]
            elif name in _PARTS:
                tables[name] = self._parts(session, video, results, name, numbers[0])
            else:
                tables[name] = self._summary(session, video, results, name, numbers)
        return tables, errors

    def _parts(
        self, session: Session, video: VideoRef, results: Sequence[TextResult], name: str, number: int
    ) -> pa.Table:
        """The rows of chapters, highlights or annotations, numbered over all windows."""
        rows = [
            {
                **row,
                "model": session.text_author(r.models.get(number)),
                "finish_reason": _finish_reason(r, number),
            }
            for r in results
            for row in _rows_in(name, r.answers[number])
        ]
        identifiers = {"video_id": video.video_id, "content_key": video.content_key}
        declared = _TABLES[name]
        position = declared.schema.names[1]
        if len(results) > 1 or name != "chapters":  # chapters have numbers in the answer
            rows = [{**row, position: n} for n, row in enumerate(rows)]
        return rows_of(declared, [{**identifiers, **row} for row in rows])

    def _summary(
        self,
        session: Session,
        video: VideoRef,
        results: Sequence[TextResult],
        name: str,
        numbers: tuple[int, ...],
    ) -> pa.Table:
        summary, gist = numbers
        gists = [gist_row(r.answers[gist]) for r in results]
        texts = [str(t) for r in results if (t := r.answers[summary].get("summary"))]
        row = {
            "video_id": video.video_id,
            "content_key": video.content_key,
            "prompt": name.removeprefix("summaries:"),
            "summary": "\n\n".join(texts) or None,
            "title": next((g["title"] for g in gists if g["title"]), None),
            "topics": list(dict.fromkeys(topic for g in gists for topic in g["topics"])),
            "hashtags": list(dict.fromkeys(tag for g in gists for tag in g["hashtags"])),
            "model": session.text_author(results[0].models.get(summary)),
            "made_at": datetime.now(UTC),
            "finish_reason": next(
                (c for r in results for n in numbers if (c := _finish_reason(r, n)) == "length"), None
            )
            or _finish_reason(results[0], summary),
        }
        return rows_of(SUMMARIES, [row])


#: The outputs other than summaries: the part of the analysis, and the table.
_PARTS = {
    "chapters": chapters_part(),
    "highlights": highlights_part(),
    "annotations": annotations_part(),
}
_TABLES: dict[str, LakeSchema] = {t.name: t for t in (CHAPTERS, HIGHLIGHTS, ANNOTATIONS)}


def _rows_in(name: str, answer: Mapping[str, Any]) -> list[Json]:
    """The rows in an answer, without the columns that all have."""
    if name == "chapters":
        return chapter_rows(answer.get("chapters"))
    if name == "highlights":
        return highlight_rows(answer.get("highlights"))
    kinds = (("text", "on_screen_text"), ("object", "objects"))
    return [{**item, "kind": kind} for kind, field in kinds for item in answer.get(field) or []]


def _too_long(seconds: float, model: TextModel) -> MediaRefused:
    limit = model.windowed_sec or model.sync_sec
    return MediaRefused(
        f"the video is {seconds:g} s long, and {model.name} accepts at most {limit:g} s: cut it into "
        "parts, or remove its texts from the job",
        "video_duration_too_long",
    )


def _finish_reason(result: TextResult, number: int) -> str | None:
    """Why the model ended the text of this part: `length` if it was truncated."""
    reason = result.answers[number].get("finish_reason")
    return None if reason is None else str(reason)


def windows_of(seconds: float | None, model: TextModel | None) -> list[Window]:
    """The windows in which a video is analyzed: one for the whole video if the model accepts its length.

    A video that is too long even for windows gets one window too, and the model refuses it.
    """
    if seconds is None or model is None or not model.windows:
        return [WHOLE]
    if seconds <= model.task_sec or seconds > model.windowed_sec:
        return [WHOLE]
    count = math.ceil(seconds / model.window_sec)
    starts = [round(seconds * n / count, 3) for n in range(count)]
    return [Window(start, end) for start, end in zip(starts, [*starts[1:], seconds], strict=True)]
