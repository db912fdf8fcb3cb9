"""The digest: a page in Markdown or self-contained HTML about the additions of the last days.

The sections are SQL queries over the tables of the lake, in DuckDB. URLs are shown without signatures. Prices
and failures are those of all jobs with the same folder.
"""

from __future__ import annotations

import html
import os
import re
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tl_data.errors import LakeError, MissingExtra
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ALERTS, ERRORS, RUNS, SUMMARIES, VIDEOS
from tl_data.pipeline.job import Digest, Job
from tl_data.urls import redacted

STYLE = (
    "body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;"
    "vertical-align:top}"
)


@dataclass(frozen=True)
class Section:
    """A table under a heading. It shows `rows`; the query has `count` rows in total."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    count: int

    @property
    def more(self) -> str:
        """The number of rows that are not shown, as text."""
        return f"and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""


def to_markdown(title: str, sentence: str, sections: Sequence[Section]) -> str:
    """The page in Markdown. Texts from videos are escaped."""
    lines = [f"# {_plain(title)}", "", sentence, ""]
    for section in sections:
        lines += [f"## {section.name}", ""]
        if section.rows:
            lines.append(f"| {' | '.join(section.columns)} |")
            lines.append(f"|{' --- |' * len(section.columns)}")
            lines += [f"| {' | '.join(_plain(cell(v)) for v in row)} |" for row in section.rows]
        else:
            lines.append("none")
        lines += ["", section.more, ""] if section.more else [""]
    return "\n".join(lines)


def to_html(title: str, sentence: str, sections: Sequence[Section]) -> str:
    """The page in HTML. Texts from videos are escaped."""
    parts = [
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(title)}</title>',
        f"<style>{STYLE}</style><h1>{html.escape(title)}</h1><p>{html.escape(sentence)}</p>",
    ]
    for section in sections:
        parts.append(f"<h2>{html.escape(section.name)}</h2>")
        if section.rows:
            head = "".join(f"<th>{html.escape(c)}</th>" for c in section.columns)
            body = "".join(
                f"<tr>{''.join(f'<td>{html.escape(cell(v))}</td>' for v in row)}</tr>\n"
                for row in section.rows
            )
            parts.append(f"<table><tr>{head}</tr>\n{body}</table>")
        else:
            parts.append("<p>none</p>")
        if section.more:
            parts.append(f"<p>{section.more}</p>")
    return "\n".join(parts) + "</html>\n"


def cell(value: Any) -> str:
    """A value as text: numbers with two decimals, NULL as ""."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """A text on one line, escaped for Markdown."""
    # An underscore inside a word, as in file names and error codes, needs no escape.
    return re.sub(r"([\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))


#: A digest counts as the previous one if it ended at most this much later than `days` ago.
DIGEST_TOLERANCE = timedelta(hours=12)

MAX_ROWS = 100  # largest number of rows of a section

#: For each table that the digest reads, the query for the rows that it needs. In the query the table has the
#: name `lake_rows`, and `$since` is the beginning of the period. A video without an index has no id, so its
#: content key takes the place of the id.
TABLES = {
    VIDEOS: """SELECT coalesce(video_id, content_key) AS video, any_value(url) AS url,
        any_value(duration_sec) AS seconds, min(indexed_at) AS first_indexed_at
        FROM lake_rows GROUP BY video HAVING min(indexed_at) >= $since""",
    SUMMARIES: """SELECT coalesce(video_id, content_key) AS video, arg_min(title, prompt) AS title,
        arg_min(summary, prompt) AS summary, arg_min(topics, prompt) AS topics
        FROM lake_rows GROUP BY video""",
    ERRORS: "SELECT * FROM lake_rows WHERE failed_at >= $since",
    ALERTS: "SELECT * FROM lake_rows WHERE found_at >= $since",
    RUNS: "SELECT * FROM lake_rows WHERE started_at >= $since AND digest_until IS NULL",
}

TOTALS = "SELECT count(*), coalesce(sum(seconds), 0) / 60 FROM videos"

SPENT = """SELECT currency, count(*) AS runs, sum(price) AS price FROM runs
GROUP BY currency ORDER BY currency"""

SECTIONS = (
    (
        "New videos",
        """SELECT coalesce(s.title, v.url) AS video, v.url, v.seconds / 60 AS minutes, s.summary
        FROM videos v LEFT JOIN summaries s USING (video) ORDER BY v.first_indexed_at, v.url""",
    ),
    (
        "Topics",
        """SELECT topic, count(DISTINCT video) AS videos
        FROM (SELECT video, unnest(s.topics) AS topic FROM videos JOIN summaries s USING (video))
        GROUP BY topic ORDER BY videos DESC, topic LIMIT 10""",
    ),
    (
        "Alerts",
        """SELECT question, url, start_sec, end_sec, confidence
        FROM alerts ORDER BY question, found_at, url, start_sec""",
    ),
    (
        "Failures",
        """SELECT source_key AS video, code, message,
        CASE WHEN retryable THEN 'yes' ELSE 'no' END AS "tried again"
        FROM errors ORDER BY code, source_key""",
    ),
)


@dataclass(frozen=True)
class DigestReport:
    """The path of the page, and its summary."""

    file: str
    sentence: str

    def lines(self) -> list[str]:
        """The report as text."""
        return [f"digest: {self.file}", f"  {self.sentence}"]


def digest_file(digest: Digest, now: datetime) -> Path:
    """The path of the page for a day."""
    path = Path(digest.file)
    return path.with_name(now.strftime(path.name))


def write_digest(job: Job, digest: Digest, now: datetime | None = None) -> DigestReport:
    """Write the page about the period before `now`, and replace an existing page.

    The period begins where the previous digest ended, so that clock changes and late starts leave no gap. The
    first digest covers `days`. Each digest gets a row in the table `runs`.

    Raises:
        LakeError: a table cannot be read, or the file cannot be written.
    """
    now = now or datetime.now(UTC)
    lake = Lake(job.folder, job.format)
    since = beginning(lake, job.name, digest, now)
    sentence, sections = _query(lake, since)
    title = f"{job.name}: {since:%Y-%m-%d} to {now:%Y-%m-%d}"
    path = digest_file(digest, now)
    page = to_html if path.suffix == ".html" else to_markdown
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(page(title, sentence, sections), encoding="utf-8")
        os.replace(temporary, path)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        raise LakeError(f"{path}: the digest cannot be written: {error.strerror}") from error
    row = {
        "run_id": f"{now:%Y%m%dT%H%M%S}-digest-{uuid.uuid4().hex[:6]}",
        "job": job.name,
        "status": "digest",
        "started_at": now,
        "ended_at": datetime.now(UTC),
        "digest_until": now,
    }
    lake.table(RUNS).replace_groups(rows_of(RUNS, [row]))
    return DigestReport(str(path), sentence)


def beginning(lake: Lake, job: str, digest: Digest, now: datetime) -> datetime:
    """The beginning of a digest: the end of the job's last digest that is `days` old or older.

    It may be younger by `DIGEST_TOLERANCE`. If there is none, the beginning is `days` ago. Later digests
    are ignored, such as a repeated one, or yesterday's if each covers seven days.
    """
    default = now - timedelta(days=digest.days)
    rows = lake.read(RUNS, ["job", "digest_until"]).to_pylist()
    ends = [row["digest_until"] for row in rows if row["job"] == job and row["digest_until"]]
    return max((end for end in ends if end <= default + DIGEST_TOLERANCE), default=default)


def _query(lake: Lake, since: datetime) -> tuple[str, list[Section]]:
    """The summary and the sections of a digest, from the tables."""
    try:
        import duckdb
    except ImportError as error:
        raise MissingExtra("duckdb", "jobs") from error
    with duckdb.connect() as con:
        for declared, query in TABLES.items():
            con.register("lake_rows", lake.batches(declared))
            values = {"since": since} if "$since" in query else None
            con.execute(f"CREATE TABLE {declared.name} AS {query}", values)
            con.unregister("lake_rows")
        [(videos, minutes)] = con.execute(TOTALS).fetchall()
        [(alerts, failures)] = con.execute(
            "SELECT (SELECT count(*) FROM alerts), (SELECT count(*) FROM errors)"
        ).fetchall()
        spent = [
            f"{price:.2f} {currency} in {runs} runs"
            for currency, runs, price in con.execute(SPENT).fetchall()
        ]
        sections = [_section(con, name, query) for name, query in SECTIONS]
    sentence = (
        f"{videos} new videos, {minutes:.2f} video minutes; {alerts} alerts; {failures} failures; "
        f"price {', '.join(spent) or '0.00 in 0 runs'}"
    )
    return sentence, sections


def _section(con: Any, name: str, query: str) -> Section:
    [(count,)] = con.execute(f"SELECT count(*) FROM ({query})").fetchall()
    result = con.execute(f"{query if 'LIMIT' in query else f'{query} LIMIT {MAX_ROWS}'}")
    columns = [column[0] for column in result.description]
    rows = [tuple(redacted(v) if isinstance(v, str) else v for v in row) for row in result.fetchall()]
    return Section(name, columns, rows, int(count))
