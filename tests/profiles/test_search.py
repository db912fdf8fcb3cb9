"""Searches on accounts of both generations: options, pictures, pages, and what a model would ignore."""

from __future__ import annotations

from pathlib import Path

import duckdb
import pytest

import tl_data
from tests.profiles.conftest import Account
from tl_data.demo.scene import Scene, painter
from tl_data.errors import BadRequest, SchemaMismatch

RED = Scene(4, "Emergency exit", "Follow the green sign", background="black", shape="circle", color="red")


@pytest.fixture(scope="module")
def indexed(account: Account) -> str:
    """The name of an index with the one video."""
    account.call("index_video", video=account.url, index_id=account.index)
    return account.index


@pytest.fixture(scope="module")
def picture(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The first scene of the video."""
    from PIL import Image

    path: Path = tmp_path_factory.mktemp("picture") / "red.png"
    Image.fromarray(painter(RED, 480, 360)(0.5)).save(path)
    return str(path)


def test_speech_is_an_option_of_its_own_today(account: Account, indexed: str) -> None:
    ask = {"index_id": indexed, "query_text": "exit", "search_options": ["visual", "transcription"]}
    if account.today:
        assert account.call("search", **ask, transcription_options=["lexical", "semantic"])
    else:
        with pytest.raises(BadRequest) as refused:
            account.call("search", **ask)
        assert refused.value.code == "search_option_not_supported"
    before = account.requests("POST /search")
    with pytest.raises(SchemaMismatch, match="transcription_options needs `transcription`"):
        account.call("search", **(ask | {"search_options": ["visual"]}), transcription_options=["lexical"])
    assert account.requests("POST /search") == before


def test_pictures_are_as_many_as_the_model_takes(account: Account, indexed: str, picture: str) -> None:
    most = 10 if account.today else 1
    more = [picture] * (most - 1)
    text = {"query_text": "a red circle"} if account.today else {}
    hits = account.call("search_by_image", index_id=indexed, image=picture, images=more or None, **text)
    assert hits[0]["start_sec"] < 4
    before = account.requests("POST /search")
    with pytest.raises(SchemaMismatch, match=rf"{most + 1} pictures are given"):
        account.call("search_by_image", index_id=indexed, image=picture, images=[*more, picture])
    assert account.requests("POST /search") == before


def test_later_pages_are_free_and_give_the_same_rows(account: Account, indexed: str) -> None:
    ask = {"index_id": indexed, "query_text": "emergency exit or helmet and gloves", "max_hits": 9}
    whole = account.call("search", **ask)
    assert len(whole) >= 2
    before = account.requests("POST /search"), account.requests("GET /search/{page_token}")
    paged = account.call("search", **ask, page_limit=1)
    assert [(h["start_sec"], h["end_sec"], h["rank"]) for h in paged] == [
        (h["start_sec"], h["end_sec"], h["rank"]) for h in whole
    ]
    assert account.requests("POST /search") == before[0] + 1
    assert account.requests("GET /search/{page_token}") == before[1] + len(whole) - 1


@pytest.mark.parametrize("option", ["threshold => 'medium'", "adjust_confidence_level => 0.5"])
def test_sql_refuses_what_the_model_ignores(account: Account, indexed: str, option: str) -> None:
    statement = f"SELECT * FROM tl_search(?, 'exit', {option})"
    before = account.requests("POST /search")
    with duckdb.connect() as con:
        tl_data.register(con, account.connection.settings)
        if account.today:
            with pytest.raises(duckdb.Error, match=r"marengo3\.0 ranks hits without scores and ignores"):
                con.execute(statement, [indexed])
        else:
            con.execute(statement, [indexed]).fetchall()
    assert account.requests("POST /search") - before == (0 if account.today else 1)
