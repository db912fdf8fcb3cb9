"""An indexed library that tests share: two short videos in one index of a running engine."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tl_data.settings import Settings


@dataclass
class Library:
    """Where it is, what is in it, and what the server says it was asked."""

    settings: Settings
    index: str
    urls: list[str]
    image: Path
    audio: Path
    dimension: int

    def stats(self) -> dict[str, Any]:
        """The server's own counts."""
        assert self.settings.base_url
        root = self.settings.base_url.removesuffix("/v1.3")
        answer = httpx.get(f"{root}/_engine/stats")
        answer.raise_for_status()
        return dict(answer.json())

    def requests(self, route: str | None = None) -> int:
        """How many requests the API got so far, of one route or of all."""
        counts = self.stats()["requests"]
        api = {r: n for r, n in counts.items() if "/_engine" not in r and route in (None, r)}
        return sum(sum(by_status.values()) for by_status in api.values())

    def arguments(self) -> dict[str, dict[str, Any]]:
        """Arguments for every function, under which it finds something."""
        video = {"video": self.urls[0], "index_id": self.index}
        schema = '{"type": "object", "properties": {"title": {"type": "string"}}, "required": ["title"]}'
        return {
            "index_video": video,
            "clips": video,
            "transcript": video,
            "summarize": video,
            "chapters": video,
            "highlights": video,
            "gist": video,
            "analyze": video | {"prompt": "What is this video about?"},
            "extract": video | {"prompt": "What is the title?", "json_schema": schema},
            "search": {"index_id": self.index, "query_text": "a red object", "threshold": "none"},
            "search_by_image": {"index_id": self.index, "image": str(self.image), "threshold": "none"},
            "embed_text": {"text": "a red object"},
            "embed_image": {"image": str(self.image)},
            "audio_vectors": {"audio": str(self.audio)},
            "video_vectors": {"video": self.urls[0], "video_clip_length": 5},
        }
