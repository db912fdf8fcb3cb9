"""An index of another model: the message has the next step for the service, or for the embedded engine."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.scripted import KEY, Server, say, scripted_server
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.pipeline.model_check import check_index_model
from tl_data.settings import Settings

INDEX = "0123456789abcdef01234567"
ENGINE = {"search_model": "tl-local-9", "analyze_model": "tl-local-9", "dimension": 512}


@pytest.fixture
def server() -> Iterator[Server]:
    with scripted_server() as server:
        yield server


@pytest.mark.parametrize(
    ("tiers", "named", "reindex"),
    [(say(404, {}), "marengo2.7", False), (say(200, ENGINE), "tl-local-9", True)],
    ids=["service", "engine"],
)
def test_the_next_step(server: Server, tiers: object, named: str, reindex: bool) -> None:
    server.tell("GET /_engine/tiers", tiers)
    server.tell(f"GET /indexes/{INDEX}", say(200, {"_id": INDEX, "models": [{"model_name": "marengo2.6"}]}))
    connection = connect(Settings(api_key=KEY, base_url=server.url, timeout=5.0, retries=0, max_wait=5.0))
    try:
        with pytest.raises(SchemaMismatch) as refused:
            connection.run(check_index_model(connection.session, INDEX))
        # The index has no name in this response: the suggested name is made of its id.
        assert f'index = "{INDEX}-{named}"' in str(refused.value)
        assert (f"tl-data reindex {INDEX}" in str(refused.value)) is reindex
        connection.run(check_index_model(connection.session, None))
    finally:
        connection.close()
