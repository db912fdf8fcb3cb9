"""A server that answers with recorded answers of the real service (`tests/data/recorded/*.json`).

The recordings come from public places and are cleaned: ids, hosts, names and prose are replaced, vectors are
cut to their first numbers. Their ids are like `650000000000000000000002`; clients use the same in paths.

    with ReplayServer() as server:
        server.replay("tasks_create", "tasks_retrieve_ready")   # each at its own method and path
        client = Client(Settings(api_key="x"), base_url=server.url)
        ...
        assert server.asked("POST /tasks")[0].fields == [...]   # what the client sent

- `recording(name)` is one recording; `.response` is its JSON, `.seen` says when and of which model.
- `server.replay(name, route="POST /analyze")` puts it at another path. Several recordings at one route are
  answered one after the other, the last one for ever.
- `server.replay(name, change=lambda text: text + '"}]}')` damages the body.
- `server.states("tasks_retrieve_ready", "uploading", "ready")` answers a task with these states in turn.
- `server.say("GET /indexes", {...})` is an answer that nobody recorded, for what stands between the others.

A route without an answer is 404 `endpoint_not_exists`.
"""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from tests.support.scripted import Server, say

FOLDER = Path(__file__).parent.parent / "data" / "recorded"
NAMES = tuple(sorted(path.stem for path in FOLDER.glob("*.json")))

#: Where recordings belong that do not say it, or whose path is no path.
ROUTES = {
    "analyze_nostream_pegasus15_json_by_prompt": "POST /analyze",
    "analyze_nostream_pegasus15_leading_newlines": "POST /analyze",
    "analyze_task_ready_booleans_pegasus15": "GET /analyze/tasks/65000000000000000000000a",
    "analyze_task_ready_segments_pegasus15": "GET /analyze/tasks/650000000000000000000007",
    "embed_audio_marengo27": "POST /embed",
    "embed_image_marengo27": "POST /embed",
    "embed_text_marengo27": "POST /embed",
    "error_429_requests_per_day": "POST /embed",
    "error_read_not_allowed": "GET /indexes/650000000000000000000013",
    "gist_pegasus12": "POST /gist",
    "summarize_chapters_pegasus12": "POST /summarize",
    "summarize_highlights_pegasus12": "POST /summarize",
    "summarize_summary_pegasus12": "POST /summarize",
}
INDEX_ID = "650000000000000000000001"


@dataclass(frozen=True)
class Recording:
    """One recorded answer."""

    name: str
    facts: dict[str, Any]  # the whole file

    @property
    def seen(self) -> dict[str, Any]:
        """Date, model, and what else is known of the moment."""
        return dict(self.facts["seen"])

    @property
    def route(self) -> str:
        """Method and path, as in `POST /search`.

        Raises:
            KeyError: it is a part of an answer, or belongs to a video of no known index.
        """
        if self.name in ROUTES:
            return ROUTES[self.name]
        return str(self.facts["request"]["method_path"])

    @property
    def status(self) -> int:
        """The HTTP status."""
        return int(self.seen.get("http_status", 200))

    @property
    def headers(self) -> dict[str, str]:
        """The recorded headers but those of the connection and of the body's coat."""
        coat = ("content-length", "content-encoding", "connection", "vary", "transfer-encoding")
        return {k: v for k, v in self.facts.get("headers", {}).items() if k not in coat}

    @property
    def response(self) -> Any:
        """The body as JSON; the sentences of a refusal of which only parts are known are joined."""
        body = self.facts["response"]
        if isinstance(body, dict) and ("message_part" in body or "message_parts" in body):
            parts = body.get("message_parts") or [body["message_part"]]
            return {"code": body.get("code", "parameter_invalid"), "message": ". ".join(parts)}
        return body


def recording(name: str) -> Recording:
    """One of `NAMES`."""
    return Recording(name, json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8")))


def responses(*names: str) -> list[Any]:
    """The JSON bodies of recordings."""
    return [recording(name).response for name in names]


class ReplayServer(Server):
    """Answers with recordings; a context manager. `url` ends in `/v1.3`."""

    def __init__(self) -> None:
        super().__init__(socket.create_server(("127.0.0.1", 0), backlog=1024))
        self._thread = threading.Thread(target=self.run, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._thread.join()

    def replay(
        self, *names: str, route: str | None = None, change: Callable[[str], str] | None = None
    ) -> None:
        """Answer with recordings, each at its own route or all at `route`; `change` damages the text."""
        for name in names:
            it = recording(name)
            text = json.dumps(it.response)
            self._add(route or it.route, it.status, change(text) if change else text, it.headers)

    def states(self, name: str, *states: str, route: str | None = None) -> None:
        """Answer with a recorded task that is in one state after the other."""
        it = recording(name)
        for state in states:
            self._add(route or it.route, 200, json.dumps(it.response | {"status": state}), it.headers)

    def say(self, route: str, *bodies: Any, status: int = 200) -> None:
        """Answer with something that nobody recorded."""
        for body in bodies:
            self._add(route, status, json.dumps(body), {})

    def bodies(self, route: str) -> Sequence[Any]:
        """The JSON bodies that were sent to a route."""
        return [request.json for request in self.asked(route)]

    def _add(self, route: str, status: int, text: str, headers: dict[str, str]) -> None:
        named = {"content-type": "application/json"} | headers
        answer = say(
            status, text.encode(), **{name.replace("-", "_"): value for name, value in named.items()}
        )
        self.routes.setdefault(route, []).append(answer)
