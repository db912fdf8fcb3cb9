"""Videos and questions held out: further scenes, written down and committed before the first run over them.

Nothing of the engine may be set with their answers in view. Sentences, captions and pairs of colours are not
those of engine_questions.py. A question is put as somebody would type it: the words spoken or a part of them,
the matter of a sentence in other words, the words of a caption, what is seen, what is heard. Of the
questions that nothing answers about half are of the kind a company asks, some with a word that is spoken
or shown elsewhere, or with a colour that is on the screen in another thing.
"""

from __future__ import annotations

import random

from benchmarks.engine_questions import PATHS, SCENES, SECONDS, Ask, looks
from tl_data.demo.scene import Scene

VIDEOS = 24

# What is said, words of it, and the same asked in other words.
SPOKEN = [
    ("the new warehouse will be ready by the end of march", "new warehouse ready by the end of march",
     "when is the storage building finished"),
    ("we lost two large customers in spain", "we lost two large customers in spain",
     "big clients from madrid or barcelona who left us"),
    ("always wear a helmet on the building site", "wear a helmet on the building site",
     "protective headgear for construction workers"),
    ("the printer is out of paper again", "the printer is out of paper again",
     "copying machine has no sheets left"),
    ("passengers must show a valid ticket and a passport", "show a valid ticket and a passport",
     "documents that travellers need to have with them"),
    ("the judge sent the thief to prison for three years", "the judge sent the thief to prison",
     "court sentences a burglar to jail"),
    ("bread and butter cost more than last year", "bread and butter cost more than last year",
     "food prices have risen"),
    ("the mayor promised to build a new hospital", "promised to build a new hospital",
     "city leader announces plans for a clinic"),
    ("put the fish in the oven for twenty minutes", "fish in the oven for twenty minutes",
     "how long seafood has to bake"),
    ("we tested the battery at very low temperatures", "tested the battery at very low temperatures",
     "checking how power cells behave in the cold"),
    ("the river was too dirty for swimming", "the river was too dirty for swimming",
     "polluted water where nobody can bathe"),
    ("he forgot his keys and slept in the garage", "forgot his keys and slept in the garage",
     "a man locked out of his home spends the night beside the car"),
    ("the parliament voted against the new tax", "the parliament voted against the new tax",
     "lawmakers rejected a levy"),
    ("sign the contract and send it back by friday", "sign the contract and send it back",
     "return the agreement before the weekend"),
    ("a strong wind broke the window of the school", "strong wind broke the window",
     "glass damaged in a gale"),
    ("the actress received a prize for her first film", "actress received a prize",
     "award for a movie star's debut"),
    ("our shop is closed on public holidays", "our shop is closed on public holidays",
     "store does not open on bank holidays"),
    ("the nurse measured his blood pressure twice", "the nurse measured his blood pressure",
     "hypertension check by a caregiver"),
    ("the airline cancelled all flights because of snow", "airline cancelled all flights",
     "planes stay on the ground due to winter weather"),
    ("my grandfather repaired old clocks and radios", "repaired old clocks and radios",
     "an elderly relative who fixed watches"),
    ("half of the staff now works from home", "half of the staff now works from home",
     "employees doing their job remotely"),
    ("the bank lowered the interest on loans", "the bank lowered the interest on loans",
     "borrowing money has become cheaper"),
    ("drink a glass of water before breakfast", "a glass of water before breakfast",
     "what to drink first thing in the morning"),
    ("the truck driver fell asleep on the motorway", "truck driver fell asleep",
     "tired lorry chauffeur on the highway"),
]  # fmt: skip

# A caption, and how it is asked for.
SHOWN = [
    ("Safety Briefing 08:30", "safety briefing at 08:30"),
    ("Net Revenue 4.2 Million", "net revenue 4.2 million"),
    ("Visitors Must Register", "sign that says visitors must register"),
    ("Warehouse B Inventory", "inventory of warehouse b"), ("Fire Exit Only", "fire exit sign"),
    ("Agenda: Day Two", "agenda for day two"), ("Lost and Found", "lost and found"),
    ("Terms and Conditions", "terms and conditions slide"), ("Order 55-1042 Shipped", "order 55-1042"),
    ("Conference Hall C", "text on screen conference hall c"),
    ("Software License Key", "where is the software license key shown"),
    ("Hiring Plan 2028", "hiring plan 2028"), ("Summary and Next Steps", "slide with the next steps"),
    ("Out of Order", "out of order"), ("Car Park Level 3", "car park level 3"),
    ("Training Module Five", "title training module five"), ("Low Battery Warning", "low battery warning"),
    ("Interview: Maria Keller", "interview with maria keller"), ("Timetable Bus 47", "timetable of bus 47"),
    ("Cookies Fresh Daily", "cookies fresh daily"), ("Data Protection Officer", "data protection officer"),
    ("Prototype Number Six", "prototype number six"), ("Half Price Until Sunday", "half price until sunday"),
    ("Membership Card Required", "membership card required"),
]  # fmt: skip

# What is seen; `other` names the thing's colour by a name for exactly such a shade.
SEEN_WAYS = (
    "a {color} {shape} going {way} over a {background} backdrop",
    "{background} screen where a {color} {shape} slides {way}",
    "find the {color} thing that drifts {way}, all {background} behind it",
    "{other} {shape} on {background}, moving {way}",
)
WAYS = {"left": "to the left", "right": "to the right", "up": "upwards", "down": "downwards"}
OTHER_NAMES = {
    "red": "scarlet", "orange": "tangerine", "yellow": "lemon yellow", "green": "grass green",
    "blue": "royal blue", "purple": "dark violet", "pink": "rosy", "white": "snow white",
    "black": "jet black",
}  # fmt: skip
HEARD_WAYS = (
    "a chord is heard while a {color} {shape} crosses a {background} picture",
    "scene with music, {color} {shape} on {background}",
)

UNANSWERABLE = [
    # as a company asks
    "how long is the warranty on washing machines", "merger with a japanese competitor",
    "layoffs at the dutch factory", "who is the new chief financial officer",
    "carbon emissions of our suppliers", "patent dispute about headphones", "complaints about late parcels",
    "share price after the stock split", "marketing campaign on social media", "pension scheme of the staff",
    "insurance claim for a burnt kitchen", "how to install a security camera",
    "strike of the baggage handlers", "cyber attack on the payroll system",
    "rent increase for the downtown branch", "apprentices welding steel pipes",
    "the boss dancing at the christmas party", "exchange rate of the swiss franc",
    # seen or heard nowhere
    "a drone view of a vineyard", "two girls building a sandcastle", "a chef slicing onions",
    "people clapping in a theatre", "close up of a spider's web", "fireworks over a harbour",
    "a tractor ploughing a field", "a grey star spinning around", "a turquoise hexagon on a red background",
    "thunder and heavy rain", "a woman singing opera", "a crying baby",
    # nonsense
    "blorf wanted snizzle", "asdf qwer zxcv", "the seventh sock of the algebra",
    "marmalade republic of teaspoons",
]  # fmt: skip


def scripts() -> tuple[dict[str, list[Scene]], list[Ask]]:
    """Scenes by file name, and the questions, the same every time.

    The looks of the scenes are the last of `looks`: those of engine_questions.py with its 60 videos are the
    first, so that no two scenes of both together look the same.
    """
    unused = looks(random.Random(7))[-VIDEOS * SCENES :]
    places = [(video, scene) for video in range(VIDEOS) for scene in range(SCENES)]
    order = random.Random(2027).sample(places, len(places))
    said = dict(zip(order, SPOKEN, strict=False))
    shown = dict(zip(order[len(SPOKEN) // 2 :], SHOWN, strict=False))
    silent = order[len(SPOKEN) // 2 + len(SHOWN) :]
    music, plain = silent[:8], silent[8:16]
    videos: dict[str, list[Scene]] = {}
    asks: list[Ask] = []
    seen = heard = 0
    for (video, scene), (color, background, way) in zip(places, unused, strict=True):
        here = (video, scene)
        speech, words, paraphrase = said.get(here, ("", "", ""))
        caption, question = shown.get(here, ("", ""))
        shape = ("circle", "square", "triangle")[(video + scene) % 3]
        name = f"held-out-{video:03}.mp4"
        videos.setdefault(name, []).append(
            Scene(
                SECONDS, caption, "", speech, background=background, shape=shape, color=color,
                size=0.3, path=PATHS[way], tone=230.0 + 10 * video if here in music else 0.0,
            )
        )  # fmt: skip
        span = (name, scene * SECONDS, (scene + 1) * SECONDS)
        look = {"color": color, "other": OTHER_NAMES[color], "background": background, "shape": shape}
        if speech:
            asks += [Ask("spoken", words, *span), Ask("paraphrase", paraphrase, *span)]
        if caption:
            asks.append(Ask("shown", question, *span))
        if (caption and not speech) or here in music or here in plain:
            text = (
                SEEN_WAYS[seen % len(SEEN_WAYS)]
                .format(**look, way=WAYS[way])
                .replace("a orange", "an orange")
            )
            asks.append(Ask("visible", text, *span))
            seen += 1
        if here in music:
            text = HEARD_WAYS[heard % len(HEARD_WAYS)].format(**look).replace("a orange", "an orange")
            asks.append(Ask("heard", text, *span))
            heard += 1
    return videos, asks + [Ask("unanswerable", text) for text in UNANSWERABLE]
