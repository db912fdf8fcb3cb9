"""How many calls the prefilter of tl_filter saves on real clips, and at which loss of F1.

    python benchmarks/prefilter.py --real FOLDER --pictures FOLDER [--seen FOLDER]

The clips are those of engine_real.py, cut every two seconds, and pictures of packages (scikit-image,
scikit-learn, mahotas, imgaug) in six variants each (mirrored, cropped, darker, brighter), three seconds a
picture. Each condition is labelled for each clip; clips whose label is open are left out. Vectors are from
the embedded engine. The answers are the labels, so that the loss is that of the prefilter alone. Each
condition is run in 20 orders of the clips, drawn from a seed.

The half of the conditions with `kept=True` set no constant. Intervals are of 95 %, from 2,000 samples of the
conditions with replacement.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.engine_real import PEOPLE, look
from tl_data.local.perception.evidence import Evidence
from tl_data.local.search.embeddings import embed_text, segments_of
from tl_data.prefilter import Calibration, cosine

SECONDS, VARIANTS = 3, 6
#: A picture -> what it shows. "gray" is a picture without colours.
PICTURES = {
    "skimage/data/chelsea.png": "cat animal",
    "skimage/data/rocket.jpg": "rocket night",
    "skimage/data/coffee.png": "cup",
    "sklearn/datasets/images/china.jpg": "building sky",
    "mahotas/demos/data/luispedro.jpg": "person face",
    "skimage/data/page.png": "text gray",
    "skimage/data/brick.png": "wall gray",
    "skimage/data/astronaut.png": "person face astronaut",
    "imgaug/quokka.jpg": "animal",
    "skimage/data/motorcycle_left.png": "motorcycle",
    "sklearn/datasets/images/flower.jpg": "flower",
    "skimage/data/camera.png": "person camera gray",
    "mahotas/demos/data/lena.jpg": "person face hat",
    "skimage/data/coins.png": "coins gray",
    "skimage/data/moon.png": "moon gray",
    "skimage/data/grass.png": "grass gray",
    "skimage/data/gravel.png": "stones gray",
    "skimage/data/retina.jpg": "retina",
    "skimage/data/text.png": "text gray",
    "mahotas/demos/data/DepartmentStore.jpg": "",
}
#: A clip -> what all of it shows. "?" and a word: open, or not in all of it.
CLIPS = {
    "intel_bottle.mp4": "bottle table",
    "intel_person.mp4": "table",
    "bigbuckbunny.mp4": "rabbit animal ?grass cartoon",
    "mp_big_buck_bunny_0_30.webm": "?rabbit ?animal ?grass cartoon ?text ?flower ?sky",
    "mdn_tos.webm": "?face ?building ?sky ?text ?night ?wall ?gray",
    "mdn_flower.mp4": "flower",
    "mdn_friday.mp4": "person ?face ?hat gray ?table ?wall",
    "fl_bee.mp4": "insect animal flower",
    "fl_butterfly.mp4": "insect animal ?flower",
    "ae_example.mp4": "timecode ?text",
    "ae_green.mp4": "person ?face green",
    "mdn_frog.mp4": "?animal frog table",
    "mdn_pig.mp4": "?animal pig table",
    "mdn_crystal.mp4": "glass ?flower table",
}


@dataclass(frozen=True)
class Condition:
    """A condition and the word that labels it."""

    text: str
    label: str
    kept: bool = False


CONDITIONS = (
    Condition("a person is seen", "person"),
    Condition("a bottle", "bottle"),
    Condition("an insect", "insect"),
    Condition("a cat", "cat"),
    Condition("black and white pictures", "gray"),
    Condition("coins", "coins"),
    Condition("a rocket", "rocket"),
    Condition("a page of text", "text"),
    Condition("a brick wall", "wall"),
    Condition("somebody is in the room", "person", True),
    Condition("a table", "table", True),
    Condition("an animal", "animal", True),
    Condition("a flower", "flower", True),
    Condition("a motorcycle", "motorcycle", True),
    Condition("a cup of coffee", "cup", True),
    Condition("an astronaut", "astronaut", True),
    Condition("a green screen", "green", True),
    Condition("the surface of the moon", "moon", True),
    Condition("a running timecode", "timecode", True),
    Condition("a cartoon", "cartoon", True),
    Condition("a pig", "pig", True),
)


def variants(picture: np.ndarray[Any, Any]) -> Iterator[np.ndarray[Any, Any]]:
    """The picture, mirrored, two crops, darker and brighter."""
    height, width = picture.shape[:2]
    yield picture
    yield picture[:, ::-1]
    yield picture[: height * 4 // 5, : width * 4 // 5]
    yield picture[height // 5 :, width // 5 :]
    yield (picture * 0.6).astype(np.uint8)
    yield np.clip(picture * 1.3, 0, 255).astype(np.uint8)


def slides(folder: Path, pictures: Path) -> Iterator[Path]:
    """One clip per variant of all pictures."""
    files = [pictures / name for name in PICTURES]
    if missing := [str(file) for file in files if not file.is_file()]:
        raise SystemExit(f"missing: {', '.join(missing)}")
    for number in range(VARIANTS):
        target = folder / f"prefilter_{number}.mp4"
        if not target.is_file():
            with av.open(str(target), "w") as container:
                stream: Any = container.add_stream("libx264", rate=4)
                stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
                for position, file in enumerate(files):
                    found = cv2.imread(str(file), cv2.IMREAD_COLOR)
                    assert found is not None, file
                    picture = cv2.cvtColor(_fitted(list(variants(found))[number]), cv2.COLOR_BGR2RGB)
                    for step in range(SECONDS * 4):
                        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                        frame.pts = position * SECONDS * 4 + step
                        frame.time_base = Fraction(1, 4)
                        container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        yield target


def _fitted(picture: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    height, width = picture.shape[:2]
    scale = min(640 / width, 480 / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    fitted = np.zeros((480, 640, 3), np.uint8)
    top, left = (480 - size[1]) // 2, (640 - size[0]) // 2
    fitted[top : top + size[1], left : left + size[0]] = cv2.resize(
        np.ascontiguousarray(picture), size, interpolation=cv2.INTER_AREA
    )
    return fitted


def labels_of(name: str, start: float) -> dict[str, bool | None]:
    """Word -> whether the clip shows it; None: open. Other words: False."""
    if name.startswith("prefilter_"):
        words = list(PICTURES.values())[min(int(start // SECONDS), len(PICTURES) - 1)].split()
    else:
        words = CLIPS[name].split()
    labels: dict[str, bool | None] = {word.lstrip("?"): None if "?" in word else True for word in words}
    if name in PEOPLE:
        step, counts = PEOPLE[name]
        position = int(start // step)
        count = counts[position] if position < len(counts) else "-"
        labels["person"] = None if count == "-" else count != "0"
    if labels.get("person") is not False and "person" in labels and "face" not in labels:
        labels["face"] = None
    return labels


def clips_of(known: dict[str, Evidence]) -> tuple[np.ndarray[Any, Any], list[dict[str, bool | None]]]:
    """The vectors of all clips, and their labels."""
    vectors, labels = [], []
    for name, evidence in known.items():
        length = SECONDS if name.startswith("prefilter_") else 2
        for segment in segments_of(evidence, ["visual"], clip_length=length):
            vectors.append(segment.vector)
            labels.append(labels_of(name, segment.start_offset_sec))
    return np.array(vectors, np.float32), labels


@dataclass(frozen=True)
class Outcome:
    """A condition in one order of the clips."""

    clips: int
    positives: int
    asked: int
    after: int  # clips after the calibration
    asked_after: int
    f1: float


def run(similarities: np.ndarray[Any, Any], truth: np.ndarray[Any, Any], sample: int) -> Outcome:
    """Filter the clips in this order, as tl_filter does."""
    calibration = Calibration(sample)
    asked = after = asked_after = 0
    given = []
    for similarity, answer in zip(similarities.tolist(), truth.tolist(), strict=True):
        decided = calibration.decide(similarity)
        is_after = calibration.answers >= sample
        after += is_after
        if decided is None:
            asked += 1
            asked_after += is_after
            calibration.add(similarity, answer)
        given.append(answer if decided is None else decided)
    predicted = np.array(given)
    true = int((predicted & truth).sum())
    wrong = int((predicted != truth).sum())
    f1 = 2 * true / (2 * true + wrong) if true or wrong else 1.0
    return Outcome(len(truth), int(truth.sum()), asked, after, asked_after, f1)


def interval(values: list[float], weights: list[float], draw: np.random.Generator) -> str:
    """The weighted mean with an interval of 95 %."""
    array, weight = np.array(values), np.array(weights, float)
    picks = draw.integers(len(array), size=(2000, len(array)))
    totals = weight[picks].sum(axis=1)
    means = (array[picks] * weight[picks]).sum(axis=1)[totals > 0] / totals[totals > 0]
    low, high = np.percentile(means, [2.5, 97.5])
    return f"{float((array * weight).sum() / weight.sum()):.3f} ({low:.3f} to {high:.3f})"


def report(
    vectors: np.ndarray[Any, Any],
    labels: list[dict[str, bool | None]],
    sample: int,
    kept: bool,
    say: Callable[[str], None] = print,
) -> None:
    """Print a line per condition, and the means."""
    draw = np.random.default_rng(7)
    saved, saved_after, losses, rows, afters = [], [], [], [], []
    say(f"\n{'kept' if kept else 'tuning'} conditions, the first {sample} answers calibrate")
    for condition in (c for c in CONDITIONS if c.kept is kept):
        text = np.array(embed_text(condition.text), np.float32).tolist()
        chosen = [n for n, words in enumerate(labels) if words.get(condition.label, False) is not None]
        truth = np.array([bool(labels[n].get(condition.label, False)) for n in chosen])
        similarities = np.array([cosine(vectors[n].tolist(), text) for n in chosen])
        outcomes = []
        for _ in range(20):
            order = draw.permutation(len(chosen))
            outcomes.append(run(similarities[order], truth[order], sample))
        saved.append(float(np.mean([1 - o.asked / o.clips for o in outcomes])))
        after = float(np.mean([o.after for o in outcomes]))
        asked_after = float(np.mean([o.asked_after for o in outcomes]))
        saved_after.append(1 - asked_after / after if after else 0.0)
        losses.append(1 - float(np.mean([o.f1 for o in outcomes])))
        rows.append(len(chosen))
        afters.append(after)
        say(
            f"  {condition.text:28} {len(chosen):4} clips, {int(truth.sum()):3} true  saved {saved[-1]:.2f}"
            f"  after the calibration {saved_after[-1]:.2f}  loss of F1 {losses[-1]:.4f}"
        )
    say(f"  {sum(rows)} labelled pairs")
    say(f"  calls saved                       {interval(saved, rows, draw)}")
    say(f"  calls saved after the calibration {interval(saved_after, afters, draw)}")
    say(f"  loss of F1                        {interval(losses, [1.0] * len(losses), draw)}")


def main() -> None:
    """Look, calibrate, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    add = parser.add_argument
    add("--real", type=Path, required=True)
    add("--pictures", type=Path, required=True)
    add("--seen", type=Path)
    add("--samples", type=int, nargs="+", default=[50, 100, 200])
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seen = given.seen or Path(scratch)
        seen.mkdir(parents=True, exist_ok=True)
        files = [given.real / name for name in CLIPS]
        if missing := [file.name for file in files if not file.is_file()]:
            print(f"missing: {', '.join(missing)}")
        paths = [*(file for file in files if file.is_file()), *slides(seen, given.pictures)]
        known = {path.name: look(path, seen)[0] for path in paths}
    vectors, labels = clips_of(known)
    pairs = sum(words.get(c.label, False) is not None for words in labels for c in CONDITIONS)
    print(f"{len(vectors)} clips, {pairs} labelled pairs of clip and condition")
    for kept in (False, True):
        for sample in given.samples:
            report(vectors, labels, sample, kept)


if __name__ == "__main__":
    main()
