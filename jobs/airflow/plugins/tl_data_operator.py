"""An operator of Airflow 3 for jobs of tl_data: it submits, waits in the triggerer, and collects.

Put this file into the folder of plugins, so that the triggerer finds it. The program `tl-data` may be in an
environment of its own (TL_DATA names it): nothing of it is imported here.

    TlDataOperator(task_id="catalog", job="/srv/jobs/nightly_catalog.toml")

While the platform works, no worker is held: the trigger asks `tl-data status --platform` every few minutes,
and ends the wait when none of the job's submitted tasks is unfinished. A task that Airflow starts again
attaches to what was submitted; nothing is paid twice. Where TL_VIEW_URL is the address of a running
`tl-data view`, as it prints it, the task has links: the poster of the video that was written last, its page,
and the runs with their counts. What the exit codes mean:

    0  the numbers of the run are the task's result (XCom)
    1  a video failed that had not failed alike before: the task fails and is not tried again; the rest is in
    2  the job is wrong: it fails at once, without a wait
    3  stopped: by its budget or by max_failures it fails for good, by trouble it is tried again
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import subprocess
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from airflow.plugins_manager import AirflowPlugin
from airflow.sdk import BaseOperator, BaseOperatorLink
from airflow.sdk.exceptions import AirflowException, AirflowFailException
from airflow.triggers.base import BaseTrigger, TriggerEvent

SHOWN = (
    "status",
    "reason",
    "rows",
    "submitted",
    "reused",
    "failed",
    "new_failures",
    "video_minutes",
    "price",
    "latest",
)
MEANINGS = {
    1: "some videos failed for the first time, the others are in: see the table errors",
    2: "the job is wrong",
    3: "stopped",
    130: "interrupted",
}


def program() -> list[str]:
    """The command that starts tl-data."""
    return shlex.split(os.environ.get("TL_DATA", "tl-data"))


def link(page: str, latest: str | None) -> str:
    """The address of a page of the viewer; "" without TL_VIEW_URL, or without a video that it is about.

    Args:
        page: poster, video or runs.
        latest: the source key of the video that the run wrote last.
    """
    view = os.environ.get("TL_VIEW_URL", "")
    if not view or (page != "runs" and latest is None):
        return ""
    if page == "poster":
        parts = urlsplit(view)
        query = f"{parts.query}&" if parts.query else ""
        path = f"{parts.path.rstrip('/')}/poster"
        return parts._replace(path=path, query=query + urlencode({"id": latest}), fragment="").geturl()
    return f"{view.partition('#')[0]}#{page}" + (f"={quote(str(latest), safe='')}" if page == "video" else "")


class PosterLink(BaseOperatorLink):
    """The poster of the video that the run wrote last."""

    name = "Poster of the newest video"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address; "" before the end of the task."""
        return link("poster", getattr(operator, "facts", {}).get("latest"))


class VideoLink(BaseOperatorLink):
    """The page of that video: player, chapters, clips."""

    name = "Newest video"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address; "" before the end of the task."""
        return link("video", getattr(operator, "facts", {}).get("latest"))


class RunsLink(BaseOperatorLink):
    """The runs with their counts and prices."""

    name = "Runs and counts"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address."""
        return link("runs", None)


class TlDataOperator(BaseOperator):
    """Run a job: submit, wait without a worker, collect.

    Args:
        job: path of the job file, on the workers and on the triggerer.
        verb: `run` does all at once and holds the worker; `submit` (the default) defers, then collects.
        poll: time between two looks at the tasks.
        longest_wait: time after which it collects, whatever the tasks' state: `collect` waits for the rest.
    """

    template_fields: Sequence[str] = ("job",)
    operator_extra_links = (PosterLink(), VideoLink(), RunsLink())
    facts: dict[str, Any] = {}  # noqa: RUF012 - replaced for each run, which is a process of its own

    def __init__(
        self,
        *,
        job: str,
        verb: str = "submit",
        poll: timedelta = timedelta(minutes=5),
        longest_wait: timedelta = timedelta(hours=6),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if verb not in ("submit", "run"):
            raise ValueError(f"verb is {verb!r}; it must be 'submit' or 'run'")
        self.job, self.verb, self.poll, self.longest_wait = job, verb, poll, longest_wait

    def execute(self, context: Any) -> dict[str, Any]:
        """Submit and defer, or run."""
        if self.verb == "run":
            return self._do("run")
        # Code 1 and a budget end neither the wait nor the collecting of what was submitted.
        code, facts = self._call("submit")
        if code == 2 or _may_retry(code, facts):
            self._fail("submit", code, facts)
        self.log.info("submitted: %s", facts)
        trigger = TasksReady(self.job, self.poll.total_seconds(), self.longest_wait.total_seconds())
        self.defer(trigger=trigger, method_name="collect", kwargs={"submitted": [code, facts]})
        raise AssertionError("defer returned")

    def collect(self, context: Any, event: Any = None, submitted: Any = (0, {})) -> dict[str, Any]:
        """What follows the wait."""
        self.log.info("%s", event)
        facts = self._do("collect")
        code, before = submitted
        if code:  # the submission stopped or failed in part: `collect` reports it with the rest
            self._fail("submit", code, before)
        return facts

    def _do(self, verb: str) -> dict[str, Any]:
        code, facts = self._call(verb)
        self.facts = facts  # for the links
        if code:
            self._fail(verb, code, facts)
        return facts

    def _call(self, verb: str) -> tuple[int, dict[str, Any]]:
        command = [*program(), verb, self.job, "--json"]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
        facts = json.loads(done.stdout) if done.stdout.strip() else {}
        return done.returncode, {name: facts[name] for name in SHOWN if name in facts}

    def _fail(self, verb: str, code: int, facts: dict[str, Any]) -> None:
        what = facts.get("reason") or MEANINGS.get(code, "interrupted")
        said = f"tl-data {verb} {self.job} ended with exit code {code} ({what}): {facts}"
        raise AirflowException(said) if _may_retry(code, facts) else AirflowFailException(said)


def _may_retry(code: int, facts: dict[str, Any]) -> bool:
    """Whether another try may help: trouble, an interruption, a process that was killed."""
    return code not in (0, 1, 2) and not (code == 3 and facts.get("status") in ("budget", "failures"))


class TasksReady(BaseTrigger):
    """Fires when the platform works on none of the submitted tasks of a job."""

    def __init__(self, job: str, poll_sec: float, longest_sec: float) -> None:
        super().__init__()
        self.job, self.poll_sec, self.longest_sec = job, poll_sec, longest_sec

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Class and arguments, for the triggerer."""
        arguments = {"job": self.job, "poll_sec": self.poll_sec, "longest_sec": self.longest_sec}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Ask, and sleep between two questions."""
        waited, unfinished = 0.0, -1
        while waited < self.longest_sec:
            unfinished = await self._unfinished()
            if unfinished == 0:
                break
            await asyncio.sleep(self.poll_sec)
            waited += self.poll_sec
        yield TriggerEvent({"waited_sec": waited, "unfinished": unfinished})

    async def _unfinished(self) -> int:
        """The number of unfinished tasks; -1 if the command failed, which the next one may not."""
        command = [*program(), "status", self.job, "--platform", "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return int(json.loads(out)["unfinished"]) if process.returncode == 0 else -1


class TlDataPlugin(AirflowPlugin):
    """Tells the web server which links tasks have."""

    name = "tl_data"
    operator_extra_links = [PosterLink(), VideoLink(), RunsLink()]  # noqa: RUF012 - as Airflow declares it
