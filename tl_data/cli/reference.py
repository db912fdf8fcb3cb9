"""Generates the reference of the job file and of the engine's HTTP routes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tl_data.client import OPERATIONS
from tl_data.pipeline.job import TEMPLATE, schema

#: `section.key` -> what it sets. Keys without a section are at the top of the file.
_JOB_KEYS = {
    "name": "name of the job, in the table `runs`; by default the name of the file",
    "engine": "what reads the source: `duckdb` (default) or `spark`",
    "prices": "a price list of your own (TOML)",
    "source.files": "Parquet, CSV or JSON: a file or a glob",
    "source.delta": "a Delta table, as a folder or an address in a bucket",
    "source.query": "a statement of DuckDB",
    "source.urls": "a list of URLs or paths",
    "source.folder": "all video files of a folder, or of a prefix or pattern in a bucket",
    "source.spark_table": 'a table of Spark, with `engine = "spark"`',
    "source.spark_query": 'a statement of Spark, with `engine = "spark"`',
    "source.url": "column with the URLs or paths; `url` by default",
    "source.key": "column that identifies a row; without it, the URL without its signature does",
    "source.database": "the DuckDB file that `query` reads; in memory by default",
    "outputs.folder": "where the tables are: a folder, or for Delta an address in a bucket",
    "outputs.format": "`delta` (default) or `parquet`",
    "outputs.tables": "the outputs; `clips`, `summaries`, `chapters` and `vectors` by default. The tables "
    "`videos`, `errors` and `runs` are always written",
    "outputs.prompts": "one summary for each; an empty text is a plain summary",
    "outputs.refresh": "whether to replace vectors of another model",
    "outputs.removed": "videos that the source no longer lists: `keep` (default), `mark` or `delete`",
    "outputs.urls": "columns `url`: `given` (default), as in the source, or `redacted`, without signatures "
    "and logins",
    "alerts.questions": "the saved questions",
    "alerts.files": "a file or glob with questions",
    "alerts.delta": "a Delta table with questions",
    "alerts.query": "a statement of DuckDB that gives questions",
    "alerts.column": "column with the questions; `question` by default",
    "alerts.database": "the DuckDB file that `query` reads",
    "alerts.threshold": "lowest confidence of a clip; for models with a confidence",
    "alerts.max_clips": "most clips that a run reports for each question and 200 new videos",
    "alerts.verify": "whether to check each clip by a paid analysis",
    "digest.file": "the page, ending in .md or .html; `%Y-%m-%d` is the day",
    "digest.days": "days that the page covers; 7 by default",
    "export.targets": "addresses that each run updates, as in `tl-data export`",
    "limits.budget": "most that the runs of the last `budget_hours` may cost, in the price list's currency",
    "limits.budget_hours": "hours that share the budget; 20 by default, 0: each run has its own",
    "limits.max_failures": 'failed videos after which a run stops: a count, or a share such as `"5%"`',
    "limits.limit": "only the first videos",
    "limits.commit_videos": "videos after which the tables are written; 50 by default",
    "limits.commit_seconds": "seconds after which the tables are written; 30 by default",
}


def job_page(note: str) -> str:
    """The page of the job file: its keys, and the file that `tl-data init` writes."""
    lines = ["# Job file", "", note]
    lines += [
        "A job is a TOML file. Relative paths start at its folder. `tl-data init FILE` writes the file at",
        "the end of this page; `tl-data plan FILE` checks a job and names each wrong key with its line.",
        "",
    ]
    top: dict[str, Any] = schema()["properties"]
    plain = {key: kind for key, kind in top.items() if "properties" not in kind}
    lines += [*_keys("", plain), ""]
    for section, kind in top.items():
        if section == "settings":
            lines += [
                "## [settings]",
                "",
                "[Settings](settings.md) of the job, without API keys. They override the environment.",
                "",
            ]
        elif "properties" in kind:
            lines += [f"## [{section}]", "", *_keys(f"{section}.", kind["properties"]), ""]
    return "\n".join([*lines, "## The whole file", "", "```toml", TEMPLATE.rstrip(), "```", ""])


def _keys(prefix: str, kinds: Mapping[str, Any]) -> list[str]:
    rows = [f"| `{key}` | {_kind(kind)} | {_JOB_KEYS[prefix + key]} |" for key, kind in kinds.items()]
    return ["| key | type | what |", "| --- | --- | --- |", *rows]


def _kind(kind: Mapping[str, Any]) -> str:
    """The type of a key in words."""
    if "enum" in kind:
        return " or ".join(f"`{value}`" for value in kind["enum"])
    if "anyOf" in kind:
        return " or ".join(_kind(one) for one in kind["anyOf"])
    if kind["type"] == "array":
        inner = kind["items"].get("enum")
        return f"list of {', '.join(f'`{value}`' for value in inner)}" if inner else "list of texts"
    return {"string": "text", "integer": "whole number", "number": "number", "boolean": "true or false"}[
        kind["type"]
    ]


def http_page(note: str) -> str:
    """The page of the HTTP routes of the embedded engine."""
    from starlette.routing import Route

    from tl_data.local.config import PREFIX
    from tl_data.local.server.app import API_ROUTES
    from tl_data.local.server.routes import admin

    known: dict[str, list[tuple[str, str]]] = {}
    for operation in OPERATIONS:
        known.setdefault(operation.route, []).append((operation.method, operation.doc))
    lines = ["# HTTP routes", "", note]
    lines += [
        "`tl-data serve` answers the routes of the TwelveLabs API under `http://127.0.0.1:8000"
        + PREFIX
        + "`.",
        "`tl_data.client.Client` has a method for each. Knowledge stores, responses and connections are not",
        "built: they answer 501 with the code `not_supported`. Names of earlier releases of the API are",
        "answered with what to use instead.",
        "",
        "| route | method of the client | what |",
        "| --- | --- | --- |",
    ]
    for route in API_ROUTES:
        assert isinstance(route, Route)
        for verb in sorted((route.methods or set()) - {"HEAD"}):
            name = f"{verb} {route.path}"
            methods = known.get(name, [])
            docs = " / ".join(doc for _, doc in methods) or "An older name of another route."
            callers = ", ".join(f"`{method}`" for method, _ in methods)
            lines.append(f"| `{name}` | {callers} | {docs} |")
    lines += [
        "",
        "## Of the engine alone",
        "",
        "Under `http://127.0.0.1:8000/_engine`, with the engine's API key if it was started with one.",
        "",
        "| route | what |",
        "| --- | --- |",
    ]
    for route in admin.routes:
        verbs = ", ".join(sorted((route.methods or set()) - {"HEAD"}))
        doc = (route.endpoint.__doc__ or "").strip().splitlines()[0]
        lines.append(f"| `{verbs} {route.path}` | {doc.partition(': ')[2] or doc} |")
    return "\n".join(lines) + "\n"
