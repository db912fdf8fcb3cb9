"""The price of calls before they are made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pyarrow as pa

from tl_data.catalog import Function, find_function, listing
from tl_data.errors import SchemaMismatch
from tl_data.guard import Guard, LocalReservations, prices_for
from tl_data.prefilter import prefilter_of
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
        ("prefilter_calls_min", COUNT),
        ("prefilter_calls", COUNT),
        ("prefilter_price_min", NUMBER),
        ("prefilter_price", NUMBER),
    ]
)


@listing(
    ESTIMATE,
    function_name=TEXT,
    videos=TEXTS,
    arguments=JSON,
    moments=JSON,
    example={"function_name": "summarize", "videos": ["https://example.com/tour.mp4"]},
)
async def estimate(
    tl: Session,
    function_name: str,
    videos: list[str],
    arguments: str | None = None,
    moments: str | None = None,
) -> AsyncIterator[list[dict[str, Any]]]:
    """The maximum cost of calls of a function, as one row. No paid call is made.

    Answers in the ledger are free. Lengths are read from the headers of the files. A video of unknown length
    counts as the longest that the model accepts, and an analysis counts all tokens that it may write.

    For tl_filter with vectors in `moments` there are two prices: `price` without the vectors, and
    `prefilter_price` with them. Before the condition is calibrated, it is unknown how many clips are decided
    without a call: `prefilter_price_min` is the price of the calibration alone. Afterwards both are equal.
    Without vectors the four columns are NULL.

    Args:
        function_name: name in the catalog, such as summarize or tl_summarize.
        videos: values of the function's first argument other than index_id: videos, texts or images.
        arguments: JSON object of further arguments, such as {"index_id": "demo", "prompt": "..."}.
        moments: JSON list of objects with further arguments of each value of videos, in the same order, such
            as [{"start_sec": 0, "end_sec": 6, "vector": [0.1, 0.2]}].
    """
    f = find_function(function_name.removeprefix("try_").removeprefix("tl_"))
    try:
        more = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"arguments is not JSON: {error}") from error
    if not isinstance(more, dict):
        raise SchemaMismatch('arguments must be a JSON object, such as {"index_id": "demo"}')
    subject = next(p.name for p in f.parameters if p.required and p.name not in ("index_id", *more))
    rows = _distinct(
        [
            {**more, **moment, subject: video}
            for video, moment in zip(videos or [], _moments(moments, len(videos or [])), strict=True)
            if video is not None
        ]
    )
    for row in rows if moments else rows[:1]:  # without moments, the rows differ in the subject alone
        f.arguments(row)
    prices = prices_for(tl)
    guard = Guard(tl, prices, LocalReservations())
    quote = await guard.quote(f, [{**row, "vector": None} for row in rows] if f.prefiltered else rows)
    yield [
        {
            "function_name": f.sql,
            "distinct_rows": len(rows),
            "reused": quote.reused,
            "calls": quote.calls,
            "video_minutes": quote.video_minutes,
            "price": quote.price,
            "currency": prices.currency,
            "unknown_length": quote.unknown,
            **await _prefiltered(tl, guard, f, rows),
        }
    ]


async def _prefiltered(tl: Session, guard: Guard, f: Function, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The least and the largest calls and price with the vectors of the rows; {} without vectors."""
    if f.prefiltered is None or all(row.get("vector") is None for row in rows):
        return {}
    conditions, answers = await guard.quotes(f, rows)
    quotes = [*conditions, *answers]
    least, sampled = list(conditions), Counter[str]()
    for row, quote in zip(rows, answers, strict=True):
        condition = str(row.get(f.prefiltered) or "").strip()
        calibration = prefilter_of(tl, condition).calibration
        if row.get("vector") is None or calibration.thresholds is not None:
            least.append(quote)
        elif quote.calls and sampled[condition] < calibration.missing:
            sampled[condition] += 1
            least.append(quote)
    return {
        "prefilter_calls_min": sum(quote.calls for quote in least),
        "prefilter_calls": sum(quote.calls for quote in quotes),
        "prefilter_price_min": math.fsum(quote.price for quote in least),
        "prefilter_price": math.fsum(quote.price for quote in quotes),
    }


def _moments(moments: str | None, count: int) -> list[dict[str, Any]]:
    """The arguments of each video.

    Raises:
        SchemaMismatch: not a JSON list of objects, or not one per video.
    """
    if moments is None:
        return [{}] * count
    try:
        parsed = orjson.loads(moments)
    except orjson.JSONDecodeError as error:
        raise SchemaMismatch(f"moments is not JSON: {error}") from error
    if not isinstance(parsed, list) or not all(isinstance(moment, dict) for moment in parsed):
        raise SchemaMismatch('moments must be a JSON list of objects, such as [{"start_sec": 0}]')
    if len(parsed) != count:
        raise SchemaMismatch(f"moments has {len(parsed)} values, and videos has {count}")
    return parsed


def _distinct(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without repetitions, in order."""
    return list({orjson.dumps(row, option=orjson.OPT_SORT_KEYS): row for row in rows}.values())
