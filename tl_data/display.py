"""Rows in a notebook: a strip of pictures with their times and texts, and a table where HTML is off.

    tl_data.show(con.sql("SELECT * FROM tl_search('demo', 'a red car')"), lake="lake")
    tl_data.search("demo", "a red car")             # shows itself

At most 20 rows have a picture. What is saved with a notebook is small: pictures of 320 pixels as data, texts,
and addresses without anything that signs them.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa

from tl_data.errors import MediaRefused, MissingExtra
from tl_data.urls import encoded, redacted

MOST = 20  # rows with a picture, and rows of a table
CELL = 160  # characters of a text
STYLE = {
    "strip": "display:flex;flex-wrap:wrap;gap:12px;font:13px/1.4 system-ui,sans-serif",
    "tile": "width:240px;border:1px solid #8884;border-radius:8px;overflow:hidden",
    "picture": "width:240px;height:135px;object-fit:cover;display:block;background:#8883",
    "text": "padding:6px 10px;overflow-wrap:anywhere",
    "time": "font-variant-numeric:tabular-nums;opacity:.75",
}
TIMES = ("start_sec", "end_sec", "sec")
TITLES = ("title", "highlight", "question", "filename", "source_key")
TEXTS = ("transcription", "summary", "text")

Row = dict[str, Any]


class Shown:
    """Rows with a representation as HTML for notebooks and as text.

    Args:
        rows: plain rows.
        pictures: JPEGs by position; a row without one gets an empty field.
        total: the number of all rows, of which `rows` are the first.
    """

    def __init__(self, rows: Sequence[Row], pictures: Mapping[int, bytes], total: int) -> None:
        self.rows = list(rows)
        self.pictures = dict(pictures)
        self.total = total

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>no rows</p>"
        videos = any(_name(row) for row in self.rows) and any(key in self.rows[0] for key in TIMES)
        body = self._strip() if self.pictures or videos else self._table()
        more = self.total - len(self.rows)
        return body + (f"<p>and {more} more rows</p>" if more > 0 else "")

    def __repr__(self) -> str:
        if not self.rows:
            return "no rows"
        names = _names(self.rows)
        lines = [[*names], *([_cell(row.get(n), 40) for n in names] for row in self.rows)]
        widths = [max(len(line[at]) for line in lines) for at in range(len(names))]
        text = "\n".join("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in lines)
        return text + (f"\nand {self.total - len(self.rows)} more" if self.total > len(self.rows) else "")

    def _strip(self) -> str:
        return f'<div style="{STYLE["strip"]}">{"".join(map(self._tile, range(len(self.rows))))}</div>'

    def _tile(self, at: int) -> str:
        row = self.rows[at]
        start, end = row.get("start_sec", row.get("sec")), row.get("end_sec")
        poster = ""
        if picture := self.pictures.get(at):
            poster = f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}"
        url = _open_url(row)
        if url:
            moment = "" if start is None else f"#t={start:g}" + ("" if end is None else f",{end:g}")
            media = (
                f'<video controls preload="none" style="{STYLE["picture"]}" poster="{poster}" '
                f'src="{escape(url + moment)}"></video>'
            )
        elif poster:
            media = f'<img style="{STYLE["picture"]}" alt="" src="{poster}">'
        else:
            media = f'<div style="{STYLE["picture"]}"></div>'
        time = "" if start is None else _clock(start) + ("" if end is None else f" – {_clock(end)}")
        title = next((_cell(row[key], 80) for key in TITLES if row.get(key)), _name(row))
        text = next((_cell(row[key]) for key in TEXTS if row.get(key)), "")
        score = row.get("confidence") or ("" if row.get("score") is None else f"{row['score']:.2f}")
        return (
            f'<div style="{STYLE["tile"]}">{media}<div style="{STYLE["text"]}" dir="auto">'
            f"<strong>{escape(title)}</strong> "
            f'<span style="{STYLE["time"]}">{escape(f"{time} {score}".strip())}</span>'
            f"<br>{escape(text)}</div></div>"
        )

    def _table(self) -> str:
        names = _names(self.rows)
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            "<tr>" + "".join(f'<td dir="auto">{escape(_cell(row.get(n)))}</td>' for n in names) + "</tr>"
            for row in self.rows
        )
        return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


class Rows(list[Any]):
    """A list of rows, each a dict, with a representation for notebooks and conversions to tables.

    Args:
        rows: the rows.
        schema: the columns and their types; None: they are inferred.
    """

    def __init__(self, rows: Iterable[Any] = (), schema: pa.Schema | None = None) -> None:
        super().__init__(rows)
        self._schema = schema

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table; without rows it still has the columns."""
        return pa.Table.from_pylist(self, self._schema)

    def to_pandas(self) -> Any:
        """The rows as a pandas DataFrame."""
        return self.to_arrow().to_pandas()

    def to_polars(self) -> Any:
        """The rows as a Polars DataFrame. Needs `polars`."""
        return import_module("polars").from_arrow(self.to_arrow())

    def _repr_html_(self) -> str:
        return show(self)._repr_html_()


def show(rows: Any, lake: str | None = None) -> Shown:
    """Show rows as a strip of pictures in a notebook.

    Args:
        rows: a DuckDB relation, an Arrow table or reader, a pandas or Polars frame, a Spark DataFrame, or a
            list of dicts. Columns such as `video_id`, `start_sec`, `end_sec`, `title` and `url` are used.
        lake: folder of a lake, with pictures in its table `frames` and paths of local files in `videos`.
            Without it, only rows with the path of a file have pictures.

    Raises:
        TypeError: `rows` has an unsupported type.
        LakeError: a table of the lake cannot be read.
    """
    first, total = _first(rows)
    known = _of_lake(lake, {str(row["video_id"]) for row in first if row.get("video_id")}) if lake else {}
    pictures: dict[int, bytes] = {}
    for at, row in enumerate(first):
        source, frames = known.get(str(row.get("video_id")), (None, []))
        second = row.get("start_sec", row.get("sec")) or 0.0
        picture = _picture(source or row.get("url") or row.get("path"), frames, float(second))
        if picture:
            pictures[at] = picture
    return Shown(first, pictures, total)


def _first(rows: Any) -> tuple[list[Row], int]:
    """The first rows as dicts, and the number of all; -1 if counting would run the query again."""
    if isinstance(rows, list | tuple):
        return [dict(row) for row in rows[:MOST]], len(rows)
    if isinstance(rows, pa.Table):
        return rows.slice(0, MOST).to_pylist(), rows.num_rows
    kind = type(rows).__module__.partition(".")[0]
    if kind == "pyspark":
        return [row.asDict(recursive=True) for row in rows.limit(MOST).collect()], -1
    if kind in ("duckdb", "_duckdb"):
        return rows.limit(MOST).to_arrow_table().to_pylist(), -1
    if kind == "pandas":
        return rows.head(MOST).to_dict("records"), len(rows)
    if kind == "polars":
        return rows.head(MOST).to_dicts(), len(rows)
    if isinstance(rows, pa.RecordBatchReader):
        return _first(rows.read_all())
    raise TypeError(
        f"show() supports a relation, frame, Arrow table or list of dicts, not {type(rows).__name__}"
    )


def _of_lake(folder: str, ids: set[str]) -> dict[str, tuple[str | None, list[tuple[float, bytes]]]]:
    """Source and pictures of videos by their ids."""
    from tl_data.lake.lake import Lake
    from tl_data.lake.schemas import FRAMES, VIDEOS

    kind: Any = "delta" if "://" in folder or (Path(folder) / "videos" / "_delta_log").is_dir() else "parquet"
    lake = Lake(folder, kind)
    found: dict[str, tuple[str | None, list[tuple[float, bytes]]]] = {}
    for batch in lake.batches(VIDEOS, ["video_id", "url"]):
        for row in batch.to_pylist():
            if row["video_id"] in ids:
                found[row["video_id"]] = (row["url"], [])
    for batch in lake.batches(FRAMES, ["video_id", "sec", "jpeg"]):
        for row in batch.to_pylist():
            if row["video_id"] in found and row["jpeg"]:
                found[row["video_id"]][1].append((row["sec"], row["jpeg"]))
    return found


def _picture(source: Any, frames: list[tuple[float, bytes]], second: float) -> bytes | None:
    if frames:
        return min(frames, key=lambda frame: abs(frame[0] - second))[1]
    if not source or "://" in str(source) or not Path(str(source)).is_file():
        return None
    from tl_data.media.frames import frame_at

    try:
        return frame_at(str(source), second)
    except (MediaRefused, MissingExtra):  # logged at its origin; the row has no picture
        return None


def _open_url(row: Row) -> str | None:
    """The URL of a public video, without signature and login; None for others."""
    url = row.get("url")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        return None
    if urlsplit(url).query or urlsplit(url).username or redacted(url) != url:
        return None
    return encoded(url)


def _names(rows: Iterable[Row]) -> list[str]:
    """The columns with a value, without vectors and signed URLs of thumbnails."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(n for n, v in row.items() if v is not None and not n.startswith("thumbnail"))
    return list(names)


def _cell(value: Any, most: int = CELL) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], float):
        return f"{len(value)} numbers"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = redacted(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    return text if len(text) <= most else text[: most - 1] + "…"


def _name(row: Row) -> str:
    url = redacted(str(row.get("url") or ""))
    return Path(urlsplit(url).path).name if url else str(row.get("video_id") or "")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
