"""Texts from video on accounts of both generations: how they are asked, and that nothing is paid twice."""

from __future__ import annotations

import json

import httpx
import pytest

import tl_data
from tests.profiles.conftest import Account
from tl_data.analysis import Part, TextRequest, TextResult, VideoRef, Window
from tl_data.connection import Connection, connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS, LISTINGS

SCHEMA = '{"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}'


def test_a_url_is_indexed_only_where_the_account_needs_it(account: Account) -> None:
    before = account.requests("POST /tasks", "POST /indexes")
    text = account.call("summarize", video=account.url)
    assert len(text) > 20
    assert account.call("summarize", video=account.url) == text
    indexed = account.requests("POST /tasks", "POST /indexes") - before
    assert indexed == (0 if account.today else 2)


@pytest.mark.parametrize("name", ["chapters", "highlights", "gist", "analyze", "extract"])
def test_every_text_of_a_url(account: Account, name: str) -> None:
    more = {
        "analyze": {"prompt": "Which colors are seen?"},
        "extract": {"prompt": "Find the title.", "json_schema": SCHEMA},
    }.get(name, {})
    value = account.call(name, video=account.url, **more)
    if name in ("chapters", "highlights"):
        assert value
        assert all(0 <= row["start_sec"] < row["end_sec"] <= 8.5 for row in value)
    elif name == "gist":
        assert value["title"] is not None
        assert value["topics"]
    elif name == "extract":
        assert json.loads(value)["title"]
    else:
        assert value
    paid = account.requests("POST /analyze", "POST /analyze/tasks", "POST /gist", "POST /summarize")
    assert account.call(name, video=account.url, **more) == value
    assert account.requests("POST /analyze", "POST /analyze/tasks", "POST /gist", "POST /summarize") == paid


def test_only_the_window_is_analysed_and_billed(account: Account) -> None:
    ask = {"video": account.url, "prompt": "Which colors are seen?", "start_sec": 4.0, "end_sec": 8.0}
    if not account.today:
        with pytest.raises(SchemaMismatch, match="whole videos only"):
            account.call("analyze", **ask)
        return
    [part] = account.connection.map(FUNCTIONS["analyze"], [ask])
    assert part.error is None
    assert part.receipt.video_minutes == pytest.approx(4 / 60)
    assert "green" in part.value.lower()
    for start, end in ((8.0, 4.0), (-1.0, 2.0), (90.0, 95.0), (1.0, 1.5)):
        with pytest.raises(SchemaMismatch):
            account.call("analyze", **(ask | {"start_sec": start, "end_sec": end, "index_id": account.index}))


TEXTS = (
    *("summarize", "chapters", "highlights", "gist", "analyze", "extract", "segments"),
    *("filter", "classify", "score"),
)


def test_every_text_function_takes_a_window(account: Account) -> None:
    assert all({"start_sec", "end_sec"} <= {p.name for p in FUNCTIONS[name].parameters} for name in TEXTS)
    if not account.today:
        pytest.skip("only an account of today has this")
    rows = account.call("chapters", video=account.url, start_sec=4.0, end_sec=8.0)
    assert rows
    assert all(4 <= row["start_sec"] < row["end_sec"] <= 8.5 for row in rows)


def test_an_answer_cut_at_max_tokens_is_kept_and_not_paid_again(account: Account) -> None:
    ask = {"video": account.url, "prompt": "Find the title.", "json_schema": SCHEMA}
    least, most = (512, 98_304) if account.today else (2, 4_096)
    if account.today:  # at 512 tokens and more the engine writes no answer that is cut
        [row] = account.connection.map(FUNCTIONS["extract"], [ask | {"max_tokens": least}])
        assert json.loads(row.value)["title"]
    else:
        before = account.requests("POST /analyze")
        for _ in range(2):
            [row] = account.connection.map(FUNCTIONS["extract"], [ask | {"max_tokens": least}])
            assert row.error is not None
            assert (row.error.code, row.value) == ("answer_truncated", None)
        assert account.requests("POST /analyze") == before + 1
        assert json.loads(account.call("extract", **ask, max_tokens=400))["title"]
        assert account.requests("POST /analyze") == before + 2
    before = account.requests("POST /analyze", "POST /analyze/tasks")
    [row] = account.connection.map(FUNCTIONS["extract"], [ask | {"max_tokens": most + 1}])
    assert row.error is not None
    assert str(most) in str(row.error)
    assert account.requests("POST /analyze", "POST /analyze/tasks") == before


def test_texts_of_a_job_are_one_analysis(account: Account) -> None:
    session = account.connection.session
    record = account.call("index_video", video=account.url, index_id=account.index)
    outputs = ["summary", "title", "topics", "chapters", "highlights"]
    before = account.requests("POST /analyze", "POST /analyze/tasks", "POST /gist", "POST /summarize")

    async def texts() -> dict[str, object]:
        return await session.texts(account.url, outputs, prompts=["For children.", None])

    found = account.run(texts())
    after = account.requests("POST /analyze", "POST /analyze/tasks", "POST /gist", "POST /summarize")
    assert after - before <= (1 if account.today else 4)
    assert found["errors"] == {}
    assert len(found["summaries"]) == 2
    assert all(found["summaries"])
    assert found["title"] is not None
    assert found["chapters"]
    assert found["model"] == ("pegasus1.5" if account.today else "pegasus1.2")
    # SQL asks for the same by the id and pays nothing.
    assert account.call("chapters", video=record["video_id"], index_id=account.index)
    assert account.call("summarize", video=record["video_id"], prompt="For children.", index_id=account.index)
    assert after == account.requests("POST /analyze", "POST /analyze/tasks", "POST /gist", "POST /summarize")


def test_texts_of_listed_videos_need_no_request_for_the_video(account: Account) -> None:
    account.call("index_video", video=account.url, index_id=account.index)
    # A session of its own knows nothing but what the listing shows.
    ledger = str(account.path.parent / f"ledger-of-a-listing-{account.profile}")
    other = connect(account.connection.settings.but(ledger=ledger))
    try:
        batches = other.batches(LISTINGS["videos"], index_id=account.index)
        listed = [row for batch in batches for row in batch.to_pylist()]
        routes = ("GET /indexes/{index_id}/videos/{video_id}", "GET /assets/{asset_id}")
        before = account.requests(*routes)
        asks = [{"video": row["video_id"], "index_id": account.index} for row in listed]
        outcomes = list(other.map(FUNCTIONS["gist"], asks))
    finally:
        other.close()
    assert [outcome.error for outcome in outcomes] == [None] * len(listed)
    assert [o.receipt.video_minutes * 60 for o in outcomes] == pytest.approx(
        [row["duration_sec"] for row in listed], abs=0.01
    )
    assert listed
    assert account.requests(*routes) == before


def test_a_schema_that_the_api_refuses_is_refused_here(account: Account) -> None:
    schema = '{"type": "object", "properties": {"a": {"type": "string", "minLength": 3}}}'
    ask = {"video": account.url, "prompt": "Find a.", "json_schema": schema}
    with pytest.raises(SchemaMismatch, match="/properties/a/minLength"):
        account.call("extract", **ask)


def test_a_file_here_becomes_an_asset_once(account: Account) -> None:
    before = account.requests("POST /assets")
    assert account.call("analyze", video=str(account.path), prompt="What is this?")
    assert account.call("gist", video=str(account.path))["topics"]
    assert account.requests("POST /assets") - before == (1 if account.today else 0)


def test_an_asset_that_is_in_no_index_is_analysed_by_its_id_once(account: Account) -> None:
    if not account.today:
        pytest.skip("an account of 2025 analyzes indexed videos alone")
    session = account.connection.session
    asset = account.run(session.asset(str(account.path)))
    before = account.requests("POST /analyze/tasks")
    answers = [account.call("analyze", video=asset["_id"], prompt="Which exit is it?") for _ in range(2)]
    assert answers[0] == answers[1]
    assert account.requests("POST /analyze/tasks") == before + 1


def test_search_by_all_options_of_the_model(account: Account) -> None:
    account.call("index_video", video=account.url, index_id=account.index)
    hits = account.call("search", index_id=account.index, query_text="emergency exit")
    assert hits
    assert [hit["rank"] for hit in hits] == list(range(1, len(hits) + 1))
    ranked = {hit["score"] is None and hit["confidence"] is None for hit in hits}
    assert ranked == {account.today}
    ask = {"index_id": account.index, "query_text": "exit", "threshold": "medium"}
    if account.today:
        with pytest.raises(SchemaMismatch, match=r"marengo3\.0 ranks hits without scores"):
            account.call("search", **ask)
    else:
        assert isinstance(account.call("search", **ask), list)


def test_vectors_at_once(account: Account) -> None:
    before = {route: account.requests(route) for route in ("POST /embed-v2", "POST /embed")}
    vector = account.call("embed_text", text="a red circle")
    assert len(vector) == (512 if account.today else 1024)
    sent = {route: account.requests(route) - count for route, count in before.items()}
    assert sent == {"POST /embed-v2": int(account.today), "POST /embed": int(not account.today)}


def test_vectors_of_a_video_by_marengo_35(account: Account) -> None:
    if not account.today:
        pytest.skip("only an account of today has this")
    settings = account.connection.settings.but(search_model="marengo3.5")
    connection = Connection(settings)
    try:
        ask = {"video": account.url, "video_clip_length": 4}
        before = account.requests("POST /embed-v2/tasks")
        for _ in range(2):
            rows = connection.call(FUNCTIONS["video_vectors"], **ask)
            assert {(row["start_sec"], row["end_sec"]) for row in rows} == {(0.0, 4.0), (4.0, 8.0)}
            assert {row["embedding_scope"] for row in rows} == {"clip"}
        assert account.requests("POST /embed-v2/tasks") == before + 1
        short = connection.call(FUNCTIONS["embed_text"], text="a circle", embedding_dimension=256)
        assert len(short) == 256
    finally:
        connection.close()


def test_vectors_of_a_video_after_embed_v2_is_withdrawn(account: Account) -> None:
    if not account.today:
        pytest.skip("an account of 2025 has only the older tasks")
    ask = {"video": account.url, "video_clip_length": 4}
    expected = account.call("video_vectors", **ask)
    faults = f"{str(account.connection.settings.base_url).removesuffix('/v1.3')}/_engine/faults"
    ledger = str(account.path.parent / "ledger-without-embed-v2")
    connection = Connection(account.connection.settings.but(ledger=ledger))
    gone = {"kind": "gone", "route": "/embed-v2/tasks", "method": "POST"}
    httpx.put(faults, json={"fault": [gone]}).raise_for_status()
    try:
        before = account.requests("POST /embed/tasks")
        found = [connection.call(FUNCTIONS["video_vectors"], **ask) for _ in range(2)]
        assert account.requests("POST /embed/tasks") == before + 1
    finally:
        httpx.delete(faults).raise_for_status()
        connection.close()

    def by_part(rows: list[dict[str, object]]) -> dict[tuple[object, ...], object]:
        names = ("start_sec", "end_sec", "embedding_scope", "embedding_option")
        return {tuple(row[n] for n in names): row["vector"] for row in rows}

    assert by_part(found[0]) == by_part(found[1])
    assert by_part(found[0]).keys() == by_part(expected).keys()
    for part, vector in by_part(expected).items():
        assert by_part(found[0])[part] == pytest.approx(vector, abs=1e-6)


def test_listings(account: Account) -> None:
    if not account.today:
        pytest.skip("only an account of today has this")
    # The account is shared: other tests analyze without a custom_id, too.
    tasks = tl_data.analyze_tasks(settings=account.connection.settings, video_url=account.url)
    assert tasks
    assert all(task["custom_id"] for task in tasks)
    assets = tl_data.assets(settings=account.connection.settings, filename=account.path.name)
    assert {asset["status"] for asset in assets} == {"ready"}


def test_many_requests_go_together(account: Account) -> None:
    session = account.connection.session
    record = account.call("index_video", video=account.url, index_id=account.index)
    requests = [
        TextRequest(VideoRef.of(record), (Part("analyze", {"prompt": p}, p),), Window())
        for p in ("What is red?", "What is green?", "What is written?")
    ]
    before = account.requests("POST /analyze", "POST /analyze/tasks", "POST /analyze/batches")

    async def many() -> list[TextResult]:
        return await session.analyze_many([*requests, requests[0]])

    results = account.run(many())
    assert all(r.answers[0]["data"] for r in results)
    assert results[0].answers[0]["data"] == results[3].answers[0]["data"]
    asked = account.requests("POST /analyze", "POST /analyze/tasks", "POST /analyze/batches") - before
    assert asked == (1 if account.today else 3)


def test_segments_are_rows(account: Account) -> None:
    definitions = [
        {"id": "shape", "description": "A shape", "fields": [
            {"name": "color", "type": "string", "description": "its color"}]},
        {"id": "text", "description": "Words on the screen", "fields": []},
    ]  # fmt: skip
    ask = {"video": account.url, "definitions": json.dumps(definitions)}
    if not account.today:
        with pytest.raises(SchemaMismatch, match="use Pegasus 1"):
            account.call("segments", **ask)
        return
    [found] = account.connection.map(FUNCTIONS["segments"], [ask])
    assert found.error is None
    assert {row["definition"] for row in found.value} <= {"shape", "text"}
    assert all(0 <= row["start_sec"] < row["end_sec"] <= 8.5 for row in found.value)
    assert all(isinstance(json.loads(row["fields"]), dict) for row in found.value)
    assert found.receipt.video_minutes == pytest.approx(2 * 8 / 60, rel=0.02)
    with pytest.raises(SchemaMismatch, match="definitions/0/description"):
        account.call("segments", video=account.url, definitions='[{"id": "x"}]')
