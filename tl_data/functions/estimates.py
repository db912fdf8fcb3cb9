"""The price of calls before they are made."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import FUNCTIONS, table
from tl_data.errors import SchemaMismatch
from tl_data.guard import Guard, LocalReservations, prices_for
from tl_data.session import Session
from tl_data.types import COUNT, JSON, NUMBER, TEXT, TEXTS

ESTIMATE = pa.schema(
    [
        ("function_name", TEXT),
        ("distinct_rows", COUNT),
        ("reused", COUNT),
        ("calls", COUNT),
        ("video_minutes", NUMBER),
        ("price", NUMBER),
        ("currency", TEXT),
        ("unknown_length", COUNT),
    ]
)


@table(
    ESTIMATE,
    function_name=TEXT,
    videos=TEXTS,
    arguments=JSON,
    example={"function_name": "summarize", "videos": ["https://example.com/tour.mp4"]},
)
async def estimate(
    tl: Session, function_name: str, videos: list[str], arguments: str | None = None
) -> AsyncIterator[list[dict[str, Any]]]:
    """The maximum cost of calls of a function, as one row. No paid call is made.

    Answers in the ledger are free. Lengths are read from the headers of the files. A video of unknown length
    counts as the longest that the model accepts, and an analysis counts all tokens that it may write.

    Args:
        function_name: name in the catalog, such as summarize or tl_summarize.
        videos: values of the function's first argument other than index_id: videos, texts or images.
        arguments: JSON object of further arguments, such as {"index_id": "demo", "prompt": "..."}.
    """
    f = FUNCTIONS.get(function_name.removeprefix("try_").removeprefix("tl_"))
    if f is None:
        raise SchemaMismatch(f"unknown function {function_name!r}; functions are {', '.join(FUNCTIONS)}")
    try:
        more = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"arguments is not JSON: {error}") from error
    if not isinstance(more, dict):
        raise SchemaMismatch('arguments must be a JSON object, such as {"index_id": "demo"}')
    subject = next(p.name for p in f.parameters if p.required and p.name not in ("index_id", *more))
    distinct = list(dict.fromkeys(video for video in videos or [] if video is not None))
    rows = [{**more, subject: value} for value in distinct]
    for row in rows[:1]:
        f.arguments(row)
    prices = prices_for(tl)
    quote = await Guard(tl, prices, LocalReservations()).quote(f, rows)
    yield [
        {
            "function_name": f.sql,
            "distinct_rows": len(distinct),
            "reused": quote.reused,
            "calls": quote.calls,
            "video_minutes": quote.video_minutes,
            "price": quote.price,
            "currency": prices.currency,
            "unknown_length": quote.unknown,
        }
    ]
