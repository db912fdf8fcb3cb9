"""A second kept set: other clips and pictures, asked in an index of their own.

The questions were written from contact sheets, before any of the files was analysed, after the kept half of
engine_real_questions.py had been seen by an earlier version of the ranking. No constant was set on them.
"""

from __future__ import annotations

from benchmarks.engine_real_questions import SECONDS, Ask, Place

_OPENCV, _SIGNS = "opencv-doc/data", "opencv-doc/text"
_GRADIO, _FACES = "gradio/media_assets/images", "face_recognition/tests/test_images"

SLIDES = {
    "slides_3.mp4": (
        f"{_OPENCV}/fruits.jpg", f"{_OPENCV}/baboon.jpg", f"{_OPENCV}/leuvenA.jpg",
        f"{_OPENCV}/squirrel_cls.jpg", f"{_OPENCV}/home.jpg", f"{_OPENCV}/aloeL.jpg",
        f"{_OPENCV}/starry_night.jpg", f"{_OPENCV}/orange.jpg",
    ),
    "slides_4.mp4": (
        f"{_OPENCV}/messi5.jpg", f"{_OPENCV}/board.jpg", f"{_OPENCV}/cards.png", f"{_OPENCV}/sudoku.png",
        f"{_OPENCV}/basketball1.png", f"{_OPENCV}/chicky_512.png", f"{_OPENCV}/smarties.png",
        f"{_OPENCV}/graf1.png", f"{_OPENCV}/building.jpg",
    ),
    "slides_5.mp4": (
        f"{_OPENCV}/butterfly.jpg", f"{_OPENCV}/aero1.jpg", f"{_OPENCV}/licenseplate_motion.jpg",
        f"{_SIGNS}/scenetext01.jpg", f"{_SIGNS}/scenetext02.jpg", f"{_SIGNS}/scenetext03.jpg",
        f"{_SIGNS}/scenetext05.jpg", f"{_SIGNS}/scenetext06.jpg",
    ),
    "slides_6.mp4": (
        f"{_GRADIO}/cheetah.jpg", f"{_GRADIO}/cheetah1.jpg", f"{_GRADIO}/lion.jpg", f"{_GRADIO}/tower.jpg",
        "matplotlib/mpl-data/sample_data/grace_hopper.jpg", f"{_FACES}/biden.jpg", f"{_FACES}/obama2.jpg",
        f"{_FACES}/obama3.jpg", "ultralytics/assets/bus.jpg", "ultralytics/assets/zidane.jpg",
        f"{_OPENCV}/left01.jpg", f"{_OPENCV}/apple.jpg", f"{_FACES}/obama.jpg",
    ),
}  # fmt: skip

_NUMBER = {
    path.rpartition("/")[2]: (name, n) for name, paths in SLIDES.items() for n, path in enumerate(paths)
}


def _pictures(*names: str) -> tuple[Place, ...]:
    """Where pictures are shown."""
    return tuple(
        (name, SECONDS * number, SECONDS * (number + 1)) for name, number in (_NUMBER[n] for n in names)
    )


_PARTY = ("Megamind.avi", 0.0, 1e9)
_WOMAN = (("Megamind.avi", 0.0, 4.4), ("Megamind.avi", 7.2, 8.6))
_MAN = (("Megamind.avi", 4.4, 7.2), ("Megamind.avi", 8.6, 1e9))
_STREET = (("vtest.avi", 0.0, 1e9), *_pictures("bus.jpg"))
_SUITS = _pictures("biden.jpg", "obama2.jpg", "obama3.jpg", "obama.jpg", "zidane.jpg")
_LEADERS = _pictures("biden.jpg", "obama2.jpg", "obama3.jpg", "obama.jpg")
_ALONE = _pictures("grace_hopper.jpg", "biden.jpg", "obama2.jpg", "obama3.jpg", "obama.jpg", "messi5.jpg",
                   "left01.jpg")  # fmt: skip
_CLOSE = (*_pictures("grace_hopper.jpg", "obama.jpg", "obama2.jpg"), _PARTY)
_GRAY = _pictures("sudoku.png", "basketball1.png", "left01.jpg")
_ALL = (*_STREET, *_SUITS, *_ALONE, *_pictures("basketball1.png"), _PARTY)

FRESH = [
    Ask("objects", "a dog", _pictures("chicky_512.png"), True),
    Ask("objects", "citrus fruit cut in half", _pictures("fruits.jpg"), True),
    Ask("objects", "an orange", _pictures("orange.jpg", "fruits.jpg"), True),
    Ask("objects", "fruit", _pictures("orange.jpg", "fruits.jpg", "apple.jpg"), True),
    Ask("objects", "an apple", _pictures("apple.jpg"), True),
    Ask("objects", "a monkey with a colourful face", _pictures("baboon.jpg"), True),
    Ask("objects", "a squirrel on a branch", _pictures("squirrel_cls.jpg"), True),
    Ask("objects", "a rodent", _pictures("squirrel_cls.jpg"), True),
    Ask("objects", "a lion", _pictures("lion.jpg"), True),
    Ask("objects", "a cheetah running", _pictures("cheetah.jpg", "cheetah1.jpg"), True),
    Ask("objects", "big cats", _pictures("cheetah.jpg", "cheetah1.jpg", "lion.jpg"), True),
    Ask("objects", "a potted plant", _pictures("aloeL.jpg"), True),
    Ask("objects", "playing cards", _pictures("cards.png"), True),
    Ask("objects", "an electronic circuit", _pictures("board.jpg"), True),
    Ask("objects", "a bus", _pictures("bus.jpg"), True),
    Ask("objects", "a car", (*_pictures("licenseplate_motion.jpg", "scenetext01.jpg", "scenetext06.jpg"),
                             ("vtest.avi", 0.0, 1e9)), True),
    Ask("objects", "a tower", _pictures("tower.jpg"), True),
    Ask("objects", "a butterfly with spread wings", _pictures("butterfly.jpg"), True),
    Ask("objects", "sweets in many colours", _pictures("smarties.png"), True),
    Ask("objects", "a computer", _pictures("left01.jpg"), True),
    Ask("objects", "a soccer ball", _pictures("messi5.jpg"), True),
    Ask("objects", "a painting", _pictures("starry_night.jpg", "graf1.png"), True),
    Ask("objects", "a microphone", _pictures("obama2.jpg"), True),
    Ask("objects", "spectacles", (*_pictures("grace_hopper.jpg"), *_MAN), True),
    Ask("objects", "a tree", (("tree.avi", 0.0, 1e9), *_pictures("building.jpg", "scenetext01.jpg")), True),
    Ask("people", "a footballer kicking a ball", _pictures("messi5.jpg"), True),
    Ask("people", "an athlete", _pictures("messi5.jpg"), True),
    Ask("people", "a man in a suit and tie", _SUITS, True),
    Ask("people", "an old woman in uniform", _pictures("grace_hopper.jpg"), True),
    Ask("people", "a navy officer", _pictures("grace_hopper.jpg"), True),
    Ask("people", "a man giving a speech", _pictures("obama2.jpg"), True),
    Ask("people", "pedestrians crossing a street", _STREET, True),
    Ask("people", "people waiting near a bus", _pictures("bus.jpg"), True),
    Ask("people", "two men at a sports match", _pictures("zidane.jpg"), True),
    Ask("people", "two people throwing a ball in a room", _pictures("basketball1.png"), True),
    Ask("people", "a man holding a board in front of his face", _pictures("left01.jpg"), True),
    Ask("people", "a president", _LEADERS, True),
    Ask("people", "a woman at a restaurant table", _WOMAN, True),
    Ask("people", "a man with glasses", _MAN, True),
    Ask("people", "a smiling man", _pictures("obama.jpg"), True),
    Ask("people", "a face in close-up", _CLOSE, True),
    Ask("people", "people", _ALL, True),
    Ask("people", "a group of people outdoors", _STREET, True),
    Ask("people", "somebody sitting at dinner", (_PARTY,), True),
    Ask("people", "a human hand", (("tree.avi", 22.0, 1e9),), True),
    Ask("people", "one person alone", _ALONE, True),
    Ask("people", "football coaches", _pictures("zidane.jpg"), True),
    Ask("people", "a man with his arms folded", _LEADERS, True),
    Ask("text", "double parking", _pictures("scenetext01.jpg"), True),
    Ask("text", "the way to the sports centre", _pictures("scenetext02.jpg"), True),
    Ask("text", "a copy centre", _pictures("scenetext03.jpg"), True),
    Ask("text", "thanks for watching", (("a.mp4", 0.0, 1e9),), True),
    Ask("text", "a number puzzle", _pictures("sudoku.png"), True),
    Ask("scene", "an old town square", _pictures("leuvenA.jpg"), True),
    Ask("scene", "a city seen from the air", _pictures("aero1.jpg"), True),
    Ask("scene", "our planet seen from space", (("world.mp4", 0.0, 1e9),), True),
    Ask("scene", "a modern office building", _pictures("building.jpg"), True),
    Ask("colours", "a yellow building under a blue sky", _pictures("home.jpg", "scenetext06.jpg"), True),
    Ask("colours", "a black and white picture", _GRAY, True),
    *(Ask("nothing", text, (), True) for text in (
        "a violin concert", "a rowing boat", "a snowman", "a tractor", "a cow being milked", "a camel",
        "an octopus", "a bathroom sink", "a wine cellar", "a barber", "a judge in a courtroom",
        "a nurse with a syringe", "a ballet dancer", "a rock band", "an escalator", "a parachute",
        "a volcano", "a waterfall", "a jellyfish", "a penguin colony", "a sewing machine", "a typewriter",
        "a bowl of rice", "a slice of pizza", "a birthday party", "a goat", "a hedgehog",
        "a helicopter landing", "a train", "a canoe on a river", "a horse race", "golf", "a tennis racket",
        "a toaster", "an ambulance", "a castle in the snow", "a beach umbrella", "a teddy bear",
        "interest rates", "how to bake bread",
    )),
]  # fmt: skip
