"""Hand-made evidence that tests share: five short videos, as looking at them would give it."""

from __future__ import annotations

from dataclasses import replace

from tl_data.local.perception.evidence import Clip, Evidence, Probe, Span

PROBE = Probe(24.0, 1280, 720, 30.0, 2_000_000, "h264", "aac")


def clip(start: float, end: float, **measured: object) -> Clip:
    values = {"keyframe": f"clip-{int(start):04d}.jpg", "brightness": 0.5, "contrast": 0.2, "cut": True}
    return Clip(start, end, **{**values, **measured})  # type: ignore[arg-type]


SALES = Evidence(
    PROBE,
    (
        clip(
            0,
            6,
            colors=(("dark blue", 0.82), ("white", 0.1)),
            brightness=0.2,
            sound="speech",
            loudness=-20.0,
        ),
        clip(
            6,
            12,
            colors=(("white", 0.8), ("green", 0.12)),
            regions=(("center", "green"),),
            brightness=0.85,
            sound="speech",
            loudness=-21.0,
        ),
        clip(
            12,
            18,
            colors=(("white", 0.8), ("green", 0.12)),
            regions=(("center", "green"),),
            brightness=0.85,
            sound="speech",
            loudness=-21.0,
            cut=False,
        ),
        clip(18, 24, colors=(("black", 0.9),), brightness=0.05, sound="music", loudness=-14.0),
    ),
    speech=(
        Span(0.6, 4.8, "Welcome to the quarterly review of the northern region.", 0.8),
        Span(7.0, 11.5, "Our revenue grew by twelve percent compared to last year.", 0.75),
        Span(
            12.5, 17.0, "Most of the growth came from new customers in Norway.", 0.7, ("mostly the growth",)
        ),
    ),
    shown=(
        Span(0.0, 6.0, "Quarterly review", 0.98),
        Span(6.0, 18.0, "Revenue by region", 0.97),
        Span(18.5, 23.5, "Thank you", 0.99),
    ),
)

SHAPES = Evidence(
    replace(PROBE, duration_sec=20.0),
    (
        clip(
            0,
            5,
            colors=(("green", 0.85), ("red", 0.06)),
            regions=(("left", "red"), ("right", "green")),
            motion=0.012,
            direction="left",
            sound="silence",
            loudness=-70.0,
        ),
        clip(
            5,
            10,
            colors=(("gray", 0.8), ("yellow", 0.08)),
            regions=(("right", "yellow"),),
            motion=0.012,
            direction="up",
            sound="silence",
            loudness=-70.0,
        ),
        clip(
            10,
            15,
            colors=(("light blue", 0.4), ("brown", 0.3), ("green", 0.2)),
            motion=0.2,
            camera="pan right",
            sound="noise",
            loudness=-30.0,
        ),
        clip(
            15,
            20,
            colors=(("purple", 0.75), ("orange", 0.1)),
            motion=0.2,
            camera="zoom in",
            sound="music",
            loudness=-12.0,
        ),
    ),
)

PLANT = Evidence(
    replace(PROBE, duration_sec=18.0),
    (
        clip(
            0,
            6,
            colors=(("gray", 0.6), ("yellow", 0.2)),
            objects=(("face", 0.9),),
            sound="speech",
            loudness=-22.0,
        ),
        clip(
            6,
            12,
            colors=(("gray", 0.5), ("red", 0.25)),
            objects=(("face", 0.8), ("face", 0.7)),
            sound="speech",
            loudness=-22.0,
        ),
        clip(12, 18, colors=(("white", 0.7), ("red", 0.2)), brightness=0.8, sound="noise", loudness=-18.0),
    ),
    speech=(
        Span(0.5, 5.5, "All visitors must wear a helmet inside the building.", 0.8),
        Span(6.5, 11.0, "In case of fire leave through the nearest exit and call the police.", 0.8),
    ),
    shown=(Span(0.2, 5.8, "SAFETY BRIEFING", 0.99), Span(12.1, 17.9, "Ca11 extension 112", 0.8)),
)

SILENT = Evidence(
    Probe(8.0, 720, 1280, 25.0, 500_000, "h264", None),
    (clip(0, 8, colors=(("orange", 0.5), ("black", 0.3)), loudness=-99.0),),
    notes=("no sound",),
)

EMPTY = Evidence(Probe(5.0, 640, 360, 30.0, 1000, "h264", None), (clip(0, 5),))

VIDEOS = {"sales": SALES, "shapes": SHAPES, "plant": PLANT, "silent": SILENT, "empty": EMPTY}
