"""/embed and /embed-v2: vectors of text, images, audio and short videos, and of longer videos by task."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

from tl_data.client.base import BaseClient
from tl_data.client.indexes import Moment
from tl_data.client.multipart import File, Form, Progress
from tl_data.client.remote import media_url
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat
from tl_data.errors import BadRequest
from tl_data.usage import current


class EmbedMethods(BaseClient):
    """/embed and /embed-v2."""

    @operation("POST /embed")
    async def embed(
        self,
        model_name: str,
        *,
        text: str | None = None,
        text_truncate: str | None = None,
        image_url: str | None = None,
        image_file: File | None = None,
        audio_url: str | None = None,
        audio_file: File | None = None,
        audio_start_offset_sec: float | None = None,
        video_url: str | None = None,
        video_file: File | None = None,
    ) -> Json:
        """Embed each given input; the vectors are in `text_embedding`, `image_embedding` and so on.

        The engine also embeds short videos here. The service embeds videos by `create_embed_task`.

        Raises:
            BadRequest: with code `embedding_failed`, the API could not embed one of the inputs.
        """
        form = Form(
            given(
                model_name=model_name,
                text=text,
                text_truncate=text_truncate,
                image_url=media_url(image_url),
                audio_url=media_url(audio_url),
                audio_start_offset_sec=audio_start_offset_sec,
                video_url=media_url(video_url),
            ),
            {"image_file": image_file, "audio_file": audio_file, "video_file": video_file},
        )
        has_media = any(v is not None for v in (audio_url, audio_file, video_url, video_file))
        category = "embed" if has_media else "embed_text"
        answer = await self.send(Request("POST", "/embed", form=form, category=category, repeat=Repeat.ONCE))
        for name, block in answer.items():
            if isinstance(block, dict) and block.get("error_message"):
                raise BadRequest(f"{name} failed: {block['error_message']}", "embedding_failed", 200)
        current().model = answer.get("model_name") or model_name
        return answer

    @operation("POST /embed-v2")
    async def embed_v2(
        self,
        input_type: str,
        model_name: str,
        *,
        embedding_dimension: int | None = None,
        auto_truncate: bool | None = None,
        embedding_uncertainty: bool | None = None,
        **inputs: Json,
    ) -> Json:
        """Embed text, an image, audio or a short video in one request; the vectors are in `data`.

        Args:
            input_type: text, image, text_image, audio or video (Marengo 3.0); multi_input (Marengo 3.5).
            inputs: one object, named like the input type, such as text={"input_text": "a red car"}.
        """
        body = {"input_type": input_type, "model_name": model_name, **inputs} | given(
            embedding_dimension=embedding_dimension,
            auto_truncate=auto_truncate,
            embedding_uncertainty=embedding_uncertainty,
        )
        category = "embed" if input_type in ("audio", "video") else "embed_text"
        answer = await self.send(
            Request("POST", "/embed-v2", json=body, category=category, repeat=Repeat.ONCE)
        )
        current().model = model_name
        return answer

    @operation("POST /embed-v2/tasks")
    async def create_embed_v2_task(
        self,
        input_type: str,
        model_name: str,
        *,
        embedding_dimension: int | None = None,
        video_minutes: float = 0.0,
        **inputs: Json,
    ) -> Json:
        """Create a task of /embed-v2 for a video, audio, document or image; returns `_id` of the task.

        Raises:
            APIError: if `maybe_done` is set, the task may exist.
        """
        body = {"input_type": input_type, "model_name": model_name, **inputs} | given(
            embedding_dimension=embedding_dimension
        )
        return await self.create(
            Request(
                "POST",
                "/embed-v2/tasks",
                json=body,
                category="embed",
                repeat=Repeat.NEVER,
                video_minutes=video_minutes,
            )
        )

    @operation("GET /embed-v2/tasks")
    def list_embed_v2_tasks(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        started_at: Moment | None = None,
        ended_at: Moment | None = None,
        status: str | None = None,
    ) -> AsyncIterator[Json]:
        """List embedding tasks of /embed-v2 of the last seven days, newest first, without vectors."""
        query = given(
            page=page, page_limit=page_limit, started_at=started_at, ended_at=ended_at, status=status
        )
        return self.pages("/embed-v2/tasks", query)

    @operation("GET /embed-v2/tasks/{task_id}")
    async def retrieve_embed_v2_task(self, task_id: str) -> Json:
        """Retrieve an embedding task of /embed-v2. When it is ready, the vectors are in `data`."""
        return await self.send(Request("GET", path("/embed-v2/tasks/{task_id}", task_id=task_id)))

    @operation("POST /embed/tasks")
    async def create_embed_task(
        self,
        model_name: str,
        *,
        video_url: str | None = None,
        video_file: Path | None = None,
        video_start_offset_sec: float | None = None,
        video_end_offset_sec: float | None = None,
        video_clip_length: float | None = None,
        video_embedding_scope: list[str] | None = None,
        filename: str | None = None,
        on_progress: Progress | None = None,
        video_minutes: float = 0.0,
    ) -> str:
        """Create a task that embeds the clips of a video; returns the id of the task.

        `filename` is the name that lists show for an uploaded file; by default the name of the file.

        Raises:
            APIError: if `maybe_done` is set, the task may exist. Search for it before you retry.
        """
        form = Form(
            given(
                model_name=model_name,
                video_url=media_url(video_url),
                video_start_offset_sec=video_start_offset_sec,
                video_end_offset_sec=video_end_offset_sec,
                video_clip_length=video_clip_length,
                video_embedding_scope=video_embedding_scope,
            ),
            {"video_file": video_file},
            on_progress,
            filename,
        )
        answer = await self.create(
            Request(
                "POST",
                "/embed/tasks",
                form=form,
                category="embed",
                repeat=Repeat.NEVER,
                video_minutes=video_minutes,
            )
        )
        return str(answer["_id"])

    @operation("GET /embed/tasks")
    def list_embed_tasks(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        started_at: Moment | None = None,
        ended_at: Moment | None = None,
        status: str | None = None,
    ) -> AsyncIterator[Json]:
        """List embedding tasks, newest first; by default those of the last seven days."""
        query = given(
            page=page, page_limit=page_limit, started_at=started_at, ended_at=ended_at, status=status
        )
        return self.pages("/embed/tasks", query)

    @operation("GET /embed/tasks/{task_id}")
    async def retrieve_embed_task(self, task_id: str, embedding_option: list[str] | None = None) -> Json:
        """Retrieve an embedding task with its vectors; `embedding_option` selects some of them."""
        query = given(embedding_option=embedding_option)
        return await self.send(Request("GET", path("/embed/tasks/{task_id}", task_id=task_id), query))

    @operation("GET /embed/tasks/{task_id}/status")
    async def embed_task_status(self, task_id: str) -> Json:
        """Retrieve the status of an embedding task, without vectors."""
        return await self.send(Request("GET", path("/embed/tasks/{task_id}/status", task_id=task_id)))
