"""A contact sheet of the kept questions that fail, for the documentation.

    python benchmarks/engine_real.py --real FOLDER --pictures FOLDER --seen SEEN --fresh --json rows.json
    python benchmarks/engine_real_sheet.py rows.json --real FOLDER --seen SEEN docs/img/recognition-worst.jpg

Each cell shows where a question is answered, the question, and the rank that the engine gave this moment. The
worst 20 come first: those that were not found at all, then those with the largest rank. Only pictures whose
licence allows it are shown; the others keep their place in the order and are counted.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks import engine_real_fresh
from benchmarks.engine_real_questions import SECONDS, SLIDES

CELLS, COLUMNS = 20, 5
WIDTH, HEIGHT, TEXT = 200, 130, 46  # pixels of a cell's picture, and of the text below it
#: Clips under CC0 or CC BY (Intel, Blender Foundation, MDN, Flutter, auto-editor under the Unlicense).
CLIPS = frozenset((
    "intel_bottle.mp4", "intel_person.mp4", "bigbuckbunny.mp4", "mp_big_buck_bunny_0_30.webm", "mdn_tos.webm",
    "mdn_flower.mp4", "mdn_friday.mp4", "mdn_frog.mp4", "mdn_pig.mp4", "mdn_crystal.mp4", "fl_bee.mp4",
    "fl_butterfly.mp4", "ae_example.mp4", "ae_green.mp4",
))  # fmt: skip
#: Pictures in the public domain, under CC0, CC BY or the licence of their package.
PICTURES = frozenset((
    "chelsea.png", "rocket.jpg", "coffee.png", "china.jpg", "flower.jpg", "page.png", "brick.png",
    "astronaut.png", "motorcycle_left.png", "camera.png", "coins.png", "moon.png", "grass.png",
    "grace_hopper.jpg", "board.jpg", "building.jpg", "fruits.jpg", "cards.png", "left01.jpg", "apple.jpg",
    "orange.jpg", "leuvenA.jpg", "home.jpg", "aloeL.jpg", "starry_night.jpg", "smarties.png", "sudoku.png",
))  # fmt: skip


def may_be_shown(name: str, second: float) -> bool:
    """Whether the picture of a clip at a time may be shown."""
    slides: dict[str, tuple[str, ...]] = {**SLIDES, **engine_real_fresh.SLIDES}
    if name in slides:
        return slides[name][int(second // SECONDS)].rpartition("/")[2] in PICTURES
    return name in CLIPS


def picture_at(path: Path, second: float) -> Any:
    """The first picture of a file at or after a time, as RGB."""
    picture = None
    with av.open(str(path)) as container:
        for frame in container.decode(video=0):
            picture = frame
            if frame.time is not None and frame.time >= second:
                break
    assert picture is not None
    return picture.to_ndarray(format="rgb24")


def cell(picture: Any, question: str, rank: int) -> Any:
    """A picture with the question and its rank below it."""
    canvas = np.full((HEIGHT + TEXT, WIDTH, 3), 255, np.uint8)
    height, width = picture.shape[:2]
    scale = min((WIDTH - 6) / width, (HEIGHT - 4) / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    left = (WIDTH - size[0]) // 2
    canvas[4 : 4 + size[1], left : left + size[0]] = cv2.resize(picture, size, interpolation=cv2.INTER_AREA)
    words, lines = question.split(), [""]
    for word in words:
        if len(lines[-1]) + len(word) > 29:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    lines = [*lines[:2], f"rank {rank}" if rank else "not found"]
    for number, line in enumerate(lines):
        color = (150, 30, 30) if number == len(lines) - 1 else (0, 0, 0)
        position = (4, HEIGHT + 12 + 14 * number)
        cv2.putText(canvas, line, position, cv2.FONT_HERSHEY_SIMPLEX, 0.38, color, 1, cv2.LINE_AA)
    return canvas


def main() -> None:
    """Choose the worst, draw, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("rows", type=Path)
    parser.add_argument("--real", type=Path, required=True)
    parser.add_argument("--seen", type=Path, required=True)
    parser.add_argument("target", type=Path)
    given = parser.parse_args()
    rows = [row for row in json.loads(given.rows.read_text()) if row["kept"] and row["places"]]
    failed = [row for row in rows if row["rank"] != 1]
    failed.sort(key=lambda row: (row["rank"] > 0, -row["rank"], -row["score"]))
    cells, hidden = [], 0
    for row in failed:
        name, start, end = row["places"][0]
        second = start + min(1.5, (end - start) / 2)
        if not may_be_shown(name, second):
            hidden += 1
            continue
        path = next(path for path in (given.real / name, given.seen / name) if path.is_file())
        cells.append(cell(picture_at(path, second), row["text"], row["rank"]))
        if len(cells) == CELLS:
            break
    cells += [np.full_like(cells[0], 255)] * (-len(cells) % COLUMNS)
    sheet = np.vstack([np.hstack(cells[at : at + COLUMNS]) for at in range(0, len(cells), COLUMNS)])
    cv2.imwrite(str(given.target), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 82])
    print(f"{len(failed)} of {len(rows)} questions are not first; {hidden} of the worst may not be shown")


if __name__ == "__main__":
    main()
