"""Vectors as a route answers them: in the length of the model that was asked, and under its name."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from starlette.responses import JSONResponse

from tl_data.local import models
from tl_data.local.search.dimensions import fitted
from tl_data.local.server.context import Engine

Json = dict[str, Any]
TRUTH = "X-Engine-Model"  # the header that names the model at work


def as_asked(name: str, vector: Sequence[float], dimension: int | None = None) -> list[float]:
    """A vector of the engine's space with as many numbers as the named model has; its own name keeps it."""
    wanted = dimension or models.DIMENSIONS.get(name)
    return list(vector) if wanted is None else fitted(vector, wanted)


def segments_as_asked(name: str, segments: Sequence[Json], dimension: int | None = None) -> list[Json]:
    """The same for segments of a video."""
    return [segment | {"float": as_asked(name, segment["float"], dimension)} for segment in segments]


def answered(engine: Engine, body: Json, status: int = 200) -> JSONResponse:
    """An answer with vectors: which model made them stands in a header and, leniently, in a field."""
    truth = engine.config.tiers.search_model
    if engine.profile.own_fields:
        body = body | {"engine_model": truth}
    return JSONResponse(body, status, {TRUTH: truth})
