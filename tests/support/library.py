"""An indexed library that tests share: two short videos in one index of a running engine."""

from __future__ import annotations

import wave
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import httpx

from tl_data.connection import connect
from tl_data.demo.scene import Scene
from tl_data.demo.speech_synthesis import speak
from tl_data.demo.videos import make_video
from tl_data.functions import FUNCTIONS
from tl_data.settings import Settings

INDEX = "shared"
SEGMENTS = (
    '[{"id": "scene", "description": "A scene", "fields": '
    '[{"name": "color", "type": "string", "description": "main color"}]}]'
)


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
        """Arguments for every function, under which it finds something; judgements need a language model."""
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
            "segments": {"video": self.urls[0], "definitions": SEGMENTS},
            "search": {"index_id": self.index, "query_text": "a red object", "threshold": "none"},
            "search_by_image": {"index_id": self.index, "image": str(self.image), "threshold": "none"},
            "embed_text": {"text": "a red object"},
            "embed_image": {"image": str(self.image)},
            "audio_vectors": {"audio": str(self.audio)},
            "video_vectors": {"video": self.urls[0], "video_clip_length": 5},
            "filter": video | {"condition": "a red object is seen"},
            "classify": video | {"labels": ["cooking", "safety"]},
            "classify_multi": video | {"labels": ["cooking", "safety"]},
            "score": video | {"what": "how red it is"},
        }


def make_library(folder: Path, url: Callable[[str], str], base_url: str) -> Library:
    """Make the videos, a picture and a sound in `folder`, and index the videos from their URLs."""
    plant = (
        Scene(5, "Emergency exit", "Follow the green sign", "Please keep the emergency exit clear.",
              background="black", shape="circle", color="red", path=((0.2, 0.6), (0.8, 0.6))),
        Scene(5, "Helmet and gloves", "Required in hall 4", "All visitors must wear a safety helmet.",
              background="sand", shape="square", color="green"),
    )  # fmt: skip
    soup = (
        Scene(5, "Tomato soup", "For four people", "Today we are making a simple tomato soup.",
              background="orange", shape="square", color="blue"),
    )  # fmt: skip
    small = {"width": 640, "height": 360, "fps": 25}
    files = [
        make_video(folder / "plant.mp4", plant, **small),
        make_video(folder / "soup.mp4", soup, **small),
    ]
    with av.open(str(files[0])) as container:
        container.seek(2_000_000)
        next(container.decode(video=0)).to_image().save(image := folder / "frame.jpg")
    samples, rate = speak("Please keep the emergency exit clear at all times.")
    with wave.open(str(audio := folder / "speech.wav"), "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes(samples.tobytes())
    urls = [url(file.name) for file in files]
    settings = Settings(
        base_url=base_url,
        index=INDEX,
        home=str(folder / "home"),
        ledger=str(folder / "ledger"),
        poll_interval=0.5,
    )
    connection = connect(settings)
    rows = [{"video": url, "index_id": INDEX} for url in urls]
    for outcome in connection.map(FUNCTIONS["index_video"], rows):
        assert outcome.error is None, outcome.error
    vector = connection.call(FUNCTIONS["embed_text"], text="how long is a vector")
    return Library(settings, INDEX, urls, image, audio, len(vector))
