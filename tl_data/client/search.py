"""/search: search an index by text, image or both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tl_data.client.base import BaseClient
from tl_data.client.multipart import File, Form
from tl_data.client.remote import media_url
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat
from tl_data.errors import BadRequest

PAGE = 50  # the API's maximum number of results on a page


class SearchMethods(BaseClient):
    """/search."""

    @operation("POST /search", "GET /search/{page_token}")
    async def search(
        self,
        index_id: str,
        search_options: list[str],
        *,
        query_text: str | None = None,
        query_media_type: str | None = None,
        query_media_url: str | list[str] | None = None,
        query_media_file: File | list[File] | None = None,
        group_by: str | None = None,
        threshold: str | None = None,
        adjust_confidence_level: float | None = None,
        sort_option: str | None = None,
        operator: str | None = None,
        page_limit: int | None = None,
        filter: Mapping[str, Any] | str | None = None,  # noqa: A002 - the API's own name
        include_user_metadata: bool | None = None,
        transcription_options: list[str] | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Json]:
        """Search an index; yields clips, best first, or with `group_by` videos with their `clips`.

        Pages are requested until `limit` items are read or there are no more. The default of `page_limit` is
        `limit`, at most 50. Only the first page is billed.

        Raises:
            BadRequest: with code `search_page_token_expired`, the next page was requested too late.
        """
        urls = [query_media_url] if isinstance(query_media_url, str) else query_media_url or []
        if query_media_type is None and (urls or query_media_file is not None):
            query_media_type = "image"
        form = Form(
            given(
                index_id=index_id,
                search_options=search_options,
                query_text=query_text,
                query_media_type=query_media_type,
                query_media_url=[media_url(url) for url in urls] or None,
                group_by=group_by,
                threshold=threshold,
                adjust_confidence_level=adjust_confidence_level,
                sort_option=sort_option,
                operator=operator,
                page_limit=min(limit or PAGE, PAGE) if page_limit is None else page_limit,
                filter=dict(filter) if isinstance(filter, Mapping) else filter,
                include_user_metadata=include_user_metadata,
                transcription_options=transcription_options,
            ),
            {"query_media_file": query_media_file},
        )
        item_count = 0
        token: str | None = None
        request = Request("POST", "/search", form=form, category="search", repeat=Repeat.ONCE)
        while True:
            try:
                answer = await self.send(request)
            except BadRequest as error:
                if error.code == "search_page_token_expired" and item_count:
                    error.message += f" {item_count} results were read before."
                raise
            for item in answer.get("data") or []:
                if limit is not None and item_count >= limit:
                    return
                item_count += 1
                yield item
            previous_token, token = token, (answer.get("page_info") or {}).get("next_page_token")
            if not token or token == previous_token or (limit is not None and item_count >= limit):
                return
            query = given(include_user_metadata=include_user_metadata)
            request = Request("GET", path("/search/{page_token}", page_token=token), query, category="search")
