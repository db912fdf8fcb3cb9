"""Objects in a directory or a bucket: the one file that names obstore.

`Storage` holds small objects, such as the ledger's; `Buckets` signs addresses of videos and lists them.

Only four things are asked of a store: create a name that does not exist yet, overwrite, read, list. They
exist on a local disk, S3, GCS and Azure alike; conditional updates do not, so nothing is built on them.
"""

from __future__ import annotations

import asyncio
import base64
import hmac
import os
import shutil
import time
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import parse_qsl, unquote, urlencode, urlsplit, urlunsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError
from obstore.store import LocalStore, MemoryStore, from_url

from tl_data.errors import LedgerError, MediaRefused, SettingsError
from tl_data.urls import bucket_parts, redacted

T = TypeVar("T")

SAME_CLOCK = 0.1  # seconds by which a file may be dated too early or too late by the same clock
#: What tells a store who asks, by the beginning of its address.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
#: Variables that may hold the key of an account of Azure.
AZURE_KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
#: Variables that name another server than the cloud's own.
ENDPOINTS = ("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT")
PAGE = 1000  # objects of a listing at once: what stores give in one response
THREADS = 32  # requests to the store at once, a process


def plain_http() -> bool:
    """Whether a compatible server is named with plain HTTP: one on the same machine or network often is."""
    return any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)


def steady() -> float:
    """Seconds on a clock that cannot be set and, where the system has one, counts sleep."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass(frozen=True)
class Item:
    """One object as a listing shows it."""

    path: str
    modified: datetime  # by the clock of the store
    version: str  # changes when the object is overwritten
    size: int
    etag: str | None = None


class Storage:
    """Objects below one address; every error is a LedgerError that names the address."""

    def __init__(self, url: str) -> None:
        self.url = redacted(url)
        self.folder = _folder(url)
        self._offset: tuple[float, float] | None = None  # of the store's clock; when measured
        # obstore's own async calls leave threads behind that abort the process if it ends a moment later;
        # its blocking calls, in threads that Python joins, do not.
        self._threads = ThreadPoolExecutor(THREADS, "tl_data-store")
        try:
            self._store: Any = self._open(url)
        except (BaseError, OSError, ValueError) as error:
            raise self._failed("open", "", error) from error

    def _open(self, url: str) -> Any:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            return LocalStore(self.folder)
        if url.startswith("memory:"):
            return MemoryStore()
        return from_url(url, client_options={"allow_http": True} if plain_http() else {})

    async def _run(self, action: str, path: str, work: Callable[[], T]) -> T | None:
        """Do it in a thread; None when there is no such object."""
        try:
            try:
                future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            except RuntimeError:  # the process is ending, and no thread may begin: what is kept last
                return work()
            return await future
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._failed(action, path, error) from error

    async def create(self, path: str, body: bytes, *, durable: bool = False) -> bool:
        """Write a new object; False when the name is taken (and nothing was written)."""

        def work() -> bool:
            try:
                obstore.put(self._store, path, body, mode="create")
            except AlreadyExistsError:
                return False
            if durable and self.folder is not None:
                _to_disk(self.folder / path)
            return True

        return bool(await self._run("write", path, work))

    async def write(self, path: str, body: bytes) -> None:
        """Write or overwrite an object, atomically."""
        await self._run("write", path, lambda: obstore.put(self._store, path, body))

    async def read(self, path: str) -> bytes | None:
        """The object, or None when there is none of that name."""
        return await self._run("read", path, lambda: bytes(obstore.get(self._store, path).bytes()))

    async def item(self, path: str) -> Item | None:
        """What a listing would show of the object, or None."""
        return await self._run("read", path, lambda: _item(obstore.head(self._store, path)))

    async def below(self, prefix: str) -> AsyncIterator[Item]:
        """Every object below the prefix, in no particular order."""
        chunks = await self._run(
            "list", prefix, lambda: iter(obstore.list(self._store, prefix, chunk_size=500))
        )
        while chunks is not None and (chunk := await self._run("list", prefix, partial(next, chunks, None))):
            for meta in chunk:
                yield _item(meta)

    async def folders(self, prefix: str) -> list[str]:
        """The names directly below the prefix that hold objects."""

        def work() -> list[str]:
            return sorted(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

        return await self._run("list", prefix, work) or []

    async def delete(self, path: str) -> None:
        """Remove an object; one that is already gone is no error."""
        await self._run("delete", path, lambda: obstore.delete(self._store, path))

    async def drop(self, prefix: str) -> None:
        """Remove everything below the prefix."""
        if self.folder is not None:
            await asyncio.to_thread(shutil.rmtree, self.folder / prefix, ignore_errors=True)
            return
        async for item in self.below(prefix):
            await self.delete(item.path)

    async def now(self) -> float:
        """Epoch seconds by the clock that dates the objects: the same for all who share the store."""
        if self._offset is None or steady() - self._offset[1] > 600:
            path, before = f"clock/{uuid.uuid4().hex}", self._here()
            await self.write(path, b"")
            after, item = self._here(), await self.item(path)
            await self.delete(path)
            dated = time.time() if item is None else item.modified.timestamp()
            # A folder of this machine is dated by this clock, a little late; one of another by the other's.
            same = before - SAME_CLOCK <= dated <= after + SAME_CLOCK
            self._offset = (0.0 if same else dated - after, steady())
        return self._here() + self._offset[0]

    def _here(self) -> float:
        """The clock that the store's is compared with. A folder of this machine is dated by this machine's
        clock, which may be set at any time: then both are."""
        return steady() if self.folder is None else time.time()

    def _failed(self, action: str, path: str, error: Exception) -> LedgerError:
        text = redacted(str(error).partition("\n\nDebug source")[0].strip())
        low = text.lower()
        if "no space left" in low or "os error 28" in low or "quota exceeded" in low:
            reason = "the disk is full. Free some space and run again"
        elif "169.254.169.254" in text or "account must be specified" in low:
            # The metadata service of a cloud's machine: it is asked when no key was found.
            reason = f"no credentials were found. Set {CREDENTIALS.get(self.url.partition('://')[0], 'them')}"
        elif "unable to recognise url" in low:
            reason = (
                "TL_LEDGER is a path, or an address that begins with s3://, gs:// or az:// and names a bucket"
            )
        elif "permission denied" in low or "read-only" in low or "403" in low or "access denied" in low:
            reason = "no permission. Check the rights, or name another place with TL_LEDGER"
        elif "os error 95" in low or "not supported" in low or "operation not permitted" in low:
            reason = "this file system cannot create files exclusively. Name another place with TL_LEDGER"
        else:
            reason = text
        place = f"{self.url}/{path}" if path else self.url
        detail = "" if reason is text else f" ({text})"
        return LedgerError(f"the ledger cannot {action} {place}: {reason}{detail}")


class Buckets:
    """Objects in buckets as sources of videos, signed and listed with the credentials of the environment."""

    def __init__(self, hours: float) -> None:
        """
        Args:
            hours: how long a signed URL is valid.
        """
        self._valid = timedelta(hours=hours)
        self._stores: dict[str, Any] = {}

    async def sign(self, method: str, address: str) -> str:
        """A URL of an object that is valid from now on, for one HTTP method.

        Args:
            address: `s3://bucket/key`, `gs://bucket/key`, `az://container/key` or
                `abfss://container@account.dfs.core.windows.net/key`.

        Raises:
            MediaRefused: the address names no object, or there are no credentials to sign with.
        """
        return await asyncio.to_thread(self._sign, method, address)

    def _sign(self, method: str, address: str) -> str:
        place, key = bucket_parts(address)
        shown = redacted(address)
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise MediaRefused(
                f"{shown} names no object that can be signed: a key has no empty part and no part "
                '"." or ".."',
                "video_url_invalid",
            )
        azure = place.startswith(("az://", "abfss://"))
        if azure and method == "HEAD":
            method = "GET"  # the right to read is the right to ask for headers; obstore asks for another one
        try:
            url = str(obstore.sign(self._store(place), cast(Any, method), key, self._valid))
            return _azure_signed(url, shown) if azure and "%" in urlsplit(url).path else url
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise MediaRefused(
                f"{shown} cannot be signed: {_reason(place, error)}", "video_url_not_allowed"
            ) from error

    async def lasts(self, address: str) -> bool:
        """Whether a signed URL of the object is valid for its whole time, that is, no longer than the
        credentials that sign it.

        The end of temporary credentials is `AWS_CREDENTIAL_EXPIRATION`; if it is not known, the answer is no.

        Raises:
            MediaRefused: as for `sign`.
        """
        if "x-amz-security-token=" not in (await self.sign("GET", address)).lower():
            return True
        try:
            end = datetime.fromisoformat(os.environ.get("AWS_CREDENTIAL_EXPIRATION", ""))
        except ValueError:
            return False
        return end.astimezone(UTC) - datetime.now(UTC) >= self._valid

    def pages(self, address: str) -> Iterator[list[Item]]:
        """The objects below an address, page by page as the store lists them; `path` is the whole key.

        Raises:
            SettingsError: the bucket cannot be listed.
        """
        place, prefix = bucket_parts(address)
        try:
            for page in obstore.list(self._store(place), prefix.strip("/") or None, chunk_size=PAGE):
                yield [_item(meta) for meta in page]
        except (BaseError, OSError, ValueError) as error:
            raise SettingsError(f"{redacted(address)} cannot be listed: {_reason(place, error)}") from error

    def _store(self, place: str) -> Any:
        if place not in self._stores:
            options: Any = {"allow_http": True} if plain_http() else {}
            self._stores[place] = from_url(place, client_options=options)
        return self._stores[place]


def _azure_signed(url: str, shown: str) -> str:
    """A shared access signature of Azure, signed again over the decoded path, as the service wants it.

    obstore (0.12) signs the encoded path: right for ASCII without blanks alone.
    """
    secret = next((os.environ[name] for name in AZURE_KEYS if os.environ.get(name)), None)
    if secret is None:
        raise MediaRefused(
            f"{shown} cannot be signed: a key of an object with blanks or letters outside ASCII needs "
            f"{AZURE_KEYS[0]}",
            "video_url_not_allowed",
        )
    parts = urlsplit(url)
    given = dict(parse_qsl(parts.query))
    account = (parts.hostname or "").partition(".")[0]
    path = unquote(parts.path)
    if any(os.environ.get(name) for name in ENDPOINTS if name.startswith("AZURE")):
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", account)  # the endpoint's path begins with it
        path = path.removeprefix(f"/{account}")
    names = ("sp", "st", "se", None, "si", "sip", "spr", "sv", "sr", "snapshot", "ses")
    fields = [f"/blob/{account}{path}" if name is None else given.get(name, "") for name in names]
    fields += [given.get(name, "") for name in ("rscc", "rscd", "rsce", "rscl", "rsct")]
    digest = hmac.digest(base64.b64decode(secret), "\n".join(fields).encode(), "sha256")
    query = urlencode({**given, "sig": base64.b64encode(digest).decode()})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _reason(place: str, error: Exception) -> str:
    """Why a store refuses, and what to do."""
    text = redacted(str(error).partition("\n\nDebug source")[0].strip())
    low = text.lower()
    if "169.254.169.254" in text or "account must be specified" in low or "metadata.google" in low:
        scheme = place.partition("://")[0].replace("abfss", "az")
        return f"no credentials were found. Set {CREDENTIALS.get(scheme, 'them')}"
    if "permission denied" in low or "403" in low or "access denied" in low:
        return f"no permission ({text})"
    return text


def _folder(url: str) -> Path | None:
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url or url.startswith("memory:") else Path(url).expanduser().absolute()


def _to_disk(file: Path) -> None:
    """Force a file to the disk, so that it survives a power cut; object stores do this by themselves."""
    for name in (file, file.parent):
        handle = os.open(name, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _item(meta: Any) -> Item:
    modified = meta["last_modified"]
    etag = meta.get("e_tag")
    return Item(meta["path"], modified, f"{etag} {modified.isoformat()}", meta["size"], etag)
