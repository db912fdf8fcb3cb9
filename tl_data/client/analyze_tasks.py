"""/analyze/tasks and /analyze/batches: text from video by task, which a later process can look up."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from tl_data.client.analyze import Video, text_request, video_fields
from tl_data.client.base import BaseClient, Generation
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat
from tl_data.errors import BadRequest, NotFound
from tl_data.models import TEXT_MODEL

# Limits of the service, from its documentation of /analyze/batches as of November 2026.
BATCH_ITEMS = 1000  # maximum number of items in a batch
BATCH_HOURS = 2000.0  # maximum hours of video in a batch
ACTIVE_BATCHES = 5  # maximum number of batches of an account that have not ended


class AnalyzeTaskMethods(BaseClient):
    """/analyze/tasks and /analyze/batches."""

    async def account_generation(self) -> Generation:
        """The API generation of the account (see `Generation`), detected once by a free request.

        Accounts of 2025 answer a list of analysis tasks with status 404, 405 or 410.
        """
        async with self.generation_lock:
            if self.generation is None:
                try:
                    await self.send(Request("GET", "/analyze/tasks", {"page": 1, "page_limit": 1}))
                    self.generation = "today"
                except (NotFound, BadRequest) as error:
                    if error.http_status not in (404, 405, 410):
                        raise
                    self.generation = "2025"
            return self.generation

    @operation("POST /analyze/tasks")
    async def create_analyze_task(
        self,
        video: Video | None,
        prompt: str | None = None,
        *,
        model_name: str | None = None,
        analysis_mode: str | None = None,
        prompt_v2: Json | None = None,
        image: list[Json] | None = None,
        temperature: float | None = None,
        max_tokens: int | str | None = None,
        response_format: Json | None = None,
        start_time: float | None = None,
        end_time: float | None = None,
        min_segment_duration: float | None = None,
        max_segment_duration: float | None = None,
        custom_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> Json:
        """Create an analysis task; returns `task_id` and `status`.

        Args:
            video: a video object, or the id of an indexed video; None if `image` has all that is analyzed.
            prompt: for the mode `general`, which takes either this or `prompt_v2`.
            prompt_v2: {"input_text": ...}, with reference images; not with `prompt` or `image`.
            max_tokens: 512 to 98,304 (from 2,048 for segments), or "unlimited" for segments by Pegasus 1.6.
            start_time: start of the analyzed part in seconds. The part has 1 s to 2 h, which are billed.
            end_time: end of the analyzed part in seconds.
            min_segment_duration: seconds, at least 2; for the mode `time_based_metadata` alone.
            max_segment_duration: seconds, at least 2; for the mode `time_based_metadata` alone.
            custom_id: returned in the task and in lists; at most 64 characters of [A-Za-z0-9_-].
            idempotency_key: sent as Idempotency-Key; the same key creates no second task.

        Raises:
            APIError: if `maybe_done` is set, the task may exist. Before you create it again, list the tasks
                and compare their `custom_id`.
        """
        body = video_fields(video, model_name) | given(
            image=image,
            prompt=prompt,
            prompt_v2=prompt_v2,
            analysis_mode=analysis_mode,
            temperature=temperature,
            max_tokens=max_tokens,
            response_format=response_format,
            start_time=start_time,
            end_time=end_time,
            min_segment_duration=min_segment_duration,
            max_segment_duration=max_segment_duration,
            custom_id=custom_id,
        )
        headers = {"idempotency-key": idempotency_key} if idempotency_key else {}
        tokens = max_tokens if isinstance(max_tokens, int) else None
        request = text_request("/analyze/tasks", body, tokens=tokens, repeat=Repeat.NEVER, headers=headers)
        return await self.create(request, "task_id")

    @operation("GET /analyze/tasks")
    def list_analyze_tasks(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        status: str | None = None,
        video_url: str | None = None,
        asset_id: str | None = None,
        analysis_mode: str | None = None,
    ) -> AsyncIterator[Json]:
        """List analysis tasks, newest first. They have a `custom_id`, but cannot be filtered by it."""
        query = given(
            page=page,
            page_limit=page_limit,
            status=status,
            video_url=video_url,
            asset_id=asset_id,
            analysis_mode=analysis_mode,
        )
        return self.pages("/analyze/tasks", query)

    @operation("GET /analyze/tasks/{task_id}")
    async def retrieve_analyze_task(self, task_id: str) -> Json:
        """Retrieve an analysis task, with its result once it is ready."""
        return await self.send(Request("GET", path("/analyze/tasks/{task_id}", task_id=task_id)))

    @operation("DELETE /analyze/tasks/{task_id}")
    async def delete_analyze_task(self, task_id: str) -> None:
        """Delete an analysis task that is not being processed."""
        await self.delete(path("/analyze/tasks/{task_id}", task_id=task_id))

    @operation("POST /analyze/tasks/{task_id}/cancel")
    async def cancel_analyze_task(self, task_id: str) -> Json:
        """Cancel an unfinished analysis task. Calling it again has no effect."""
        return await self.send(Request("POST", path("/analyze/tasks/{task_id}/cancel", task_id=task_id)))

    @operation("POST /analyze/batches")
    async def create_batch(
        self,
        requests: Sequence[Mapping[str, Any]],
        *,
        model_name: str = TEXT_MODEL,
        analysis_mode: str = "general",
        defaults: Mapping[str, Any] | None = None,
        video_minutes: float = 0.0,
    ) -> Json:
        """Create a batch of 1 to 1,000 items; returns `batch_id` and `items`.

        Each item is one request of the batch and becomes one analysis task, whose id is its `task_id`.

        Args:
            requests: each has `video` {"type": "asset_id", "asset_id"}, and may have custom_id, prompt
                ({"input_text": ...}), response_format, temperature, max_tokens, start_time, end_time.
            defaults: values of fields that a request does not contain.
            video_minutes: total minutes of video, for the rate limiter.

        Raises:
            BadRequest: no task was created. HTTP status 409: an asset is not ready.
            RateLimited: a rate limit is reached, or five batches of the account have not ended.
            APIError: if `maybe_done` is set, the batch may exist.
        """
        body = given(
            model_name=model_name,
            analysis_mode=analysis_mode,
            defaults=dict(defaults) if defaults else None,
            requests=[dict(request) for request in requests],
        )
        return await self.create(
            Request(
                "POST",
                "/analyze/batches",
                json=body,
                category="analyze",
                repeat=Repeat.NEVER,
                video_minutes=video_minutes,
            ),
            "batch_id",
        )

    @operation("GET /analyze/batches")
    def list_batches(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        status: list[str] | None = None,
        analysis_mode: list[str] | None = None,
    ) -> AsyncIterator[Json]:
        """List batches, newest first."""
        query = given(page=page, page_limit=page_limit, status=status, analysis_mode=analysis_mode)
        return self.pages("/analyze/batches", query)

    @operation("GET /analyze/batches/{batch_id}")
    async def retrieve_batch(self, batch_id: str) -> Json:
        """Retrieve a batch: its status and the number of items by status, without results."""
        return await self.send(Request("GET", path("/analyze/batches/{batch_id}", batch_id=batch_id)))

    @operation("GET /analyze/batches/{batch_id}/results")
    async def batch_results(self, batch_id: str) -> list[Json]:
        """Retrieve the current results of a batch: one object per item, finished or not."""
        route = path("/analyze/batches/{batch_id}/results", batch_id=batch_id)
        return await self.send_lines(Request("GET", route))

    @operation("POST /analyze/batches/{batch_id}/cancel")
    async def cancel_batch(self, batch_id: str) -> Json:
        """Cancel the queued items of a batch. Items in processing continue and are billed."""
        return await self.send(Request("POST", path("/analyze/batches/{batch_id}/cancel", batch_id=batch_id)))

    @operation("DELETE /analyze/batches/{batch_id}")
    async def delete_batch(self, batch_id: str) -> None:
        """Delete a batch that has ended, and its results."""
        await self.delete(path("/analyze/batches/{batch_id}", batch_id=batch_id))
