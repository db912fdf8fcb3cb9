"""Telling the embedded engine from the service: it has a page of its own models that the API has not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tl_data.responses import decoded, error_from
from tl_data.retry import Repeat, persist
from tl_data.urls import is_loopback

if TYPE_CHECKING:
    from tl_data.client.client import Client
    from tl_data.client.http import Answer

PAGE = "/_engine/tiers"
OWN = "tl-local-"  # with which the names of the embedded engine's models begin
AS = " as "  # between the model that made something and the one that was asked for


@dataclass(frozen=True)
class Models:
    """The models of an embedded engine."""

    search: str  # makes words and vectors
    analyze: str  # writes texts
    dimension: int  # of the vectors


async def again(client: Client, index_id: str | None, *, begin: bool = False) -> dict[str, Any]:
    """What the embedded engine would have to look at again, or with `begin` does, after a change of models.

    Raises:
        APIError: there is no such index, or nobody answers.
    """
    parts = urlsplit(client.base_url)
    page = "/_engine/reindex" + (f"?index_id={index_id}" if index_id else "")
    headers = {"x-api-key": client.settings.api_key} if client.settings.api_key else {}
    method = "POST" if begin else "GET"

    async def asked() -> Answer:
        answer = await client.wire.send(method, f"{parts.scheme}://{parts.netloc}{page}", headers)
        if answer.status != 200:
            raise error_from(answer.status, answer.headers, answer.body, f"{method} {page}")
        return answer

    return decoded((await persist(asked, Repeat.FREELY, client.settings)).body) or {}


async def models_of(client: Client) -> Models | None:
    """The models of the embedded engine on this machine; None if it is none. Other hosts are not asked.

    Raises:
        APIError: nobody answers there, or not now. A guess would be other models than the next run's, and
            with them other keys in the ledger: everything would be paid for again.
    """
    parts = urlsplit(client.base_url)
    if not is_loopback(client.base_url):
        return None
    headers = {"x-api-key": client.settings.api_key} if client.settings.api_key else {}

    async def asked() -> Answer:
        answer = await client.wire.send("GET", f"{parts.scheme}://{parts.netloc}{PAGE}", headers)
        if answer.status == 429 or answer.status >= 500:
            raise error_from(answer.status, answer.headers, answer.body, f"GET {PAGE}")
        return answer

    answer = await persist(asked, Repeat.FREELY, client.settings)
    if answer.status == 424:  # a model that a setting names cannot be used
        raise error_from(answer.status, answer.headers, answer.body, f"GET {PAGE}")
    told = decoded(answer.body) if answer.status == 200 else None
    try:
        return Models(told["search_model"], told["analyze_model"], told["dimension"]) if told else None
    except KeyError:
        return None


def made_by(asked: str, own: str | None) -> str:
    """The name of a model in tables: never the service's alone for what the embedded engine made.

    Args:
        asked: the model that was asked for.
        own: the embedded engine's; None for the service.
    """
    return asked if own is None or asked.startswith(OWN) else f"{own}{AS}{asked}"


def asked_for(name: str) -> str:
    """The model that was asked for, of a name as `made_by` gives it."""
    return name.rpartition(AS)[2]
