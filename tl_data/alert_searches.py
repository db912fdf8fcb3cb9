"""The searches of saved questions, each paid once: a run that is killed leaves its answers to the next one.

They are kept in the ledger for a week, which is longer than anybody waits to start a killed run again; after
that the table `asked` is what says which questions were asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson

from tl_data import catalog
from tl_data.errors import BadRequest, TLDataError
from tl_data.jobs import Alerts
from tl_data.records import BILLED_KEEP, Call
from tl_data.session import Session

Json = dict[str, Any]

SCOPE = "alerts"
GONE = "search_video_not_in_same_index"  # a video of the tables is no longer in its index


class _Refused(TLDataError):
    """A search that the API refused: nothing is kept of it, and the next run asks again."""

    retryable = True

    def __init__(self, cause: BadRequest) -> None:
        super().__init__(str(cause))
        self.cause = cause


class Searches:
    """The best clips of given videos, for given questions."""

    def __init__(self, session: Session, alerts: Alerts) -> None:
        self._session, self._alerts = session, alerts
        self._search = catalog.FUNCTIONS["search"]

    async def known(self, index_id: str, question: str, ids: Sequence[str]) -> bool:
        """Whether the search was paid for by a run that could not tell of it."""
        entry = await self._session.ledger.get(self._call(self._given(index_id, question, ids)))
        return entry is not None and entry.state == "done"

    async def hits(self, index_id: str, question: str, ids: Sequence[str]) -> tuple[list[Json], bool]:
        """The best clips, as rows of `search`, and whether there may be more of them.

        Videos that have left the index are found out by halving: the API refuses all for one of them.
        """
        given = self._given(index_id, question, ids)

        async def ask() -> list[Json]:
            try:
                return list(await self._search.run(self._session, **self._search.arguments(given)))
            except BadRequest as error:
                raise _Refused(error) from error

        try:
            hits = (await self._session.ledger.once(self._call(given), ask)).result
        except _Refused as refused:
            if refused.cause.code != GONE:
                raise refused.cause from None
            if len(ids) == 1:
                return [], False
            half = len(ids) // 2
            first, more = await self.hits(index_id, question, ids[:half])
            rest, still_more = await self.hits(index_id, question, ids[half:])
            return [*first, *rest], more or still_more
        return [hit for hit in hits if hit["video_id"] in ids], len(hits) >= self._alerts.max_clips

    def _given(self, index_id: str, question: str, ids: Sequence[str]) -> Json:
        return {
            "index_id": index_id,
            "query_text": question,
            "max_hits": self._alerts.max_clips,
            "threshold": self._alerts.threshold,
            "filter": orjson.dumps({"id": list(ids)}).decode(),
        }

    def _call(self, given: Json) -> Call:
        said = sha256(orjson.dumps(given, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return Call("search", said, model=self._session.vectors_by, scope=SCOPE, keep=BILLED_KEEP)
