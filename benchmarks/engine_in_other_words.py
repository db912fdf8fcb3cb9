"""The same in other words: sentences and captions, each asked for without its own words, in two sets.

`tuning` may be looked at while the search is changed. `held_out` was written down and committed before the
first run over it, after the questions of that kind in engine_held_out.py had been seen; whoever changes the
search by what it shows needs a new one. Subjects are those of neither engine_questions.py nor
engine_held_out.py.
"""

from __future__ import annotations

import random

from benchmarks.engine_questions import PATHS, SCENES, SECONDS, Ask, looks
from tl_data.demo.scene import Scene

# What is said, and what is asked.
TUNING_SAID = [
    ("the cat jumped onto the kitchen table", "pet leaps up where food is prepared"),
    ("our hotel offers free breakfast", "complimentary morning meal for guests"),
    ("the astronaut walked outside the space station", "spacewalk of a crew member in orbit"),
    ("please send the invoice to the accounting department", "bill has to go to the finance office"),
    ("the boy broke his arm on the playground", "child injured while playing"),
    ("they painted the fence white", "giving the garden barrier a new color"),
    ("heavy rain is expected this weekend", "wet weather forecast for saturday"),
    ("the waiter brought the wrong soup", "restaurant server makes a mistake with an order"),
    ("our competitors copied the design", "rivals imitate the product"),
    ("the baby cried all night", "infant did not sleep"),
    ("the tower is three hundred meters high", "how tall is the structure"),
    ("the army attacked at dawn", "troops strike early in the morning"),
    ("wear gloves when you touch the metal", "protect your hands"),
    ("the river flows into the sea", "stream reaches the ocean"),
    ("the author signed copies of her novel", "writer autographs books"),
    ("the lawyer asked the witness a question", "attorney interrogates someone in court"),
    ("our sales fell by half in summer", "revenue dropped in the warm months"),
    ("cut the onions and fry them in oil", "cooking vegetables in a pan"),
    ("the king married a dancer", "royal wedding"),
    ("the gold was hidden in a cave", "secret treasure underground"),
    ("the machine stops when you press the red button", "switch to halt the equipment in an emergency"),
    ("he borrowed money to buy a house", "taking out a mortgage"),
    ("the bees make honey in the garden", "insects producing sweet food"),
    ("the plane to paris is full", "no seats left on the flight to france"),
    ("their daughter was born in december", "girl's birthday in winter"),
    ("the painting was sold for a million dollars", "expensive artwork auction"),
    ("you must not smoke in the building", "cigarettes are forbidden indoors"),
    ("the trees lose their leaves in autumn", "foliage drops in fall"),
]  # fmt: skip
HELD_OUT_SAID = [
    ("the elevator is broken so please use the stairs", "lift out of service, walk up instead"),
    ("the factory stopped production because of missing parts", "manufacturing halts for lack of components"),
    ("the kitchen must be cleaned every night", "hygiene in the restaurant after closing"),
    ("a fire destroyed the old library", "blaze burns down a building full of books"),
    ("the queen visited a village in scotland", "monarch travels to a small rural community"),
    ("lock the door when you leave the laboratory", "secure the research room on your way out"),
    ("the soldiers came home after the war", "troops return when the fighting is over"),
    ("the bus was late because of heavy traffic", "public transport delayed by congestion"),
    ("the dentist removed two of his teeth", "tooth extraction"),
    ("the pilot landed the plane in thick fog", "aircraft touches down with poor visibility"),
    ("new employees get a badge on their first day", "identity card for people who just joined"),
    ("the cow gave birth to a calf", "animal born on the ranch"),
    ("measure the wall before you cut the wood", "carpentry, check the dimensions first"),
    ("the singer cancelled her concert because she was ill", "performer too sick for the show"),
    ("the insurance pays for the damage to the roof", "who covers the cost of repairing the house"),
    ("the team finished the project two weeks early", "work completed ahead of schedule"),
    ("the ship sank in a storm near the island", "vessel lost at sea in bad weather"),
    ("never mix these two chemicals", "dangerous substances that must be kept apart"),
    ("his daughter wants to study law in london", "a girl hoping to become a lawyer at a british university"),
    ("the website was slow because too many people used it", "internet page overloaded by visitors"),
    ("we recycle all the glass and plastic bottles", "containers used again instead of thrown away"),
    ("the old man walks his dog in the park", "elderly person strolls with a pet"),
    ("turn the handle to open the valve", "how to let the liquid flow through the pipe"),
    ("the mechanic changed the tires before winter", "garage puts on other wheels for the cold season"),
    ("our guests can swim in the hotel pool", "bathing facilities for visitors of the inn"),
    ("a volcano threw ash into the sky", "eruption of a mountain"),
    ("the scientist discovered a new kind of insect", "researcher finds an unknown bug"),
    ("the election will be held next spring", "citizens go to the polls in april"),
]  # fmt: skip

# What is shown, and what is asked.
TUNING_SHOWN = [
    ("Opening Hours", "when is the store open"), ("No Photography", "taking pictures is not allowed"),
    ("Lost Luggage", "missing suitcases"), ("Fasten Seat Belts", "buckle up"),
    ("First Aid Kit", "medical supplies for an injury"), ("Sold Out", "no tickets available any more"),
    ("Speed Limit", "maximum velocity allowed"), ("Weather Forecast", "will it rain tomorrow"),
]  # fmt: skip
HELD_OUT_SHOWN = [
    ("Refund Within 30 Days", "money back if not satisfied"), ("Wet Floor", "slippery ground warning"),
    ("Staff Parking Only", "where employees leave their cars"), ("Job Openings", "vacant positions"),
    ("Yearly Health Check", "annual medical examination"), ("Mind Your Step", "careful not to stumble"),
    ("Delivery Times", "how long shipping takes"), ("Travel Expenses", "costs of business trips"),
]  # fmt: skip


def tuning() -> tuple[dict[str, list[Scene]], list[Ask]]:
    """Scenes by file name, and the questions, the same every time."""
    return _scripts("other-words-tuning", TUNING_SAID, TUNING_SHOWN, 11)


def held_out() -> tuple[dict[str, list[Scene]], list[Ask]]:
    """Likewise, of what nothing may be set by."""
    return _scripts("other-words-held-out", HELD_OUT_SAID, HELD_OUT_SHOWN, 13)


def _scripts(
    name: str, said: list[tuple[str, str]], shown: list[tuple[str, str]], seed: int
) -> tuple[dict[str, list[Scene]], list[Ask]]:
    matter = [(*pair, True) for pair in said] + [(*pair, False) for pair in shown]
    random.Random(seed).shuffle(matter)
    videos: dict[str, list[Scene]] = {}
    asks: list[Ask] = []
    pictures = looks(random.Random(seed))
    for number, ((text, question, spoken), (color, background, way)) in enumerate(
        zip(matter, pictures, strict=False)
    ):
        video, scene = divmod(number, SCENES)
        file = f"{name}-{video:03}.mp4"
        videos.setdefault(file, []).append(
            Scene(
                SECONDS, "" if spoken else text, "", text if spoken else "", background=background,
                shape=("circle", "square", "triangle")[number % 3], color=color, size=0.3, path=PATHS[way],
            )
        )  # fmt: skip
        kind = "said in others" if spoken else "shown in others"
        asks.append(Ask(kind, question, file, scene * SECONDS, (scene + 1) * SECONDS))
    return videos, asks
