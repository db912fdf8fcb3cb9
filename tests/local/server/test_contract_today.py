"""The service of today against its contract: whatever is sent, no 5xx and no undeclared success.

The contract is reduced to the operations that the engine has. `TL_CONTRACT_EXAMPLES` sets how many requests
are made up for each.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings

from tests.conftest import Engine
from tests.local.conftest import API

CONTRACT = schemathesis.openapi.from_path(str(Path(__file__).with_name("openapi-today.yaml")))
EXAMPLES = int(os.environ.get("TL_CONTRACT_EXAMPLES", "1"))


@pytest.fixture(scope="module")
def known(today: Engine) -> dict[str, str]:
    """Ids of things that are there: an empty index, a collection of entities."""
    with API(today.base_url) as api:
        models = [{"model_name": "marengo3.0", "model_options": ["visual"]}]
        collection = api.post("/entity-collections", json={"name": "contract"}).json()["_id"]
        return {"index_id": api.new_index("contract", models), "entity_collection_id": collection}


@CONTRACT.parametrize()
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_any_request(case: schemathesis.Case, today: Engine, known: dict[str, str]) -> None:
    if case.method != "DELETE":
        for values in (case.path_parameters, case.body):
            for name, value in known.items():
                if isinstance(values, dict) and isinstance(values.get(name), str):
                    values[name] = value
    answer = case.call(base_url=today.base_url, headers={"x-api-key": "any"})
    assert answer.status_code < 500 or refused_as_not_built(answer), answer.text
    if answer.status_code >= 400:
        body: Any = answer.json()
        body = body.get("error", body)
        assert set(body) == {"code", "message"}
    else:
        assert answer.status_code in (200, 201, 202, 204)


def refused_as_not_built(answer: Any) -> bool:
    """501 for a part of an endpoint that the engine says it has not."""
    return bool(answer.status_code == 501 and answer.json()["code"] == "not_supported")
