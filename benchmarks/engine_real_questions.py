"""Questions about real footage, written before any ranking was seen; half of them are kept for the end.

Clips of a folder by file name, and pictures of packages joined into clips of three seconds each. A question's
answer is one or more (file, start, end); without one, nothing answers it. `kept` questions set no constant;
those with `kept=False` may be looked at while the engine is changed.
"""

from __future__ import annotations

from dataclasses import dataclass

Place = tuple[str, float, float]

#: Joined into one clip each, three seconds a picture, in this order: a file and the package that holds it.
SLIDES = {
    "slides_1.mp4": (
        "skimage/data/chelsea.png", "skimage/data/rocket.jpg", "skimage/data/coffee.png",
        "sklearn/datasets/images/china.jpg", "mahotas/demos/data/luispedro.jpg", "skimage/data/page.png",
        "skimage/data/brick.png",
    ),
    "slides_2.mp4": (
        "skimage/data/astronaut.png", "imgaug/quokka.jpg", "skimage/data/motorcycle_left.png",
        "sklearn/datasets/images/flower.jpg", "skimage/data/camera.png", "mahotas/demos/data/lena.jpg",
        "skimage/data/coins.png", "skimage/data/moon.png", "skimage/data/grass.png",
    ),
}  # fmt: skip
SECONDS = 3.0


@dataclass(frozen=True)
class Ask:
    """A question, its class, and where it is answered."""

    kind: str
    text: str
    places: tuple[Place, ...] = ()
    kept: bool = False


def _slide(name: str, number: int, count: int = 1) -> Place:
    return name, SECONDS * number, SECONDS * (number + count)


def _all(*names: str) -> tuple[Place, ...]:
    return tuple((name, 0.0, 1e9) for name in names)


ONE, TWO = "slides_1.mp4", "slides_2.mp4"
_PEOPLE = _all("intel_person.mp4", "mdn_friday.mp4", "mdn_tos.webm", "ae_green.mp4")
_ALONE = (*_all("intel_person.mp4", "ae_green.mp4"), _slide(ONE, 4))
_CLOSE = (_slide(TWO, 5), _slide(TWO, 0), *_all("mdn_tos.webm", "ae_green.mp4"))
_GRAY = (*_all("mdn_friday.mp4"), _slide(TWO, 4), _slide(TWO, 6, 3))
_MEN = (*_all("mdn_tos.webm", "intel_person.mp4"), _slide(TWO, 4))

TUNING = [
    Ask("objects", "a cat", (_slide(ONE, 0),)),
    Ask("objects", "a pet animal", (_slide(ONE, 0),)),
    Ask("objects", "a spacecraft", (_slide(ONE, 1),)),
    Ask("objects", "a cup of coffee", (_slide(ONE, 2),)),
    Ask("objects", "tableware", (_slide(ONE, 2), ("intel_bottle.mp4", 0, 1e9))),
    Ask("objects", "a pagoda", (_slide(ONE, 3),)),
    Ask("objects", "bottles on a table", (("intel_bottle.mp4", 0, 1e9),)),
    Ask("objects", "a butterfly", (("fl_butterfly.mp4", 0, 1e9),)),
    Ask("objects", "insects", (("fl_butterfly.mp4", 0, 1e9), ("fl_bee.mp4", 0, 1e9))),
    Ask("people", "the face of a man", (_slide(ONE, 4), ("ae_green.mp4", 0, 1e9))),
    Ask("people", "somebody's portrait", (_slide(ONE, 4),)),
    Ask("people", "a person standing at a table", (("intel_person.mp4", 0, 1e9),)),
    Ask("people", "one person alone", _ALONE),
    Ask("text", "region-based segmentation", (_slide(ONE, 5),)),
    Ask("text", "a page of text", (_slide(ONE, 5),)),
    Ask("scene", "a building by the water", (_slide(ONE, 3),)),
    Ask("scene", "a brick wall", (_slide(ONE, 6),)),
    Ask("colours", "a green picture with a white timecode", (("ae_example.mp4", 0, 1e9),)),
    Ask("colours", "orange", (_slide(ONE, 2), ("fl_butterfly.mp4", 0, 1e9), _slide(ONE, 0))),
    Ask("speech", "this voice may be used for commercial purposes", (("ae_example.mp4", 0, 1e9),)),
    *(Ask("nothing", text) for text in (
        "a helicopter", "a violin", "snow on a mountain", "a swimming pool", "a birthday cake", "an elephant",
        "a tennis match", "the stock market report", "a traffic jam at night", "a recipe for soup",
        "a soldier on a horse", "somebody says goodbye to the children", "a wedding", "a submarine",
        "penguins",
    )),
]  # fmt: skip

KEPT = [
    Ask("objects", "a motorcycle", (_slide(TWO, 2),), True),
    Ask("objects", "a vehicle with two wheels", (_slide(TWO, 2),), True),
    Ask("objects", "a bike in a garage", (_slide(TWO, 2),), True),
    Ask("objects", "a small furry animal", (_slide(TWO, 1),), True),
    Ask("objects", "a mammal", (_slide(TWO, 1),), True),
    Ask("objects", "a flower", (_slide(TWO, 3), ("mdn_flower.mp4", 0, 1e9)), True),
    Ask("objects", "a blossom", (_slide(TWO, 3), ("mdn_flower.mp4", 0, 1e9)), True),
    Ask("objects", "coins", (_slide(TWO, 6),), True),
    Ask("objects", "a camera on a tripod", (_slide(TWO, 4),), True),
    Ask("objects", "a tripod", (_slide(TWO, 4),), True),
    Ask("objects", "a hat", (_slide(TWO, 5), ("mdn_friday.mp4", 0, 1e9)), True),
    Ask("objects", "headgear", (_slide(TWO, 5), ("mdn_friday.mp4", 0, 1e9), _slide(TWO, 0)), True),
    Ask("objects", "a space shuttle", (_slide(TWO, 0),), True),
    Ask("objects", "a helmet", (_slide(TWO, 0),), True),
    Ask("objects", "a flag", (_slide(TWO, 0),), True),
    Ask("objects", "a bee", (("fl_bee.mp4", 0, 1e9),), True),
    Ask("objects", "a thistle", (("fl_bee.mp4", 0, 1e9),), True),
    Ask("objects", "a frog", (("mdn_frog.mp4", 0, 1e9),), True),
    Ask("objects", "a pig", (("mdn_pig.mp4", 0, 1e9),), True),
    Ask("objects", "something made of glass", (("mdn_crystal.mp4", 0, 1e9),), True),
    Ask("objects", "a weapon", (("mdn_tos.webm", 0, 1e9),), True),
    Ask("objects", "a wall clock", (("mdn_friday.mp4", 0, 1e9),), True),
    Ask("objects", "a rabbit", _all("bigbuckbunny.mp4", "mp_big_buck_bunny_0_30.webm"), True),
    Ask("people", "an astronaut", (_slide(TWO, 0),), True),
    Ask("people", "a smiling woman", (_slide(TWO, 0), _slide(TWO, 5)), True),
    Ask("people", "a woman with a hat", (_slide(TWO, 5), ("mdn_friday.mp4", 0, 1e9)), True),
    Ask("people", "a photographer", (_slide(TWO, 4),), True),
    Ask("people", "three women", (("mdn_friday.mp4", 0, 1e9),), True),
    Ask("people", "several people in a room", (("mdn_friday.mp4", 0, 1e9), ("mdn_tos.webm", 0, 1e9)), True),
    Ask("people", "two people talking", (("mdn_friday.mp4", 0, 1e9), ("mdn_tos.webm", 0, 1e9)), True),
    Ask("people", "a man in a suit", (("ae_green.mp4", 0, 1e9),), True),
    Ask("people", "a silhouette of a man before a green screen", (("ae_green.mp4", 0, 1e9),), True),
    Ask("people", "a soldier", (("mdn_tos.webm", 0, 1e9),), True),
    Ask("people", "scientists", (("mdn_tos.webm", 0, 1e9),), True),
    Ask("people", "a close-up of a face", _CLOSE, True),
    Ask("people", "a person from behind", (("intel_person.mp4", 0, 1e9), ("mdn_tos.webm", 0, 1e9)), True),
    Ask("people", "people", (*_PEOPLE, _slide(TWO, 0), _slide(TWO, 4, 2)), True),
    Ask("people", "a man outdoors", (_slide(TWO, 4), ("mdn_tos.webm", 0, 1e9)), True),
    Ask("people", "somebody holding a gun", (("mdn_tos.webm", 0, 1e9),), True),
    Ask("people", "men at work", _MEN, True),
    Ask("people", "a single person in the picture", (*_PEOPLE, _slide(TWO, 0), _slide(TWO, 4, 2)), True),
    Ask("people", "a human face looking into the camera", (_slide(TWO, 0), _slide(TWO, 5)), True),
    Ask("people", "a lady at a counter", (("mdn_friday.mp4", 0, 1e9),), True),
    Ask("speech", "the crown jewels were stolen", (("mdn_friday.mp4", 0, 1e9),), True),
    Ask("speech", "someone in a bad mood", (("mdn_friday.mp4", 0, 1e9),), True),
    Ask("speech", "the word banana", (("ae_example.mp4", 0, 1e9),), True),
    Ask("text", "the title of a film", (("mp_big_buck_bunny_0_30.webm", 0, 1e9),), True),
    Ask("text", "a running timecode", (("ae_example.mp4", 0, 1e9),), True),
    Ask("text", "Peach open movie project", (("mp_big_buck_bunny_0_30.webm", 0, 1e9),), True),
    Ask("scene", "grass", (_slide(TWO, 8), _slide(TWO, 4), ("mp_big_buck_bunny_0_30.webm", 0, 1e9)), True),
    Ask("scene", "the surface of the moon", (_slide(TWO, 7),), True),
    Ask("scene", "a church inside", (("mdn_tos.webm", 0, 1e9),), True),
    Ask("colours", "a bright green background", (("ae_green.mp4", 0, 1e9),), True),
    Ask("colours", "black and white pictures", _GRAY, True),
    Ask("colours", "something red in the middle", (("mdn_flower.mp4", 0, 1e9), _slide(TWO, 2)), True),
    Ask("motion", "the camera comes closer", _all("mdn_frog.mp4", "mdn_pig.mp4", "mdn_crystal.mp4"), True),
    Ask("sound", "music", _all("mp_big_buck_bunny_0_30.webm", "mdn_tos.webm", "bigbuckbunny.mp4"), True),
    Ask("sound", "someone speaks", _all("mdn_friday.mp4", "ae_example.mp4"), True),
    *(Ask("nothing", text, (), True) for text in (
        "a giraffe", "a grand piano", "a football match", "surfing on a wave", "a dentist", "a train station",
        "a pizza in an oven", "a dragon", "a lighthouse", "the weather forecast", "a bus stop in the rain",
        "cows on a meadow", "a swimmer", "an umbrella", "a refrigerator", "a game of chess", "a newborn baby",
        "a shark under water", "a desert with camels", "a lion", "skiing downhill", "a hot air balloon",
        "a guitar solo", "a court of law", "someone explains photosynthesis", "the price of gold",
        "a recipe with eggs", "fireworks", "an airport", "a ship at sea", "a kangaroo jumping", "a keyboard",
        "a microscope", "a traffic light", "a skateboard trick", "grapes and bananas", "a bathtub",
        "a polar bear", "the president signs a law", "a map of Europe",
    )),
]  # fmt: skip
