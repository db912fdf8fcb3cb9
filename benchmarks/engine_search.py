"""How fast the embedded engine searches a large index, and what it takes in memory.

    python benchmarks/engine_search.py [--clips 1000000] [--folder DIR] [--queries 200] [--json FILE]

Writes made-up evidence (clips of six seconds, spoken and shown sentences whose words are as common as in
English, colours, motion, sound, looks) through the library's own writer, opens the library anew, and asks:
words spoken, colours and movements, both together, the same in other words, and pictures. It prints how
long the questions of each kind take one after the other, and how long it takes to answer many at once.
Pictures laid into the index are asked for anew, compressed and scaled: each must come first. The library
stays in the folder: a second run only searches.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # as the engine has it

import cv2
import numpy as np

from tl_data.local.perception.decode import Picture
from tl_data.local.perception.evidence import Clip, Evidence, Label, Probe, Span
from tl_data.local.perception.vision import concepts
from tl_data.local.perception.vision.colors import NAMES
from tl_data.local.perception.vision.descriptors import describe_image
from tl_data.local.search.query import Query
from tl_data.local.storage.library import Library

SECONDS = 6.0
PER_VIDEO = 100  # clips: ten minutes
SPEAKS, SHOWS = 0.6, 0.3  # share of clips with a sentence
KNOWN = 20  # pictures that are asked for
LABELS = (0.6, 0.2, 0.08, 0.04, 0.02, 0.01)  # probabilities of a clip's classes
INDEX = "bench"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=1_000_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tl_data-engine-search")
    parser.add_argument("--queries", type=int, default=200, help="questions of all kinds of text")
    parser.add_argument("--at-once", type=int, default=100)
    parser.add_argument("--json", type=Path, help="write the figures")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    path = given.folder / f"library-{given.clips}.sqlite"
    if not (done := path.with_suffix(".done")).exists():
        path.unlink(missing_ok=True)
        began = time.perf_counter()
        write(path, given.clips)
        done.write_text(f"{time.perf_counter() - began:.0f}")
    figures = measure(path, given.clips, given.queries, given.at_once)
    if given.json:
        given.json.write_text(json.dumps(figures, indent=1))


# -------------------------------------------------------------------------------------------- writing


def write(path: Path, clips: int) -> None:
    """Fill a library with made-up videos."""
    words = Words(1)
    library = Library(path)
    pictures = [describe_image(picture(n)) for n in range(KNOWN)]
    videos = -(-clips // PER_VIDEO)
    for video in range(videos):
        evidence = made_up(words, video, min(PER_VIDEO, clips - video * PER_VIDEO), pictures, videos)
        library.add(INDEX, f"video-{video:06}", evidence)
        if video % 500 == 0:
            print(f"\rwritten: {video * PER_VIDEO:,} clips", end="", flush=True)
    library.close()
    print(f"\rwritten: {clips:,} clips")


class Words:
    """Words of English, as often as each is used: the n-th most common 1/n as often as the first."""

    def __init__(self, seed: int) -> None:
        from tl_data.local.search.word_vectors import _encoder

        # The tokenizer's numbers go from common to rare; the rarest are names of things.
        known = sorted(_encoder().tokenizer.get_vocab().items(), key=lambda item: item[1])
        common = [word[1:] for word, _ in known if word.startswith("▁")]
        rare = [word for name in concepts.table().by_name for word in name.split()]
        random.Random(0).shuffle(rare)
        plain = [word for word in (*common, *rare) if word.isascii() and word.isalpha() and word.islower()]
        self.all = list(dict.fromkeys(plain))
        chances = 1 / np.arange(1, len(self.all) + 1)
        self._upto = np.cumsum(chances / chances.sum())
        self._chance = np.random.default_rng(seed)

    def sentence(self, count: int) -> str:
        """So many words."""
        drawn = np.searchsorted(self._upto, self._chance.random(count))
        return " ".join(self.all[min(int(place), len(self.all) - 1)] for place in drawn)


def made_up(
    words: Words, video: int, clips: int, pictures: Sequence[tuple[float, ...]], videos: int
) -> Evidence:
    """A video; every so many videos one holds a picture that is asked for."""
    chance = random.Random(video)
    looks = np.random.default_rng(video).normal(size=(clips, len(pictures[0]))).astype(np.float32)
    looks /= np.linalg.norm(looks, axis=1, keepdims=True)
    every = max(1, videos // KNOWN)
    parts, speech, shown = [], [], []
    for number in range(clips):
        start = number * SECONDS
        look = tuple(float(value) for value in looks[number].round(5))
        if number == 3 and video % every == 0 and video // every < KNOWN:
            look = pictures[video // every]
        main, other = chance.sample(NAMES, 2)
        moves = chance.random() < 0.6
        parts.append(
            Clip(
                start, start + SECONDS, f"{number:05}.jpg", ((main, 0.7), (other, 0.1)),
                ((chance.choice(("left", "center", "right", "top", "bottom")), other),),
                brightness=chance.random(), contrast=0.2, motion=0.2 if moves else 0.0,
                direction=chance.choice(("left", "right", "up", "down")) if moves else None,
                cut=True, sound=chance.choice(("speech", "music", "noise", "silence")),
                loudness=chance.uniform(-40, -8), image_descriptor=look,
                labels=_labels(chance), frames=3,
            )
        )  # fmt: skip
        if chance.random() < SPEAKS:
            speech.append(Span(start + 0.5, start + 5, words.sentence(chance.randint(6, 16)), 0.8))
        if chance.random() < SHOWS:
            shown.append(Span(start + 1, start + 4, words.sentence(chance.randint(1, 5)), 0.95))
    probe = Probe(clips * SECONDS, 1280, 720, 30.0, 1_000_000, "h264", "aac")
    return Evidence(probe, tuple(parts), tuple(speech), tuple(shown))


def _labels(chance: random.Random) -> tuple[Label, ...]:
    """What the classifier would say: one class for sure, and some in doubt."""
    return tuple(
        Label(number, concepts.table().of_leaf[number].name, probability, probability, 0.0)
        for number, probability in zip(chance.sample(range(1000), 6), LABELS, strict=True)
    )


def picture(number: int) -> Picture:
    """A picture with large shapes, another for each number."""
    chance = np.random.default_rng(1000 + number)
    made = np.full((360, 640, 3), chance.integers(0, 256, 3), np.uint8)
    for _ in range(12):
        corner, size = chance.integers(0, (560, 300)), chance.integers(40, 260, 2)
        color = [int(value) for value in chance.integers(0, 256, 3)]
        cv2.rectangle(made, corner.tolist(), (corner + size).tolist(), color, -1)
    return made


# ------------------------------------------------------------------------------------------ searching


def questions(count: int) -> dict[str, list[str]]:
    """So many questions of six kinds."""
    words, chance = Words(2), random.Random(3)
    rare = words.all[300:12_000]
    colors = ["red", "blue", "green", "yellow", "white", "black", "orange", "purple"]
    ways = ["moving left", "moving right", "going up", "moving down"]
    each = count // 6
    names = sorted(concepts.table().by_name)
    return {
        "things": [" ".join(chance.sample(names, 2)) for _ in range(each)],
        "rare words": [" ".join(chance.sample(rare, 2)) for _ in range(each)],
        "as spoken": [words.sentence(6) for _ in range(each)],
        "measured": [f"a {chance.choice(colors)} thing {chance.choice(ways)}" for _ in range(each)],
        "both": [
            f"a {chance.choice(colors)} picture while someone says {' '.join(chance.sample(rare, 2))}"
            for _ in range(each)
        ],
        "long": [" ".join(chance.sample(words.all[100:20_000], 14)) for _ in range(count - 5 * each)],
    }


def measure(path: Path, clips: int, count: int, at_once: int) -> dict[str, object]:
    """Print the figures of a library, and give them back."""
    print(f"{clips:,} clips in {path.stat().st_size / 1e9:.2f} GB, {_load()}")
    library = Library(path)
    began = time.perf_counter()
    library.search(Query(INDEX, "opening"))
    opening, memory = time.perf_counter() - began, _memory()
    print(f"opening: {opening:.1f} s; memory: {memory:.2f} GB")
    figures: dict[str, object] = {"clips": clips, "opening_s": opening, "memory_gb": memory}
    asked = questions(count)
    every: list[tuple[float, float]] = []
    for kind, texts in asked.items():
        taken = [_timed(library, Query(INDEX, text)) for text in texts]
        every += taken
        figures[kind] = _line(kind, taken)
    figures["text"] = _line("all texts", every)
    pictures = [
        cv2.resize(picture(number), (480, 270), interpolation=cv2.INTER_AREA) for number in range(KNOWN)
    ]
    files = [cv2.imencode(".jpg", one[..., ::-1])[1].tobytes() for one in pictures]
    figures["picture"] = _line("pictures", [_timed(library, Query(INDEX, images=(file,))) for file in files])
    every_so = max(1, -(-clips // PER_VIDEO) // KNOWN)
    right = 0
    for number, file in enumerate(files):
        hits = library.search(Query(INDEX, images=(file,)))
        right += bool(hits) and (hits[0].video_id, hits[0].clip_number) == (
            f"video-{number * every_so:06}",
            3,
        )
    print(f"pictures laid in that come first: {right} of {KNOWN}")
    figures["pictures_first"] = right
    texts = [text for some in asked.values() for text in some]
    random.Random(5).shuffle(texts)
    with ThreadPoolExecutor(at_once) as pool:
        began = time.perf_counter()
        taken = list(pool.map(lambda text: _timed(library, Query(INDEX, text)), texts[:at_once]))
        whole = time.perf_counter() - began
    print(f"{len(taken)} at once: all answered after {whole:.2f} s; memory: {_memory():.2f} GB, {_load()}")
    figures["at_once_s"] = whole
    library.close()
    return figures


def _timed(library: Library, query: Query) -> tuple[float, float]:
    """Seconds of one search by the clock, and of the processor's work."""
    began, cpu = time.perf_counter(), time.thread_time()
    library.search(query)
    return time.perf_counter() - began, time.thread_time() - cpu


def _line(kind: str, taken: Sequence[tuple[float, float]]) -> dict[str, float]:
    """Print and give the percentiles; on a machine that does other things, too, its work counts."""
    wall, cpu = (np.percentile(column, (50, 95)) * 1000 for column in np.array(taken).T)
    print(
        f"{kind:12}{len(taken):4} questions   p50 {wall[0]:6.0f} ms   p95 {wall[1]:6.0f} ms"
        f"   CPU p50 {cpu[0]:6.0f} ms   p95 {cpu[1]:6.0f} ms"
    )
    return {"p50_ms": wall[0], "p95_ms": wall[1], "cpu_p50_ms": cpu[0], "cpu_p95_ms": cpu[1]}


def _memory() -> float:
    """GB that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e9


def _load() -> str:
    return f"load of the machine {Path('/proc/loadavg').read_text().split()[0]}"


if __name__ == "__main__":
    main()
