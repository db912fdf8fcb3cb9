"""How well the embedded engine does on real footage: kept questions, people in view, speed.

    python benchmarks/engine_real.py --real FOLDER [--pictures FOLDER] [--tuning] [--seen FOLDER]

--real is a folder with the clips that engine_real_questions.py names; those that are missing are listed, and
their questions left out. --pictures holds the pictures of packages (scikit-image, scikit-learn, mahotas,
imgaug) under the paths they have there; without it they are taken from where the packages are installed.
--tuning also asks the questions that may be looked at. --seen keeps the evidence: a second run only asks.
--fresh asks the second kept set (engine_real_fresh.py) as well, in an index of its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks import engine_real_fresh
from benchmarks.engine_real_questions import KEPT, SECONDS, SLIDES, TUNING, Ask
from tl_data.local.perception import analyze, decode
from tl_data.local.perception.evidence import Evidence, from_json, to_json
from tl_data.local.perception.vision import objects
from tl_data.local.search.query import MEDIUM, Query
from tl_data.local.storage.library import Library

#: Seconds between pictures (the first after half of them), and how many people each shows; "-" is left out.
PEOPLE = {
    "intel_person.mp4": (2.0, "0001111111011111111111-00111111111100111111-00111111111111110011111100"),
    "intel_bottle.mp4": (2.5, "0" * 16),
    "mdn_tos.webm": (2.0, "11-00011111111150-2--44101101010010"),
    "bigbuckbunny.mp4": (2.0, "000"),
    "mp_big_buck_bunny_0_30.webm": (2.5, "0" * 12),
}
_AIMS = {"objects": "0.75 / first 0.55", "people": "first 0.75", "nothing": "< 0.10 at medium"}


def slides(
    folder: Path, pictures: Path | None, clips: Mapping[str, Sequence[str]] = SLIDES
) -> Iterator[Path]:
    """The pictures of packages, three seconds each, as clips; a picture that is missing is a gray field."""
    for name, paths in clips.items():
        target = folder / name
        if not target.is_file():
            with av.open(str(target), "w") as container:
                stream: Any = container.add_stream("libx264", rate=10)
                stream.width, stream.height, stream.pix_fmt = 640, 480, "yuv420p"
                for number, path in enumerate(paths):
                    picture = _picture(path, pictures)
                    for step in range(round(SECONDS * 10)):
                        frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                        frame.pts = number * round(SECONDS * 10) + step
                        frame.time_base = Fraction(1, 10)
                        container.mux(stream.encode(frame))
                container.mux(stream.encode(None))
        yield target


def _picture(path: str, pictures: Path | None) -> Any:
    package, _, inside = path.partition("/")
    if pictures is not None:
        file = pictures / path
    else:
        spec = find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec else []
        file = Path(places[0]) / inside if places else Path(path)
    found = cv2.imread(str(file), cv2.IMREAD_COLOR) if file.is_file() else None
    if found is None:
        print(f"missing: {path}; give --pictures")
        return np.full((480, 640, 3), 128, np.uint8)
    height, width = found.shape[:2]
    scale = min(640 / width, 480 / height)
    size = round(width * scale), round(height * scale)
    square = np.zeros((480, 640, 3), np.uint8)
    top, left = (480 - size[1]) // 2, (640 - size[0]) // 2
    square[top : top + size[1], left : left + size[0]] = cv2.resize(found, size, interpolation=cv2.INTER_AREA)
    return cv2.cvtColor(square, cv2.COLOR_BGR2RGB)


def look(path: Path, kept: Path) -> tuple[Evidence, float, float]:
    """The evidence of a file, seconds of CPU for it, and for decoding alone."""
    file = kept / f"{path.name}.json"
    if file.is_file():
        return from_json(file.read_bytes()), 0.0, 0.0
    began = time.process_time()
    facts = decode.probe(path)
    for _ in decode.frames(path, facts, []):
        pass
    decoded = time.process_time() - began
    began = time.process_time()
    evidence = analyze(path)
    spent = time.process_time() - began
    file.write_bytes(to_json(evidence))
    return evidence, spent, decoded


def asked(
    library: Library, asks: list[Ask], known: dict[str, Evidence], index: str = "real"
) -> list[dict[str, Any]]:
    """One row a question: the rank of the first right answer (0: none), and the best score."""
    rows = []
    for ask in asks:
        places = [place for place in ask.places if place[0] in known]
        if ask.places and not places:
            print(f"left out, its clip is missing: {ask.text}")
            continue
        hits = library.search(Query(index, ask.text, threshold="none"))
        right = (
            hit.rank
            for hit in hits
            if any(
                hit.video_id == name and min(hit.end_sec, end) - max(hit.start_sec, start) > 0.3
                for name, start, end in places
            )
        )
        best = hits[0] if hits else None
        rows.append({
            "kind": ask.kind, "text": ask.text, "kept": ask.kept, "rank": next(right, 0),
            "score": best.score if best else 0.0,
            "first": f"{best.video_id} {best.start_sec}" if best else "",
            "why": list(best.evidence) if best else [], "places": ask.places,
        })  # fmt: skip
    return rows


def interval(wins: int, total: int) -> str:
    """Wilson's interval of 95 %."""
    if not total:
        return ""
    z, share = 1.96, wins / total
    middle = (share + z * z / 2 / total) / (1 + z * z / total)
    half = z / (1 + z * z / total) * (share * (1 - share) / total + z * z / 4 / total**2) ** 0.5
    return f"{max(0, middle - half):.2f}-{min(1, middle + half):.2f}"


def table(rows: list[dict[str, Any]]) -> str:
    """Wins of total with an interval, a line a class."""
    lines = ["| class | first | among five | aim |", "|---|---|---|---|"]
    for kind in dict.fromkeys(row["kind"] for row in rows):
        some = [row for row in rows if row["kind"] == kind]
        if kind == "nothing":
            false = sum(row["score"] >= MEDIUM for row in some)
            lines.append(
                f"| nothing answers it: at medium or above | {_share(false, len(some))} | | {_AIMS[kind]} |"
            )
            continue
        first, five = sum(row["rank"] == 1 for row in some), sum(0 < row["rank"] <= 5 for row in some)
        cells = (kind, _share(first, len(some)), _share(five, len(some)), _AIMS.get(kind, ""))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _share(wins: int, total: int) -> str:
    return f"{wins}/{total} = {wins / total:.2f} ({interval(wins, total)})" if total else "-"


def people(folder: Path) -> str:
    """Precision and recall of "people are in view" over labelled pictures."""
    eyes = objects.load_object_models()
    right = wrong = missed = 0
    for name, (step, labels) in PEOPLE.items():
        path = folder / name
        if not path.is_file():
            continue
        due = step / 2
        number = 0
        with av.open(str(path)) as container:
            for frame in container.decode(video=0):
                if frame.time is None or frame.time < due or number >= len(labels):
                    continue
                there, due, number = labels[number], due + step, number + 1
                if there == "-":
                    continue
                picture = frame.to_ndarray(format="rgb24")
                scale = min(1.0, 960 / max(picture.shape[:2]))
                size = round(picture.shape[1] * scale), round(picture.shape[0] * scale)
                picture = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
                found = any(sure >= 0.5 for sure, _ in objects.people_of(eyes.detect(0.0, picture)))
                right += found and there != "0"
                wrong += found and there == "0"
                missed += not found and there != "0"
    return f"people in view: precision {_share(right, right + wrong)}, recall {_share(right, right + missed)}"


def main() -> None:
    """Look, ask, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    say = parser.add_argument
    say("--real", type=Path, required=True)
    say("--pictures", type=Path)
    say("--seen", type=Path)
    say("--tuning", action="store_true")
    say("--fresh", action="store_true")
    say("--asked-only", action="store_true", help="do not count people in the labelled pictures")
    say("--json", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        seen = given.seen or Path(scratch)
        seen.mkdir(parents=True, exist_ok=True)
        wanted = {place[0] for ask in (*TUNING, *KEPT) for place in ask.places} - set(SLIDES)
        files = [given.real / name for name in sorted(wanted)]
        if missing := [file.name for file in files if not file.is_file()]:
            print(f"missing: {', '.join(missing)}")
        paths = [*(file for file in files if file.is_file()), *slides(seen, given.pictures)]
        known: dict[str, Evidence] = {}
        spent = decoded = length = 0.0
        library = Library(Path(scratch) / "library.sqlite")
        for path in paths:
            evidence, cpu, plain = look(path, seen)
            known[path.name] = evidence
            library.add("real", path.name, evidence)
            if cpu:
                spent, decoded, length = spent + cpu, decoded + plain, length + evidence.probe.duration_sec
        asks = [*(TUNING if given.tuning else []), *KEPT]
        rows = asked(library, asks, known)
        fresh_rows: list[dict[str, Any]] = []
        if given.fresh:
            fresh: dict[str, Evidence] = {}
            names = {p[0] for ask in engine_real_fresh.FRESH for p in ask.places} - set(
                engine_real_fresh.SLIDES
            )
            clips = [given.real / name for name in sorted(names) if (given.real / name).is_file()]
            for path in [*clips, *slides(seen, given.pictures, engine_real_fresh.SLIDES)]:
                evidence, cpu, plain = look(path, seen)
                fresh[path.name] = evidence
                library.add("fresh", path.name, evidence)
                if cpu:
                    spent, decoded, length = (
                        spent + cpu,
                        decoded + plain,
                        length + evidence.probe.duration_sec,
                    )
            fresh_rows = asked(library, engine_real_fresh.FRESH, fresh, "fresh")
            print(f"\nsecond kept set: {len(fresh_rows)} questions, {len(fresh)} clips\n{table(fresh_rows)}")
        library.close()
    for kept in (False, True):
        if some := [row for row in rows if row["kept"] is kept]:
            print(
                f"\n{'kept' if kept else 'tuning'}: {len(some)} questions, {len(known)} clips\n{table(some)}"
            )
    if not given.asked_only:
        print(people(given.real))
    if length:
        share = (spent - decoded) / length
        print(f"CPU beside decoding: {share:.3f} of {length:.0f} s of video; decoding {decoded / length:.3f}")
    print(
        f"memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10} MB at most, eyes and ears in one"
    )
    if given.json:
        given.json.write_text(json.dumps([*rows, *fresh_rows], indent=1))


if __name__ == "__main__":
    main()
