"""/indexes: indexes and their videos."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tl_data.client.base import BaseClient
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.errors import BadRequest, NotFound

#: A filter: an exact number, or a range such as {"gte": 5, "lte": 10}.
Range = float | Mapping[str, float]
#: A filter: the earliest time (RFC 3339), or a range such as {"gte": ..., "lte": ...}.
Moment = str | Mapping[str, str]


class IndexMethods(BaseClient):
    """/indexes and the videos of an index."""

    @operation("POST /indexes")
    async def create_index(self, index_name: str, models: list[Json], addons: list[str] | None = None) -> str:
        """Create an index and return its id, or the id of an existing index with this name and these models.

        Raises:
            BadRequest: an index with this name has other models (`index_name_already_exists`).
        """
        body = given(index_name=index_name, models=models, addons=addons)
        try:
            # This call can be retried: names are unique, so a retry cannot create a second index.
            return str((await self.create(Request("POST", "/indexes", json=body)))["_id"])
        except BadRequest as error:
            if error.code != "index_name_already_exists":
                raise
            async for index in self.list_indexes(index_name=index_name):
                if index.get("index_name") == index_name and _models(index["models"]) == _models(models):
                    return str(index["_id"])
            raise

    @operation("GET /indexes")
    def list_indexes(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        sort_by: str | None = None,
        sort_option: str | None = None,
        index_name: str | None = None,
        model_options: list[str] | None = None,
        model_family: str | None = None,
        created_at: Moment | None = None,
        updated_at: Moment | None = None,
    ) -> AsyncIterator[Json]:
        """List the indexes of the account, from `page` to the last page."""
        query = given(
            page=page,
            page_limit=page_limit,
            sort_by=sort_by,
            sort_option=sort_option,
            index_name=index_name,
            model_options=",".join(model_options) if model_options else None,
            model_family=model_family,
            created_at=created_at,
            updated_at=updated_at,
        )
        return self.pages("/indexes", query)

    @operation("GET /indexes/{index_id}")
    async def retrieve_index(self, index_id: str) -> Json:
        """Retrieve an index."""
        return await self.send(Request("GET", path("/indexes/{index_id}", index_id=index_id)))

    @operation("PUT /indexes/{index_id}")
    async def update_index(self, index_id: str, index_name: str) -> None:
        """Rename an index."""
        route = path("/indexes/{index_id}", index_id=index_id)
        await self.send(Request("PUT", route, json={"index_name": index_name}))

    @operation("DELETE /indexes/{index_id}")
    async def delete_index(self, index_id: str) -> None:
        """Delete an index and all its videos."""
        await self.delete(path("/indexes/{index_id}", index_id=index_id))

    @operation("GET /indexes/{index_id}/videos")
    def list_videos(
        self,
        index_id: str,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        sort_by: str | None = None,
        sort_option: str | None = None,
        filename: str | None = None,
        duration: Range | None = None,
        fps: Range | None = None,
        width: Range | None = None,
        height: Range | None = None,
        size: Range | None = None,
        created_at: Moment | None = None,
        updated_at: Moment | None = None,
        filters: Mapping[str, Any] | None = None,
        **user_metadata: Any,
    ) -> AsyncIterator[Json]:
        """List the ready videos of an index; other keyword arguments filter by keys of the user metadata.

        Args:
            filters: further filters, also by keys that are parameters of this method, such as index_id.
        """
        query = dict(filters or {}) | given(
            page=page,
            page_limit=page_limit,
            sort_by=sort_by,
            sort_option=sort_option,
            filename=filename,
            duration=duration,
            fps=fps,
            width=width,
            height=height,
            size=size,
            created_at=created_at,
            updated_at=updated_at,
            **user_metadata,
        )
        return self.pages(path("/indexes/{index_id}/videos", index_id=index_id), query)

    @operation("GET /indexes/{index_id}/videos/{video_id}")
    async def retrieve_video(
        self,
        index_id: str,
        video_id: str,
        embedding_option: list[str] | None = None,
        transcription: bool | None = None,
    ) -> Json:
        """Retrieve a video, with its vectors (`embedding_option`) and `transcription` on request."""
        query = given(embedding_option=embedding_option, transcription=transcription)
        return await self.send(Request("GET", _video(index_id, video_id), query))

    @operation("PATCH /indexes/{index_id}/videos/{video_id}", "PUT /indexes/{index_id}/videos/{video_id}")
    async def update_video(
        self,
        index_id: str,
        video_id: str,
        user_metadata: Mapping[str, Any] | None = None,
        *,
        video_title: str | None = None,
    ) -> None:
        """Set a video's title and keys of its user metadata; null deletes a key, other keys are kept."""
        route = _video(index_id, video_id)
        metadata = None if user_metadata is None else dict(user_metadata)
        body = given(user_metadata=metadata, video_title=video_title)
        if not self.updates_videos_with_put:
            try:
                await self.send(Request("PATCH", route, json=body))
                return
            except (BadRequest, NotFound) as error:
                # Servers before mid-2025 support only PUT. A 404 with another code means: no such video.
                unknown_route = error.http_status == 404 and error.code in (
                    None,
                    "endpoint_not_exists",
                    "404",
                )
                if error.http_status != 405 and not unknown_route:
                    raise
        await self.send(Request("PUT", route, json=body))
        self.updates_videos_with_put = True

    @operation("DELETE /indexes/{index_id}/videos/{video_id}")
    async def delete_video(self, index_id: str, video_id: str) -> None:
        """Delete a video and its vectors."""
        await self.delete(_video(index_id, video_id))


def _models(models: list[Json]) -> set[tuple[str, frozenset[str]]]:
    return {(str(m.get("model_name")), frozenset(m.get("model_options") or ())) for m in models}


def _video(index_id: str, video_id: str) -> str:
    return path("/indexes/{index_id}/videos/{video_id}", index_id=index_id, video_id=video_id)
