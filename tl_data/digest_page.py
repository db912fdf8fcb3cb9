"""Sections of rows as a page: Markdown, or HTML that needs nothing beside itself."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

STYLE = (
    "body{font-family:sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem}"
    "table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:.3rem .6rem;text-align:left;"
    "vertical-align:top}"
)


@dataclass(frozen=True)
class Section:
    """A table under a heading; `count` rows there are, of which `rows` are shown."""

    name: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    count: int

    @property
    def more(self) -> str:
        """What is not shown."""
        return f"and {self.count - len(self.rows)} more" if self.count > len(self.rows) else ""


def to_markdown(title: str, sentence: str, sections: Sequence[Section]) -> str:
    """The page in Markdown with tables; texts from videos cannot become markup."""
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
    """The page in HTML; texts from videos cannot become markup."""
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
    """A value as text: numbers with two digits behind the point, NULL as nothing."""
    if value is None:
        return ""
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _plain(text: str) -> str:
    """Text that Markdown shows as it is, on one line."""
    # An underscore within a word, as names of files and codes have it, is only an underscore.
    return re.sub(r"([\\`*\[\]<>|#~]|(?<![^\W_])_|_(?![^\W_]))", r"\\\1", " ".join(text.split()))
