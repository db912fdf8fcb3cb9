"""Assets: files that are uploaded once and can be used by indexes, analyses and embeddings."""

from __future__ import annotations

import asyncio
import mimetypes
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

from tl_data.client.base import BaseClient
from tl_data.client.indexes import Moment, Range
from tl_data.client.multipart import FileRange, Form, Progress
from tl_data.client.remote import media_url
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat, with_retries
from tl_data.errors import ConnectionFailed, MediaRefused, ServerFailed
from tl_data.models import MB
from tl_data.urls import redacted

DIRECT = 200 * MB  # the largest file that POST /assets accepts; larger ones need a multipart upload
URLS = 50  # maximum number of presigned URLs in one response
PARTS = 4  # number of parts that are uploaded at the same time, and that one request reports
PART_REFUSED = "upload_part_refused"  # code: the presigned URL of a part was refused


class AssetMethods(BaseClient):
    """/assets, /assets/multipart-uploads and /indexes/{index_id}/indexed-assets."""

    @operation("POST /assets")
    async def create_asset(
        self,
        *,
        url: str | None = None,
        file: Path | None = None,
        filename: str | None = None,
        enable_hls: bool | None = None,
        enable_thumbnail: bool | None = None,
        user_metadata: Mapping[str, Any] | None = None,
        on_progress: Progress | None = None,
    ) -> Json:
        """Upload a file, or let the platform download a URL; returns the asset, which may not be ready yet.

        Raises:
            APIError: if `maybe_done` is set, the asset may exist. Search for its filename before you retry.
            MediaRefused: the file cannot be read, or the API rejected it.
        """
        form = Form(
            given(
                method="url" if file is None else "direct",
                url=media_url(url),
                filename=filename,
                enable_hls=enable_hls,
                enable_thumbnail=enable_thumbnail,
                user_metadata=dict(user_metadata) if user_metadata else None,
            ),
            {"file": file},
            on_progress,
            filename,
        )
        return await self.create(
            Request("POST", "/assets", form=form, category="upload", repeat=Repeat.NEVER)
        )

    @operation("GET /assets")
    def list_assets(
        self,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        asset_ids: list[str] | None = None,
        asset_types: list[str] | None = None,
        filename: str | None = None,
    ) -> AsyncIterator[Json]:
        """List assets, newest first; `filename` matches a part of the name, ignoring case."""
        query = given(
            page=page, page_limit=page_limit, asset_ids=asset_ids, asset_types=asset_types, filename=filename
        )
        return self.pages("/assets", query)

    @operation("GET /assets/{asset_id}")
    async def retrieve_asset(self, asset_id: str) -> Json:
        """Retrieve an asset: `status` is processing, ready or failed."""
        return await self.send(Request("GET", path("/assets/{asset_id}", asset_id=asset_id)))

    @operation("DELETE /assets/{asset_id}")
    async def delete_asset(self, asset_id: str, *, force: bool | None = None) -> None:
        """Delete an asset; with `force` also one that indexes refer to."""
        route = Request("DELETE", path("/assets/{asset_id}", asset_id=asset_id), given(force=force))
        await self.delete(route.target)

    @operation("GET /assets/{asset_id}/transcription")
    async def asset_transcription(self, asset_id: str, include: list[str] | None = None) -> Json:
        """Retrieve the transcription of an asset: `words`, `sentences`, `utterances` (with speakers).

        Raises:
            NotFound: the asset has no speech, or does not exist.
        """
        route = path("/assets/{asset_id}/transcription", asset_id=asset_id)
        return await self.send(Request("GET", route, given(include=include)))

    @operation("PATCH /assets/{asset_id}/user-metadata")
    async def update_asset_metadata(self, asset_id: str, user_metadata: Mapping[str, Any]) -> None:
        """Set keys of an asset's metadata; null deletes a key, other keys are kept."""
        await self.send(Request("PATCH", _metadata(asset_id), json={"user_metadata": dict(user_metadata)}))

    @operation("PUT /assets/{asset_id}/user-metadata")
    async def replace_asset_metadata(self, asset_id: str, user_metadata: Mapping[str, Any]) -> None:
        """Replace an asset's metadata."""
        await self.send(Request("PUT", _metadata(asset_id), json={"user_metadata": dict(user_metadata)}))

    @operation("DELETE /assets/{asset_id}/user-metadata")
    async def delete_asset_metadata(self, asset_id: str) -> None:
        """Delete all of an asset's metadata."""
        await self.delete(_metadata(asset_id))

    # ---- multipart uploads ----------------------------------------------------------------------

    @operation("POST /assets/multipart-uploads")
    async def create_upload(
        self,
        filename: str,
        total_size: int,
        *,
        type: str = "video",  # noqa: A002 - the API's own name
        enable_hls: bool | None = None,
        enable_thumbnail: bool | None = None,
        user_metadata: Mapping[str, Any] | None = None,
    ) -> Json:
        """Create a multipart upload; returns its ids, `chunk_size`, `total_chunks` and first `upload_urls`.

        The ids are `upload_id` and `asset_id`. A chunk is a part of the file; `chunk_size` is in bytes.
        """
        body = given(
            filename=filename,
            type=type,
            total_size=total_size,
            enable_hls=enable_hls,
            enable_thumbnail=enable_thumbnail,
            user_metadata=dict(user_metadata) if user_metadata else None,
        )
        route = "/assets/multipart-uploads"
        return await self.create(
            Request("POST", route, json=body, category="upload", repeat=Repeat.NEVER), "upload_id"
        )

    @operation("GET /assets/multipart-uploads")
    def list_uploads(
        self, *, page: int | None = None, page_limit: int | None = None, status: str | None = None
    ) -> AsyncIterator[Json]:
        """List multipart uploads."""
        return self.pages("/assets/multipart-uploads", given(page=page, page_limit=page_limit, status=status))

    @operation("GET /assets/multipart-uploads/{upload_id}")
    async def retrieve_upload(self, upload_id: str) -> Json:
        """Retrieve a multipart upload: its `status`, and the `uploaded_chunks` of all pages."""
        route = path("/assets/multipart-uploads/{upload_id}", upload_id=upload_id)
        upload: Json = {}
        chunks: list[Json] = []
        for page in range(1, 1000):
            answer = await self.send(Request("GET", route, {"page": page, "page_limit": 50}))
            upload = upload or answer
            page_chunks = answer.get("uploaded_chunks") or []
            chunks += page_chunks
            last = (answer.get("page_info") or {}).get("total_page")
            if not page_chunks or (isinstance(last, int) and page >= last):
                break
        return {**upload, "uploaded_chunks": chunks}

    @operation("POST /assets/multipart-uploads/{upload_id}/presigned-urls")
    async def upload_urls(self, upload_id: str, start: int, count: int) -> list[Json]:
        """Request presigned URLs for `count` parts (at most 50) from part `start`, counted from 1."""
        route = path("/assets/multipart-uploads/{upload_id}/presigned-urls", upload_id=upload_id)
        answer = await self.send(Request("POST", route, json={"start": start, "count": count}))
        return list(answer.get("upload_urls") or [])

    @operation("POST /assets/multipart-uploads/{upload_id}")
    async def report_chunks(self, upload_id: str, completed_chunks: list[Json]) -> Json:
        """Report uploaded parts. Reporting a part again has no effect."""
        route = path("/assets/multipart-uploads/{upload_id}", upload_id=upload_id)
        return await self.send(Request("POST", route, json={"completed_chunks": completed_chunks}))

    async def upload_parts(
        self, file: Path, upload: Mapping[str, Any], *, on_progress: Progress | None = None
    ) -> None:
        """Upload the missing parts of a file, a few at a time, and report them to the platform.

        Args:
            upload: the result of `create_upload`, also of an earlier one: only missing parts are uploaded.

        Raises:
            MediaRefused: the file cannot be read or has another size.
            ConnectionFailed, ServerFailed: a part failed. The platform keeps the other parts for 24 hours.
        """
        upload_id, size = str(upload["upload_id"]), int(upload["chunk_size"])
        total = await asyncio.to_thread(_size, file)
        count = -(-total // size)
        if count != int(upload["total_chunks"]):
            raise MediaRefused(f"{file.name} now has {total} bytes: it has changed since the upload started")
        existing = await self.retrieve_upload(upload_id)
        sent = {
            int(chunk.get("index") or chunk.get("chunk_index") or 0)
            for chunk in existing["uploaded_chunks"]
            if chunk.get("status", "completed") == "completed"
        }
        urls = {int(u["chunk_index"]): str(u["url"]) for u in upload.get("upload_urls") or []}
        missing = [number for number in range(1, count + 1) if number not in sent]
        bytes_sent, slots = sum(_length(n, size, total) for n in sent), asyncio.Semaphore(PARTS)
        unreported: list[Json] = []
        failed = False

        async def report() -> None:
            parts = unreported.copy()
            unreported.clear()
            try:
                await self.report_chunks(upload_id, parts)
            except BaseException:
                unreported.extend(parts)
                raise

        async def new_url(number: int) -> str:
            [url] = await self.upload_urls(upload_id, number, 1)
            return str(url["url"])

        async def upload_part(number: int) -> None:
            nonlocal bytes_sent, failed
            length = _length(number, size, total)
            try:
                async with slots:
                    if failed:
                        return
                    start = (number - 1) * size
                    try:
                        etag = await self._put_part(file, urls[number], start, length)
                    except ConnectionFailed as refused:
                        if refused.code != PART_REFUSED:
                            raise
                        # The URL may have expired while other parts were uploaded.
                        etag = await self._put_part(file, await new_url(number), start, length)
                bytes_sent += length
                if on_progress:
                    on_progress(bytes_sent, total)
                part = {"chunk_index": number, "proof": etag, "proof_type": "etag", "chunk_size": length}
                unreported.append(part)
                if len(unreported) >= PARTS:
                    await report()
            except BaseException:
                failed = True
                raise

        for start in range(0, len(missing), URLS):
            numbers = missing[start : start + URLS]
            if any(number not in urls for number in numbers):
                url_count = min(URLS, numbers[-1] - numbers[0] + 1)
                new_urls = await self.upload_urls(upload_id, numbers[0], url_count)
                urls |= {int(u["chunk_index"]): str(u["url"]) for u in new_urls}
            # If the numbers have gaps, the last ones may be outside of the requested range.
            for number in [number for number in numbers if number not in urls]:
                urls[number] = await new_url(number)
            outcomes = await asyncio.gather(*map(upload_part, numbers), return_exceptions=True)
            if unreported:
                await report()  # also after a failure: reported parts are not uploaded again
            for outcome in outcomes:
                if outcome is not None:
                    raise outcome

    async def _put_part(self, file: Path, url: str, start: int, length: int) -> str:
        """Upload one part to its presigned URL, without the API key; returns the ETag of the response."""

        async def attempt() -> str:
            answer = await self.transport.send("PUT", url, {}, FileRange(file, start, length))
            if answer.status >= 500:
                raise ServerFailed(
                    f"uploading a part failed with HTTP {answer.status}: {redacted(url)}", None, answer.status
                )
            if not 200 <= answer.status < 300:
                text = (
                    f"uploading a part failed with HTTP {answer.status}; its presigned URL may have expired: "
                    f"{redacted(url)}"
                )
                raise ConnectionFailed(text, PART_REFUSED, answer.status)
            return answer.headers.get("etag", "").strip('"')

        return await with_retries(attempt, Repeat.FREELY, self.settings)

    # ---- in indexes -----------------------------------------------------------------------------

    @operation("POST /indexes/{index_id}/indexed-assets")
    async def index_asset(
        self,
        index_id: str,
        asset_id: str,
        *,
        enable_video_stream: bool | None = None,
        user_metadata: Mapping[str, Any] | None = None,
        video_minutes: float = 0.0,
    ) -> Json:
        """Index an asset that is ready; returns the `_id` of the indexed asset.

        Raises:
            APIError: if `maybe_done` is set, it may be indexed. Check `asset_indexes` before you retry.
        """
        body = given(
            asset_id=asset_id,
            enable_video_stream=enable_video_stream,
            user_metadata=dict(user_metadata) if user_metadata else None,
        )
        return await self.create(
            Request(
                "POST",
                path("/indexes/{index_id}/indexed-assets", index_id=index_id),
                json=body,
                category="index",
                repeat=Repeat.NEVER,
                video_minutes=video_minutes,
            )
        )

    @operation("GET /indexes/{index_id}/indexed-assets")
    def list_indexed_assets(
        self,
        index_id: str,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        sort_by: str | None = None,
        sort_option: str | None = None,
        status: list[str] | None = None,
        filename: str | None = None,
        duration: Range | None = None,
        created_at: Moment | None = None,
        updated_at: Moment | None = None,
        user_metadata: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Json]:
        """List the assets of an index, also those that are being indexed."""
        query = given(
            page=page,
            page_limit=page_limit,
            sort_by=sort_by,
            sort_option=sort_option,
            status=status,
            filename=filename,
            duration=duration,
            created_at=created_at,
            updated_at=updated_at,
            user_metadata=user_metadata,
        )
        return self.pages(path("/indexes/{index_id}/indexed-assets", index_id=index_id), query)

    @operation("GET /indexes/{index_id}/indexed-assets/{indexed_asset_id}")
    async def retrieve_indexed_asset(
        self,
        index_id: str,
        indexed_asset_id: str,
        embedding_option: list[str] | None = None,
        transcription: bool | None = None,
    ) -> Json:
        """Retrieve an indexed asset, with its vectors and transcription on request."""
        query = given(embedding_option=embedding_option, transcription=transcription)
        return await self.send(Request("GET", _indexed(index_id, indexed_asset_id), query))

    @operation("PATCH /indexes/{index_id}/indexed-assets/{indexed_asset_id}")
    async def update_indexed_asset(
        self, index_id: str, indexed_asset_id: str, user_metadata: Mapping[str, Any]
    ) -> None:
        """Set keys of an indexed asset's metadata; null deletes a key."""
        route = _indexed(index_id, indexed_asset_id)
        await self.send(Request("PATCH", route, json={"user_metadata": dict(user_metadata)}))

    @operation("DELETE /indexes/{index_id}/indexed-assets/{indexed_asset_id}")
    async def delete_indexed_asset(self, index_id: str, indexed_asset_id: str) -> None:
        """Remove an asset from an index. The asset itself is kept."""
        await self.delete(_indexed(index_id, indexed_asset_id))

    @operation("GET /assets/{asset_id}/indexed-assets")
    def asset_indexes(self, asset_id: str) -> AsyncIterator[Json]:
        """List the indexes that contain an asset: `_id` of the indexed asset, and its `index`."""
        return self.pages(path("/assets/{asset_id}/indexed-assets", asset_id=asset_id), {})


def upload_type(name: str) -> str:
    """The type of a multipart upload, guessed from the file's name."""
    kind = (mimetypes.guess_type(name)[0] or "video/").partition("/")[0]
    return kind if kind in ("audio", "image") else "video"


def _metadata(asset_id: str) -> str:
    return path("/assets/{asset_id}/user-metadata", asset_id=asset_id)


def _indexed(index_id: str, indexed_asset_id: str) -> str:
    return path(
        "/indexes/{index_id}/indexed-assets/{indexed_asset_id}",
        index_id=index_id,
        indexed_asset_id=indexed_asset_id,
    )


def _length(number: int, size: int, total: int) -> int:
    """The length in bytes of a part: `size`, except for the last part."""
    return min(size, total - (number - 1) * size)


def _size(file: Path) -> int:
    try:
        return file.stat().st_size
    except OSError as error:
        raise MediaRefused(f"cannot read {file}: {error.strerror}") from error
