"""How well the embedded engine finds moments: made videos, labelled questions, one table.

    python benchmarks/engine_quality.py [--folder DIR] [--videos 60] [--real FOLDER] [--json FILE]

Makes videos with scripted speech, screen text, colours, motion and music, looks at them, and asks: words
spoken, the same in other words, words shown, things visible, sounds, and things that are in no video. For
each class it prints recall@1, recall@5 and MRR for vectors alone, words alone and both together, and how
often a question that nothing answers is answered at `medium` or above. Videos and what was seen in them
stay in the folder: a second run only searches. In each class every second question was used
to set the constants of the search and the others are the measurement; both are printed.

--real takes a folder of other videos with questions.json, a list of {"kind", "text", "video", "start_sec",
"end_sec"} (no video: nothing answers it). --labels names that file where it lies elsewhere.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tl_data.demo.scene import Scene
from tl_data.demo.videos import make_videos
from tl_data.local.evidence import Evidence, from_json, to_json
from tl_data.local.library import Library
from tl_data.local.query import MEDIUM, Query

SECONDS = 5.0
SCENES = 3

# What is said, and the same asked in other words.
SPOKEN = [
    ("the meeting starts at nine in the morning", "beginning of the conference early in the day"),
    ("our profit doubled in the last quarter", "earnings were two times higher"),
    ("please turn off your mobile phone", "switch off the telephone"),
    ("the new car uses less fuel", "automobile with low gasoline consumption"),
    ("wash your hands before you eat", "cleaning hands prior to the meal"),
    ("the doctor will see the patient now", "physician meets a sick person"),
    ("the train to the city leaves in ten minutes", "railway departure to town"),
    ("add two eggs and a cup of flour", "baking ingredients"),
    ("the teacher explains the lesson to the children", "an instructor with pupils in class"),
    ("the storm destroyed many houses near the coast", "hurricane damage to homes"),
    ("we will hire fifty new workers next year", "recruiting additional employees"),
    ("the company moved its office to berlin", "headquarters relocated to germany"),
    ("water the plants twice a week", "how often the flowers need watering"),
    ("the police found the stolen bicycle", "officers recovered a bike taken by a thief"),
    ("this medicine should be taken after dinner", "pills in the evening after food"),
    ("the football team won the final game", "soccer championship victory"),
    ("the price of oil went up again", "petroleum is getting more expensive"),
    ("she plays the piano every evening", "practising a musical instrument at night"),
    ("the bridge is closed because of the flood", "high water blocks the crossing"),
    ("children under twelve travel for free", "kids do not pay for the journey"),
    ("the museum opens on sunday afternoon", "visiting hours of the art gallery at the weekend"),
    ("save your work before closing the computer", "store the file and shut down the pc"),
    ("the farmer sells milk and cheese at the market", "dairy products from the farm"),
    ("all students must pass the written test", "the exam is required for everybody in school"),
]  # fmt: skip
SHOWN = [
    "Quarterly Results", "Chapter Four: Methods", "Employee of the Month", "Do Not Enter",
    "Room 214 Laboratory", "Project Falcon Kickoff", "Return Policy", "Password Reset Guide",
    "Flight LH 1907", "Invoice Number 88213", "Thank You Sponsors", "Wi-Fi: Guest Network",
    "Lunch Menu Thursday", "Emergency Assembly Point", "Annual Budget 2027", "Step 3: Tighten Screws",
    "Customer Survey", "Beta Release Notes", "Gallery of Winners", "Platform 9 Departures",
    "Solar Panel Output", "Vaccination Center", "Board of Directors", "Recycling Rules",
]  # fmt: skip
COLORS = ["red", "orange", "yellow", "green", "blue", "purple", "pink", "white", "black"]
BACKGROUNDS = ["green", "blue", "purple", "white", "black", "orange", "brown", "pink", "yellow"]
PATHS = {
    "left": ((0.85, 0.65), (0.15, 0.65)),
    "right": ((0.15, 0.65), (0.85, 0.65)),
    "up": ((0.5, 0.88), (0.5, 0.42)),
    "down": ((0.5, 0.42), (0.5, 0.88)),
}
OTHER_NAMES = {
    "red": "crimson", "orange": "amber", "yellow": "golden", "green": "emerald", "blue": "azure",
    "purple": "violet", "pink": "magenta", "white": "white", "black": "black", "brown": "chocolate",
}  # fmt: skip
SEEN_WAYS = (
    "a {color} object moving {way} on a {background} background",
    "something {other} that travels to the {way} in front of a mostly {background} picture",
)
UNANSWERABLE = [
    "a dog catching a frisbee", "penguins on the ice", "a wedding ceremony in a church",
    "surfing a big wave", "a helicopter landing on a roof", "grandmother knitting a sweater",
    "the rules of chess", "a violin concert", "planting tomatoes in the garden",
    "a rocket launch into space", "two men boxing", "a cat sleeping on a sofa",
    "how to fold a paper plane", "a lion hunting a zebra", "repairing a broken guitar",
    "an underwater coral reef", "the history of the roman empire", "a baby taking its first steps",
    "quantum entanglement of photons", "skiing down a steep slope", "a pirate ship with black sails",
    "somebody juggling red torches", "the moon landing of 1969", "an elephant painting a picture",
]  # fmt: skip


@dataclass(frozen=True)
class Ask:
    """A question and where its answer is; no video for one that nothing answers."""

    kind: str
    text: str
    video: str | None = None
    start_sec: float = 0.0
    end_sec: float = 0.0


def scripts(count: int) -> tuple[dict[str, list[Scene]], list[Ask]]:
    """Scenes by file name, and the questions, the same every time."""
    chance = random.Random(7)
    combinations = [(c, b, w) for c in COLORS for b in BACKGROUNDS for w in PATHS if c != b]
    chance.shuffle(combinations)
    places = [(video, scene) for scene in range(SCENES) for video in range(count)]
    chance.shuffle(places)
    said = dict(zip(places, SPOKEN, strict=False))
    shown = dict(zip(places[len(SPOKEN) // 2 :], SHOWN, strict=False))
    music = set(chance.sample(places, min(12, len(places) // 4)))
    videos: dict[str, list[Scene]] = {}
    asks: list[Ask] = []
    number = 0
    for video in range(count):
        name = f"video-{video:03}.mp4"
        videos[name] = []
        for scene in range(SCENES):
            color, background, way = combinations[(video * SCENES + scene) % len(combinations)]
            here = (video, scene)
            speech, paraphrase = said.get(here, ("", ""))
            tone = 220.0 + 20 * video % 200 if here in music and not speech else 0.0
            videos[name].append(
                Scene(
                    SECONDS, shown.get(here, ""), "", speech, background=background,
                    shape=("circle", "square", "triangle")[(video + scene) % 3], color=color, size=0.3,
                    path=PATHS[way], tone=tone,
                )
            )  # fmt: skip
            span = (name, scene * SECONDS, (scene + 1) * SECONDS)
            if speech:
                asks += [Ask("spoken", speech, *span), Ask("paraphrase", paraphrase, *span)]
            if here in shown:
                asks.append(Ask("shown", shown[here], *span))
            if here in shown or tone:
                text = SEEN_WAYS[number % 2].format(
                    color=color, other=OTHER_NAMES[color], background=background, way=way
                )
                asks.append(Ask("visible", text, *span))
                number += 1
            if tone:
                asks.append(Ask("heard", f"music with a {color} thing on a {background} background", *span))
    return videos, asks + [Ask("unanswerable", text) for text in UNANSWERABLE]


def look(path: Path, target: Path) -> Path:
    """Look at a video unless that has been done; gives the file with the evidence."""
    from tl_data.local.watching import look_at

    if not target.is_file():
        target.write_bytes(to_json(look_at(path, target.with_suffix(""))))
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
    print(f"\nreal: {len(names)} videos, {len(asks)} questions\n{table(rows, None)}")
    return rows


def measure(library: Library, known: dict[str, Evidence], asks: list[Ask]) -> Iterator[dict[str, object]]:
    """One row a question and way: the rank of the right answer (0: not found), and the best score."""
    vectors = _Vectors(known)
    numbers: dict[str, int] = {}
    for ask in asks:
        number = numbers[ask.kind] = numbers.get(ask.kind, -1) + 1
        for way, ways in (("words", ("lexical",)), ("hybrid", ("lexical", "semantic"))):
            hits = library.search(Query("bench", ask.text, threshold="none", ways=ways))
            places = [(hit.video_id, hit.start_sec, hit.end_sec) for hit in hits]
            yield _row(number, ask, way, places, hits[0].score if hits else 0.0)
        yield _row(number, ask, "vectors", vectors.nearest(ask.text), None)


def _row(
    number: int, ask: Ask, way: str, places: list[tuple[str, float, float]], score: float | None
) -> dict[str, object]:
    right = (
        rank
        for rank, (video, start, end) in enumerate(places, 1)
        if video == ask.video and min(end, ask.end_sec) - max(start, ask.start_sec) > 0.5
    )
    rank = next(right, 0)
    return {"number": number, "kind": ask.kind, "way": way, "rank": rank, "score": score, "text": ask.text}


class _Vectors:
    """Search by the vectors that the API hands out, and nothing else."""

    def __init__(self, known: dict[str, Evidence]) -> None:
        from tl_data.local.space import segments_of

        self._places: list[tuple[str, float, float]] = []
        rows = []
        for name, evidence in known.items():
            for segment in segments_of(evidence, ("visual", "audio")):
                self._places.append((name, segment.start_offset_sec, segment.end_offset_sec))
                rows.append(segment.vector)
        self._matrix = np.array(rows, np.float32)

    def nearest(self, text: str) -> list[tuple[str, float, float]]:
        from tl_data.local.space import embed_text

        order = np.argsort(-(self._matrix @ embed_text(text)), kind="stable")
        return list(dict.fromkeys(self._places[i] for i in order))


def table(rows: list[dict[str, object]], half: int | None) -> str:
    """The figures of one half of the questions (0 even, 1 odd) or of all."""
    chosen = [row for row in rows if half is None or int(str(row["number"])) % 2 == half]
    lines = [f"{'class':14}{'way':10}{'n':>4}{'recall@1':>10}{'recall@5':>10}{'MRR':>8}"]
    for kind in dict.fromkeys(str(row["kind"]) for row in chosen):
        for way in ("vectors", "words", "hybrid"):
            some = [row for row in chosen if row["kind"] == kind and row["way"] == way]
            ranks = [int(str(row["rank"])) for row in some]
            if kind == "unanswerable":
                if way != "vectors":
                    alarms = sum(float(str(row["score"])) >= MEDIUM for row in some)
                    share = f"answered at medium or above: {alarms / len(some):.1%}"
                    lines.append(f"{kind:14}{way:10}{len(some):4}   {share}")
                continue
            first = sum(rank == 1 for rank in ranks) / len(ranks)
            fifth = sum(0 < rank <= 5 for rank in ranks) / len(ranks)
            mean = sum(1 / rank for rank in ranks if rank) / len(ranks)
            sure = sum(float(str(row["score"] or 0)) >= MEDIUM for row in some) / len(some)
            extra = "" if way == "vectors" else f"   at medium or above: {sure:.0%}"
            lines.append(f"{kind:14}{way:10}{len(ranks):4}{first:10.3f}{fifth:10.3f}{mean:8.3f}{extra}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "tl_data-engine-quality")
    parser.add_argument("--videos", type=int, default=60)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--real", type=Path, help="folder of real videos, asked about in a table of their own"
    )
    parser.add_argument("--labels", type=Path, help="their questions; FOLDER/questions.json if not given")
    parser.add_argument("--json", type=Path, help="write every question with its rank and score")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    videos, asks = scripts(given.videos)
    paths = [given.folder / name for name in videos]
    options = {"width": 640, "height": 360, "fps": 15}
    make_videos([(given.folder / name, scenes, options) for name, scenes in videos.items()], given.workers)
    rows = answers(paths, asks, given.workers)
    print(f"{given.videos} videos, {sum(map(len, videos.values()))} scenes, {len(asks)} questions")
    for name, half in (("set on (even)", 0), ("measured on (odd)", 1), ("all", None)):
        print(f"\n{name}\n{table(rows, half)}")
    if given.real:
        labels = given.labels or given.real / "questions.json"
        rows += real(given.real, labels, given.folder / "real", given.workers)
    if given.json:
        given.json.write_text(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
