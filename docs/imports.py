"""Prints the picture of the imports in docs/architecture.md.

    python docs/imports.py [--check]

A box is a package, or a module of the ground floor. An arrow is an import that no longer path of arrows leads
along: what is imported further down, too, is left out.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "architecture.md"
BEGIN, END = "<!-- printed by docs/imports.py -->\n", "<!-- end -->\n"
#: Boxes of several modules.
GROUND = "errors, models, untrusted, urls, settings"
RECORDS = "types, billing, object_store"
TOGETHER = {
    **dict.fromkeys(GROUND.split(", "), GROUND),
    **dict.fromkeys(RECORDS.split(", "), RECORDS),
    "usage": "runtime",
    "__init__": "",
    "__main__": "",
    "_version": "",
}
ENGINE = {
    "__init__": "",
    "__main__": "server",
    "errors": "",
    "media_validation": "perception",
    **dict.fromkeys(("config", "models"), "config, models"),
}
#: An import against the direction, by agreement (pyproject.toml, importlinter).
EXCEPTIONS = {("ratelimit", "ledger"), ("spark", "local"), ("local", "lake")}

Edges = set[tuple[str, str]]


def edges() -> tuple[Edges, Edges]:
    """The imports between boxes: of the package, and inside of the embedded engine."""
    outer: Edges = set()
    inner: Edges = set()
    for path in sorted((ROOT / "tl_data").rglob("*.py")):
        parts = path.relative_to(ROOT / "tl_data").with_suffix("").parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = []
            if isinstance(node, ast.ImportFrom) and node.module:
                names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
            elif isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            for name in names:
                there = name.split(".")[1:] if name.startswith("tl_data.") else []
                if there:
                    outer.add((_box(parts[0], TOGETHER), _box(there[0], TOGETHER)))
                if parts[0] == "local" and there[:1] == ["local"] and len(there) > 1 and len(parts) > 1:
                    inner.add((_box(parts[1], ENGINE), _box(there[1], ENGINE)))
    known = {_box(path.stem, TOGETHER) for path in (ROOT / "tl_data").iterdir()}
    rooms = {_box(path.stem, ENGINE) for path in (ROOT / "tl_data" / "local").iterdir()}
    return _between(outer, known), _between(inner, rooms)


def _box(name: str, together: dict[str, str]) -> str:
    return together.get(name, name)


def _between(found: Edges, boxes: set[str]) -> Edges:
    return {(a, b) for a, b in found if a != b and a and b and {a, b} <= boxes} - EXCEPTIONS


def reduced(found: Edges) -> Edges:
    """The edges that no longer path leads along.

    Raises:
        ValueError: the imports go in a circle.
    """
    below: dict[str, set[str]] = {}

    def reach(box: str, way: tuple[str, ...]) -> set[str]:
        if box in way:
            raise ValueError("a circle of imports: " + " -> ".join((*way, box)))
        if box not in below:
            direct = {b for a, b in found if a == box}
            below[box] = direct.union(*(reach(b, (*way, box)) for b in direct))
        return below[box]

    for a, _ in found:
        reach(a, ())
    return {(a, b) for a, b in found if not any(b in below[c] for x, c in found if x == a and c != b)}


def picture() -> str:
    """The two graphs, in Mermaid."""
    return "".join(_mermaid(reduced(found)) + "\n" for found in edges())


def _mermaid(found: Edges) -> str:
    boxes = sorted({box for edge in found for box in edge})
    names = {box: f"n{number}" for number, box in enumerate(boxes)}
    lines = ["```mermaid", "graph TD", *(f'  {names[box]}["{box}"]' for box in boxes)]
    lines += [f"  {names[a]} --> {names[b]}" for a, b in sorted(found)]
    return "\n".join([*lines, "```\n"])


def page() -> str:
    """The page with the picture of now."""
    text = PAGE.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN)
    return head + BEGIN + "\n" + picture() + END + rest.split(END)[1]


def main() -> int:
    if "--check" in sys.argv:
        return int(page() != PAGE.read_text(encoding="utf-8"))
    PAGE.write_text(page(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
