"""Subtitles of what is spoken (WebVTT, SRT, TTML) and chapters for a description on YouTube.

The words of a clip are spread over cues of at most two lines, each as long as its share of the letters. Times
are milliseconds; hours have as many digits as they need.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from tl_data.export.editing.timelines import Folder
from tl_data.export.sink import Refused, Sink

LINE = 42  # letters; what broadcasters ask for
LINES = 2
YOUTUBE_LEAST, YOUTUBE_CHAPTERS = 10, 3  # seconds of a chapter, and chapters, below which YouTube shows none
TAKES = ("chapters", "clips", "alerts")
_LANGUAGE = {"language": "tag of the language, such as en or pt-BR"}


@dataclass(frozen=True)
class Cue:
    """What is shown at one time; milliseconds."""

    start: int
    end: int
    lines: tuple[str, ...]


def cues(events: list[dict[str, Any]]) -> Iterator[Cue]:
    """Events as cues that follow each other: one that begins before its predecessor ends cuts it short."""
    stretches = [(round(e["start_sec"] * 1000), round(e["end_sec"] * 1000), _said(e)) for e in events]
    stretches = [s for s in stretches if s[2] and s[1] > s[0]]
    for n, (start, end, text) in enumerate(stretches):
        if n + 1 < len(stretches):
            end = min(end, max(stretches[n + 1][0], start + 1))
        lines = textwrap.wrap(text, LINE, break_long_words=True)
        parts = [tuple(lines[at : at + LINES]) for at in range(0, len(lines), LINES)]
        parts = parts[: max(end - start, 1)]
        letters, done, at = sum(map(_letters, parts)), 0, start
        for part in parts:
            done += _letters(part)
            until = max(start + (end - start) * done // letters, at + 1)
            yield Cue(at, until, part)
            at = until


def _letters(lines: tuple[str, ...]) -> int:
    return sum(map(len, lines))


def _said(event: Mapping[str, Any]) -> str:
    """The words in one line: an empty line would end a cue, and control characters are no text."""
    text = event["text"] if event["kind"] == "clips" else event["title"] or event["text"]
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())


def clock(milliseconds: int, mark: str) -> str:
    """HH:MM:SS.mmm."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


class _WebVTT(Folder):
    ending = ".vtt"

    def text(self, row: Mapping[str, Any]) -> str:
        blocks = [
            "WEBVTT" + (f"\nLanguage: {self.options['language']}" if "language" in self.options else "")
        ]
        for cue in cues(row["events"]):
            lines = "\n".join(_markup(line) for line in cue.lines)
            blocks.append(f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{lines}")
        return "\n\n".join(blocks) + "\n"


def _markup(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _SRT(Folder):
    ending = ".srt"

    def text(self, row: Mapping[str, Any]) -> str:
        blocks = []
        for number, cue in enumerate(cues(row["events"]), 1):
            # Players show what looks like a tag as nothing, and an arrow could be read as a line of times.
            lines = [line.replace("-->", "-›").replace("<", "‹").replace(">", "›") for line in cue.lines]
            stretch = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
            blocks.append("\n".join([str(number), stretch, *lines]))
        return "\n\n".join(blocks) + ("\n" if blocks else "")


class _TTML(Folder):
    ending = ".ttml"

    def text(self, row: Mapping[str, Any]) -> str:
        tt = "http://www.w3.org/ns/ttml"
        ET.register_namespace("", tt)
        ET.register_namespace("ttm", f"{tt}#metadata")
        xml = "{http://www.w3.org/XML/1998/namespace}"
        root = ET.Element(f"{{{tt}}}tt", {f"{xml}lang": self.options.get("language", "")})
        head = ET.SubElement(ET.SubElement(root, f"{{{tt}}}head"), f"{{{tt}}}metadata")
        ET.SubElement(head, f"{{{tt}#metadata}}title").text = _plain(row["title"])
        division = ET.SubElement(ET.SubElement(root, f"{{{tt}}}body"), f"{{{tt}}}div")
        for cue in cues(row["events"]):
            times = {"begin": clock(cue.start, "."), "end": clock(cue.end, ".")}
            paragraph = ET.SubElement(division, f"{{{tt}}}p", times)
            paragraph.text = cue.lines[0]
            for line in cue.lines[1:]:
                ET.SubElement(paragraph, f"{{{tt}}}br").tail = line
        return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _plain(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


class _YouTube(Folder):
    ending = ".txt"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        """Lines of time and title. Chapters shorter than ten seconds join the one before."""
        marks: list[tuple[int, str]] = []
        for event in row["events"]:
            at = int(event["start_sec"])
            if not marks or at - marks[-1][0] >= YOUTUBE_LEAST:
                marks.append((at if marks else 0, _said(event) or f"Chapter {len(marks) + 1}"))
        length = row["duration_sec"]
        if marks and length and length - marks[-1][0] < YOUTUBE_LEAST:
            marks.pop()
        if len(marks) < YOUTUBE_CHAPTERS:
            text = f"{len(marks)} chapters of ten seconds or more; YouTube shows none below three"
            return Refused(row["id"], "too_few_chapters", text, row["video_id"] or row["source_key"])
        return "".join(f"{_short(at)} {title[:100]}\n" for at, title in marks)


def _short(seconds: int) -> str:
    """0:00, 12:34 or 1:02:03."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _sink(name: str, store: type[Folder], doc: str, tables: tuple[str, ...], options: dict[str, str]) -> Sink:
    return Sink(name, "timelines", store, doc, tables=tables, takes=TAKES, options=options)


WEBVTT = _sink("webvtt", _WebVTT, "a folder of .vtt files", ("clips",), _LANGUAGE)
SRT = _sink("srt", _SRT, "a folder of .srt files", ("clips",), {})
TTML = _sink("ttml", _TTML, "a folder of .ttml files", ("clips",), _LANGUAGE)
YOUTUBE = _sink("youtube", _YouTube, "a folder of .txt files to paste into descriptions", ("chapters",), {})
