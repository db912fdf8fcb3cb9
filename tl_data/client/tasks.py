"""/tasks: indexing tasks, and imports of the videos in a bucket."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tl_data.client.base import BaseClient
from tl_data.client.indexes import Moment, Range
from tl_data.client.multipart import Form, Progress
from tl_data.client.remote import media_url
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat


class TaskMethods(BaseClient):
    """/tasks."""

    @operation("POST /tasks")
    async def create_task(
        self,
        index_id: str,
        *,
        video_url: str | None = None,
        video_file: Path | None = None,
        enable_video_stream: bool | None = None,
        user_metadata: Mapping[str, Any] | None = None,
        on_progress: Progress | None = None,
        video_minutes: float = 0.0,
    ) -> Json:
        """Index a video from a URL or a file; returns at least the `_id` of the task, and `video_id`.

        Args:
            on_progress: called with the number of bytes sent so far and the total.
            video_minutes: the duration of the video, if known, for the limits of video minutes.

        Raises:
            APIError: if `maybe_done` is set, the task may exist. Search for it before you retry.
            MediaRefused: the file cannot be read, or the API rejected it.
        """
        form = Form(
            given(
                index_id=index_id,
                video_url=media_url(video_url),
                enable_video_stream=enable_video_stream,
                user_metadata=dict(user_metadata) if user_metadata else None,
            ),
            {"video_file": video_file},
            on_progress,
        )
        return await self.create(
            Request(
                "POST",
                "/tasks",
                form=form,
                category="index",  # the API counts this as indexing also if it uploads a file
                repeat=Repeat.NEVER,
                video_minutes=video_minutes,
            )
        )

    @operation("GET /tasks")
    def list_tasks(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        sort_by: str | None = None,
        sort_option: str | None = None,
        index_id: str | None = None,
        status: str | list[str] | None = None,
        filename: str | None = None,
        duration: Range | None = None,
        width: Range | None = None,
        height: Range | None = None,
        created_at: Moment | None = None,
        updated_at: Moment | None = None,
    ) -> AsyncIterator[Json]:
        """List the indexing tasks of the account, newest first."""
        query = given(
            page=page,
            page_limit=page_limit,
            sort_by=sort_by,
            sort_option=sort_option,
            index_id=index_id,
            status=status,
            filename=filename,
            duration=duration,
            width=width,
            height=height,
            created_at=created_at,
            updated_at=updated_at,
        )
        return self.pages("/tasks", query)

    @operation("GET /tasks/{task_id}")
    async def retrieve_task(self, task_id: str) -> Json:
        """Retrieve an indexing task."""
        return await self.send(Request("GET", path("/tasks/{task_id}", task_id=task_id)))

    @operation("DELETE /tasks/{task_id}")
    async def delete_task(self, task_id: str) -> None:
        """Delete a failed task, or a ready one whose video has been deleted."""
        await self.delete(path("/tasks/{task_id}", task_id=task_id))

    @operation("POST /tasks/transfers/import/{integration_id}")
    async def create_import(
        self,
        integration_id: str,
        index_id: str,
        *,
        incremental_import: bool | None = None,
        retry_failed: bool | None = None,
        user_metadata: Mapping[str, Any] | None = None,
    ) -> Json:
        """Index the videos in a connected bucket; returns the accepted `videos` and the `failed_files`."""
        body = given(
            index_id=index_id,
            incremental_import=incremental_import,
            retry_failed=retry_failed,
            user_metadata=dict(user_metadata) if user_metadata else None,
        )
        return await self.send(
            Request("POST", _import(integration_id), json=body, category="index", repeat=Repeat.NEVER)
        )

    @operation("GET /tasks/transfers/import/{integration_id}/status")
    async def import_status(self, integration_id: str, index_id: str) -> Json:
        """Retrieve the status of an import: the file names and videos with each status."""
        return await self.send(Request("GET", f"{_import(integration_id)}/status", {"index_id": index_id}))

    @operation("GET /tasks/transfers/import/{integration_id}/logs")
    async def import_logs(self, integration_id: str) -> list[Json]:
        """Retrieve the log of all imports, oldest first."""
        return list((await self.send(Request("GET", f"{_import(integration_id)}/logs"))).get("data") or [])


def _import(integration_id: str) -> str:
    return path("/tasks/transfers/import/{integration_id}", integration_id=integration_id)
