"""How well the embedded engine finds moments: made videos, labelled questions, tables of figures.

    python benchmarks/engine_quality.py [--held-out] [--folder DIR] [--videos 60] [--real FOLDER]
        [--json FILE]

Makes videos with scripted speech, screen text, colours, motion and music, looks at them, and asks: words
spoken, the same in other words, words shown, things visible, sounds, and things that are in no video. For
each class it prints recall@1, recall@5 and MRR for vectors alone, words alone and both together, and how
often the best hit is at `medium` or above: for a question that nothing answers, a false alarm. Videos and
what was seen in them stay in the folder: a second run only searches.

The questions of engine_questions.py were in view while constants of the search were chosen, all of them:
their figures say whether something slips. The measurement is --held-out: further videos with sentences,
captions and questions of their own (engine_held_out.py), written before the first run over them and asked
in an index of all videos. Whoever changes the engine by what --held-out shows needs new ones. The same in
other words is asked of further videos (engine_in_other_words.py), of which a half was in view and a half
was not.

--real takes a folder of other videos with questions.json, a list of {"kind", "text", "video", "start_sec",
"end_sec"} (no video: nothing answers it). --labels names that file where it lies elsewhere.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from benchmarks import engine_held_out, engine_in_other_words
from benchmarks.engine_questions import Ask, scripts
from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_videos
from tl_data.local.perception.evidence import Evidence, from_json, to_json
from tl_data.local.search.query import MEDIUM, Query
from tl_data.local.storage.library import Library


def look(path: Path, target: Path) -> Path:
    """Look at a video unless that has been done; gives the file with the evidence."""
    from tl_data.local.perception.analyzer import analyze

    if not target.is_file():
        target.write_bytes(to_json(analyze(path, target.with_suffix(""))))
    return target


def answers(
    paths: list[Path], asks: list[Ask], workers: int, folder: Path | None = None
) -> list[dict[str, object]]:
    """Look at the videos, put them into an index of their own, and ask; evidence goes beside them."""
    targets = [(folder or path.parent) / path.with_suffix(".json").name for path in paths]
    with ProcessPoolExecutor(workers) as pool:
        seen = list(pool.map(look, paths, targets))
    known = {path.name: from_json(file.read_bytes()) for path, file in zip(paths, seen, strict=True)}
    with tempfile.TemporaryDirectory() as home:
        library = Library(Path(home) / "library.sqlite")
        for name, evidence in known.items():
            library.add("bench", name, evidence)
        rows = list(measure(library, known, asks))
        library.close()
    return rows


def real(folder: Path, labels: Path, seen: Path, workers: int) -> list[dict[str, object]]:
    """Ask about real videos."""
    seen.mkdir(parents=True, exist_ok=True)
    asks = [Ask(**label) for label in json.loads(labels.read_text())]
    names = sorted({ask.video for ask in asks if ask.video})
    rows = answers([folder / name for name in names], asks, workers, seen)
    print(f"\nreal: {len(names)} videos, {len(asks)} questions\n{table(rows)}")
    return [{"set": "real", **row} for row in rows]


def made(
    name: str, videos: dict[str, list[Scene]], asks: list[Ask], folder: Path, workers: int
) -> list[dict[str, object]]:
    """Make the videos, ask about them and print the table."""
    options = {"width": 640, "height": 360, "fps": 15}
    make_videos([(folder / file, scenes, options) for file, scenes in videos.items()], workers)
    rows = answers([folder / file for file in videos], asks, workers)
    scenes = sum(map(len, videos.values()))
    print(f"\n{name}: {len(videos)} videos, {scenes} scenes, {len(asks)} questions\n{table(rows)}")
    return [{"set": name, **row} for row in rows]


def measure(library: Library, known: dict[str, Evidence], asks: list[Ask]) -> Iterator[dict[str, object]]:
    """One row a question and way: the rank of the right answer (0: not found), and the best score."""
    vectors = _Vectors(known)
    for ask in asks:
        for way, ways in (("words", ("lexical",)), ("hybrid", ("lexical", "semantic"))):
            hits = library.search(Query("bench", ask.text, threshold="none", transcription_options=ways))
            places = [(hit.video_id, hit.start_sec, hit.end_sec) for hit in hits]
            yield _row(ask, way, places, hits[0].score if hits else 0.0)
        yield _row(ask, "vectors", vectors.nearest(ask.text), None)


def _row(
    ask: Ask, way: str, places: list[tuple[str, float, float]], score: float | None
) -> dict[str, object]:
    right = (
        rank
        for rank, (video, start, end) in enumerate(places, 1)
        if video == ask.video and min(end, ask.end_sec) - max(start, ask.start_sec) > 0.5
    )
    rank = next(right, 0)
    return {"kind": ask.kind, "way": way, "rank": rank, "score": score, "text": ask.text}


class _Vectors:
    """Search by the vectors that the API hands out, and nothing else."""

    def __init__(self, known: dict[str, Evidence]) -> None:
        from tl_data.local.search.embeddings import segments_of

        self._places: list[tuple[str, float, float]] = []
        rows = []
        for name, evidence in known.items():
            for segment in segments_of(evidence, ("visual", "audio")):
                self._places.append((name, segment.start_offset_sec, segment.end_offset_sec))
                rows.append(segment.vector)
        self._matrix = np.array(rows, np.float32)

    def nearest(self, text: str) -> list[tuple[str, float, float]]:
        from tl_data.local.search.embeddings import embed_text

        order = np.argsort(-(self._matrix @ embed_text(text)), kind="stable")
        return list(dict.fromkeys(self._places[i] for i in order))


def table(rows: list[dict[str, object]]) -> str:
    """The figures of each class and way."""
    lines = [f"{'class':16}{'way':10}{'n':>4}{'recall@1':>10}{'recall@5':>10}{'MRR':>8}"]
    for kind in dict.fromkeys(str(row["kind"]) for row in rows):
        for way in ("vectors", "words", "hybrid"):
            some = [row for row in rows if row["kind"] == kind and row["way"] == way]
            ranks = [int(str(row["rank"])) for row in some]
            if kind == "unanswerable":
                if way != "vectors":
                    alarms = sum(float(str(row["score"])) >= MEDIUM for row in some)
                    share = f"answered at medium or above: {alarms / len(some):.1%}"
                    lines.append(f"{kind:16}{way:10}{len(some):4}   {share}")
                continue
            first = sum(rank == 1 for rank in ranks) / len(ranks)
            fifth = sum(0 < rank <= 5 for rank in ranks) / len(ranks)
            mean = sum(1 / rank for rank in ranks if rank) / len(ranks)
            sure = sum(float(str(row["score"] or 0)) >= MEDIUM for row in some) / len(some)
            right = sum(row["rank"] == 1 and float(str(row["score"] or 0)) >= MEDIUM for row in some)
            extra = f"   at medium or above: {sure:.0%}, the right moment {right / len(some):.0%}"
            extra = "" if way == "vectors" else extra
            lines.append(f"{kind:16}{way:10}{len(ranks):4}{first:10.3f}{fifth:10.3f}{mean:8.3f}{extra}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tl_data-engine-quality")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--held-out", action="store_true", help="ask the questions that set nothing, too")
    parser.add_argument(
        "--real", type=Path, help="folder of real videos, asked about in a table of their own"
    )
    parser.add_argument("--labels", type=Path, help="their questions; FOLDER/questions.json if not given")
    parser.add_argument("--json", type=Path, help="write every question with its rank and score")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    videos, asks = scripts(given.videos)
    rows = made("used while building", videos, asks, given.folder, given.workers)
    if given.held_out:
        further, unseen = engine_held_out.scripts()
        rows += made("held out", videos | further, unseen, given.folder, given.workers)
        others, asks = engine_in_other_words.tuning()
        rows += made("other words, in view", videos | others, asks, given.folder, given.workers)
        others, asks = engine_in_other_words.held_out()
        every = videos | further | others
        rows += made("other words, held out", every, asks, given.folder, given.workers)
    if given.real:
        labels = given.labels or given.real / "questions.json"
        rows += real(given.real, labels, given.folder / "real", given.workers)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
