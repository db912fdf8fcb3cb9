"""User metadata in the form in which one SDK sends it as a filter: the repr of a Python dict."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tl_data.local.server.metadata import LONGEST_REPR, NOT_FLAT, parse_repr

VALUES = st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans()


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(st.text(max_size=8), VALUES, max_size=5))
def test_what_python_writes_is_read_back(metadata: dict[str, object]) -> None:
    read = parse_repr(repr(metadata))
    assert read == metadata
    assert [type(value) for value in read.values()] == [type(value) for value in metadata.values()]


@pytest.mark.parametrize(
    "text",
    [
        *("", "{", "[]", "open('x')", "{'a': None}", "{'a': [1]}", "{'a': {'b': 1}}", "{1: 2}"),
        *("{'a': 1 'b': 2}", "{'a': 1j}", "{'a': nan}", "{'a': 1 if 1 else 2}", "{**{}}", "{'a'}"),
        *("{'a': 'b' 'c'}", "{'\\U99999999': 1}", "{'\\U00110000': 1}", "{" * 5000),
        *("{'a': " + "-" * 9000 + "1}", "{'a': " + "9" * 5000 + "}", "{'a': '" + "b" * LONGEST_REPR + "'}"),
    ],
)
def test_everything_else_is_refused(text: str) -> None:
    begun = time.process_time()
    with pytest.raises(ValueError, match=NOT_FLAT):
        parse_repr(text)
    assert time.process_time() - begun < 1
