"""The output of the demo: steps, tables of hits, and the summary."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from tl_data.demo.videos import Question
from tl_data.lake.schemas import TABLES
from tl_data.pipeline.report import Report

_KINDS = {"spoken": "words spoken", "shown": "words shown", "visible": "things visible"}


class Screen:
    """Prints the text output of the demo."""

    def __init__(self, console: Console) -> None:
        self._console = console
        if not console.is_terminal:
            console.width = max(console.width, 120)  # a file or pipe has no width of its own

    def step(self, text: str) -> None:
        """Print a finished step."""
        self._console.print(Text("• ", style="bold green") + Text(text), soft_wrap=True)

    def working(self, text: str) -> AbstractContextManager[Any]:
        """Show a progress indicator."""
        return self._console.status(f"{text} ...")

    def tables(self, folder: str, rows: Mapping[str, int]) -> None:
        """Print the written tables."""
        self.step(f"Delta tables in {folder}:")
        table = _table("table", "rows", "content")
        for name, count in rows.items():
            table.add_row(f"{folder}/{name}", str(count), TABLES[name].doc)
        self._console.print(table)

    def models(self, stages: Sequence[Mapping[str, Any]]) -> None:
        """Print the model of each stage, and the stages that have none."""
        for stage in stages:
            if stage["tier"] == "off":
                self._console.print(Text(f"  {stage['stage']} is off: {stage['model']}", style="yellow"))
        in_use = [f"{stage['stage']}: {stage['model']}" for stage in stages if stage["tier"] != "off"]
        self.step(f"Answered by {'; '.join(in_use)}")

    def recognised(self, rows: Sequence[tuple[Any, ...]]) -> None:
        """Print the recognised content of each video: (name, objects and people, speech, on-screen text)."""
        self.step("What was recognised in each video, with times")
        table = _table("video", "objects and people", "speech", "on the screen")
        for name, *texts in rows:
            table.add_row(name, *(_short(text) for text in texts))
        self._console.print(table)

    def question(self) -> str:
        """Ask for a question on the terminal; "" if there is no terminal or no question."""
        if not (self._console.is_terminal and sys.stdin.isatty()):
            return ""
        try:
            return self._console.input("[bold]Ask about your videos[/bold] (Enter ends): ").strip()
        except EOFError:
            return ""

    def search(self, question: Question, sql: str, hits: Sequence[tuple[Any, ...]]) -> None:
        """Print a search and its hits as (url, start, end, confidence)."""
        self.step(f"Search for {_KINDS[question.kind]}: “{question.text}”")
        self._sql(sql)
        table = _table("moment", "time", "confidence")
        for url, start, end, confidence in hits:
            table.add_row(_link(url, start, end), _time(start, end), str(confidence))
        self._console.print(table if hits else "  nothing found")

    def join(self, sql: str, hits: Sequence[tuple[Any, ...]], labels: Mapping[str, Question]) -> None:
        """Print a join and its rows (question, url, start, end, chapter), checked against the labels."""
        self.step("A join of tables and functions: each question, its best moment, and the chapter around it")
        self._sql(sql)
        table = _table("question", "moment", "time", "chapter", "")
        correct = 0
        for question, url, start, end, chapter in hits:
            label = labels.get(question)
            mark = ""
            if label:
                is_correct = label.video in url and start < label.end_sec and end > label.start_sec
                correct += is_correct
                mark = "✓" if is_correct else "✗"
            table.add_row(question, _link(url, start, end), _time(start, end), chapter or "", mark)
        self._console.print(table)
        if labels:
            self.step(f"{correct} of {len(labels)} labelled questions find the right moment first")

    def end(self, report: Report) -> None:
        """Print failures and the summary."""
        *details, summary = report.lines()
        for line in details:
            self._console.print(line, soft_wrap=True, markup=False)
        if report.rows and report.unchanged == report.distinct:
            self.step("Nothing was new: everything was reused from the tables")
        self._console.print(Text(summary, style="bold"), soft_wrap=True)

    def _sql(self, sql: str) -> None:
        self._console.print()
        self._console.print(Syntax(sql, "sql", theme="ansi_dark", background_color="default", padding=(0, 2)))


def _table(*columns: str) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=True)
    for name in columns:
        is_unbroken = name in ("moment", "time", "table", "rows")
        table.add_column(
            name, no_wrap=is_unbroken, overflow="fold", justify="right" if name == "rows" else "left"
        )
    return table


def _short(text: str | None, maximum: int = 220) -> str:
    one_line = " ".join((text or "").split())
    return one_line if len(one_line) <= maximum else one_line[:maximum].rsplit(" ", 1)[0] + " …"


def _link(url: str, start: float, end: float) -> Text:
    """The URL, which terminals show as a link to the time range (a media fragment)."""
    return Text(url, style=f"link {url}#t={start:g},{end:g}")


def _time(start: float, end: float) -> str:
    return f"{_clock(start)} – {_clock(end)}"


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}:{int(seconds % 60):02}"
