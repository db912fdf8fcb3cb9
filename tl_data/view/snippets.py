"""Code to copy from a page: SQL for DuckDB and Spark and a Python script that return its content."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from tl_data.catalog import literal


@dataclass(frozen=True)
class TableLocation:
    """The location of the tables."""

    folder: str
    format: str  # delta or parquet

    def duckdb(self, table: str) -> str:
        """The table in a FROM clause of DuckDB."""
        if self.format == "delta":
            return f"delta_scan({literal(f'{self.folder}/{table}')})"
        return literal(f"{self.folder}/{table}/*.parquet")

    def spark(self, table: str) -> str:
        """The table in a FROM clause of Spark."""
        return f"{self.format}.`{self.folder}/{table}`"


def snippets(
    location: TableLocation,
    kind: str,
    *,
    text: str = "",
    video: str = "",
    start: float = 0.0,
    index: str = "tl_data",
    searched: Sequence[tuple[str, str]] = (),
) -> dict[str, str]:
    """The code that returns the content of a page, by name: `DuckDB`, `Spark` and `Python`.

    Args:
        kind: `words`, `meaning`, `index`, `similar`, `video` or `errors`.
        text: the search text.
        video: id of the shown video, or of the video of the compared clip.
        start: start of that clip in seconds.
        index: name or id of the searched index.
        searched: the tables and columns that a search by words reads.
    """

    def sql(table: Callable[[str], str]) -> str:
        text_literal, cosine = literal(text), "tl_similarity(v.vector, q.vector) AS similarity"
        nearest = "ORDER BY similarity DESC\nLIMIT 24"
        if kind == "words":
            return "\nUNION ALL\n".join(
                f"SELECT c.video_id, c.start_sec, c.end_sec, c.{column} AS text\n"
                f"FROM {table(name)} c\n"
                f"WHERE contains(lower(c.{column}), lower({text_literal}))"
                for name, column in searched or [("clips", "transcription")]
            )
        if kind == "index":
            return f"SELECT * FROM tl_search({literal(index)}, {text_literal}, max_hits => 24)"
        if kind == "meaning":
            return (
                f"WITH q AS (SELECT tl_embed_text({text_literal}) AS vector)\n"
                f"SELECT v.video_id, v.start_sec, v.end_sec, {cosine}\n"
                f"FROM {table('vectors')} v, q\n{nearest}"
            )
        if kind == "similar":
            is_clip = f"video_id = {literal(video)} AND start_sec <= {start} AND end_sec > {start}"
            return (
                f"WITH q AS (SELECT vector FROM {table('vectors')}\n"
                f"           WHERE {is_clip} LIMIT 1)\n"
                f"SELECT v.video_id, v.start_sec, v.end_sec, {cosine}\n"
                f"FROM {table('vectors')} v, q\n{nearest}"
            )
        if kind == "errors":
            return (
                "SELECT source_key, url, code, message, retryable\n"
                f"FROM {table('errors')}\nORDER BY source_key"
            )
        return (
            "SELECT c.start_sec, c.end_sec, c.transcription\n"
            f"FROM {table('clips')} c\n"
            f"WHERE c.video_id = {literal(video)}\nORDER BY c.start_sec"
        )

    return {
        "DuckDB": sql(location.duckdb) + ";",
        "Spark": sql(location.spark) + ";",
        "Python": _python(location, sql),
    }


def _python(location: TableLocation, sql: Callable[[Callable[[str], str]], str]) -> str:
    """A complete Python script. It reads Delta tables with `deltalake`, so DuckDB needs no extension."""
    used_tables: dict[str, None] = {}

    def table(name: str) -> str:
        used_tables[name] = None
        return name if location.format == "delta" else location.duckdb(name)

    query = sql(table)
    # A backslash or three quotes would break the multi-line literal.
    is_plain = "\\" not in query and '"""' not in query
    lines = ["import duckdb", "import tl_data", "", "con = duckdb.connect()", "tl_data.register(con)"]
    if location.format == "delta" and used_tables:
        lines.insert(2, "from deltalake import DeltaTable")
        for name in used_tables:
            address = repr(f"{location.folder}/{name}")
            lines.append(f"con.register({name!r}, DeltaTable({address}).to_pyarrow_dataset())")
    query_literal = f'"""\n{query}\n"""' if is_plain else repr(query)
    return "\n".join([*lines, f"con.sql({query_literal}).show()", "con.close()", ""])
