"""Rules for the whole tree: what `import tl_data` costs, and what no file may hold."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.support.pythons import TESTS

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "tl_data"

#: Imported by `import tl_data` on no account: each is optional, or slow.
OPTIONAL = (
    *("PIL", "aiohttp", "av", "boto3", "cv2", "delta", "deltalake", "duckdb", "httpx", "jsonschema", "numpy"),
    *(
        "obstore",
        "onnxruntime",
        "opentelemetry",
        "pandas",
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


#: Called by a library that knows the name, or by a user.
CALLED_FROM_OUTSIDE = {
    "atexit, uvicorn, io": {"_close_all", "capture_signals", "readable", "seekable"},
    "click, mkdocs-click": {"assembled", "format_commands"},
    "prompt_toolkit": {"get_completions"},
    "urllib, http.server": {"redirect_request", "do_GET", "do_HEAD", "log_message"},
    "dbt-duckdb": {"Plugin", "initialize", "configure_connection", "configure_cursor"},
    "PySpark": {"DiscoveredTwelveLabs", "latestOffset", "partitions", "streamReader", "streamWriter"},
    "users, from Python": {"langchain_documents", "llama_index_nodes", "to_polars"},
}
#: A decorator that puts what it decorates into a catalog: of functions, of API operations, of commands.
REGISTERED = re.compile(r"^(function|listing|operation|.*\.(command|group))\b")


def test_no_code_is_there_for_tests_alone() -> None:
    """Each function, method and class is used somewhere in the package, or known to something outside."""
    used, declared = set(), {}
    for path in MODULES.values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Name):
                used.add(node.id)
            elif isinstance(node, ast.Attribute):
                used.add(node.attr)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
                used.add(node.value)  # in __all__, or asked for by getattr
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) and not any(
                REGISTERED.match(ast.unparse(decorator)) for decorator in node.decorator_list
            ):
                declared[node.name] = f"{path.relative_to(ROOT)}:{node.lineno}"
    outside = set().union(*CALLED_FROM_OUTSIDE.values())
    unused = {n: at for n, at in declared.items() if n not in used | outside and not n.startswith("__")}
    assert not unused
    assert outside <= declared.keys() - used, "names that are used after all, or gone"


#: Modules under 60 lines that stay as they are, and why.
SMALL = {
    "runtime.scratch": "temporary folders of jobs and of Spark's workers, which share nothing else",
    "dbt": "dbt finds it under this name in profiles.yml",
    "cli.view": "a command of its own, as its neighbours are; only it starts a server",
    "export.vectors.payload": "shared by twelve stores, which import nothing of one another",
    "local.perception.vision.descriptors": "pictures and sound for search and its benchmark",
    "local.perception.vision.frames": "text/ and tasks/ share it, and OpenCV stays here",
    "view.playground": "the embedded engine serves it without importing the rest of view/",
}
LEAST_LINES, MOST_LINES, MOST_MODULES = 60, 800, 20


def test_modules_are_neither_splinters_nor_too_long() -> None:
    lines = {
        name: len(path.read_text(encoding="utf-8").splitlines())
        for name, path in MODULES.items()
        if path.name not in ("__init__.py", "__main__.py", "_version.py")
    }
    assert not {name: n for name, n in lines.items() if n > MOST_LINES}
    small = {name for name, n in lines.items() if n < LEAST_LINES}
    assert not small - set(SMALL)
    assert set(SMALL) <= set(lines)


def test_the_picture_of_the_imports_is_the_one_of_now() -> None:
    done = subprocess.run([sys.executable, ROOT / "docs" / "imports.py", "--check"], cwd=ROOT, check=False)
    assert done.returncode == 0, "Type: python docs/imports.py"


def test_no_folder_has_more_than_twenty_modules() -> None:
    folders = Counter(path.parent for path in MODULES.values() if path.name != "__init__.py")
    assert not {str(folder): n for folder, n in folders.items() if n > MOST_MODULES}


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
        if path == Path(__file__) or path.suffix in (
            ".xz",
            ".png",
            ".jpg",
            ".mp4",
            ".ogg",
            ".parquet",
            ".tflite",
        ):
            continue
        text = path.read_text(encoding="utf-8")
        for match in pattern.finditer(text):
            found.append(
                f"{path.relative_to(ROOT)}:{text.count(chr(10), 0, match.start()) + 1} {match.group()!r}"
            )
    assert not found, "\n".join(found)


def test_the_tests_for_every_python_exist() -> None:
    """pytest refuses to run any test if one path of its command line is missing."""
    assert [path for path in TESTS if not (ROOT / path).exists()] == []
