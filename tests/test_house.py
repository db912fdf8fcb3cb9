"""The house's own rules: what imports what, what `import tl_data` costs, and what no file may say."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tl_data"

#: Bottom first. A module imports from its own layer and from those below it. Names are those of modules
#: within `tl_data`, `*` as in file names.
LAYERS = (
    (
        "_version",
        "errors",
        "usage",
        "types",
        "settings",
        "runtime",
        "runtime.context",
        "runtime.telemetry",
        "urls",
    ),
    (
        *("client", "client.*", "ratelimit", "ratelimit.*", "runtime.shutdown", "media", "media.*"),
        *("ledger", "ledger.*", "object_store", "billing"),
    ),
    ("catalog", "runtime.pool", "runtime.durations", "runtime.concurrency", "session", "connection"),
    ("functions*",),
    ("backends*", "spark", "spark.*", "dbt", "lake", "lake.*", "pipeline", "pipeline.*"),
    ("view", "view.*"),
    ("cli", "cli.*", "demo*", "__main__"),
)

#: Imported by `import tl_data` on no account: each is optional, or slow.
OPTIONAL = (
    *("PIL", "aiohttp", "av", "boto3", "cv2", "delta", "deltalake", "duckdb", "httpx", "jsonschema", "numpy"),
    *(
        "obstore",
        "onnxruntime",
        "opentelemetry",
        "pandas",
        "pocketsphinx",
        "py3langid",
        "pyspark",
        "rapidocr",
        "starlette",
        "uvicorn",
    ),
    "wordllama",
)


def _modules() -> dict[str, Path]:
    """Name within the package (`local.app`, "" for the package itself) and file."""
    return {
        ".".join(path.relative_to(PACKAGE).with_suffix("").parts).removesuffix("__init__").rstrip("."): path
        for path in PACKAGE.rglob("*.py")
    }


MODULES = _modules()


def _imports(path: Path, *, lazy: bool) -> Iterator[tuple[str, int]]:
    """Modules of this package that a file imports, with the line.

    Imports for type checkers alone never count, those inside functions only if `lazy`.
    """

    def walk(nodes: list[ast.stmt], outside: bool) -> Iterator[tuple[str, int]]:
        for node in nodes:
            if isinstance(node, ast.Import) and outside:
                for name in node.names:
                    yield name.name, node.lineno
            elif isinstance(node, ast.ImportFrom) and outside:
                for name in node.names:
                    full = f"{node.module}.{name.name}"
                    yield (
                        (full if full.removeprefix("tl_data.") in MODULES else str(node.module)),
                        node.lineno,
                    )
            elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
                yield from walk(node.orelse, outside)
            else:
                within = outside and (lazy or not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
                for part in ("body", "orelse", "finalbody"):
                    yield from walk(getattr(node, part, []), within)
                for handler in getattr(node, "handlers", []):
                    yield from walk(handler.body, within)

    for module, line in walk(ast.parse(path.read_text()).body, True):
        if module.partition(".")[0] == "tl_data":
            yield module.removeprefix("tl_data").lstrip("."), line


def _layer(module: str) -> int:
    return next(iter(_layers(module)), 0)  # one without a layer is another test's to name


def _layers(module: str) -> list[int]:
    return [n for n, layer in enumerate(LAYERS) if any(fnmatch(module, pattern) for pattern in layer)]


def _is_local(module: str) -> bool:
    return module.partition(".")[0] == "local"


def test_every_module_has_its_layer() -> None:
    lost = [module for module in MODULES if module and not _is_local(module) and len(_layers(module)) != 1]
    assert not lost, f"add to one line of LAYERS: {', '.join(lost)}"


def test_imports_point_down() -> None:
    upward = [
        f"{path.relative_to(ROOT)}:{line} imports tl_data.{wanted}, which stands above it"
        for module, path in MODULES.items()
        if module and not _is_local(module)
        for wanted, line in _imports(path, lazy=False)
        if wanted and not _is_local(wanted) and _layer(wanted) > _layer(module)
    ]
    assert not upward, "\n".join(upward)


def test_the_embedded_engine_and_the_rest_share_nothing() -> None:
    """The engine is reached over HTTP alone: that it agrees with the client is tested, not assumed.

    What both may have is the package's version and its error tree.
    """
    shared = [
        f"{path.relative_to(ROOT)}:{line} imports tl_data.{wanted}"
        for module, path in MODULES.items()
        for wanted, line in _imports(path, lazy=True)
        if wanted not in ("", "_version", "errors") and _is_local(module) != _is_local(wanted)
    ]
    assert not shared, "\n".join(shared)


def test_engines_import_no_other_engine() -> None:
    def engine(module: str) -> str:
        return module.removeprefix("engines.").partition("_")[0]

    sideways = [
        f"{path.relative_to(ROOT)}:{line} imports tl_data.{wanted}"
        for module, path in MODULES.items()
        if module.startswith("engines.")
        for wanted, line in _imports(path, lazy=True)
        if wanted.startswith("engines.") and engine(wanted) != engine(module)
    ]
    assert not sideways, "\n".join(sideways)


def test_only_the_client_names_httpx() -> None:
    named = [
        module
        for module, path in MODULES.items()
        if not module.startswith("client") and re.search(r"^\s*(import|from) httpx", path.read_text(), re.M)
    ]
    assert not named


def test_import_is_light() -> None:
    """`import tl_data` in a fresh interpreter imports nothing optional and nothing slow."""
    code = f"import sys, tl_data; print(*sorted(set({OPTIONAL!r}) & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert done.stdout.split() == []


def _texts() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    return [ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


#: What would tie the repository to the machine or the network it was written on. Written so that this
#: file does not match itself.
FORBIDDEN = {
    "an absolute path of somebody's machine": r"(?<![\w.:/-])/(?:work|root|home|Users|tmp|mnt)/(?=[\w.])",
    "the address of a package index": r"\b(?:pypi|pythonhosted)\.(?:org|io)\b|/simple/|artifactory",
    "an option that names a package source": r"^\s*--(?:extra-)?(?:index-url|find-links|trusted-host)\b",
    "an unfinished spot": r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b",
}


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="needs the list of files that git keeps")
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_holds(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what], re.M)
    found = []
    for path in _texts():
        if path == Path(__file__) or path.suffix in (".png", ".jpg", ".mp4", ".parquet"):
            continue
        text = path.read_text(encoding="utf-8")
        for match in pattern.finditer(text):
            found.append(
                f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1} {match.group()!r}"
            )
    assert not found, "\n".join(found)
