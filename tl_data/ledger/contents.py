"""Maps the digest of a video's bytes to one content key, so that equal bytes under several URLs share it.

The key is the one of the first URL with these bytes. The ledger's storage has one small object per digest
beside the records. It is created if absent, so that two processes that see the same bytes under two URLs
agree on one key. If the server or bucket of a video gives no digest, the content key is that of its URL, and
equal bytes under another URL have another key.
"""

from __future__ import annotations

from dataclasses import replace

import orjson

from tl_data.media.identity import Identity
from tl_data.object_store import Storage


class Contents:
    """The content keys by digest."""

    def __init__(self, storage: Storage, *, likely: bool = False) -> None:
        """
        Args:
            likely: whether a strong ETag together with the length also counts as a digest.
        """
        self._storage, self._likely = storage, likely
        self._seen: dict[str, str] = {}  # digest -> content key that is not stored

    async def resolve(self, identity: Identity, *, record: bool) -> Identity:
        """The identity with the content key of its digest.

        Args:
            record: if the digest is new, write the key of this URL to the storage, for all processes. False:
                write nothing; only this object remembers the key.

        Raises:
            LedgerError: the ledger's storage cannot be read or written.
        """
        key = identity.content_key
        # The most reliable digest is last, so its key wins. If it is new, it gets the key of the other one.
        for name in reversed(self._names(identity)):
            key = await self._record(name, key) if record else await self._look_up(name, key)
        return identity if key == identity.content_key else replace(identity, content_key=key)

    def _names(self, identity: Identity) -> list[str]:
        """The digests of the bytes, the most reliable first."""
        names = (identity.digest, identity.likely if self._likely else None)
        return [name for name in names if name]

    async def _look_up(self, name: str, key: str) -> str:
        stored = await self._read(name)
        return self._seen.setdefault(name, key) if stored is None else stored

    async def _record(self, name: str, key: str) -> str:
        stored = await self._read(name)
        if stored is None and await self._storage.create(_path(name), orjson.dumps({"content_key": key})):
            return key
        return stored or await self._read(name) or key

    async def _read(self, name: str) -> str | None:
        body = await self._storage.read(_path(name))
        try:
            return None if body is None else str(orjson.loads(body)["content_key"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            return None  # incomplete, for example after a full disk: the video keeps the key of its URL


def _path(name: str) -> str:
    return f"contents/{name[:2]}/{name}"
