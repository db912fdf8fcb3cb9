"""Objects in a folder or a bucket. No other module imports the library obstore.

`Storage` reads and writes small objects, such as the records of the ledger. `Buckets` lists videos in buckets
and signs their URLs. `BucketObject` reads parts of one object.

`Storage` needs only operations that a local disk, S3, GCS and Azure all have: create an object if its name is
free, overwrite, read, list, delete. Conditional updates are not among them.
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

from tl_data.errors import LakeError, LedgerError, MediaRefused, SettingsError
from tl_data.urls import bucket_parts, redacted

T = TypeVar("T")

SAME_CLOCK = 0.1  # largest difference in seconds between a file's date and the clock that dates it
#: Scheme of an address -> the environment variables that hold the credentials.
CREDENTIALS = {
    "s3": "AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and AWS_REGION",
    "gs": "GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
#: Environment variables that may hold the key of an Azure account.
AZURE_KEYS = ("AZURE_STORAGE_ACCOUNT_KEY", "AZURE_STORAGE_ACCESS_KEY", "AZURE_STORAGE_MASTER_KEY")
#: Environment variables that name a compatible server instead of the cloud's own.
ENDPOINTS = (
    *("AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_STORAGE_ENDPOINT", "AZURE_ENDPOINT"),
    "STORAGE_EMULATOR_HOST",
)
PAGE = 1000  # objects per page of a listing, as many as stores return in one response
THREADS = 32  # concurrent requests of one `Storage`


def plain_http() -> bool:
    """Whether an environment variable names a compatible server whose URL is plain HTTP."""
    return any(os.environ.get(name, "").startswith("http://") for name in ENDPOINTS)


def steady() -> float:
    """Seconds on a clock that cannot be set. On Linux it also runs while the machine sleeps."""
    boot = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic() if boot is None else time.clock_gettime(boot)


@dataclass(frozen=True)
class Item:
    """One object, as listings show it."""

    path: str
    modified: datetime  # by the clock of the store
    version: str  # changes when the object is overwritten
    size: int
    etag: str | None = None


class Storage:
    """The objects below one address. Every error is raised as a LedgerError that names the address.

    Args:
        url: a path, or the address of a bucket.
        user: what reads and writes the objects, for messages.
        setting: the setting that names the address, for messages; None if there is none.
    """

    def __init__(self, url: str, user: str = "the ledger", setting: str | None = "TL_LEDGER") -> None:
        self.url, self._user, self._setting = redacted(url), user, setting
        self.folder = _folder(url)
        #: Seconds by which the store's clock is ahead, and the steady time of the measurement.
        self._offset: tuple[float, float] | None = None
        # Threads of obstore's async calls may outlive the calls and abort a process that is ending. So its
        # blocking calls are used, in threads that Python joins.
        self._threads = ThreadPoolExecutor(THREADS, "tl_data-store")
        try:
            self._store: Any = self._open(url)
        except (BaseError, OSError, ValueError) as error:
            raise self._error("open", "", error) from error

    def _open(self, url: str) -> Any:
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)
            return LocalStore(self.folder)
        if url.startswith("memory:"):
            return MemoryStore()
        return from_url(url, client_options={"allow_http": True} if plain_http() else {})

    async def _run(self, action: str, path: str, work: Callable[[], T]) -> T | None:
        """Call `work` in a thread. Returns None if the object does not exist.

        Args:
            action, path: what is done, and to which object, for the error message.
        """
        try:
            try:
                future = asyncio.get_running_loop().run_in_executor(self._threads, work)
            except RuntimeError:  # the process is ending and no thread can start: do the work in this thread
                return work()
            return await future
        except FileNotFoundError:
            return None
        except (BaseError, OSError) as error:
            raise self._error(action, path, error) from error

    async def create(self, path: str, body: bytes, *, durable: bool = False) -> bool:
        """Create an object. Returns False, and writes nothing, if one of this name exists.

        Args:
            durable: flush the object to the disk.
        """

        def work() -> bool:
            try:
                obstore.put(self._store, path, body, mode="create")
            except AlreadyExistsError:
                return False
            if durable and self.folder is not None:
                _flush(self.folder / path)
            return True

        return bool(await self._run("write", path, work))

    async def write(self, path: str, body: bytes) -> None:
        """Create or overwrite an object, atomically."""
        await self._run("write", path, lambda: obstore.put(self._store, path, body))

    async def read(self, path: str) -> bytes | None:
        """The content of an object, or None if it does not exist."""
        return await self._run("read", path, lambda: bytes(obstore.get(self._store, path).bytes()))

    async def item(self, path: str) -> Item | None:
        """Date, version and size of an object, or None if it does not exist."""
        return await self._run("read", path, lambda: _item(obstore.head(self._store, path)))

    async def below(self, prefix: str) -> AsyncIterator[Item]:
        """All objects below a prefix, in no particular order."""
        chunks = await self._run(
            "list", prefix, lambda: iter(obstore.list(self._store, prefix, chunk_size=500))
        )
        while chunks is not None and (chunk := await self._run("list", prefix, partial(next, chunks, None))):
            for meta in chunk:
                yield _item(meta)

    async def folders(self, prefix: str) -> list[str]:
        """The paths of the folders directly below a prefix, sorted."""

        def work() -> list[str]:
            return sorted(obstore.list_with_delimiter(self._store, prefix)["common_prefixes"])

        return await self._run("list", prefix, work) or []

    async def delete(self, path: str) -> None:
        """Delete an object. It is no error if it does not exist."""
        await self._run("delete", path, lambda: obstore.delete(self._store, path))

    async def drop(self, prefix: str) -> None:
        """Delete all objects below a prefix. Files on disk that cannot be deleted stay, without an error."""
        if self.folder is not None:
            await asyncio.to_thread(shutil.rmtree, self.folder / prefix, ignore_errors=True)
            return
        async for item in self.below(prefix):
            await self.delete(item.path)

    async def now(self) -> float:
        """Epoch seconds by the clock that dates the objects, which is the same for all processes."""
        if self._offset is None or steady() - self._offset[1] > 600:
            path, before = f"clock/{uuid.uuid4().hex}", self._own_clock()
            await self.write(path, b"")
            after, item = self._own_clock(), await self.item(path)
            await self.delete(path)
            dated = time.time() if item is None else item.modified.timestamp()
            # A folder of this machine is dated by this machine's clock. A folder of a file server is dated by
            # the server's clock.
            is_same_clock = before - SAME_CLOCK <= dated <= after + SAME_CLOCK
            self._offset = (0.0 if is_same_clock else dated - after, steady())
        return self._own_clock() + self._offset[0]

    def _own_clock(self) -> float:
        """The clock of this process from which the store's clock differs by `_offset`.

        For a bucket, it is a clock that cannot be set. For a folder, it is the clock of this machine, which
        usually also dates the folder: if it is set, both change together.
        """
        return steady() if self.folder is None else time.time()

    def _error(self, action: str, path: str, error: Exception) -> LedgerError:
        text = redacted(str(error).partition("\n\nDebug source")[0].strip())
        low = text.lower()
        name_another = f"name another place with {self._setting}" if self._setting else "use another place"
        if "no space left" in low or "os error 28" in low or "quota exceeded" in low:
            reason = "the disk is full. Free some space and run again"
        elif "169.254.169.254" in text or "account must be specified" in low:
            # The address of the metadata service on a machine of a cloud. obstore asks it if it finds no key.
            reason = f"no credentials were found. Set {CREDENTIALS.get(self.url.partition('://')[0], 'them')}"
        elif "unable to recognise url" in low:
            reason = (
                f"{self._setting or 'the address'} must be a path, or an address that begins with s3://, "
                "gs:// or az:// and names a bucket"
            )
        elif "permission denied" in low or "read-only" in low or "403" in low or "access denied" in low:
            reason = f"no permission. Check the rights, or {name_another}"
        elif "os error 95" in low or "not supported" in low or "operation not permitted" in low:
            reason = f"this file system cannot create files exclusively: {name_another}"
        else:
            reason = text
        address = f"{self.url}/{path}" if path else self.url
        detail = "" if reason is text else f" ({text})"
        return LedgerError(f"{self._user} cannot {action} {address}: {reason}{detail}")


class Buckets:
    """Lists videos in buckets and signs their URLs, with the credentials of the environment."""

    def __init__(self, hours: float) -> None:
        """
        Args:
            hours: how long a signed URL is valid.
        """
        self._valid = timedelta(hours=hours)
        self._stores: dict[str, Any] = {}

    async def sign(self, method: str, address: str) -> str:
        """A signed URL of an object, valid from now on for one HTTP method.

        Args:
            address: `s3://bucket/key`, `gs://bucket/key`, `az://container/key` or
                `abfss://container@account.dfs.core.windows.net/key`.

        Raises:
            MediaRefused: the address names no object, or there are no credentials to sign with.
        """
        return await asyncio.to_thread(self._sign, method, address)

    def _sign(self, method: str, address: str) -> str:
        bucket, key = bucket_parts(address)
        safe_address = redacted(address)
        if not key or any(part in ("", ".", "..") for part in key.split("/")):
            raise MediaRefused(
                f"{safe_address} names no object that can be signed: a key has no empty part and no part "
                '"." or ".."',
                "video_url_invalid",
            )
        is_azure = bucket.startswith(("az://", "abfss://"))
        if is_azure and method == "HEAD":
            method = "GET"  # the permission to read includes HEAD; obstore signs HEAD with another permission
        try:
            url = str(obstore.sign(self._store(bucket), cast(Any, method), key, self._valid))
            return _azure_signed(url, safe_address) if is_azure and "%" in urlsplit(url).path else url
        except (BaseError, OSError, ValueError, TypeError) as error:
            raise MediaRefused(
                f"{safe_address} cannot be signed: {_reason(bucket, error)}", "video_url_not_allowed"
            ) from error

    async def lasts(self, address: str) -> bool:
        """Whether a signed URL of an object stays valid for the whole time that it was signed for.

        It becomes invalid earlier if the credentials that signed it expire. The environment variable
        `AWS_CREDENTIAL_EXPIRATION` has the end of temporary credentials; without it, the result is False.

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
        """The objects below an address, in pages. The `path` of an item is the whole key.

        Raises:
            SettingsError: the bucket cannot be listed.
        """
        bucket, prefix = bucket_parts(address)
        try:
            for page in obstore.list(self._store(bucket), prefix.strip("/") or None, chunk_size=PAGE):
                yield [_item(meta) for meta in page]
        except (BaseError, OSError, ValueError) as error:
            raise SettingsError(f"{redacted(address)} cannot be listed: {_reason(bucket, error)}") from error

    def _store(self, bucket: str) -> Any:
        if bucket not in self._stores:
            self._stores[bucket] = open_bucket(bucket)
        return self._stores[bucket]


def open_bucket(bucket: str) -> Any:
    """The store of obstore for a bucket, with the credentials of this process. Opens no connection."""
    options: Any = {"allow_http": True} if plain_http() else {}
    return from_url(bucket, client_options=options)


class BucketObject:
    """An object in a bucket, read in parts with the credentials of this process."""

    def __init__(self, address: str) -> None:
        """Find the object.

        Raises:
            LakeError: it cannot be read.
        """
        bucket, self.path = bucket_parts(address)
        try:
            self._store = open_bucket(bucket)
            self.size = int(self._store.head(self.path)["size"])
        except (BaseError, OSError, ValueError) as error:
            raise LakeError(f"{redacted(address)} cannot be read: {_reason(bucket, error)}") from error

    async def read(self, start: int, end: int) -> bytes:
        """The bytes from `start` to `end` (exclusive)."""
        return bytes(await self._store.get_range_async(self.path, start=start, end=end))


def _azure_signed(url: str, safe_address: str) -> str:
    """A URL with a shared access signature of Azure, signed again over the decoded path.

    The service expects the decoded path. obstore (0.12) signs the encoded path, which differs if the key has
    blanks or letters outside ASCII.
    """
    secret = next((os.environ[name] for name in AZURE_KEYS if os.environ.get(name)), None)
    if secret is None:
        raise MediaRefused(
            f"{safe_address} cannot be signed: a key of an object with blanks or letters outside ASCII needs "
            f"{AZURE_KEYS[0]}",
            "video_url_not_allowed",
        )
    parts = urlsplit(url)
    query_fields = dict(parse_qsl(parts.query))
    account = (parts.hostname or "").partition(".")[0]
    path = unquote(parts.path)
    if any(os.environ.get(name) for name in ENDPOINTS if name.startswith("AZURE")):
        account = os.environ.get("AZURE_STORAGE_ACCOUNT_NAME", account)  # the endpoint's path begins with it
        path = path.removeprefix(f"/{account}")
    names = ("sp", "st", "se", None, "si", "sip", "spr", "sv", "sr", "snapshot", "ses")
    fields = [f"/blob/{account}{path}" if name is None else query_fields.get(name, "") for name in names]
    fields += [query_fields.get(name, "") for name in ("rscc", "rscd", "rsce", "rscl", "rsct")]
    digest = hmac.digest(base64.b64decode(secret), "\n".join(fields).encode(), "sha256")
    query = urlencode({**query_fields, "sig": base64.b64encode(digest).decode()})
    return urlunsplit((parts.scheme, parts.netloc, parts.path, query, ""))


def _reason(bucket: str, error: Exception) -> str:
    """Why a store refuses a request, and what to do."""
    text = redacted(str(error).partition("\n\nDebug source")[0].strip())
    low = text.lower()
    if "169.254.169.254" in text or "account must be specified" in low or "metadata.google" in low:
        scheme = bucket.partition("://")[0].replace("abfss", "az")
        return f"no credentials were found. Set {CREDENTIALS.get(scheme, 'them')}"
    if "permission denied" in low or "403" in low or "access denied" in low:
        return f"no permission ({text})"
    return text


def _folder(url: str) -> Path | None:
    """The folder of an address; None for a bucket or memory."""
    if url.startswith("file://"):
        return Path(url.removeprefix("file://"))
    return None if "://" in url or url.startswith("memory:") else Path(url).expanduser().absolute()


def _flush(file: Path) -> None:
    """Flush a file to the disk, so that it survives a power failure. Object stores do this by themselves."""
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
