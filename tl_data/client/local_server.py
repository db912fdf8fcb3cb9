"""Find or start the embedded engine: the process that answers when there is no API key.

One engine serves all processes that share a home folder. Who uses it holds a shared lock on `users.lock`;
the kernel drops the lock with the process, however it ends, and the engine ends when nobody holds it.
So there is nothing to clean up, also after `kill -9`.

Telling the embedded engine from the service: it has a page of its own models that the API has not.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import urlsplit

import orjson

from tl_data.client.responses import decoded, error_from
from tl_data.client.retry import Repeat, persist
from tl_data.errors import ConnectionFailed, MissingExtra, SettingsError
from tl_data.untrusted import private_file, private_folder
from tl_data.urls import is_loopback

if TYPE_CHECKING:
    from tl_data.client.client import Client
    from tl_data.client.transport import Answer

#: Longest wait in seconds for the engine to listen; it usually takes one to two.
START_SECONDS = 60.0
#: Longest wait in seconds for an engine with other models to end, once nobody uses it.
OTHER_SECONDS = 15.0
_TIERS = {
    "clip": "TL_LOCAL_CLIP",
    "whisper": "TL_LOCAL_WHISPER",
    "objects": "TL_LOCAL_OBJECTS",
    "detector": "TL_LOCAL_DETECTOR",
    "llm_url": "TL_LOCAL_LLM_URL",
    "llm_model": "TL_LOCAL_LLM_MODEL",
}
_NEEDED = ("starlette", "uvicorn", "av", "wordllama", "rapidocr")


@dataclass
class Engine:
    """A running embedded engine, kept alive by the lock that this object holds."""

    base_url: str
    pid: int
    home: Path
    _lease: IO[str]

    def release(self, *, stop: bool = False) -> None:
        """Let go of the engine; with `stop`, end it now and wait until it has gone."""
        self._lease.close()
        if not stop:
            return
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            return
        for _ in range(100):
            if not _alive(self.pid):
                return
            time.sleep(0.1)


def engine(home: Path, tiers: Mapping[str, str] | None = None) -> Engine:
    """The embedded engine of this home folder, started if none is running.

    Args:
        home: where its data lie.
        tiers: what chooses its models, as `Settings.tiers` gives it.

    Raises:
        SettingsError: the folder cannot be used, or an engine with other models runs there and is in use.
        MissingExtra: the engine's packages are not installed.
        ConnectionFailed: it did not start; the message holds what it said.
    """
    wanted = dict(tiers or {})
    try:
        private_folder(home)
        _until_alike(home, wanted)
        lease = (home / "users.lock").open("a+")
    except OSError as error:
        raise SettingsError(
            f"the engine's folder {home} cannot be used: {error.strerror}. Set TL_HOME to another folder"
        ) from error
    fcntl.flock(lease, fcntl.LOCK_SH)
    # Only one process starts the engine; the others wait here and then find it.
    with (home / "start.lock").open("a+") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if found := _running(home):
            return Engine(found[0], found[1], home, lease)
        try:
            return _start(home, lease, wanted)
        except BaseException:
            lease.close()
            raise


def _until_alike(home: Path, tiers: Mapping[str, str]) -> None:
    """Wait until an engine with other models has ended, which it does when its last user has gone."""
    deadline = time.monotonic() + OTHER_SECONDS
    while _running(home) and (other := _other_models(home, tiers)):
        if time.monotonic() > deadline:
            raise SettingsError(
                f"an engine with other models runs in {home} and is in use ({other}). End what uses it, or "
                "set TL_HOME to another folder"
            )
        time.sleep(0.2)


def _other_models(home: Path, tiers: Mapping[str, str]) -> str:
    """What a running engine was told of its models, where it differs from these settings; "" if nowhere."""
    try:
        told = orjson.loads((home / "engine.json").read_bytes()).get("tiers") or {}
    except (FileNotFoundError, orjson.JSONDecodeError):
        return ""
    differing = []
    for name, setting in _TIERS.items():
        here, there = tiers.get(setting), told.get(name)
        if name in ("clip", "whisper", "objects"):
            here = str(Path(here).expanduser().resolve()) if here else None
        elif name == "llm_url":  # the engine completes an address
            here = here and here.strip().rstrip("/").removesuffix("/chat/completions")
            there = there if there == here else there and there.removesuffix("/v1")
        elif name == "detector":
            here = "off" if here and here.lower() == "off" else None
        elif not told.get("llm_url"):
            continue  # a model without an address means nothing
        if here != there:
            differing.append(f"{setting} is {there or 'not set'} there and {here or 'not set'} here")
    return "; ".join(differing)


def _start(home: Path, lease: IO[str], tiers: Mapping[str, str]) -> Engine:
    for module in _NEEDED:
        if not _importable(module):
            raise MissingExtra(f"the embedded engine needs {module}, which", "local")
    print(  # noqa: T201  the one line that says which engine answers
        "tl_data: no API key (TL_API_KEY), so the embedded engine looks at the videos on this machine",
        file=sys.stderr,
    )
    log = home / "engine.log"
    # Other users of the machine may reach the port: the engine would read this user's files for them.
    key = secrets.token_urlsafe(32)
    private_file(home / "engine.key", key)
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0"]
    command += ["--allow-private", "--allow-files", "--lease", str(home / "users.lock")]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env={n: v for n, v in os.environ.items() if not n.startswith("TL_LOCAL_")}
            | {"TL_ENGINE_API_KEY": key, **tiers},
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if found := _running(home):
            # The engine may outlive its user, which Popen would warn of; who stops it waits by its id.
            process.returncode = 0
            return Engine(found[0], found[1], home, lease)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    said = log.read_text(errors="replace")[-2000:].strip()
    raise ConnectionFailed(f"the embedded engine did not start; {log} ends with: {said or '(nothing)'}")


def _running(home: Path) -> tuple[str, int] | None:
    try:
        state = orjson.loads((home / "engine.json").read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    base_url, pid = str(state["base_url"]), int(state["pid"])
    return (base_url, pid) if _alive(pid) else None


def _alive(pid: int) -> bool:
    try:
        # A finished child of ours stays visible until it is waited for.
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass  # somebody else's child: kill(0) below tells
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _importable(module: str) -> bool:
    from importlib.util import find_spec

    return find_spec(module) is not None


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
    headers = {"x-api-key": client.key} if client.key else {}
    method = "POST" if begin else "GET"

    async def asked() -> Answer:
        answer = await client.transport.send(method, f"{parts.scheme}://{parts.netloc}{page}", headers)
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
    headers = {"x-api-key": client.key} if client.key else {}

    async def asked() -> Answer:
        answer = await client.transport.send("GET", f"{parts.scheme}://{parts.netloc}{PAGE}", headers)
        if answer.status == 429 or answer.status >= 500:
            raise error_from(answer.status, answer.headers, answer.body, f"GET {PAGE}")
        return answer

    answer = await persist(asked, Repeat.FREELY, client.settings)
    if answer.status == 424:  # a model that a setting names cannot be used
        raise error_from(answer.status, answer.headers, answer.body, f"GET {PAGE}")
    told = decoded(answer.body) if answer.status == 200 else None
    if told and told.get("profile", "lenient") != "lenient":
        return None  # it acts as the service: nothing but the API tells what it has
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
