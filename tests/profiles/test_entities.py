"""Entities, from pictures to a table of entity and clip: by the client, in SQL and by a command."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account
from tl_data.client import Client
from tl_data.demo.scene import Scene, painter
from tl_data.errors import BadRequest, NotFound

RED = Scene(4, "Emergency exit", "Follow the green sign", background="black", shape="circle", color="red")
GREEN = Scene(4, "Helmet and gloves", "Required in hall 4", background="sand", shape="square", color="green")
NOWHERE = "0123456789abcdef01234567"


@pytest.fixture(scope="module")
def people(account: Account, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Any]]:
    """A collection with two entities, each of one picture: `red` and `green` look like one scene each."""
    if not account.today:
        yield {}
        return
    account.call("index_video", video=account.url, index_id=account.index)
    folder = tmp_path_factory.mktemp("pictures")
    made: dict[str, Any] = account.run(_made(account.connection.session.client, folder))
    yield made
    account.run(account.connection.session.client.delete_entity_collection(made["collection"]))


async def _made(client: Client, folder: Path) -> dict[str, Any]:
    from PIL import Image

    collection = str((await client.create_entity_collection("signs", "two signs"))["_id"])
    made: dict[str, Any] = {"collection": collection}
    for name, scene in (("red", RED), ("green", GREEN)):
        file = folder / f"{name}.png"
        Image.fromarray(painter(scene, 480, 360)(0.5)).save(file)
        asset = await client.create_asset(file=file)
        await _until_ready(client.retrieve_asset, asset["_id"])
        made[f"{name} asset"] = asset["_id"]
        entity = await client.create_entity(collection, name, [asset["_id"]], metadata={"hall": 4})
        assert entity["status"] == "processing"
        await _until_ready(client.retrieve_entity, collection, entity["_id"])
        made[name] = entity["_id"]
    return made


async def _until_ready(retrieve: Callable[..., Any], *ids: str) -> None:
    for _ in range(400):
        if (await retrieve(*ids))["status"] == "ready":
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"{ids} is not ready")


def test_the_client_makes_changes_and_lists_entities(account: Account, people: dict[str, Any]) -> None:
    client = account.connection.session.client

    async def listed() -> list[dict[str, Any]]:
        return [one async for one in client.list_entity_collections()]

    if not account.today:
        with pytest.raises(NotFound) as refused:
            account.run(listed())
        assert refused.value.code == "endpoint_not_exists"
        return
    collection, red = people["collection"], people["red"]

    async def use() -> None:
        assert collection in [one["_id"] for one in await listed()]
        renamed = await client.update_entity_collection(collection, name="exit signs")
        assert renamed["name"] == "exit signs"
        assert (await client.retrieve_entity_collection(collection))["description"] == "two signs"
        changed = await client.update_entity(collection, red, description="a circle", metadata={"seen": True})
        assert (changed["description"], changed["metadata"]) == ("a circle", {"seen": True})
        assert [e["_id"] async for e in client.list_entities(collection, name="green")] == [people["green"]]
        assert [e["_id"] async for e in client.asset_entities(people["red asset"])] == [red]
        both = await client.add_entity_assets(collection, red, [people["green asset"]])
        assert (both["asset_ids"], both["status"]) == (
            [people["red asset"], people["green asset"]],
            "processing",
        )
        one = await client.remove_entity_assets(collection, red, [people["green asset"]])
        assert one["asset_ids"] == [people["red asset"]]
        with pytest.raises(BadRequest):  # the last picture stays
            await client.remove_entity_assets(collection, red, [people["red asset"]])
        many = await client.create_entities(
            collection,
            [
                {"name": "nobody", "asset_ids": [NOWHERE]},
                {"name": "twin", "asset_ids": [people["red asset"]]},
            ],
        )
        assert (many["success_count"], many["failed_count"]) == (1, 1)
        assert (many["errors"][0]["entity_index"], many["errors"][0]["entity_name"]) == (0, "nobody")
        await client.delete_entity(collection, many["entities"][0]["_id"])
        await _until_ready(client.retrieve_entity, collection, red)

    account.run(use())


def test_a_table_of_entity_and_clip_in_sql(account: Account, people: dict[str, Any]) -> None:
    if not account.today:
        pytest.skip("an account of 2025 has no entities")
    with duckdb.connect() as con:
        tl_data.register(con, account.connection.settings)
        rows = con.execute(
            "SELECT e.name, e.entity_id, e.status, c.rank, c.start_sec, c.end_sec, c.score "
            "FROM tl_entities(collection_id => ?) e, "
            "LATERAL tl_search(?, '<@' || e.entity_id || '>', search_options => ['visual']) c "
            "ORDER BY e.name, c.rank",
            [people["collection"], account.index],
        ).fetchall()
    assert {(name, entity) for name, entity, *_ in rows} == {
        ("green", people["green"]),
        ("red", people["red"]),
    }
    best = {name: (start, end, score) for name, _, _, rank, start, end, score in rows if rank == 1}
    assert best["red"][:2] == (pytest.approx(0, abs=0.3), pytest.approx(4, abs=0.3))
    assert best["green"][:2] == (pytest.approx(4, abs=0.3), pytest.approx(8, abs=0.3))
    assert {score for _, _, score in best.values()} == {None}  # ranked, never scored
    words = account.call("search", index_id=account.index, query_text=f"<@{people['red']}> and a circle")
    assert words[0]["start_sec"] < 4
    with pytest.raises(NotFound):
        account.call("search", index_id=account.index, query_text=f"<@{NOWHERE}>")


def test_the_command_lists_entities(account: Account, people: dict[str, Any], tmp_path: Path) -> None:
    if not account.today:
        pytest.skip("an account of 2025 has no entities")
    settings = account.connection.settings
    given = {"TL_API_KEY": settings.api_key, "TL_BASE_URL": settings.base_url, "TL_HOME": str(tmp_path)}
    command = [sys.executable, "-m", "tl_data", "entities", "--collection-id", people["collection"], "--json"]
    environment = os.environ | {name: str(value) for name, value in given.items()}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    rows = {row["name"]: row for row in json.loads(ended.stdout)}
    assert rows["green"]["entity_id"] == people["green"]
    assert rows["green"]["asset_ids"] == [people["green asset"]]
    assert json.loads(rows["green"]["metadata"]) == {"hall": 4}
    assert {row["status"] for row in rows.values()} == {"ready"}
