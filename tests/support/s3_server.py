"""An S3-compatible server for tests: python s3_server.py PORT. Runs in an environment with moto.

One request at a time: moto looks whether a name is free and takes it in two steps, and of two threads both
might win. A bucket decides that in one.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any

from moto.server import DomainDispatcherApplication, create_backend_app  # type: ignore[import-not-found]
from werkzeug.serving import run_simple


def main(port: int) -> None:
    """Serve until terminated."""
    moto, one = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        with one:
            return list(moto(environ, start_response))

    run_simple("127.0.0.1", port, app, threaded=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
