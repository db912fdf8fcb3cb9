"""The engine against the OpenAPI contract: whatever is sent, no 5xx, and every success as it is declared.

`TL_CONTRACT_EXAMPLES` sets how many requests are made up for each operation.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from tests.conftest import Engine
from tests.local.conftest import API

CONTRACT = schemathesis.openapi.from_path(str(Path(__file__).with_name("openapi.yaml")))
EXAMPLES = int(os.environ.get("TL_CONTRACT_EXAMPLES", "4"))


@pytest.fixture(scope="module")
def known(start_engine: Callable[..., Engine], film: Path) -> Iterator[dict[str, str]]:
    """An engine in the contract's reading of the statuses, and ids of things that are there."""
    engine = start_engine("--statuses", "openapi", "--allow-private")
    with API(engine.base_url) as api:
        index_id = api.new_index("contract", addons=["thumbnail"])
        task = api.upload(index_id, film)
        embed = api.form(
            "/embed/tasks", ("model_name", "marengo3.0"), ("video_file", ("a", film.read_bytes()))
        )
        assert api.settled(task["_id"])["status"] == "ready"
        assert api.settled(embed.json()["_id"], "/embed/tasks")["status"] == "ready"
        found = api.form(
            "/search", ("index_id", index_id), ("search_options", "visual"), ("query_text", "Blue ship")
        )
        assert found.json()["data"]
        yield {
            "base_url": engine.base_url,
            "index_id": index_id,
            "video_id": task["video_id"],
            "task_id": task["_id"],
            "embed_task_id": embed.json()["_id"],
        }


def filled(values: Any, known: dict[str, str], path: str) -> None:
    """Put ids that are there into the places of ids, so that more than refusals is seen."""
    if not isinstance(values, dict):
        return
    for name in ("index_id", "video_id", "task_id"):
        if isinstance(values.get(name), str):
            embed = name == "task_id" and path.startswith("/embed")
            values[name] = known["embed_task_id" if embed else name]


@CONTRACT.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_any_request(case: schemathesis.Case, known: dict[str, str]) -> None:
    if case.method != "DELETE":
        filled(case.path_parameters, known, case.path)
        filled(case.body, known, case.path)
    answer = case.call(base_url=known["base_url"], headers={"x-api-key": "any"})
    checks = [not_a_server_error, response_schema_conformance, content_type_conformance]
    case.validate_response(answer, checks=checks)
    declared = set(case.operation.definition.raw["responses"])
    assert answer.status_code >= 400 or str(answer.status_code) in declared
    if answer.status_code >= 400 and not answer.headers.get("allow"):
        assert set(answer.json()) == {"code", "message"}
