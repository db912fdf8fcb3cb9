"""/entity-collections: entities, such as people, defined by images. `<@id>` in a query text refers to one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any

from tl_data.client.base import BaseClient
from tl_data.client.request import Json, Request, given, operation, path
from tl_data.client.retry import Repeat

Scalar = str | int | float | bool


class EntityMethods(BaseClient):
    """/entity-collections."""

    @operation("POST /entity-collections")
    async def create_entity_collection(self, name: str, description: str | None = None) -> Json:
        """Create a collection of entities."""
        body = given(name=name, description=description)
        return await self.create(Request("POST", "/entity-collections", json=body, repeat=Repeat.NEVER))

    @operation("GET /entity-collections")
    def list_entity_collections(
        self, *, page: int | None = None, page_limit: int | None = None, name: str | None = None
    ) -> AsyncIterator[Json]:
        """List the collections of the account."""
        return self.pages("/entity-collections", given(page=page, page_limit=page_limit, name=name))

    @operation("GET /entity-collections/{entity_collection_id}")
    async def retrieve_entity_collection(self, entity_collection_id: str) -> Json:
        """Retrieve a collection."""
        return await self.send(Request("GET", _collection(entity_collection_id)))

    @operation("PATCH /entity-collections/{entity_collection_id}")
    async def update_entity_collection(
        self, entity_collection_id: str, *, name: str | None = None, description: str | None = None
    ) -> Json:
        """Change the name or the description of a collection."""
        body = given(name=name, description=description)
        return await self.send(Request("PATCH", _collection(entity_collection_id), json=body))

    @operation("DELETE /entity-collections/{entity_collection_id}")
    async def delete_entity_collection(self, entity_collection_id: str) -> None:
        """Delete a collection and its entities."""
        await self.delete(_collection(entity_collection_id))

    @operation("POST /entity-collections/{entity_collection_id}/entities")
    async def create_entity(
        self,
        entity_collection_id: str,
        name: str,
        asset_ids: list[str],
        *,
        description: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Json:
        """Create an entity from one or more images; its status is `processing` at first."""
        body = given(
            name=name,
            asset_ids=asset_ids,
            description=description,
            metadata=dict(metadata) if metadata else None,
        )
        route = f"{_collection(entity_collection_id)}/entities"
        return await self.create(Request("POST", route, json=body, repeat=Repeat.NEVER))

    @operation("POST /entity-collections/{entity_collection_id}/entities/bulk")
    async def create_entities(self, entity_collection_id: str, entities: list[Mapping[str, Any]]) -> Json:
        """Create many entities. Failures do not stop the others.

        Args:
            entities: each has `name` and `asset_ids`, and may have `description` and `metadata`.

        Returns:
            `success_count`, `entities`, `failed_count`, and `errors` with `entity_index` and `error_reason`.
        """
        route = f"{_collection(entity_collection_id)}/entities/bulk"
        body = {"entities": [dict(entity) for entity in entities]}
        return await self.send(Request("POST", route, json=body, repeat=Repeat.NEVER))

    @operation("GET /entity-collections/{entity_collection_id}/entities")
    def list_entities(
        self,
        entity_collection_id: str,
        *,
        page: int | None = None,
        page_limit: int | None = None,
        name: str | None = None,
        status: str | None = None,
        sort_by: str | None = None,
        sort_option: str | None = None,
    ) -> AsyncIterator[Json]:
        """List the entities of a collection.

        Args:
            sort_by: created_at, updated_at or name.
            sort_option: desc (default) or asc.
        """
        query = given(
            page=page,
            page_limit=page_limit,
            name=name,
            status=status,
            sort_by=sort_by,
            sort_option=sort_option,
        )
        return self.pages(f"{_collection(entity_collection_id)}/entities", query)

    @operation("GET /entity-collections/{entity_collection_id}/entities/{entity_id}")
    async def retrieve_entity(self, entity_collection_id: str, entity_id: str) -> Json:
        """Retrieve an entity: `status` is processing or ready."""
        return await self.send(Request("GET", _entity(entity_collection_id, entity_id)))

    @operation("PATCH /entity-collections/{entity_collection_id}/entities/{entity_id}")
    async def update_entity(
        self,
        entity_collection_id: str,
        entity_id: str,
        *,
        name: str | None = None,
        description: str | None = None,
        metadata: Mapping[str, Scalar] | None = None,
    ) -> Json:
        """Update an entity; `metadata` replaces all existing metadata."""
        body = given(
            name=name, description=description, metadata=None if metadata is None else dict(metadata)
        )
        return await self.send(Request("PATCH", _entity(entity_collection_id, entity_id), json=body))

    @operation("DELETE /entity-collections/{entity_collection_id}/entities/{entity_id}")
    async def delete_entity(self, entity_collection_id: str, entity_id: str) -> None:
        """Delete an entity. Its images are kept."""
        await self.delete(_entity(entity_collection_id, entity_id))

    @operation("POST /entity-collections/{entity_collection_id}/entities/{entity_id}/assets")
    async def add_entity_assets(
        self, entity_collection_id: str, entity_id: str, asset_ids: list[str]
    ) -> Json:
        """Add images to an entity. Its status is `processing` until the images are processed."""
        route = f"{_entity(entity_collection_id, entity_id)}/assets"
        return await self.send(Request("POST", route, json={"asset_ids": asset_ids}))

    @operation("DELETE /entity-collections/{entity_collection_id}/entities/{entity_id}/assets")
    async def remove_entity_assets(
        self, entity_collection_id: str, entity_id: str, asset_ids: list[str]
    ) -> Json:
        """Remove images from an entity. The last image cannot be removed."""
        route = f"{_entity(entity_collection_id, entity_id)}/assets"
        return await self.send(Request("DELETE", route, json={"asset_ids": asset_ids}))

    @operation("GET /assets/{asset_id}/entities")
    def asset_entities(self, asset_id: str) -> AsyncIterator[Json]:
        """List the entities that use an image."""
        return self.pages(path("/assets/{asset_id}/entities", asset_id=asset_id), {})


def _collection(entity_collection_id: str) -> str:
    return path("/entity-collections/{entity_collection_id}", entity_collection_id=entity_collection_id)


def _entity(entity_collection_id: str, entity_id: str) -> str:
    return path(
        "/entity-collections/{entity_collection_id}/entities/{entity_id}",
        entity_collection_id=entity_collection_id,
        entity_id=entity_id,
    )
