"""Subtitles, chapters and timelines: exact to the frame and millisecond, and read back by other programs."""

from __future__ import annotations

import json
import re
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

import tl_data
from tests.support.export_lake import needs, video, write_chapters, write_clips, write_videos
from tl_data.errors import SettingsError
from tl_data.export.editing.timecode import RATES, Rate, standard_rate
from tl_data.lake.base import rows_of
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import ANNOTATIONS, HIGHLIGHTS

NTSC = Fraction(30000, 1001)


@pytest.mark.parametrize(
    ("fps", "frame", "label"),
    [
        (Fraction(24000, 1001), 86_400, "01:00:00:00"),
        (Fraction(25), 90_000, "01:00:00:00"),
        (NTSC, 1799, "00:00:59;29"),
        (NTSC, 1800, "00:01:00;02"),
        (NTSC, 17_982, "00:10:00;00"),
        (NTSC, 107_892, "01:00:00;00"),
        (NTSC, 2_589_407, "23:59:59;29"),
        (Fraction(60000, 1001), 3600, "00:01:00;04"),
        (Fraction(60000, 1001), 215_784, "01:00:00;00"),
        (Fraction(120), 119, "00:00:00:119"),
    ],
)
def test_timecode(fps: Fraction, frame: int, label: str) -> None:
    assert Rate(fps).label(frame) == label
    assert Rate(fps).frame_of(label) == frame


@pytest.mark.parametrize("fps", RATES)
def test_every_frame_has_one_label(fps: Fraction) -> None:
    rate = Rate(fps)
    frames = [*range(0, 40_000, 71), *range(rate.day - 50, rate.day)]
    assert all(rate.frame_of(rate.label(n)) == n for n in frames)
    assert all(rate.frames(float(rate.seconds(n))) == n for n in frames)
    with pytest.raises(OverflowError):
        rate.label(rate.day)


@needs("opentimelineio", "export-editing")
@pytest.mark.parametrize(
    "fps", [f for f in RATES if f in (24, 25, 30, 50) or f < 24 or 29 < f < 30 or 59 < f < 60]
)
def test_timecode_is_that_of_opentimelineio(fps: Fraction) -> None:
    from opentimelineio.opentime import RationalTime

    rate = Rate(fps)
    for n in range(0, 250_000, 997):
        assert RationalTime(n, float(fps)).to_timecode() == rate.label(n)


def test_rates() -> None:
    assert standard_rate(29.97) == standard_rate(29.97002997) == NTSC
    assert standard_rate(23.98) == Fraction(24000, 1001)
    assert standard_rate(30.0) == 30
    for odd in (0, None, -1, 27.3, 12.5, float("nan"), float("inf"), 1e9):
        assert standard_rate(odd) is None


def _export(lake: Lake, tool: str, folder: Path, query: str = "", **how: object) -> dict[str, str]:
    """Export, and give the files that were made and the codes of what was refused."""
    [report] = tl_data.export(lake.folder, f"{tool}://{folder}{query}", **how)
    files = {p.name: p.read_text(encoding="utf-8") for p in folder.iterdir()} if folder.is_dir() else {}
    return files | {f"refused {r.video}": r.code for r in report.errors}


@pytest.fixture
def odd(lake: Lake) -> Lake:
    """Videos of every rate, without one, with a variable one, longer than a day, and with odd names."""
    day = 26 * 3600.0
    videos = [
        *(video("film", fps=24000 / 1001), video("pal", fps=25.0), video("ntsc", fps=29.97)),
        *(video("sport", fps=59.94), video("zero", fps=0.0), video("unknown", fps=None)),
        *(video("phone", fps=27.31), video("day", duration_sec=day)),
        *(
            video("a/clip.mp4"),
            video("b/Clip.mp4"),
            video("x" * 1000),
            video("q", url="https://h/%22o'%20😀.mp4"),
        ),
    ]
    write_videos(lake, videos)
    write_chapters(
        lake,
        [(v["video_id"], 10.01, 20.04, 'It\'s\n"A" & <B> | 😀', "Note\r\n2") for v in videos]
        + [
            ("v-day", day - 7, day, "late", None),
            ("v-pal", 5, 5, "empty", None),
            ("v-pal", 9, 1, "back", None),
        ],
    )
    write_clips(
        lake, [("v-day", day - 7, day, "late --> <i>words</i> & more"), ("v-pal", 0, 60, "word " * 300)]
    )
    return lake


def test_names_of_files(odd: Lake, tmp_path: Path) -> None:
    made = {n.removesuffix(".srt") for n in _export(odd, "srt", tmp_path / "out") if n.endswith(".srt")}
    assert len(made) == 12
    assert all(len(name.encode()) < 200 for name in made)
    assert len({name.lower() for name in made}) == 12
    assert {name.partition("-")[0] for name in made} >= {"film", "clip", "Clip", "_o' 😀"}


def test_times_of_subtitles(odd: Lake, tmp_path: Path) -> None:
    made = _export(odd, "webvtt", tmp_path / "out")
    assert (
        "25:59:53.000 --> 26:00:00.000\nlate --&gt; &lt;i&gt;words&lt;/i&gt; &amp; more\n" in made["day.vtt"]
    )
    times = re.findall(r"(\d+):(\d+):(\d+)\.(\d+) --> (\d+):(\d+):(\d+)\.(\d+)", made["pal.vtt"])
    stretches = [
        (int(a) * 3600000 + int(b) * 60000 + int(c) * 1000 + int(d), int(g) * 1000 + int(h) + int(f) * 60000)
        for a, b, c, d, _, f, g, h in times
    ]
    assert stretches[0][0] == 0
    assert stretches[-1][1] == 60_000
    assert all(end == start for (_, end), (start, _) in pairwise(stretches))
    assert all(len(line) <= 42 for line in made["pal.vtt"].splitlines())
    chapters = _export(odd, "webvtt", tmp_path / "chapters", table="chapters")
    assert chapters["refused v-pal"] == "no_time_range"
    srt = _export(odd, "srt", tmp_path / "srt")["day.srt"]
    assert srt == "1\n25:59:53,000 --> 26:00:00,000\nlate -› ‹i›words‹/i› & more\n"
    ttml = ET.fromstring(_export(odd, "ttml", tmp_path / "ttml", "?language=en")["day.ttml"])
    [cue] = ttml.iter("{http://www.w3.org/ns/ttml}p")
    assert (cue.get("begin"), cue.text) == ("25:59:53.000", "late --> <i>words</i> & more")
    assert ttml.get("{http://www.w3.org/XML/1998/namespace}lang") == "en"


@needs("webvtt", "export-editing")
def test_other_programs_read_the_subtitles(odd: Lake, tmp_path: Path) -> None:
    import webvtt

    _export(odd, "webvtt", tmp_path / "vtt")
    _export(odd, "srt", tmp_path / "srt")
    vtt, srt = webvtt.read(str(tmp_path / "vtt/pal.vtt")), webvtt.from_srt(str(tmp_path / "srt/pal.srt"))
    assert len(vtt) == len(srt) == 19
    assert [c.start for c in vtt] == [c.start for c in srt]
    assert " ".join(c.text for c in vtt).split() == ["word"] * 300


@needs("ttconv", "export-editing")
def test_another_program_reads_the_ttml(odd: Lake, tmp_path: Path) -> None:
    from ttconv.imsc import reader

    text = _export(odd, "ttml", tmp_path / "out")["pal.ttml"]
    document = reader.to_model(ET.ElementTree(ET.fromstring(text)))
    assert document.get_body() is not None
    assert len(list(next(iter(document.get_body())))) == 19


def test_chapters_for_youtube(lake: Lake, tmp_path: Path) -> None:
    write_videos(lake, [video("long", duration_sec=7300), video("short")])
    write_chapters(
        lake,
        [("v-long", a, a + 100, f"Chapter\n{a}", None) for a in (3, 8, 100, 105, 3700, 7295)]
        + [("v-short", 0, 30, "one", None), ("v-short", 30, 60, "two", None)],
    )
    made = _export(lake, "youtube", tmp_path / "out")
    assert made["long.txt"] == "0:00 Chapter 3\n1:40 Chapter 100\n1:01:40 Chapter 3700\n"
    assert made["refused v-short"] == "too_few_chapters"
    assert "short.txt" not in made


def test_frames_are_exact(odd: Lake, tmp_path: Path) -> None:
    """10.01 s is frame 240 at 23.976, 250 at 25, 300 at 29.97, 600 at 59.94; 20.04 s 480, 501, 601, 1201."""
    made = _export(odd, "fcpxml", tmp_path / "out", "?start=01:00:00:00")
    expected = {
        "film": (86_400, 240, 480, "1001/24000s", "NDF"),
        "pal": (90_000, 250, 501, "1/25s", "NDF"),
        "ntsc": (107_892, 300, 601, "1001/30000s", "DF"),
        "sport": (215_784, 600, 1201, "1001/60000s", "DF"),
    }
    for name, (start, first, last, frame, form) in expected.items():
        root = ET.fromstring(made[f"{name}.fcpxml"])
        one = Fraction(frame.removesuffix("s"))
        [found] = root.iter("marker")
        [sequence] = root.iter("sequence")
        assert root.find("resources/format").get("frameDuration") == frame  # type: ignore[union-attr]
        assert (sequence.get("tcStart"), sequence.get("tcFormat")) == (_time(start, one), form)
        assert found.get("start") == _time(start + first, one)
        assert found.get("duration") == _time(last - first, one)
        assert found.get("value") == 'It\'s "A" & <B> | 😀'
    assert {made[f"refused v-{n}"] for n in ("zero", "unknown", "phone")} == {"no_frame_rate"}
    late = [*ET.fromstring(made["day.fcpxml"]).iter("marker")][-1]
    assert late.get("start") == _time((26 * 3600 - 7 + 3600) * 25, Fraction(1, 25))
    forced = _export(odd, "fcpxml", tmp_path / "forced", "?fps=30")
    assert "phone.fcpxml" in forced
    assert "zero.fcpxml" in forced


def _time(frames: int, one: Fraction) -> str:
    return f"{frames * one.numerator}/{one.denominator}s"


def test_edl(odd: Lake, tmp_path: Path) -> None:
    made = _export(odd, "edl", tmp_path / "out", "?start=01:00:00:00")
    lines = made["ntsc.edl"].splitlines()
    assert lines[1] == "FCM: DROP FRAME"
    assert lines[3].split()[4:] == ["01:00:10;00", "01:00:20;01", "01:00:00;00", "01:00:10;01"]
    assert lines[5] == '* LOC: 01:00:00;00 GREEN   It\'s "A" & <B> | 😀'
    assert made["sport.edl"].splitlines()[3].split()[4:6] == ["01:00:10;00", "01:00:20;01"]
    assert made["film.edl"].splitlines()[3].split()[4:6] == ["01:00:10:00", "01:00:20:00"]
    assert made["refused v-day"] == "over_24_hours"
    assert "day.edl" not in made
    markers = _export(odd, "markers", tmp_path / "m", "?start=01:00:00:00")["pal.edl"]
    assert "01:00:10:00 01:00:10:01 01:00:10:00 01:00:10:01" in markers
    assert ' |C:ResolveColorGreen |M:It\'s "A" & <B> / 😀 |D:251' in markers


def test_xml_for_premiere(odd: Lake, tmp_path: Path) -> None:
    root = ET.fromstring(_export(odd, "premiere", tmp_path / "out", "?start=01:00:00:00")["ntsc.xml"])
    assert [root.findtext(f"sequence/marker/{n}") for n in ("in", "out")] == ["300", "601"]
    assert root.findtext("sequence/timecode/string") == "01:00:00;00"
    assert [root.findtext(f"sequence/rate/{n}") for n in ("timebase", "ntsc")] == ["30", "TRUE"]
    assert root.findtext("sequence/media/video/track/clipitem/out") == "1798"


@needs("opentimelineio", "export-editing")
def test_opentimelineio_reads_the_files(odd: Lake, tmp_path: Path) -> None:
    import opentimelineio as otio

    _export(odd, "otio", tmp_path / "out", "?start=01:00:00:00")
    timeline = otio.adapters.read_from_file(str(tmp_path / "out/ntsc.otio"))
    [clip] = timeline.find_clips()
    [marker] = clip.markers
    assert timeline.global_start_time.to_timecode() == "01:00:00;00"
    assert marker.marked_range.start_time.value == 107_892 + 300
    assert marker.marked_range.duration.value == 301
    assert marker.marked_range.start_time.to_timecode() == "01:00:10;00"


@needs("otio_cmx3600_adapter", "export-editing")
def test_opentimelineio_reads_the_edl(odd: Lake, tmp_path: Path) -> None:
    import opentimelineio as otio

    _export(odd, "edl", tmp_path / "out", "?start=01:00:00:00")
    for name, rate, first in (("film", 24000 / 1001, 86_640), ("ntsc", 30000 / 1001, 108_192)):
        text = (tmp_path / f"out/{name}.edl").read_text()
        timeline = otio.adapters.read_from_string(text, "cmx_3600", rate=rate)
        [clip] = timeline.find_clips()
        assert clip.source_range.start_time.to_frames() == first
        # Its reader takes no marker whose timecode has a semicolon, though its writer makes them.
        assert [m.name[:4] for m in clip.markers] == (["It's"] if name == "film" else [])


def test_tasks_for_label_studio(odd: Lake, tmp_path: Path) -> None:
    file = tmp_path / "tasks.json"
    [report] = tl_data.export(odd.folder, f"labelstudio://{file}")
    tasks = {t["data"]["video_id"]: t for t in json.loads(file.read_text())}
    assert len(tasks) == 9
    assert report.exit_code == 1
    assert sorted(r.code for r in report.errors if r.code == "no_frame_rate") == ["no_frame_rate"] * 3
    [result] = tasks["v-pal"]["predictions"][0]["result"]
    assert result["value"] == {"ranges": [{"start": 251, "end": 501}], "timelinelabels": ["Chapter"]}
    [again] = tl_data.export(odd.folder, f"labelstudio://{file}")
    assert (again.upserted, again.unchanged) == (0, 9)


SEEN = ["highlights", "annotations"]


@pytest.fixture
def seen(lake: Lake) -> Lake:
    """A video with an id and one that is not indexed, each with a highlight, a sign and two objects."""
    write_videos(lake, [video("a"), video("b", video_id=None)])
    keys = [{"video_id": "v-a", "content_key": "c-a"}, {"video_id": None, "content_key": "c-b"}]
    lake.table(HIGHLIGHTS).replace(
        rows_of(
            HIGHLIGHTS,
            [
                {**key, "highlight_number": 0, "start_sec": 2.0, "end_sec": 4.0}
                | {"highlight": f"Best of {key['content_key']}", "summary": "A goal."}
                for key in keys
            ],
        )
    )
    rows = [("text", 5.0, 6.0, "EXIT"), ("object", 8.0, 9.0, "crane"), ("object", 8.0, 9.0, "truck")]
    lake.table(ANNOTATIONS).replace(
        rows_of(
            ANNOTATIONS,
            [
                {**key, "annotation_number": n, "kind": kind, "start_sec": a, "end_sec": b, "label": label}
                for key in keys
                for n, (kind, a, b, label) in enumerate(rows)
            ],
        )
    )
    return lake


def test_highlights_and_annotations_become_markers(seen: Lake, tmp_path: Path) -> None:
    markers = _export(seen, "markers", tmp_path / "markers", table=SEEN)
    for name in ("a", "b"):
        assert re.findall(r"\|C:ResolveColor(\w+) \|M:(.*) \|D:(\d+)", markers[f"{name}.edl"]) == [
            *(("Yellow", f"Best of c-{name}", "50"), ("Purple", "EXIT", "25")),
            *(("Purple", "crane", "25"), ("Purple", "truck", "25")),
        ]
    cuts = _export(seen, "edl", tmp_path / "edl", table=SEEN)["b.edl"]
    assert "* LOC: 00:00:00:00 YELLOW  Best of c-b\n* COMMENT: A goal.\n" in cuts
    fcpxml = ET.fromstring(_export(seen, "fcpxml", tmp_path / "fcpxml", table=SEEN)["b.fcpxml"])
    assert [(m.get("start"), m.get("value"), m.get("note")) for m in fcpxml.iter("marker")] == [
        *(("50/25s", "Best of c-b", "A goal."), ("125/25s", "EXIT", "on-screen text")),
        *(("200/25s", "crane", "object"), ("200/25s", "truck", "object")),
    ]


def test_highlights_and_annotations_as_cues_and_tasks(seen: Lake, tmp_path: Path) -> None:
    cues = _export(seen, "webvtt", tmp_path / "vtt", table="annotations")
    assert cues["a.vtt"] == cues["b.vtt"]
    assert cues["b.vtt"].endswith("06.000\nEXIT\n\n00:00:08.000 --> 00:00:09.000\ncrane · truck\n")
    file = tmp_path / "tasks.json"
    tl_data.export(seen.folder, f"labelstudio://{file}", table=SEEN)
    for task in json.loads(file.read_text()):
        results = task["predictions"][0]["result"]
        assert [r["value"]["timelinelabels"] for r in results] == [
            *(["Highlight"], ["On-screen text"], ["Object"], ["Object"])
        ]
        assert results[1]["meta"]["text"] == ["EXIT", "on-screen text"]


@needs("opentimelineio", "export-editing")
def test_opentimelineio_reads_annotations(seen: Lake, tmp_path: Path) -> None:
    import opentimelineio as otio

    _export(seen, "otio", tmp_path / "out", table=SEEN)
    [clip] = otio.adapters.read_from_file(str(tmp_path / "out/b.otio")).find_clips()
    assert [(m.name, m.color) for m in clip.markers][:2] == [("Best of c-b", "YELLOW"), ("EXIT", "PURPLE")]


def test_a_rate_that_is_none_is_refused(lake: Lake, tmp_path: Path) -> None:
    with pytest.raises(SettingsError):
        _export(lake, "edl", tmp_path / "out", "?fps=0")
