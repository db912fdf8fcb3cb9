"""Which schemas the client refuses before the request, compared with an account of today."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Engine
from tl_data.client.schema import check_schema, read_json
from tl_data.errors import SchemaMismatch

TIME: dict[str, Any] = {"type": "timestamp", "format": "seconds"}


def obj(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "properties": {"a": inner}}


def array(inner: dict[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": inner}


Refusal = Callable[[dict[str, Any]], str]


@pytest.fixture
def refusal(today: Engine) -> Refusal:
    """Gives the API's refusal of an analysis with this schema, of a video that does not exist."""

    def message(schema: dict[str, Any]) -> str:
        body = {
            "model_name": "pegasus1.5",
            "prompt": "When?",
            "video": {"type": "url", "url": "http://127.0.0.1:9/absent.mp4"},
            "response_format": {"type": "json_schema", "json_schema": schema},
        }
        response = httpx.post(f"{today.base_url}/analyze", json=body, headers={"x-api-key": "tlk_A0KEY"})
        assert response.is_client_error, response.text
        return str(response.json()["message"])

    return message


ALLOWED = [obj(TIME), obj(array(TIME)), array(obj(TIME)), array(obj(array(TIME))), obj(array(obj(TIME)))]
#: Schemas with a timestamp in the wrong place, and the JSON pointer of the timestamp.
REFUSED = [
    (obj(obj(TIME)), "/properties/a/properties/a"),
    (array(TIME), "/items"),
    (obj(array(array(TIME))), "/properties/a/items/items"),
    (array(array(obj(TIME))), "/items/items/properties/a"),
    (obj(array(obj(array(TIME)))), "/properties/a/items/properties/a/items"),
    (obj(obj({"anyOf": [{"type": "null"}, TIME]})), "/properties/a/properties/a/anyOf/1"),
]


@pytest.mark.parametrize("schema", ALLOWED)
def test_a_timestamp_is_allowed_where_the_api_allows_it(schema: dict[str, Any], refusal: Refusal) -> None:
    assert "timestamp" not in refusal(schema), "the video is refused, not the schema"
    check_schema(schema)


def test_a_choice_does_not_change_the_place_of_a_timestamp(refusal: Refusal) -> None:
    schema = obj(array(obj({"anyOf": [{"type": "null"}, TIME]})))
    assert "timestamp" not in refusal(schema)
    check_schema(schema)


@pytest.mark.parametrize(("schema", "pointer"), REFUSED)
def test_a_timestamp_elsewhere_is_refused_with_its_pointer(
    schema: dict[str, Any], pointer: str, refusal: Refusal
) -> None:
    assert "timestamp" in refusal(schema)
    with pytest.raises(SchemaMismatch) as raised:
        check_schema(schema)
    assert str(raised.value).startswith(f"json_schema{pointer}: ")


def test_a_problem_of_the_root_has_an_empty_pointer() -> None:
    with pytest.raises(SchemaMismatch) as raised:
        check_schema([])
    assert str(raised.value).startswith("json_schema: ")


@pytest.mark.parametrize("word", ["$comment", "$comments"])
def test_both_spellings_of_comments_are_allowed(word: str) -> None:
    check_schema(obj({"type": "string", word: "for readers"}))


@pytest.mark.parametrize("text", ['{"a": 1}', '\n\n{"a": 1} Done.', '```json\n{"a": 1}\n```'])
def test_json_is_read_from_what_surrounds_it(text: str) -> None:
    assert read_json(text) == ({"a": 1}, '{"a": 1}')
