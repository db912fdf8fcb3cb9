"""`python -m tl_data.local`: run the embedded engine.

Once it listens, it prints the URL of the API and writes it to `<home>/engine.json`. It ends on SIGTERM or
Ctrl-C, and with `--lease` when no process uses it any more.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import fcntl
import ipaddress
import json
import logging
import os
import resource
import shutil
import signal
import socket
import sqlite3
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any, get_args

import uvicorn

# Searches run concurrently: one thread per search is faster than many. NumPy reads this variable at import.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tl_data.errors import LakeError, MissingExtra, SettingsError
from tl_data.local import weights
from tl_data.local.config import API_VERSION, PREFIX, STATUSES, Config, Statuses
from tl_data.local.errors import EngineError, is_full
from tl_data.local.models import read_tiers
from tl_data.local.profiles import NAMES, PROFILES
from tl_data.local.rate_limits import PLANS
from tl_data.local.server import faults
from tl_data.local.server.app import make_app
from tl_data.local.server.connections import LimitedConnection
from tl_data.local.server.context import Engine
from tl_data.local.server.routes.imports import integration_id
from tl_data.local.service import Stages
from tl_data.local.storage.database import Store
from tl_data.local.tasks.lake_import import import_lake
from tl_data.local.tasks.reindex import plan_of

SHUTDOWN_SEC = 15.0  # time limit of a graceful shutdown
ASSET_DELAY_SEC = 1.0  # default of profiles whose assets are not ready at once
_OTHER_FILES = 500  # files that the engine opens beside its connections
LEAST_FREE_BYTES = 1 << 20  # less free space than this counts as a full disk
LEASE_GRACE_SEC = 10.0  # the engine runs at least this long, also if no process holds the lease


def read_options(arguments: list[str] | None = None) -> Config:
    """Parse the command line; exits with a message if it is invalid."""
    parser = argparse.ArgumentParser(
        "tl-data serve", description="The embedded video engine: API v1.3 on this machine.",
        epilog=f"faults (--faults FILE):\n\n{faults.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    option = parser.add_argument
    option("--host", default="127.0.0.1", help="address to listen on; anything but loopback needs a key")
    option("--port", type=int, default=8000, help="0 selects a free port")
    option("--home", type=Path, default=None, help="folder of the engine's data")
    option(
        "--api-key",
        default=os.environ.get("TL_ENGINE_API_KEY"),
        help="the key that clients must send; prefer TL_ENGINE_API_KEY: other users can see the command line",
    )
    option("--faults", type=Path, help="TOML or JSON file of faults to inject")
    option("--plan", choices=sorted(PLANS), help="plan whose rate limits apply; default: no limits")
    option(
        "--workers",
        type=int,
        default=max(1, min(4, (os.cpu_count() or 2) // 2)),
        help="videos analyzed concurrently",
    )
    option(
        "--allow-private",
        action="store_true",
        help="URLs, and redirects of public hosts, may resolve to loopback and private addresses",
    )
    option(
        "--allow-files", action="store_true", help="file:// URLs may name any file that this user can read"
    )
    option("--media", type=Path, help="folder that file:// URLs and imports may read")
    option(
        "--lake",
        metavar="FOLDER",
        help="serve the videos of a lake that tl_data.spark.perceive wrote, as one index",
    )
    option("--lease", type=Path, help="end when no process holds a shared lock on this file")
    option(
        "--profile",
        choices=NAMES,
        default=os.environ.get("TL_ENGINE_PROFILE") or "lenient",
        help="version of the service to imitate; lenient accepts the requests of both",
    )
    option(
        "--statuses",
        choices=get_args(Statuses),
        default="chosen",
        help="status of task creation and of updates, on which the documents of the service disagree: "
        + ", ".join(f"{name} ({created}, {updated})" for name, (created, updated) in STATUSES.items()),
    )
    option("--page-token-seconds", type=float, default=900.0, help="lifetime of the page tokens of a search")
    option("--batch-seconds", type=float, default=86400.0, help="lifetime of a batch of analyses")
    option(
        "--asset-delay",
        type=float,
        default=None,
        metavar="SECONDS",
        help="minimum time in status processing (default: 1 with --profile today, else 0)",
    )
    option(
        "--embed-task-seconds", type=float, default=7 * 86400.0, help="how long embeddings of tasks are kept"
    )
    option(
        "--max-video-bytes",
        type=int,
        default=None,
        help="largest accepted video (default: 2 GiB; multipart uploads of --profile today: 10 GiB)",
    )
    option("--max-connections", type=int, default=1000, help="open connections of clients")
    option("--download-seconds", type=float, default=1800.0, help="time limit of the download of one video")
    option("--look-seconds", type=float, default=3600.0, help="time limit of the analysis of one video")
    option("--clip", metavar="FOLDER", help="image-text encoder in ONNX format (TL_LOCAL_CLIP)")
    option("--whisper", metavar="FOLDER", help="Whisper model for speech (TL_LOCAL_WHISPER)")
    option(
        "--llm-url", metavar="URL", help="OpenAI-compatible server that writes the texts (TL_LOCAL_LLM_URL)"
    )
    option("--llm-model", metavar="NAME", help="its model (TL_LOCAL_LLM_MODEL); its key is TL_LOCAL_LLM_KEY")
    option("--describe", action="store_true", help="print the active models as JSON and exit")
    args = parser.parse_args(arguments)
    if args.max_connections < 1:
        parser.error("--max-connections must be at least 1")
    if args.workers < 1:
        parser.error("--workers must be at least 1")
    if not 0 <= args.port <= 65535:
        parser.error(f"--port must be 0 to 65535, not {args.port}")
    if args.media and not args.media.is_dir():
        parser.error(f"--media {args.media} is not a folder")
    if args.api_key is not None and not args.api_key.strip():
        parser.error("the API key is empty: set TL_ENGINE_API_KEY or --api-key to a key, or unset it")
    if not _is_loopback(args.host) and not args.api_key:
        parser.error(f"--host {args.host} is reachable from other machines: set TL_ENGINE_API_KEY")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    if args.profile not in PROFILES:
        parser.error(f"TL_ENGINE_PROFILE is {args.profile!r}; it must be one of {', '.join(NAMES)}")
    args.profile = PROFILES[args.profile]
    if args.asset_delay is None:
        args.asset_delay = 0.0 if args.profile.ready_at_once else ASSET_DELAY_SEC
    args.home = (args.home or Path(base) / "tl_data" / "engine").resolve()
    options = vars(args)
    del options["describe"]  # main reads it
    try:
        names = ("clip", "whisper", "llm_url", "llm_model")
        tiers = read_tiers(**{name: options.pop(name) for name in names})
    except SettingsError as error:
        parser.error(str(error))
    return Config(**options, tiers=tiers)


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class Server(uvicorn.Server):
    """uvicorn's server, which publishes its URL and ends when it is unused."""

    def __init__(self, config: uvicorn.Config, options: Config, engine: Engine, port: int) -> None:
        super().__init__(config)
        self._options = options
        self._engine = engine
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host)
        host = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{host}:{port}{PREFIX}"
        self.file = options.home / "engine.json"
        self._lease_watch: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Shut down gracefully on SIGTERM and Ctrl-C, with exit code 0."""
        signals = (signal.SIGINT, signal.SIGTERM)
        previous_handlers = {number: signal.signal(number, self.handle_exit) for number in signals}
        try:
            yield
        finally:
            for number, handler in previous_handlers.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Start a graceful shutdown; after its time limit, print all stacks and exit.

        No task is lost: queued tasks continue at the next start, as after a kill.
        """
        faulthandler.dump_traceback_later(SHUTDOWN_SEC, exit=True)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: listen, then publish the URL."""
        await super().startup(sockets)
        if self.should_exit:
            return
        tiers = self._options.tiers
        facts = {
            "base_url": self.base_url, "pid": os.getpid(), "api_version": API_VERSION,
            "model": tiers.search_model, "tiers": tiers.settings(), "profile": self._options.profile.name,
        }  # fmt: skip
        if self._options.media:
            facts["integration_id"] = integration_id(self._options.media)
        new_file = self.file.with_suffix(".new")
        new_file.write_text(json.dumps(facts), encoding="utf-8")
        new_file.replace(self.file)
        sys.stdout.write(f"tl_data engine: {self.base_url}\n")
        for reason in filter(None, (tiers.missing_object_models, tiers.missing_speech_model)):
            sys.stdout.write(f"tl_data engine: disabled: {reason}\n")
        sys.stdout.flush()
        if self._options.lease:
            self._lease_watch = asyncio.create_task(self._until_unused(self._options.lease))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: remove the published URL, then shut down."""
        self.file.unlink(missing_ok=True)
        if self._lease_watch:
            self._lease_watch.cancel()
        await super().shutdown(sockets)

    async def _until_unused(self, lease: Path) -> None:
        """Shut down once the queue is idle and no process has held the lease for two seconds."""
        started, free_checks = time.monotonic(), 0
        with lease.open("a+") as file:
            while not self.should_exit:
                await asyncio.sleep(1.0)
                if not _try_lock(file):
                    free_checks = 0
                    continue
                free_checks += 1
                if (
                    free_checks >= 2
                    and time.monotonic() - started >= LEASE_GRACE_SEC
                    and self._engine.queue.idle
                ):
                    self.should_exit = True
                    # Hold the lock until `shutdown`, when the published URL is gone: a client that arrives
                    # now waits for the lock, then starts another engine.
                    await asyncio.Event().wait()
                fcntl.flock(file, fcntl.LOCK_UN)


def _try_lock(file: IO[str]) -> bool:
    """Take the exclusive lock; False if another process holds one."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the engine until it is stopped; returns 0, or 2 if it cannot start."""
    options = read_options(arguments)
    if "--describe" in (sys.argv[1:] if arguments is None else arguments):
        sys.stdout.write(json.dumps(_describe(options)) + "\n")
        return 0
    os.umask(0o077)  # data of videos is readable by this user alone
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        options.home.mkdir(parents=True, exist_ok=True)
        options.home.chmod(0o700)  # earlier versions created it readable by others
        lock = (options.home / "engine.lock").open("a+")
    except OSError as error:
        return _fail(f"cannot use the folder {options.home}: {error.strerror}; choose another with --home")
    with lock, contextlib.ExitStack() as stack:
        if not _acquire_lock(lock, options.home):
            return _fail(f"another engine already uses {options.home}")
        try:
            app = make_app(options)
        except EngineError as error:
            return _fail(error.message)
        except (OSError, sqlite3.Error) as error:
            return _fail(_storage_reason(error, options.home))
        if options.lake and (problem_text := _import_lake(options.lake, options, app.state.engine)):
            return _fail(problem_text)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        # With the protocol named, asyncio turns off Nagle's algorithm, which costs 40 ms per response.
        listener = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((options.host, options.port))
        except OSError as error:
            return _fail(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
        LimitedConnection.most_connections = _connection_limit(options.max_connections)
        config = uvicorn.Config(
            app, http=LimitedConnection, ws="none", log_config=None, access_log=False,
            lifespan="on", server_header=False, backlog=1024, timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )  # fmt: skip
        server = Server(config, options, app.state.engine, listener.getsockname()[1])
        try:
            server.run([listener])
        except (OSError, sqlite3.Error) as error:
            return _fail(_storage_reason(error, options.home))
        if not server.started and server.lifespan.should_exit:
            return _fail("the start failed; its error is in the lines above")
    return 0


def _storage_reason(error: Exception, home: Path) -> str:
    """Why the engine cannot write to its folder."""
    if is_full(error) or shutil.disk_usage(home).free < LEAST_FREE_BYTES:
        return f"the disk of {home} is full. Free some space, then start the engine again"
    return f"cannot use the folder {home}: {error}"


def _connection_limit(wanted: int) -> int:
    """Raise the limit of open files, and return how many of them can be connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, max(hard - _OTHER_FILES, hard // 2))
    needed = wanted + _OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < needed:
        soft = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return wanted


def _import_lake(folder: str, options: Config, engine: Engine) -> str:
    """Bring the index of a lake up to date; returns why it cannot be served, "" if it can."""
    # The queue and the server run in a loop that starts later; the library is not bound to a loop.
    stages = Stages(options)

    async def run() -> int:
        try:
            return await import_lake(folder, options, engine.store, stages)
        finally:
            await stages.close()

    try:
        added = asyncio.run(run())
    except (SettingsError, LakeError, MissingExtra) as error:
        return str(error)
    sys.stdout.write(f"tl_data engine: {folder}: {added} videos added\n")
    return ""


def _acquire_lock(lock: IO[str], home: Path) -> bool:
    """Take the lock of a home folder, waiting for an engine that is shutting down; False if one runs."""
    deadline = time.monotonic() + SHUTDOWN_SEC + 5
    while not _try_lock(lock):
        # An engine that shuts down removes its file first and releases the lock last.
        if (home / "engine.json").exists() or time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _describe(options: Config) -> dict[str, Any]:
    """The active models, and the videos of this folder that other models analyzed."""
    description: dict[str, Any] = {
        "profile": options.profile.name,
        "stages": options.tiers.stages(),
        "search_model": options.tiers.search_model,
        # Installed models whose files fail the check of their SHA-256.
        "weights": [
            found
            for model in weights.MODELS
            if not weights.problem(model, options.tiers.objects)
            and (found := weights.problem(model, options.tiers.objects, whole=True))
        ],
    }
    if options.database.is_file():
        store = Store(options.database)
        try:
            description["reindex"] = plan_of(store, options.tiers).as_dict()
        finally:
            store.close()
    return description


def _fail(reason: str) -> int:
    sys.stderr.write(f"tl_data engine: {reason}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
