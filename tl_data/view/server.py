"""Opens a lake or the lake of a job, and serves the viewer on this machine."""

from __future__ import annotations

import secrets
import socket
import threading
import webbrowser
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from tl_data.errors import MissingExtra, SettingsError
from tl_data.settings import Settings

if TYPE_CHECKING:
    from tl_data.view.app import Viewer

#: The default paths of a lake.
DEFAULT_PLACES = ("tl-job.toml", "lake", "demo-lake")


def open_lake(location: str | None = None, media: str | None = None) -> Viewer:
    """Open a lake for the viewer.

    Args:
        location: folder of a lake, its address in a bucket, or a job file; None: the first of the default
            paths that exists.
        media: folder with copies of the sources under the same file names.

    Raises:
        SettingsError: the lake or `media` is not found, or the job is invalid.
        MissingExtra: a package that the page needs is not installed.
    """
    for module in ("starlette", "uvicorn", "deltalake", "numpy"):
        if find_spec(module) is None:
            raise MissingExtra(module, "view")
    from tl_data.view.app import Viewer
    from tl_data.view.snapshot import LakeFolder

    location = location or next((name for name in DEFAULT_PLACES if Path(name).exists()), None)
    if location is None:
        raise SettingsError(f"pass a lake or a job file: this folder has none of {', '.join(DEFAULT_PLACES)}")
    folder = Path(media) if media else None
    if folder is not None and not folder.is_dir():
        raise SettingsError(f"the folder of media {media} is not found")
    if location.endswith(".toml"):
        from tl_data.pipeline.job import Job

        job = Job.load(location)
        return Viewer(LakeFolder(job.folder), job.name, _usable(job.load_settings()), Path(job.base), folder)
    lake = LakeFolder(location)
    engine = Path(location) / "engine" if "://" not in location else None  # where the demo keeps its engine
    settings = Settings.load(defaults={"home": str(engine.resolve())} if engine and engine.is_dir() else None)
    name = Path(location).resolve().name if "://" not in location else location.rstrip("/").rpartition("/")[2]
    return Viewer(lake, name, _usable(settings), Path(), folder)


def serve(
    viewer: Viewer, on_ready: Callable[[str], None], *, port: int = 0, open_browser: bool = True
) -> None:
    """Serve the page at 127.0.0.1 until Ctrl-C.

    Args:
        on_ready: called with the URL when the server is ready.
        port: the port; 0 selects a free one.

    Raises:
        SettingsError: the port cannot be used: it is in use, or needs other rights.
    """
    import uvicorn

    from tl_data.view.app import app

    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
    except OSError as error:
        listener.close()
        raise SettingsError(f"port {port} cannot be used: {error.strerror}. Choose another port") from error
    listener.listen(128)
    # Other users of the machine and other pages of the browser reach the port, but do not know the token.
    token, port = secrets.token_urlsafe(18), listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/{token}/"
    viewer.lake.snapshot()  # an unreadable lake is an error here, and the first page is loaded quickly
    on_ready(url)
    if open_browser:
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
    config = uvicorn.Config(app(viewer, token, port), log_level="warning", access_log=False, lifespan="off")
    uvicorn.Server(config).run(sockets=[listener])


def _usable(settings: Settings) -> Settings | None:
    """The settings if they name the service or an engine, or the embedded engine is installed; else None.

    No request is sent.
    """
    return None if settings.embedded and find_spec("wordllama") is None else settings
