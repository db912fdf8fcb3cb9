"""An operator of Airflow 3 for jobs of tl_data: it submits, waits in the triggerer, and collects.

Put this file into the plugins folder, so that the triggerer can import it. The program `tl-data` may be in a
separate environment (TL_DATA names the program): this file does not import it.

    TlDataOperator(task_id="catalog", job="/srv/jobs/nightly_catalog.toml")

While the platform works, the operator occupies no worker: the trigger calls `tl-data status --platform` every
few minutes, and ends the wait when the platform has finished all submitted tasks of the job. If Airflow
starts the task again, it continues with the submitted tasks; nothing is paid twice. If TL_VIEW_URL is the
address that a running `tl-data view` printed, the task has links: the poster of the video that was written
last, its page, and the list of runs. The exit codes of `tl-data`:

    0    the counts of the run are the task's result (XCom)
    1    videos failed for the first time or with a new error: the task fails without a retry; the others are
         in the tables
    2    the job is invalid: the task fails at once, without a wait or a retry
    3    stopped: after a reached budget or max_failures the task fails without a retry; otherwise it is
         retried
    130  interrupted, also any other code: the task is retried
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

#: The fields of the output of `tl-data --json` that become the task's result.
RESULT_FIELDS = (
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
#: Exit code -> its meaning, for messages.
MEANINGS = {
    1: "videos failed for the first time or with a new error: see the table errors",
    2: "the job is invalid",
    3: "stopped",
    130: "interrupted",
}


def program() -> list[str]:
    """The command that starts tl-data."""
    return shlex.split(os.environ.get("TL_DATA", "tl-data"))


def link(page: str, latest: str | None) -> str:
    """The address of a page of the viewer; "" without TL_VIEW_URL, or for a video if `latest` is None.

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
    """The viewer's page of the video that the run wrote last."""

    name = "Newest video"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address; "" before the end of the task."""
        return link("video", getattr(operator, "facts", {}).get("latest"))


class RunsLink(BaseOperatorLink):
    """The viewer's list of runs, with their counts and prices."""

    name = "Runs and counts"

    def get_link(self, operator: Any, *, ti_key: Any) -> str:
        """The address."""
        return link("runs", None)


class TlDataOperator(BaseOperator):
    """Run a job: submit, wait without a worker, collect.

    Args:
        job: path of the job file, the same on the workers and on the triggerer.
        verb: `submit` (the default) submits, defers and collects; `run` calls `tl-data run` and occupies the
            worker until it ends.
        poll: time between two checks of the tasks.
        longest_wait: time after which the operator collects even if tasks are unfinished: `collect` waits for
            them.
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
        # After exit code 1, a reached budget or max_failures, the submitted tasks are still collected.
        code, facts = self._call("submit")
        if code == 2 or _may_retry(code, facts):
            self._fail("submit", code, facts)
        self.log.info("submitted: %s", facts)
        trigger = TasksReady(self.job, self.poll.total_seconds(), self.longest_wait.total_seconds())
        self.defer(trigger=trigger, method_name="collect", kwargs={"submitted": [code, facts]})
        raise AssertionError("defer returned")

    def collect(self, context: Any, event: Any = None, submitted: Any = (0, {})) -> dict[str, Any]:
        """Collect after the wait. Fails if the submission failed in part."""
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
        return done.returncode, {name: facts[name] for name in RESULT_FIELDS if name in facts}

    def _fail(self, verb: str, code: int, facts: dict[str, Any]) -> None:
        what = facts.get("reason") or MEANINGS.get(code, "interrupted")
        message = f"tl-data {verb} {self.job} ended with exit code {code} ({what}): {facts}"
        raise AirflowException(message) if _may_retry(code, facts) else AirflowFailException(message)


def _may_retry(code: int, facts: dict[str, Any]) -> bool:
    """Whether a retry may succeed: after an outage, an interruption, or a killed process."""
    return code not in (0, 1, 2) and not (code == 3 and facts.get("status") in ("budget", "failures"))


class TasksReady(BaseTrigger):
    """Ends the wait when the platform has finished all submitted tasks of a job, or after `longest_sec`."""

    def __init__(self, job: str, poll_sec: float, longest_sec: float) -> None:
        super().__init__()
        self.job, self.poll_sec, self.longest_sec = job, poll_sec, longest_sec

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """The class and its arguments, from which the triggerer creates the trigger."""
        arguments = {"job": self.job, "poll_sec": self.poll_sec, "longest_sec": self.longest_sec}
        return f"{type(self).__module__}.{type(self).__qualname__}", arguments

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Check the tasks every `poll_sec` seconds. The event has `waited_sec` and `unfinished`."""
        waited, unfinished = 0.0, -1
        while waited < self.longest_sec:
            unfinished = await self._unfinished()
            if unfinished == 0:
                break
            await asyncio.sleep(self.poll_sec)
            waited += self.poll_sec
        yield TriggerEvent({"waited_sec": waited, "unfinished": unfinished})

    async def _unfinished(self) -> int:
        """The number of unfinished tasks; -1 if the command failed. The next check calls it again."""
        command = [*program(), "status", self.job, "--platform", "--json"]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
        out, _ = await process.communicate()
        return int(json.loads(out)["unfinished"]) if process.returncode == 0 else -1


class TlDataPlugin(AirflowPlugin):
    """Registers the links of the operator with Airflow."""

    name = "tl_data"
    operator_extra_links = [PosterLink(), VideoLink(), RunsLink()]  # noqa: RUF012 - as Airflow declares it
