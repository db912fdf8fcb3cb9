"""`python -m tl_data.local`: run the embedded engine.

Prints its address once it listens and writes `<home>/engine.json`; both say where the API is. It ends on
SIGTERM or Ctrl-C, and with `--lease` when nobody uses it any more.
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
import signal
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import IO, Any, get_args

import uvicorn

# Searches run side by side: each on one core is quicker than all on all. Read when NumPy is first imported.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

from tl_data.errors import SettingsError
from tl_data.local import weights
from tl_data.local.config import API_VERSION, PREFIX, Config, Statuses
from tl_data.local.errors import APIProblem
from tl_data.local.models import read_tiers
from tl_data.local.profiles import NAMES, PROFILES
from tl_data.local.rate_limits import PLANS
from tl_data.local.server import fault_injection, faults
from tl_data.local.server.app import make_app
from tl_data.local.server.context import Engine
from tl_data.local.server.routes.imports import integration_id
from tl_data.local.storage.database import Store
from tl_data.local.tasks.reindex import plan_of

LONGEST_END_SEC = 15.0  # of ending in order
ASSET_DELAY_SEC = 1.0  # of the service of today, where the options name none
LEASE_GRACE_SEC = 10.0  # after the start, until somebody must hold the lease


def read_options(arguments: list[str] | None = None) -> Config:
    """The command line as a `Config`; ends the process with a message if it makes no sense."""
    parser = argparse.ArgumentParser(
        "tl-data serve", description="The embedded video engine: API v1.3 on this machine.",
        epilog=f"faults (--faults FILE):\n\n{faults.__doc__}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    say = parser.add_argument
    say("--host", default="127.0.0.1", help="address to listen on; anything but loopback needs --api-key")
    say("--port", type=int, default=8000, help="0 picks a free one")
    say("--home", type=Path, default=None, help="folder of the engine's data")
    say(
        "--api-key",
        default=os.environ.get("TL_ENGINE_API_KEY"),
        help="the key that clients must send; better set TL_ENGINE_API_KEY: other users see the command line",
    )
    say("--faults", type=Path, help="TOML or JSON file of faults to inject")
    say("--plan", choices=sorted(PLANS), help="rate limits of a plan; none without")
    say(
        "--workers",
        type=int,
        default=max(1, min(4, (os.cpu_count() or 2) // 2)),
        help="videos worked on at once",
    )
    say(
        "--allow-private",
        action="store_true",
        help="URLs, and redirects of public hosts, may lead to loopback and private addresses",
    )
    say("--allow-files", action="store_true", help="file:// URLs may name any file that this user can read")
    say("--media", type=Path, help="folder that file:// URLs and imports may read")
    say("--lease", type=Path, help="end when no process holds a shared lock on this file")
    say(
        "--profile",
        choices=NAMES,
        default=os.environ.get("TL_ENGINE_PROFILE") or "lenient",
        help="answer and refuse as the service of today or of 2025 does; lenient takes the requests of both",
    )
    say("--statuses", choices=get_args(Statuses), default="chosen", help="which reading of the documents")
    say("--page-token-seconds", type=float, default=900.0, help="life of the page tokens of a search")
    say("--batch-seconds", type=float, default=86400.0, help="until a batch of analyses expires")
    say(
        "--asset-delay",
        type=float,
        default=None,
        metavar="SECONDS",
        help="how long an asset is processing at least (1 with --profile today, else 0)",
    )
    say("--embed-task-seconds", type=float, default=7 * 86400.0, help="how long vectors of tasks are kept")
    say("--max-video-bytes", type=int, default=2 << 30, help="largest video taken")
    say("--download-seconds", type=float, default=1800.0, help="longest download of one video")
    say("--look-seconds", type=float, default=3600.0, help="longest work on one video")
    say("--clip", metavar="FOLDER", help="image-text encoder in ONNX that sees pictures (TL_LOCAL_CLIP)")
    say("--whisper", metavar="FOLDER", help="Whisper model that hears the speech (TL_LOCAL_WHISPER)")
    say("--llm-url", metavar="URL", help="OpenAI-compatible server that writes the texts (TL_LOCAL_LLM_URL)")
    say("--llm-model", metavar="NAME", help="its model (TL_LOCAL_LLM_MODEL); its key is TL_LOCAL_LLM_KEY")
    say("--describe", action="store_true", help="say which models are at work, as JSON, and end")
    given = parser.parse_args(arguments)
    if given.workers < 1:
        parser.error("--workers must be at least 1")
    if not 0 <= given.port <= 65535:
        parser.error(f"--port {given.port} is no port: 0 to 65535")
    if given.media and not given.media.is_dir():
        parser.error(f"--media {given.media} is not a folder")
    if given.api_key is not None and not given.api_key.strip():
        parser.error("the API key is empty: set TL_ENGINE_API_KEY or --api-key to a key, or unset it")
    if not _is_loopback(given.host) and not given.api_key:
        parser.error(f"--host {given.host} can be reached from other machines: give an --api-key")
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    if given.profile not in PROFILES:
        parser.error(f"TL_ENGINE_PROFILE is {given.profile!r}; it must be one of {', '.join(NAMES)}")
    given.profile = PROFILES[given.profile]
    if given.asset_delay is None:
        given.asset_delay = 0.0 if given.profile.ready_at_once else ASSET_DELAY_SEC
    given.home = (given.home or Path(base) / "tl_data" / "engine").resolve()
    options = vars(given)
    del options["describe"]  # see main
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
    """uvicorn's server, which says where it listens and lets go when nobody uses it."""

    def __init__(self, config: uvicorn.Config, options: Config, engine: Engine, port: int) -> None:
        super().__init__(config)
        self._options = options
        self._engine = engine
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(options.host, options.host)
        host = f"[{host}]" if ":" in host else host
        self.base_url = f"http://{host}:{port}{PREFIX}"
        self.file = options.home / "engine.json"
        self._watch: asyncio.Task[None] | None = None

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """End in order on SIGTERM and Ctrl-C, and with exit code 0: to be told to end is no failure."""
        wanted = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.signal(number, self.handle_exit) for number in wanted}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Asked to end: in order, and if something holds that up, without it, saying what it was.

        Nothing is lost by that: what is queued goes on at the next start, as after a kill.
        """
        faulthandler.dump_traceback_later(LONGEST_END_SEC, exit=True)
        super().handle_exit(sig, frame)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: begin to listen, then tell."""
        await super().startup(sockets)
        if self.should_exit:
            return
        tiers = self._options.tiers
        facts = {
            "base_url": self.base_url, "pid": os.getpid(), "api_version": API_VERSION,
            "model": tiers.search_model, "tiers": tiers.chosen(), "profile": self._options.profile.name,
        }  # fmt: skip
        if self._options.media:
            facts["integration_id"] = integration_id(self._options.media)
        fresh = self.file.with_suffix(".new")
        fresh.write_text(json.dumps(facts), encoding="utf-8")
        fresh.replace(self.file)
        sys.stdout.write(f"tl_data engine: {self.base_url}\n")
        for missing in filter(None, (tiers.missing_eyes, tiers.missing_ears)):
            sys.stdout.write(f"tl_data engine: off: {missing}\n")
        sys.stdout.flush()
        if self._options.lease:
            self._watch = asyncio.create_task(self._until_unused(self._options.lease))

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Called by uvicorn: nobody may find us from now on."""
        self.file.unlink(missing_ok=True)
        if self._watch:
            self._watch.cancel()
        await super().shutdown(sockets)

    async def _until_unused(self, lease: Path) -> None:
        """Ask for the lock that users share; two seconds without a user and without work is the end."""
        begun, free = time.monotonic(), 0
        with lease.open("a+") as file:
            while not self.should_exit:
                await asyncio.sleep(1.0)
                if not _is_free(file):
                    free = 0
                    continue
                free += 1
                if free >= 2 and time.monotonic() - begun >= LEASE_GRACE_SEC and self._engine.queue.idle:
                    self.should_exit = True
                    # The lock stays ours until `shutdown`, when nobody can find this engine any more: a user
                    # who comes now waits for it, and then starts another.
                    await asyncio.Event().wait()
                fcntl.flock(file, fcntl.LOCK_UN)


def _is_free(file: IO[str]) -> bool:
    """Whether nobody holds the lock; then we do."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def main(arguments: list[str] | None = None) -> int:
    """Run the engine until it is told to end; 0, or 2 if it cannot start."""
    options = read_options(arguments)
    if "--describe" in (sys.argv[1:] if arguments is None else arguments):
        sys.stdout.write(json.dumps(_described(options)) + "\n")
        return 0
    os.umask(0o077)  # what is stored of videos is for this user alone
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        options.home.mkdir(parents=True, exist_ok=True)
        options.home.chmod(0o700)  # also that of an earlier version
        lock = (options.home / "engine.lock").open("a+")
    except OSError as error:
        return _refuse(
            f"the folder {options.home} cannot be used: {error.strerror}; name another with --home"
        )
    with lock, contextlib.ExitStack() as stack:
        if not _locked(lock, options.home):
            return _refuse(f"another engine already uses {options.home}")
        try:
            app = make_app(options)
        except APIProblem as problem:
            return _refuse(problem.message)
        family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
        # Named as TCP: only then does asyncio turn Nagle's algorithm off, which costs 40 ms an answer.
        at = stack.enter_context(socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP))
        at.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            at.bind((options.host, options.port))
        except OSError as error:
            return _refuse(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
        config = uvicorn.Config(
            app, http=fault_injection.KnownConnection, ws="none", log_config=None, access_log=False,
            lifespan="on", server_header=False, backlog=1024, timeout_keep_alive=75,
            timeout_graceful_shutdown=3,
        )  # fmt: skip
        Server(config, options, app.state.engine, at.getsockname()[1]).run([at])
    return 0


def _locked(lock: IO[str], home: Path) -> bool:
    """Take the lock of a home; False if an engine is at work there. One that is ending is waited for."""
    deadline = time.monotonic() + LONGEST_END_SEC + 5
    while not _is_free(lock):
        # An engine that ends removes its file first and lets go of the lock last.
        if (home / "engine.json").exists() or time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def _described(options: Config) -> dict[str, Any]:
    """The models at work, and what other models have looked at in this folder."""
    told: dict[str, Any] = {
        "profile": options.profile.name,
        "stages": options.tiers.stages(),
        "search_model": options.tiers.search_model,
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
            told["reindex"] = plan_of(store, options.tiers).as_dict()
        finally:
            store.close()
    return told


def _refuse(why: str) -> int:
    sys.stderr.write(f"tl_data engine: {why}\n")
    return 2


if __name__ == "__main__":
    sys.exit(main())
