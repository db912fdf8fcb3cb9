"""Find or start the embedded engine, which serves the API when there is no API key.

One engine serves all processes that share a home folder. Each process holds a shared lock on `users.lock`,
and the engine exits when its tasks have ended and no process holds the lock. The kernel releases the lock of
a process that ends, also after `kill -9`, so nothing needs to be cleaned up.

The client recognizes the embedded engine by the route `/_engine/tiers`, which returns its models. The service
has no such route.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
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
from tl_data.client.retry import Repeat, with_retries
from tl_data.errors import ConnectionFailed, MissingExtra, SettingsError
from tl_data.untrusted import private_file, private_folder
from tl_data.urls import is_loopback

if TYPE_CHECKING:
    from tl_data.client import Client
    from tl_data.client.transport import Response

#: Longest wait in seconds until a new engine accepts connections. One or two seconds are usual.
START_SECONDS = 60.0
#: Free bytes below which a disk counts as full: an engine needs more to create its database. The engine has
#: the same limit, but on a full disk its message does not reach its log.
LEAST_FREE_BYTES = 1 << 20
#: Longest wait in seconds for an engine with other models to exit.
OTHER_ENGINE_SECONDS = 15.0
#: Settings of the models, by their names in `engine.json`.
_MODEL_SETTINGS = {
    "clip": "TL_LOCAL_CLIP",
    "whisper": "TL_LOCAL_WHISPER",
    "objects": "TL_LOCAL_OBJECTS",
    "detector": "TL_LOCAL_DETECTOR",
    "llm_url": "TL_LOCAL_LLM_URL",
    "llm_model": "TL_LOCAL_LLM_MODEL",
}
_REQUIRED_MODULES = ("starlette", "uvicorn", "av", "wordllama", "rapidocr")


@dataclass
class Engine:
    """A running embedded engine. This object holds a lock, and the engine runs at least as long."""

    base_url: str
    pid: int
    home: Path
    _users_lock: IO[str]

    def release(self, *, stop: bool = False) -> None:
        """Release the lock. With `stop`, terminate the engine, and wait up to 10 s for its exit."""
        self._users_lock.close()
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
    """Connect to the embedded engine of a home folder. Start it if it is not running.

    Args:
        home: the folder of the engine's data.
        tiers: the settings that select the engine's models, from `Settings.tiers`.

    Raises:
        SettingsError: the folder is not usable, or another process uses an engine with other models in it.
        MissingExtra: the engine's packages are not installed.
        ConnectionFailed: the engine did not start; the message contains the end of its log.
    """
    model_settings = dict(tiers or {})
    try:
        private_folder(home)
        _wait_for_other_engine(home, model_settings)
        users_lock = (home / "users.lock").open("a+")
    except OSError as error:
        raise SettingsError(
            f"cannot use the engine's folder {home}: {error.strerror}. Set TL_HOME to another folder"
        ) from error
    fcntl.flock(users_lock, fcntl.LOCK_SH)
    # One process starts the engine; the others wait for this lock and then find it running.
    with (home / "start.lock").open("a+") as starting:
        fcntl.flock(starting, fcntl.LOCK_EX)
        if running := _running(home):
            base_url, pid = running
            return Engine(base_url, pid, home, users_lock)
        try:
            return _start(home, users_lock, model_settings)
        except OSError as error:
            users_lock.close()
            text = f"the embedded engine did not start: cannot write to {home}: {error.strerror}"
            raise ConnectionFailed(text) from error
        except BaseException:
            users_lock.close()
            raise


def engine_environment(tiers: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process of the engine: of the settings of its models, only those in `tiers`."""
    return {n: v for n, v in os.environ.items() if not n.startswith("TL_LOCAL_")} | dict(tiers)


def _wait_for_other_engine(home: Path, tiers: Mapping[str, str]) -> None:
    """Wait until an engine with other models has exited. It exits after the last process that uses it."""
    deadline = time.monotonic() + OTHER_ENGINE_SECONDS
    while _running(home) and (other := _model_differences(home, tiers)):
        if time.monotonic() > deadline:
            raise SettingsError(
                f"another process uses an engine with other models in {home} ({other}). End that process, or "
                "set TL_HOME to another folder"
            )
        time.sleep(0.2)


def _model_differences(home: Path, tiers: Mapping[str, str]) -> str:
    """A text that lists the model settings in which a running engine differs from `tiers`; "" if none do."""
    try:
        running = orjson.loads((home / "engine.json").read_bytes()).get("tiers") or {}
    except (FileNotFoundError, orjson.JSONDecodeError):
        return ""
    differing = []
    for name, setting in _MODEL_SETTINGS.items():
        wanted_value, running_value = tiers.get(setting), running.get(name)
        if name in ("clip", "whisper", "objects"):
            wanted_value = str(Path(wanted_value).expanduser().resolve()) if wanted_value else None
        elif name == "llm_url":  # the engine appends /v1 to a URL without it
            wanted_value = wanted_value and wanted_value.strip().rstrip("/").removesuffix("/chat/completions")
            if running_value and running_value != wanted_value:
                running_value = running_value.removesuffix("/v1")
        elif name == "detector":
            wanted_value = "off" if wanted_value and wanted_value.lower() == "off" else None
        elif not running.get("llm_url"):
            continue  # llm_model has no effect without llm_url
        if wanted_value != running_value:
            running_text, wanted_text = running_value or "not set", wanted_value or "not set"
            differing.append(
                f"{setting} is {running_text} in the running engine, {wanted_text} in this process"
            )
    return "; ".join(differing)


def _start(home: Path, users_lock: IO[str], tiers: Mapping[str, str]) -> Engine:
    """Start an engine, and wait until it accepts connections."""
    for module in _REQUIRED_MODULES:
        if not _importable(module):
            raise MissingExtra(f"the embedded engine needs {module}, which", "local")
    print(  # noqa: T201  users must see that results do not come from the service
        "tl_data: no API key (TL_API_KEY); the embedded engine analyzes the videos on this machine",
        file=sys.stderr,
    )
    log = home / "engine.log"
    # The engine reads local files, and other users of the machine can reach its port. So it requires a key.
    key = secrets.token_urlsafe(32)
    private_file(home / "engine.key", key)
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--port", "0"]
    command += ["--allow-private", "--allow-files", "--lease", str(home / "users.lock")]
    with log.open("ab") as out:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True,
            env=engine_environment(tiers) | {"TL_ENGINE_API_KEY": key},
        )  # fmt: skip
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        if running := _running(home):
            # The engine may outlive this process. Popen would warn about that without a return code.
            # `Engine.release` waits for the process by its id.
            process.returncode = 0
            base_url, pid = running
            return Engine(base_url, pid, home, users_lock)
        if process.poll() is not None:
            break
        time.sleep(0.05)
    process.kill()
    process.wait()
    if shutil.disk_usage(home).free < LEAST_FREE_BYTES:  # then the log has not been written, either
        raise ConnectionFailed(
            f"the embedded engine did not start: the disk of {home} is full. Free some space, then try again"
        )
    tail = log.read_text(errors="replace")[-2000:].strip()
    raise ConnectionFailed(f"the embedded engine did not start; {log} ends with: {tail or '(nothing)'}")


def _running(home: Path) -> tuple[str, int] | None:
    """The base URL and process id of the running engine of a home folder; None if none runs."""
    try:
        state = orjson.loads((home / "engine.json").read_bytes())
    except (FileNotFoundError, orjson.JSONDecodeError):
        return None
    base_url, pid = str(state["base_url"]), int(state["pid"])
    return (base_url, pid) if _alive(pid) else None


def _alive(pid: int) -> bool:
    try:
        # Until waitpid collects it, a finished child process is a zombie, and kill(0) still succeeds.
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return False
    except ChildProcessError:
        pass  # not a child of this process
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


MODELS_PATH = "/_engine/tiers"
MODEL_PREFIX = "tl-local-"  # prefix of the embedded engine's model names
MODEL_SEPARATOR = " as "  # separates the model that computed a row from the requested one


@dataclass(frozen=True)
class Models:
    """The models of an embedded engine."""

    search: str  # for clips, transcripts and vectors
    analyze: str  # for the texts of analyses
    dimension: int  # dimension of the vectors


async def reindex_videos(client: Client, index_id: str | None, *, begin: bool = False) -> dict[str, Any]:
    """Report which videos must be indexed again after a change of models; with `begin`, start it.

    Args:
        index_id: the index; by default all indexes.

    Raises:
        APIError: the index does not exist, or the engine does not respond.
    """
    parts = urlsplit(client.base_url)
    route = "/_engine/reindex" + (f"?index_id={index_id}" if index_id else "")
    headers = {"x-api-key": client.key} if client.key else {}
    method = "POST" if begin else "GET"

    async def attempt() -> Response:
        answer = await client.transport.send(method, f"{parts.scheme}://{parts.netloc}{route}", headers)
        if answer.status != 200:
            raise error_from(answer.status, answer.headers, answer.body, f"{method} {route}")
        return answer

    return decoded((await with_retries(attempt, Repeat.FREELY, client.settings)).body) or {}


async def models_of(client: Client) -> Models | None:
    """The models of the embedded engine at the client's base URL.

    None for another server, and for an engine whose profile is not `lenient`. No request is sent if the
    address is not a loopback address.

    Raises:
        APIError: the server does not respond, or cannot use a configured model. No default is assumed: ledger
            keys contain the model, so the next run would repeat all calls after a wrong assumption.
    """
    parts = urlsplit(client.base_url)
    if not is_loopback(client.base_url):
        return None
    headers = {"x-api-key": client.key} if client.key else {}

    async def attempt() -> Response:
        answer = await client.transport.send("GET", f"{parts.scheme}://{parts.netloc}{MODELS_PATH}", headers)
        if answer.status == 429 or answer.status >= 500:
            raise error_from(answer.status, answer.headers, answer.body, f"GET {MODELS_PATH}")
        return answer

    answer = await with_retries(attempt, Repeat.FREELY, client.settings)
    if answer.status == 424:  # a configured model is not usable
        raise error_from(answer.status, answer.headers, answer.body, f"GET {MODELS_PATH}")
    tiers = decoded(answer.body) if answer.status == 200 else None
    if tiers and tiers.get("profile", "lenient") != "lenient":
        return None  # a strict profile imitates the service, so only routes of the API are used
    try:
        return Models(tiers["search_model"], tiers["analyze_model"], tiers["dimension"]) if tiers else None
    except KeyError:
        return None


def made_by(requested: str, local: str | None) -> str:
    """The model name for tables. It marks rows of the embedded engine, such as "tl-local-2 as marengo3.0".

    Args:
        requested: the model of the request.
        local: the embedded engine's model; None for the service.
    """
    return (
        requested
        if local is None or requested.startswith(MODEL_PREFIX)
        else f"{local}{MODEL_SEPARATOR}{requested}"
    )


def requested_model(name: str) -> str:
    """The requested model in a name from `made_by`."""
    return name.rpartition(MODEL_SEPARATOR)[2]
