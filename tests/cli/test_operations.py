"""The table of operations has every operation of the service and every route of the engine."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest
from starlette.routing import Route

from tests.conftest import Engine
from tl_data.cli import operations
from tl_data.client import OPERATIONS
from tl_data.local.server.app import API_ROUTES

SERVICE = (Path(__file__).parent.parent / "data" / "operations-today.txt").read_text().splitlines()
LEFT_OUT = [route for routes in operations.LEFT_OUT.values() for route in routes]
BUILT = {operation.route for operation in OPERATIONS}


def test_every_operation_of_the_service_of_today_stands_in_the_table() -> None:
    assert len(SERVICE) == 99
    assert set(SERVICE) - BUILT == set(LEFT_OUT)
    older = {route for route in BUILT if operations.accounts_of(route) == "2025"}
    # PUT of a video is in the texts of the service and in older SDKs, not in its newest description.
    assert BUILT - set(SERVICE) == older | {"PUT /indexes/{index_id}/videos/{video_id}"}
    page = operations.operations()
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith(("| `", "- `"))}
    assert rows == {*SERVICE, *older, *operations.SERVED, "PUT /indexes/{index_id}/videos/{video_id}"}


def test_every_route_of_the_engine_stands_in_the_table() -> None:
    served = {
        f"{method} {route.path}"
        for route in API_ROUTES
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    assert served == BUILT | set(operations.SERVED)


def test_a_method_that_no_function_calls_says_who_does() -> None:
    called = set().union(*operations.CALLS.values())
    methods = {operation.method for operation in OPERATIONS}
    assert set(operations.OTHER_CALLERS) == methods - called


@pytest.mark.parametrize("route", LEFT_OUT)
def test_omitted_operations_are_not_supported(today: Engine, route: str) -> None:
    method, path = route.split(" ")
    answer = httpx.request(method, today.base_url + path.replace("{", "").replace("}", ""))
    assert (answer.status_code, answer.json()["code"]) == (501, "not_supported")


def test_the_sdks_carry_out_nothing_that_is_not_in_the_table() -> None:
    for routes in (*operations.SDKS.values(), *operations.SDKS_TODAY.values()):
        assert routes <= BUILT | set(operations.SERVED)
