"""Subtitles of the speech (WebVTT, SRT, TTML), and chapters for a video description on YouTube.

The transcription of a clip is divided into cues of at most two lines. The duration of the clip is divided
among the cues in proportion to their letters. Times are in milliseconds; hours have two or more digits.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree as ET

from tl_data.export.editing.timelines import TIMELINE_TABLES, Folder
from tl_data.export.sink import Refused, Sink

LINE_LETTERS = 42  # the most letters of a line; the usual limit of broadcasters
CUE_LINES = 2  # the most lines of a cue
# YouTube shows chapters only if there are three of them, each of ten seconds or more.
YOUTUBE_MIN_SECONDS = 10
YOUTUBE_MIN_CHAPTERS = 3
_LANGUAGE = {"language": "language tag, such as en or pt-BR"}


@dataclass(frozen=True)
class Cue:
    """A subtitle."""

    start: int  # milliseconds
    end: int  # milliseconds
    lines: tuple[str, ...]


def cues(events: list[dict[str, Any]]) -> Iterator[Cue]:
    """Convert events, sorted by time, to cues that do not overlap.

    The texts of events with the same time range share a cue. If two other events overlap, the first one ends
    earlier.
    """
    by_range: dict[tuple[int, int], list[str]] = {}
    for event in events:
        time_range = (round(event["start_sec"] * 1000), round(event["end_sec"] * 1000))
        if (text := _event_text(event)) and time_range[1] > time_range[0]:
            by_range.setdefault(time_range, []).append(text)
    texts = [(start, end, " · ".join(dict.fromkeys(same))) for (start, end), same in by_range.items()]
    for n, (start, end, text) in enumerate(texts):
        if n + 1 < len(texts):
            end = min(end, max(texts[n + 1][0], start + 1))
        lines = textwrap.wrap(text, LINE_LETTERS, break_long_words=True)
        parts = [tuple(lines[first : first + CUE_LINES]) for first in range(0, len(lines), CUE_LINES)]
        parts = parts[: max(end - start, 1)]
        all_letters, letters, cue_start = sum(map(_letters, parts)), 0, start
        for part in parts:
            letters += _letters(part)
            cue_end = max(start + (end - start) * letters // all_letters, cue_start + 1)
            yield Cue(cue_start, cue_end, part)
            cue_start = cue_end


def _letters(lines: tuple[str, ...]) -> int:
    return sum(map(len, lines))


def _event_text(event: Mapping[str, Any]) -> str:
    """The text of an event on one line, because an empty line ends a cue. Control characters are removed."""
    text = event["text"] if event["kind"] == "clips" else event["title"] or event["text"]
    return " ".join("".join(c if c.isprintable() else " " for c in text or "").split())


def clock(milliseconds: int, mark: str) -> str:
    """A time as HH:MM:SS.mmm; `mark` is the decimal separator."""
    seconds, rest = divmod(milliseconds, 1000)
    return f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}{mark}{rest:03}"


class _WebVTT(Folder):
    ending = ".vtt"

    def text(self, row: Mapping[str, Any]) -> str:
        blocks = [
            "WEBVTT" + (f"\nLanguage: {self.options['language']}" if "language" in self.options else "")
        ]
        for cue in cues(row["events"]):
            lines = "\n".join(_escape(line) for line in cue.lines)
            blocks.append(f"{clock(cue.start, '.')} --> {clock(cue.end, '.')}\n{lines}")
        return "\n\n".join(blocks) + "\n"


def _escape(line: str) -> str:
    return line.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


class _SRT(Folder):
    ending = ".srt"

    def text(self, row: Mapping[str, Any]) -> str:
        blocks = []
        for number, cue in enumerate(cues(row["events"]), 1):
            # Players hide text that looks like a tag, and may read an arrow as a line of times.
            lines = [line.replace("-->", "-›").replace("<", "‹").replace(">", "›") for line in cue.lines]
            times = f"{clock(cue.start, ',')} --> {clock(cue.end, ',')}"
            blocks.append("\n".join([str(number), times, *lines]))
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
        ET.SubElement(head, f"{{{tt}#metadata}}title").text = _printable(row["title"])
        division = ET.SubElement(ET.SubElement(root, f"{{{tt}}}body"), f"{{{tt}}}div")
        for cue in cues(row["events"]):
            times = {"begin": clock(cue.start, "."), "end": clock(cue.end, ".")}
            paragraph = ET.SubElement(division, f"{{{tt}}}p", times)
            paragraph.text = cue.lines[0]
            for line in cue.lines[1:]:
                ET.SubElement(paragraph, f"{{{tt}}}br").tail = line
        return ET.tostring(root, encoding="unicode", xml_declaration=False) + "\n"


def _printable(text: str) -> str:
    return "".join(c for c in text if c.isprintable())


class _YouTube(Folder):
    ending = ".txt"

    def text(self, row: Mapping[str, Any]) -> str | Refused:
        """One line per chapter: time and title. A chapter under ten seconds is merged with the previous."""
        marks: list[tuple[int, str]] = []
        for event in row["events"]:
            start = int(event["start_sec"])
            if not marks or start - marks[-1][0] >= YOUTUBE_MIN_SECONDS:
                marks.append((start if marks else 0, _event_text(event) or f"Chapter {len(marks) + 1}"))
        length = row["duration_sec"]
        if marks and length and length - marks[-1][0] < YOUTUBE_MIN_SECONDS:
            marks.pop()
        if len(marks) < YOUTUBE_MIN_CHAPTERS:
            text = f"it has {len(marks)} chapters of ten seconds or more; YouTube needs three"
            return Refused(row["id"], "too_few_chapters", text, row["video_id"] or row["source_key"])
        return "".join(f"{_short_time(start)} {title[:100]}\n" for start, title in marks)


def _short_time(seconds: int) -> str:
    """A time as 0:00, 12:34 or 1:02:03."""
    hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def _sink(
    name: str, store: type[Folder], location_format: str, tables: tuple[str, ...], options: dict[str, str]
) -> Sink:
    return Sink(
        name,
        "timelines",
        store,
        location_format,
        default_tables=tables,
        allowed_tables=TIMELINE_TABLES,
        options=options,
    )


WEBVTT = _sink("webvtt", _WebVTT, "a folder of .vtt files", ("clips",), _LANGUAGE)
SRT = _sink("srt", _SRT, "a folder of .srt files", ("clips",), {})
TTML = _sink("ttml", _TTML, "a folder of .ttml files", ("clips",), _LANGUAGE)
YOUTUBE = _sink("youtube", _YouTube, "a folder of .txt files to paste into descriptions", ("chapters",), {})
