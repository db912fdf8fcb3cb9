"""Videos whose own headers spoke against them: remembered, so that the same bytes are not read every night.

One small object beside the ledger for each content that was refused, under the limits it was measured by and
the version that measured it: another model, another release or another file is looked at anew. It is only
asked for a video that is in the table `errors`; what is not there costs nothing more.
"""

from __future__ import annotations

import logging
from hashlib import sha256

import orjson

from tl_data._version import __version__
from tl_data.errors import LedgerError, MediaRefused
from tl_data.identity import Identity
from tl_data.preflight import Limits
from tl_data.storage import Storage

log = logging.getLogger("tl_data.ledger")


async def refused_before(storage: Storage, identity: Identity, limits: Limits | None) -> MediaRefused | None:
    """How this content was refused when its headers were read; None when nothing is known.

    Raises:
        LedgerError: the place cannot be read.
    """
    body = await storage.read(_path(identity, limits))
    if body is None:
        return None
    try:
        said = orjson.loads(body)
        return MediaRefused(str(said["message"]), str(said["code"]))
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None


async def remember_refusal(
    storage: Storage, identity: Identity, limits: Limits | None, error: MediaRefused
) -> None:
    """Note how a content was refused. What cannot be noted is found out again."""
    said = {"message": str(error.args[0]), "code": error.code, "canonical": identity.canonical}
    try:
        await storage.write(_path(identity, limits), orjson.dumps(said))
    except LedgerError as trouble:
        log.info("a refusal could not be noted: %s", trouble)


def _path(identity: Identity, limits: Limits | None) -> str:
    key = sha256(f"{identity.content_key} {limits} {__version__}".encode()).hexdigest()[:32]
    return f"refused/{key[:2]}/{key}"
