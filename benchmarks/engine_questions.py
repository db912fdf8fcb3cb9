"""The videos and questions that the embedded engine was built with: scenes by script, where every answer is.

Constants of the search were chosen with all of these in view. engine_held_out.py has those that were not.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

from tl_data.demo.scene import Scene

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


def looks(chance: random.Random) -> list[tuple[str, str, str]]:
    """Every colour, background and way that a scene may have, each once, shuffled."""
    every = [(c, b, w) for c in COLORS for b in BACKGROUNDS for w in PATHS if c != b]
    chance.shuffle(every)
    return every


def scripts(count: int) -> tuple[dict[str, list[Scene]], list[Ask]]:
    """Scenes by file name, and the questions, the same every time."""
    chance = random.Random(7)
    combinations = looks(chance)
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
