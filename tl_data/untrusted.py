"""Protection against untrusted input: media files, the processes that decode them, and text on a terminal.

FFmpeg supports playlists, scripts, session descriptions and subtitles, some of which make it read further
files or open sockets. `CONTAINERS` is passed to every `av.open` of an untrusted file. It allows only
containers of video and audio, and no references to other files or servers.
"""

from __future__ import annotations

import contextlib
import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

_FORMATS = (
    "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,live_flv,ogg,asf,mxf,rm,ivf,nut,"
    "h264,hevc,m4v,av1,obu,vc1,dv,gxf,wtv,wav,w64,aiff,mp3,aac,ac3,eac3,flac,amr,au,caf,ape,tta"
)
#: Options of `av.open` for an untrusted file.
CONTAINERS = {"format_whitelist": _FORMATS, "protocol_whitelist": "file", "probesize": "10000000"}

#: Options of `av.open` for an untrusted URL.
REMOTE_CONTAINERS = CONTAINERS | {"protocol_whitelist": "https,http,tls,tcp"}

#: Environment variables that processes which decode untrusted files receive. This is an allow list, because
#: secrets can have any name.
_PASSED = re.compile(
    r"PATH|HOME|USER|LOGNAME|LANG|LANGUAGE|LC_\w+|TZ|TMPDIR|TEMP|TMP|TL_HOME|XDG_(?:CACHE|DATA|CONFIG)_HOME"
    r"|PYTHON(?:PATH|HOME|HASHSEED|DONTWRITEBYTECODE|UNBUFFERED|UTF8|IOENCODING|NOUSERSITE|SAFEPATH)"
    r"|VIRTUAL_ENV|CONDA_PREFIX|LD_LIBRARY_PATH|DYLD_(?:FALLBACK_)?LIBRARY_PATH|SYSTEMROOT"
    r"|(?:OMP|OPENBLAS|MKL|NUMEXPR|ORT|VECLIB)_\w*THREADS|WN_DATA|ESPEAK_DATA_PATH"
)

#: Control characters, including ESC, which begins terminal commands; and characters that reorder text.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def worker_environment(environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """The allowed environment variables for a process that decodes untrusted files."""
    source = os.environ if environment is None else environment
    return {name: value for name, value in source.items() if _PASSED.fullmatch(name)}


def private_folder(path: Path) -> None:
    """Create a folder and its missing parents, readable by this user only. Existing folders are unchanged."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    for folder in reversed(missing):
        with contextlib.suppress(FileExistsError):  # created by another process
            folder.mkdir(mode=0o700)


def private_file(path: Path, text: str) -> None:
    """Atomically write a file that only this user can read."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML.

    Raises:
        tomllib.TOMLDecodeError: also for text that is nested too deeply, which the parser reports otherwise.
    """
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise tomllib.TOMLDecodeError("nested too deeply") from None


def printable(text: str) -> str:
    """Replace control characters, except line feeds and tabs, by visible escapes such as `\\x1b`."""
    return _CONTROLS.sub(lambda match: ascii(match.group())[1:-1], text)
