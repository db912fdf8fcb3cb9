"""Fault rules: which requests of a running engine fail, and how. They test how a pipeline handles failures.

A rule has a `kind` and applies to requests of a `route` and `method`. `probability` is the chance that it
applies to a matching request, and `count` is how often it applies at most. Each kind has its own settings:

    latency            seconds, or median and sigma (log-normal), or low and high (uniform)
    too_many_requests  shape: "retry_after" | "reset" | "text" | "empty"; seconds: the wait in the response
    status             status, and optionally code, message
    reset              the connection is reset before the response
    truncate           the response is cut off; share: the fraction that arrives
    malformed          incomplete JSON, with the status and content type of the real response; share
    html               an error page of a proxy; status (default 502)
    redirect           a redirect; status (default 307), location
    slow_body          the response arrives slowly; seconds: its duration
    stream_error       a text stream (/analyze) ends in an error event; share: the fraction before the
                       event; code, message. Other responses are unchanged
    gzip, chunked      the real response, with this encoding
    stuck              new tasks stay in a state; state: validating, pending, queued, indexing, processing
    failed             new tasks fail in a state; state, code, message
    warning            new analysis tasks become ready, with an error beside the result; message
                       In a batch, stuck, failed and warning apply to the first items; share: the fraction
    gone               status 410, as the service responds for /gist and /summarize

With `after = true`, the engine processes the request, and the fault then replaces the response. `route` is a
path relative to /v1.3, with * as a wildcard, or the pattern of a route: /search, /tasks/{task_id}. Signed
URLs, such as those of the parts of an upload, begin with /media/. A fault file, TOML or JSON, has a `seed`
and `[[fault]]` tables:

    seed = 1

    [[fault]]
    kind = "latency"
    median = 0.2

    [[fault]]
    kind = "too_many_requests"
    route = "/search"
    shape = "empty"
    probability = 0.1

    [[fault]]
    kind = "stuck"
    route = "/tasks"
    method = "POST"
    state = "indexing"
    count = 1

PUT /_engine/faults of a running engine takes the same structure as JSON. GET returns how often each fault was
applied, and DELETE removes all faults.
"""

from __future__ import annotations

import fnmatch
import json
import random
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from tl_data.local.errors import EngineError, invalid, one_of
from tl_data.untrusted import parse_toml

KINDS = (
    "latency", "too_many_requests", "status", "reset", "truncate", "malformed", "html", "redirect",
    "slow_body", "stream_error", "gzip", "chunked", "stuck", "failed", "warning", "gone",
)  # fmt: skip
#: Kinds that alter the real response; other kinds replace it.
ALTERING = ("truncate", "malformed", "slow_body", "stream_error", "gzip", "chunked")
OUTCOMES = ("stuck", "failed", "warning")  # kinds that change the outcome of a new task
MEMBERS = ("seed", "fault", "faults")
SHAPES = ("retry_after", "reset", "text", "empty")
#: Prefixes of the routes whose tasks have `processing` as their only running state.
PROCESSING = ("/embed", "/analyze", "/assets")
STATES = ("validating", "pending", "queued", "indexing", "processing")


@dataclass
class Fault:
    """One rule. `matched` counts the matching requests, and `done` those that the rule was applied to."""

    kind: str
    route: str = "*"  # relative to /v1.3: /search, /tasks/{task_id}, /indexes/*
    method: str = "*"
    probability: float = 1.0
    count: int | None = None
    after: bool = False
    seconds: float | None = None
    median: float | None = None
    sigma: float = 0.5
    low: float | None = None
    high: float | None = None
    shape: str = "retry_after"
    status: int | None = None
    code: str | None = None
    message: str | None = None
    share: float = 0.5
    location: str | None = None
    state: str | None = None
    matched: int = 0
    done: int = 0

    def matches(self, method: str, path: str, template: str) -> bool:
        """Whether a request matches, by its path or by the pattern of its route."""
        if self.method not in ("*", method):
            return False
        return fnmatch.fnmatchcase(path, self.route) or self.route == template

    def delay(self, rng: random.Random) -> float:
        """Seconds of delay, drawn from the configured distribution."""
        if self.median is not None:
            return self.median * rng.lognormvariate(0.0, self.sigma)
        if self.low is not None and self.high is not None:
            return rng.uniform(self.low, self.high)
        return self.seconds or 0.0

    def outcome(self) -> dict[str, Any]:
        """The outcome of a task that this fault applies to, as the column `fate` stores it."""
        return {
            "kind": self.kind,
            "state": self.state,
            "share": self.share,
            "code": self.code or "video_file_broken",
            "message": self.message
            or "Cannot read video file. Please check the video file is valid and try again.",
        }


class Faults:
    """The active rules, in the order of the configuration."""

    def __init__(self, file: Path | None = None) -> None:
        self._faults: list[Fault] = []
        self._seed: int | None = None
        self._rng = random.Random()
        if file:
            self.configure(_load(file))

    def configure(self, body: dict[str, Any]) -> None:
        """Replace all rules by `{"seed": ..., "fault": [{...}]}` (or the same with `faults`).

        Raises:
            EngineError: a member or kind is unknown, or a value has the wrong type.
        """
        if not isinstance(body, dict) or body.keys() - MEMBERS:
            raise invalid("faults", "It must be an object with seed and fault, and nothing else.", body)
        rules = body.get("fault", body.get("faults", []))
        if not isinstance(rules, list) or not all(isinstance(rule, dict) for rule in rules):
            raise invalid("fault", "It must be an array of objects.", rules)
        seed = body.get("seed")
        if seed is not None and (isinstance(seed, bool) or not isinstance(seed, int)):
            raise invalid("seed", "It must be a whole number.", seed)
        self._faults = [_read(rule) for rule in rules]
        self._seed, self._rng = seed, random.Random(seed)

    def clear(self) -> None:
        """Remove all rules."""
        self._faults = []

    def as_dict(self) -> dict[str, Any]:
        """The rules and how often each was applied, for a JSON response."""
        rules = [
            {name: value for name, value in asdict(fault).items() if value is not None}
            for fault in self._faults
        ]
        return {"seed": self._seed, "fault": rules}

    def select(self, method: str, path: str, template: str) -> list[Fault]:
        """Choose the faults for a request: any number of latencies, and at most one fault of another kind."""
        selected: list[Fault] = []
        for fault in self._faults:
            if not fault.matches(method, path, template):
                continue
            fault.matched += 1
            if fault.count is not None and fault.done >= fault.count:
                continue
            if self._rng.random() >= fault.probability:
                continue
            if fault.kind != "latency" and any(other.kind != "latency" for other in selected):
                continue
            fault.done += 1
            selected.append(fault)
        return selected

    def delay(self, selected: list[Fault]) -> float:
        """The total latency of the selected faults, in seconds."""
        return sum(fault.delay(self._rng) for fault in selected if fault.kind == "latency")


def _load(file: Path) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8")
        return json.loads(text) if file.suffix == ".json" else parse_toml(text)
    except (OSError, ValueError) as error:
        raise EngineError(
            400, "parameter_invalid", f"The fault file {file} cannot be read: {error}"
        ) from None


def _read(rule: dict[str, Any]) -> Fault:
    member_types = {f.name: str(f.type) for f in fields(Fault)}
    for name, value in rule.items():
        if name not in member_types:
            raise invalid("fault", f"A fault has no member {name!r}; it has {', '.join(member_types)}.")
        allowed_types: tuple[type, ...] = (str,)
        if "float" in member_types[name]:
            allowed_types = (int, float)
        elif "int" in member_types[name]:
            allowed_types = (int,)
        elif member_types[name] == "bool":
            allowed_types = (bool,)
        if value is not None and (
            not isinstance(value, allowed_types) or (isinstance(value, bool) and bool not in allowed_types)
        ):
            raise invalid("fault", f"The value of {name!r} has the wrong type: {value!r}.")
    settings = {
        name: value for name, value in rule.items() if value is not None and name not in ("matched", "done")
    }
    if settings.get("kind") not in KINDS:
        raise one_of("kind", KINDS, settings.get("kind"))
    fault = Fault(**settings)
    if fault.shape not in SHAPES:
        raise one_of("shape", SHAPES, fault.shape)
    if fault.kind in OUTCOMES:
        fault.state = fault.state or ("processing" if fault.route.startswith(PROCESSING) else "indexing")
        if fault.state not in STATES:
            raise one_of("state", STATES, fault.state)
    if not 0 <= fault.probability <= 1 or not 0 <= fault.share <= 1:
        raise invalid("probability", "Shares and probabilities are between 0 and 1.")
    if fault.location and not (fault.location.isascii() and fault.location.isprintable()):
        raise invalid("location", "It must be printable ASCII: it becomes a header.", fault.location)
    if fault.status is not None and not 100 <= fault.status <= 599:
        raise invalid("status", "It must be between 100 and 599.", fault.status)
    return fault
