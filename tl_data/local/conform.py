"""Whether a value that another model gave conforms to a JSON schema of the API's subset.

The check is jsonschema's. Patterns alone are matched by RE2, as everywhere in the engine: they come from
requests, and a hostile one must not take for ever.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from tl_data.local.schema_values import matches


def fault(value: Any, schema: dict[str, Any]) -> str | None:
    """The first thing in a value that breaks the schema, as a sentence; None if it conforms."""
    error = next(_validator()(schema).iter_errors(value), None)
    return None if error is None else f"{error.json_path}: {error.message[:300]}."


@lru_cache(maxsize=1)
def _validator() -> Any:
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(_: Any, given: str, instance: Any, __: Any) -> Iterator[ValidationError]:
        if isinstance(instance, str) and not matches(given, instance):
            yield ValidationError(f"{instance[:80]!r} does not match {given!r}")

    known: Any = extend(Draft202012Validator, {"pattern": pattern})
    return lambda schema: known(schema, format_checker=known.FORMAT_CHECKER)
