"""The scenes of the demo's videos, and labelled questions about them.

The videos use simple words, because the embedded engine has a small speech recognizer. The engine gets only
the videos, so it can answer the questions only from pictures and sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from tl_data.demo.scene import Scene

#: What answers a question: speech, text on the screen, or visible things.
Kind = Literal["spoken", "shown", "visible"]


@dataclass(frozen=True)
class Script:
    """One video: scenes, options of `make_video`, and questions as (scene number, kind, text)."""

    file: str
    title: str
    scenes: tuple[Scene, ...]
    asks: tuple[tuple[int, Kind, str], ...]
    options: dict[str, Any] = field(default_factory=dict)


SAFETY = Script(
    "safety-briefing.mp4",
    "Safety briefing for visitors",
    (
        Scene(
            7, "Safety briefing", "Riverside plant, building 2",
            "Welcome to the safety briefing. It takes three minutes.",
            background="navy", shape="triangle", color="yellow", size=0.4,
        ),
        Scene(
            7, "Emergency exit", "Follow the green sign",
            "Please keep the emergency exit clear at all times.",
            background="grey", backdrop="tiles", shape="square", color="green", size=0.36, camera="zoom in",
        ),
        Scene(
            7, "Helmet and gloves", "Required in hall 4",
            "All visitors must wear a safety helmet inside the building.",
            background="sand", backdrop="shelves", shape="circle", color="white", size=0.4,
            path=((0.5, 0.9), (0.5, 0.5)),
        ),
        Scene(
            7, "In case of fire", "Call extension 112",
            "In an emergency, call the office and walk to the parking lot.",
            background="black", shape="circle", color="red", size=0.36, path=((0.12, 0.65), (0.88, 0.65)),
        ),
    ),
    (
        (1, "spoken", "keep the emergency exit clear"),
        (3, "spoken", "walk to the parking lot in an emergency"),
        (2, "shown", "helmet and gloves required in hall 4"),
        (3, "shown", "call extension 112"),
        (3, "visible", "a red object moving right on a black background"),
    ),
)  # fmt: skip

LAUNCH = Script(
    "product-launch.mp4",
    "Launch of the Comet electric bicycle",
    (
        Scene(
            7, "Meet the Comet", "Our first electric bicycle",
            "Ladies and gentlemen, this is our new electric bicycle.",
            background="purple", shape="star", color="white", size=0.45, camera="zoom out", tone=220,
        ),
        Scene(
            8, "Battery: 100 miles", "Charges in two hours",
            "You can drive one hundred miles on a single battery.",
            background="white", backdrop="tiles", shape="circle", color="blue", size=0.34,
            path=((0.88, 0.62), (0.12, 0.62)),
        ),
        Scene(
            7, "Only 900 dollars", "Order from March 1",
            "The price is nine hundred dollars.",
            background="pink", shape="square", color="purple", size=0.36,
        ),
        Scene(
            7, "Sales forecast", "Spring and summer",
            "Sales will increase by twenty percent this summer.",
            background="white", backdrop="tiles", shape="bars", color="green", size=0.6,
        ),
    ),
    (
        (2, "spoken", "the price is nine hundred dollars"),
        (3, "spoken", "sales will increase by twenty percent"),
        (1, "shown", "battery charges in two hours"),
        (3, "shown", "sales forecast spring and summer"),
        (1, "visible", "a blue object moving left on a white background"),
        (2, "visible", "a mostly pink picture with a purple object"),
    ),
)  # fmt: skip

COOKING = Script(
    "cooking-tomato-soup.mp4",
    "Tomato soup in four steps",
    (
        Scene(
            7, "Tomato soup", "For four people",
            "Today we are making a simple tomato soup.",
            background="orange", backdrop="tiles", shape="circle", color="red", size=0.45,
        ),
        Scene(
            7, "1. Cut the onions", "Two onions, one carrot",
            "First cut the onions and the carrots in small pieces.",
            background="sand", backdrop="tiles", shape="circle", color="purple", size=0.3,
            path=((0.3, 0.7), (0.7, 0.6), (0.3, 0.7)),
        ),
        Scene(
            8, "2. Add water and salt", "Cook for 20 minutes",
            "Now add some salt and water and wait for twenty minutes.",
            background="brown", shape="circle", color="orange", size=0.5, camera="zoom in",
        ),
        Scene(
            6, "3. Serve with bread", "Enjoy your meal",
            "Serve the soup with fresh bread and butter.",
            background="white", backdrop="tiles", shape="square", color="brown", size=0.4,
        ),
    ),
    (
        (1, "spoken", "carrots in small pieces"),
        (1, "shown", "cut the onions"),
        (2, "visible", "an orange object on a brown background"),
    ),
    {"width": 854, "height": 480, "fps": 25},
)  # fmt: skip

WEATHER = Script(
    "weather-report.mp4",
    "Weekend weather report",
    (
        Scene(
            6, "Weekend weather", "Friday, 6 pm",
            "This is the weather forecast for the weekend.",
            background="sky", backdrop="hills", shape="circle", color="white", size=0.4,
            path=((0.2, 0.45), (0.8, 0.45)),
        ),
        Scene(
            8, "Saturday: heavy rain", "Wind from the west",
            "On Saturday we expect strong winds and heavy rain from the west.",
            background="grey", backdrop="city", shape="rain", color="blue",
        ),
        Scene(
            7, "Sunday: warm and dry", "24 degrees",
            "On Sunday it will be warm and dry.",
            background="sky", backdrop="hills", shape="circle", color="yellow", size=0.45,
            path=((0.5, 0.75), (0.5, 0.4)),
        ),
        Scene(
            7, "Snow in the mountains", "Drive carefully",
            "In the mountains there is snow and ice on the roads.",
            background="navy", backdrop="hills", shape="snow", color="white",
        ),
    ),
    (
        (1, "spoken", "strong winds and heavy rain"),
        (3, "spoken", "snow and ice on the roads"),
        (3, "shown", "drive carefully"),
        (2, "visible", "a yellow object moving up in a blue sky"),
    ),
    {"width": 720, "height": 1280, "fps": 25},
)  # fmt: skip

FOOTBALL = Script(
    "football-training.mp4",
    "Football training, Tuesday",
    (
        Scene(
            7, "Tuesday training", "Team North",
            "Welcome to the training of the first team.",
            background="green", backdrop="field", shape="circle", color="white", size=0.16,
            path=((0.15, 0.8), (0.5, 0.45), (0.85, 0.8)),
        ),
        Scene(
            7, "Long passes", "Ten on each side",
            "The players practice long passes with both feet.",
            background="green", backdrop="field", shape="circle", color="orange", size=0.16,
            path=((0.9, 0.5), (0.1, 0.8)), camera="pan left",
        ),
        Scene(
            7, "Penalty shots", "Goalkeeper: Maria",
            "Our goalkeeper is the best player of the season.",
            background="green", backdrop="field", shape="square", color="pink", size=0.3,
            path=((0.3, 0.6), (0.7, 0.6), (0.3, 0.6)),
        ),
        Scene(
            7, "Next match: Saturday", "Kickoff at 3 pm",
            "The next game is on Saturday at three in the afternoon.",
            background="blue", shape="star", color="yellow", size=0.45,
        ),
    ),
    (
        (3, "spoken", "the next game is on Saturday at three"),
        (2, "shown", "penalty shots goalkeeper Maria"),
        (2, "visible", "a pink object on a green field"),
        (3, "visible", "a yellow object on a blue background"),
    ),
)  # fmt: skip

WAREHOUSE = Script(
    "warehouse-tour.mp4",
    "Warehouse tour (no sound)",
    (
        Scene(
            6, "Warehouse tour", "Harbor street 12",
            background="sand", backdrop="shelves", camera="pan right",
        ),
        Scene(
            6, "Aisle 7: spare parts", "Bolts, belts and filters",
            background="brown", backdrop="shelves", shape="square", color="yellow", size=0.26,
            path=((0.1, 0.75), (0.9, 0.75)),
        ),
        Scene(
            6, "Cold storage", "Minus 18 degrees",
            background="blue", backdrop="shelves", shape="snow", color="white", camera="zoom in",
        ),
        Scene(
            6, "Loading dock", "Trucks leave at 5 am",
            background="grey", backdrop="city", shape="square", color="red", size=0.34,
            path=((0.9, 0.72), (0.1, 0.72)),
        ),
    ),
    (
        (1, "shown", "aisle 7 spare parts"),
        (2, "shown", "cold storage minus 18 degrees"),
        (3, "visible", "a red object moving left on a grey background"),
    ),
    {"audio": False, "fps": 25},
)  # fmt: skip

SCRIPTS = (SAFETY, LAUNCH, COOKING, WEATHER, FOOTBALL, WAREHOUSE)
