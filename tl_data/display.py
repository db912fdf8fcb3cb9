"""Shows rows in a notebook: as a strip of pictures with times and texts, or as plain text without HTML.

    tl_data.show(con.sql("SELECT * FROM tl_search('demo', 'a red car')"), lake="lake")
    tl_data.search("demo", "a red car")             # a result is shown without show()

At most 20 rows are shown. The output that a notebook saves is small: texts, URLs without signatures, and
pictures with a width of 320 pixels.
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

MAX_ROWS = 20  # rows that are shown at most
CELL = 160  # largest number of characters of a text
#: CSS of the elements.
STYLE = {
    "strip": "display:flex;flex-wrap:wrap;gap:12px;font:13px/1.4 system-ui,sans-serif",
    "tile": "width:240px;border:1px solid #8884;border-radius:8px;overflow:hidden",
    "picture": "width:240px;height:135px;object-fit:cover;display:block;background:#8883",
    "text": "padding:6px 10px;overflow-wrap:anywhere",
    "time": "font-variant-numeric:tabular-nums;opacity:.75",
}
#: Columns with times.
TIMES = ("start_sec", "end_sec", "sec")
#: The first of these columns with a value is the title of a row.
TITLES = ("title", "highlight", "question", "filename", "source_key")
#: The first of these columns with a value is the text of a row.
TEXTS = ("transcription", "summary", "text")

Row = dict[str, Any]


class Shown:
    """Rows with a representation for notebooks: HTML and text.

    Args:
        rows: the first rows.
        pictures: position of a row -> its picture as JPEG. Rows without one get an empty box.
        total: the number of all rows; -1 if it is unknown.
    """

    def __init__(self, rows: Sequence[Row], pictures: Mapping[int, bytes], total: int) -> None:
        self.rows = list(rows)
        self.pictures = dict(pictures)
        self.total = total

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>no rows</p>"
        have_clips = any(_name(row) for row in self.rows) and any(key in self.rows[0] for key in TIMES)
        body = self._strip() if self.pictures or have_clips else self._table()
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
            fragment = "" if start is None else f"#t={start:g}" + ("" if end is None else f",{end:g}")
            media = (
                f'<video controls preload="none" style="{STYLE["picture"]}" poster="{poster}" '
                f'src="{escape(url + fragment)}"></video>'
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
    """A list of rows, each a dict, which notebooks show as HTML and which converts to tables.

    Args:
        rows: the rows.
        schema: the columns and their types. None: they are inferred from the rows.
    """

    def __init__(self, rows: Iterable[Any] = (), schema: pa.Schema | None = None) -> None:
        super().__init__(rows)
        self._schema = schema

    def to_arrow(self) -> pa.Table:
        """The rows as an Arrow table, which has all columns even if there are no rows."""
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
        lake: the folder of a lake. Pictures come from its table `frames`, or from the local files in its
            table `videos`. Without a lake, only rows with the path of a local file have pictures.

    Raises:
        TypeError: `rows` has an unsupported type.
        LakeError: a table of the lake cannot be read.
    """
    first, total = _first(rows)
    in_lake = _read_lake(lake, {str(row["video_id"]) for row in first if row.get("video_id")}) if lake else {}
    pictures: dict[int, bytes] = {}
    for at, row in enumerate(first):
        source, frames = in_lake.get(str(row.get("video_id")), (None, []))
        second = row.get("start_sec", row.get("sec")) or 0.0
        end = float(row.get("end_sec") or second)
        within = [frame for frame in frames if second <= frame[0] < end]  # not a picture of the clip before
        picture = _picture(source or row.get("url") or row.get("path"), within or frames, float(second))
        if picture:
            pictures[at] = picture
    return Shown(first, pictures, total)


def _first(rows: Any) -> tuple[list[Row], int]:
    """The first rows as dicts, and the number of all rows; -1 if counting would run the query again."""
    if isinstance(rows, list | tuple):
        return [dict(row) for row in rows[:MAX_ROWS]], len(rows)
    if isinstance(rows, pa.Table):
        return rows.slice(0, MAX_ROWS).to_pylist(), rows.num_rows
    kind = type(rows).__module__.partition(".")[0]
    if kind == "pyspark":
        return [row.asDict(recursive=True) for row in rows.limit(MAX_ROWS).collect()], -1
    if kind in ("duckdb", "_duckdb"):
        return rows.limit(MAX_ROWS).to_arrow_table().to_pylist(), -1
    if kind == "pandas":
        return rows.head(MAX_ROWS).to_dict("records"), len(rows)
    if kind == "polars":
        return rows.head(MAX_ROWS).to_dicts(), len(rows)
    if isinstance(rows, pa.RecordBatchReader):
        return _first(rows.read_all())
    raise TypeError(
        f"show() supports a relation, frame, Arrow table or list of dicts, not {type(rows).__name__}"
    )


def _read_lake(folder: str, ids: set[str]) -> dict[str, tuple[str | None, list[tuple[float, bytes]]]]:
    """Video id -> URL or path of the video, and its pictures with their seconds."""
    from tl_data.lake.lake import Lake
    from tl_data.lake.schemas import FRAMES, VIDEOS

    kind: Any = "delta" if "://" in folder or (Path(folder) / "videos" / "_delta_log").is_dir() else "parquet"
    lake = Lake(folder, kind)
    videos: dict[str, tuple[str | None, list[tuple[float, bytes]]]] = {}
    for batch in lake.batches(VIDEOS, ["video_id", "url"]):
        for row in batch.to_pylist():
            if row["video_id"] in ids:
                videos[row["video_id"]] = (row["url"], [])
    for batch in lake.batches(FRAMES, ["video_id", "sec", "jpeg"]):
        for row in batch.to_pylist():
            if row["video_id"] in videos and row["jpeg"]:
                videos[row["video_id"]][1].append((row["sec"], row["jpeg"]))
    return videos


def _picture(source: Any, frames: list[tuple[float, bytes]], second: float) -> bytes | None:
    if frames:
        return min(frames, key=lambda frame: abs(frame[0] - second))[1]
    if not source or "://" in str(source) or not Path(str(source)).is_file():
        return None
    from tl_data.media.frames import frame_at

    try:
        return frame_at(str(source), second)
    except (MediaRefused, MissingExtra):  # the row is shown without a picture
        return None


def _open_url(row: Row) -> str | None:
    """The URL of a row's video if it has no signature and no login; else None."""
    url = row.get("url")
    if not isinstance(url, str) or urlsplit(url).scheme not in ("http", "https"):
        return None
    if urlsplit(url).query or urlsplit(url).username or redacted(url) != url:
        return None
    return encoded(url)


def _names(rows: Iterable[Row]) -> list[str]:
    """The columns that have a value in some row, without the signed URLs of thumbnails."""
    names: dict[str, None] = {}
    for row in rows:
        names |= dict.fromkeys(n for n, v in row.items() if v is not None and not n.startswith("thumbnail"))
    return list(names)


def _cell(value: Any, limit: int = CELL) -> str:
    """A value as text of at most `limit` characters."""
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.2f}"
    if isinstance(value, list | tuple) and value and isinstance(value[0], float):
        return f"{len(value)} numbers"
    if isinstance(value, bytes):
        return f"{len(value)} bytes"
    text = redacted(", ".join(map(str, value)) if isinstance(value, list) else str(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _name(row: Row) -> str:
    """The file name of a row's video, or its id."""
    url = redacted(str(row.get("url") or ""))
    return Path(urlsplit(url).path).name if url else str(row.get("video_id") or "")


def _clock(seconds: float) -> str:
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"
