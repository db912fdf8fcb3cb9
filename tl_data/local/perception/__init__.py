"""Analyzes a video file: objects, people, on-screen text, speech and sound, with times and probabilities.

The result of `analyze(path)` depends only on the file and the installed weights. It needs no server.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tl_data.local.perception.evidence import Evidence


def analyze(path: str | Path, folder: str | Path | None = None, **options: Any) -> Evidence:
    """Analyze a video file; see `analyzer.analyze`."""
    from tl_data.local.perception.analyzer import analyze as analyze_file

    return analyze_file(Path(path), Path(folder) if folder is not None else None, **options)
