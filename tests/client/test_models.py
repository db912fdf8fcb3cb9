"""Which models there are is asked, never guessed: other models would be other keys in the ledger."""

from __future__ import annotations

import socket

import pytest

from tests.support.scripted import Answer, Server, reset, say, too_many
from tl_data.connection import connect
from tl_data.errors import ConnectionFailed, ServerFailed
from tl_data.settings import Settings

TOLD = {"search_model": "s-1", "analyze_model": "a-1", "dimension": 8}


def models(url: str, retries: int) -> tuple[str, str]:
    connection = connect(Settings(base_url=url, retries=retries))
    try:
        return connection.session.search_model, connection.session.analyze_model
    finally:
        connection.close()


def test_an_engine_that_is_just_starting_is_waited_for(server: Server) -> None:
    server.tell("GET /_engine/tiers", say(503), reset, too_many(retry_after="0"), say(200, TOLD))
    assert models(server.url, 3) == ("s-1", "a-1")


@pytest.mark.parametrize(
    ("tasks", "expected"),
    [
        (say(200, {"data": [], "page_info": {"total_page": 0}}), ("marengo3.0", "pegasus1.5")),
        (say(404, {"code": "endpoint_not_exists", "message": "No."}), ("marengo2.7", "pegasus1.2")),
    ],
    ids=["today", "2025"],
)
def test_another_server_has_the_models_of_the_service(
    server: Server, tasks: Answer, expected: tuple[str, str]
) -> None:
    """Whether the account has analysis tasks decides which generation of models it has."""
    server.tell("GET /_engine/tiers", say(404, {"code": "endpoint_not_exists", "message": "No."}))
    server.tell("GET /analyze/tasks", tasks)
    assert models(server.url, 3) == expected


def test_without_an_answer_nothing_begins(server: Server) -> None:
    server.tell("GET /_engine/tiers", say(503))
    with pytest.raises(ServerFailed):
        models(server.url, 0)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"could not connect to 127.0.0.1:{port}"):
        models(f"http://127.0.0.1:{port}/v1.3", 0)
