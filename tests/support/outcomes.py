"""The outcomes of a pool one by one, where a test looks at single rows."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from tl_data.runtime.pool import Pool
from tl_data.runtime.result_cache import Outcome


async def one_by_one(pool: Pool, run: Any, rows: Any, **options: Any) -> AsyncGenerator[Outcome, None]:
    """The outcomes of `pool.chunks`, one at a time."""
    async with aclosing(pool.chunks(run, rows, most=1, **options)) as chunks:
        async for [outcome] in chunks:
            yield outcome
