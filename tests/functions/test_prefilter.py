"""`tl_filter` with vectors: clips far from the border need no call; the first answers say where it is."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import duckdb
import httpx
import pytest

import tl_data
from tests.conftest import Engine
from tests.support.library import Library
from tests.support.llm_server import MODEL, Judge, decided
from tl_data.connection import connect
from tl_data.errors import SchemaMismatch
from tl_data.functions import FUNCTIONS
from tl_data.prefilter import LEAST, STEP, Calibration, Prefilter, cosine, thresholds_of
from tl_data.settings import Settings

CONDITION = "a soup is cooked"
SAMPLE = 200
FEW, COUNT = 18, 30  # of the clips that a model is asked about


def calibrated(true: float, false: float, share: float, count: int, spread: float = 0.05) -> Calibration:
    """A calibration with seeded similarities around two means."""
    draw, calibration = random.Random(5), Calibration(SAMPLE)
    for number in range(count):
        answer = number < share * count
        calibration.add(draw.gauss(true if answer else false, spread), answer)
    return calibration


def test_far_clips_are_decided_and_near_ones_are_asked() -> None:
    calibration = calibrated(0.5, 0.2, 0.3, SAMPLE)
    decided_at = [calibration.decide(n / 100) for n in range(-100, 101)]
    assert decided_at[120] is False
    assert decided_at[150] is True
    assert decided_at == sorted(decided_at, key=lambda d: (d is True, d is None)), "false, asked, true"
    overlapping = calibrated(0.3, 0.25, 0.3, SAMPLE)
    assert overlapping.decide(0.27) is None
    assert overlapping.decide(0.3) is None


def test_few_answers_or_one_kind_of_them_do_not_calibrate() -> None:
    assert calibrated(0.5, 0.2, 0.3, SAMPLE - 1).thresholds is None
    calibration = calibrated(0.5, 0.2, 0.0, SAMPLE)
    assert (calibration.thresholds, calibration.missing) == (None, STEP)
    for n in range(LEAST):
        calibration.add(0.5 + n / 1000, True)
    assert calibration.missing == STEP - LEAST
    for n in range(STEP - LEAST):
        calibration.add(0.2 + n / 1000, False)
    assert calibration.missing == 0
    assert (calibration.decide(0.1), calibration.decide(0.45)) == (False, None)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5])
def test_at_most_two_points_of_f1_are_lost_on_new_clips(share: float) -> None:
    """A thousand new clips of the same two distributions, which overlap."""
    calibration, draw = calibrated(0.5, 0.25, share, SAMPLE, 0.07), random.Random(11)
    true = wrong = decided_clips = 0
    for number in range(1000):
        answer = number < share * 1000
        decision = calibration.decide(draw.gauss(0.5 if answer else 0.25, 0.07))
        decided_clips += decision is not None
        true += answer and decision is not False
        wrong += decision is not None and decision is not answer
    assert 1 - 2 * true / (2 * true + wrong) <= 0.02
    assert decided_clips >= 400


def test_cosines() -> None:
    assert cosine([3, 4], [6, 8]) == pytest.approx(1)
    assert cosine([1, 0], [0, 2]) == 0
    assert cosine([0, 0], [1, 2]) is None
    assert cosine([math.inf, 0], [1, 2]) is None
    assert thresholds_of([0.1] * 10, [0.2] * 10) == (0.1, 0.2), "the wrong way round: all between are asked"


def test_similarities_that_are_not_normal_decide_no_more_than_the_sample_shows() -> None:
    """One false clip in ten is much more similar than the others."""
    draw = random.Random(3)
    wrong = 0
    for _ in range(40):
        true = [draw.gauss(0.35, 0.05) for _ in range(20)]
        false = [draw.gauss(0.27 if n % 10 == 0 else 0.10, 0.03) for n in range(180)]
        thresholds = thresholds_of(true, false)
        assert thresholds is not None
        later = [draw.gauss(0.27 if n % 10 == 0 else 0.10, 0.03) for n in range(1800)]
        wrong += sum(value >= thresholds[1] for value in later)
        wrong += sum(draw.gauss(0.35, 0.05) <= thresholds[0] for _ in range(200))
    assert wrong / (40 * 200) < 0.12  # of each true clip; 0.04 are intended, for normal similarities


@pytest.fixture(scope="module")
def judged(start_engine: Callable[..., Engine], library: Library) -> Iterator[tuple[Settings, Judge]]:
    """An account of today whose model says that the video with the soup shows one."""
    with Judge() as judge:
        options = ("--llm-url", judge.url, "--llm-model", MODEL)
        engine = start_engine("--allow-private", "--profile", "today", *options)
        home = str(engine.home / "user")
        judge.answers = {"Tomato": decided(True), CONDITION: decided(False)}
        yield Settings(base_url=engine.base_url, home=home, poll_interval=0.1, prefilter_sample=FEW), judge


@pytest.fixture
def clips(
    judged: tuple[Settings, Judge], library: Library, monkeypatch: pytest.MonkeyPatch
) -> Iterator[duckdb.DuckDBPyConnection]:
    """A database with a table of clips, whose vectors have a drawn cosine with that of the condition."""
    monkeypatch.setenv("TL_PRICES", str(Path(tl_data.__file__).parent / "prices.toml"))
    plant, soup = library.urls
    toward = connect(judged[0]).call(FUNCTIONS["embed_text"], text=CONDITION)
    draw, rows = random.Random(3), []
    for number in range(COUNT):
        shows = number % 3 == 0
        similarity = 0.4 if number == FEW else draw.gauss(0.6 if shows else 0.2, 0.04)
        noise = [draw.gauss(0, 1) for _ in toward]
        along = sum(a * b for a, b in zip(noise, toward, strict=True))
        across = [n - along * t for n, t in zip(noise, toward, strict=True)]
        length = math.hypot(*across)
        vector = [
            similarity * t + math.sqrt(1 - similarity**2) * a / length
            for t, a in zip(toward, across, strict=True)
        ]
        rows.append((number, soup if shows else plant, number / 50, vector))
    with duckdb.connect() as con:
        con.execute("CREATE TABLE clips (n INT, video TEXT, start_sec DOUBLE, vector FLOAT[])")
        con.executemany("INSERT INTO clips VALUES (?, ?, ?, ?)", rows)
        tl_data.register(con, judged[0])
        yield con


ESTIMATE = f"""
    SELECT calls, reused, prefilter_calls_min, prefilter_calls, price, prefilter_price_min, prefilter_price
    FROM tl_estimate('tl_filter', (SELECT array_agg(video ORDER BY n) FROM clips),
        '{{"condition": "{CONDITION}"}}',
        moments => (SELECT CAST(to_json(array_agg({{'start_sec': start_sec, 'end_sec': start_sec + 1.5,
            'vector': vector}} ORDER BY n)) AS TEXT) FROM clips))
"""


def test_calls_are_saved_and_both_prices_are_shown(
    judged: tuple[Settings, Judge], clips: duckdb.DuckDBPyConnection
) -> None:
    settings, judge = judged
    [(calls, reused, least, most, price, least_price, most_price)] = clips.sql(ESTIMATE).fetchall()
    assert (calls, reused, least, most) == (COUNT, 0, FEW + 1, COUNT + 1), "one call embeds"
    assert least_price < price < most_price
    asked = len(judge.asked)
    answers = clips.sql(
        "SELECT n, o.value, o.provenance.model, o.usage.calls, o.error FROM (SELECT n, try_tl_filter(video, "
        f"'{CONDITION}', start_sec, start_sec + 1.5, vector => vector) o FROM clips) ORDER BY n"
    ).fetchall()
    assert [value for _, value, *_ in answers] == [n % 3 == 0 for n in range(COUNT)]
    cheap = [(n, calls) for n, _, model, calls, _ in answers if model.endswith(" (similarity)")]
    assert len(cheap) >= 8
    assert {calls for _, calls in cheap} == {0}
    assert FEW not in [n for n, _ in cheap], "a doubtful clip is asked"
    assert len(judge.asked) - asked == COUNT - len(cheap)
    [(bill,)] = clips.sql("SELECT calls FROM tl_usage() WHERE operation = 'embed_text'").fetchall()
    assert bill == 2, "the fixture's and that of the condition"
    tl_data.register(clips, settings.but(concurrency=8))  # another session calibrates by the ledger's answers
    [(calls, reused, least, most, price, least_price, most_price)] = clips.sql(ESTIMATE).fetchall()
    assert (calls, reused) == (len(cheap), COUNT - len(cheap))
    assert (least, most, least_price, most_price) == (0, 0, 0.0, 0.0)
    assert price > 0


def test_a_clip_counts_once_in_the_sample(judged: tuple[Settings, Judge]) -> None:
    connection = connect(judged[0].but(prefilter_sample=5))
    prefilter = Prefilter(connection.session, CONDITION)

    async def say(answer: bool) -> bool:
        return answer

    async def answers() -> list[int]:
        condition, counts = await prefilter.vector(), []
        for vector, answer in ((condition, True), (condition, True), ([-x for x in condition], False)):
            assert await prefilter.answer(vector, lambda answer=answer: say(answer)) is answer
            counts.append(prefilter.calibration.answers)
        return counts

    assert connection.run(answers()) == [1, 1, 2]


def test_the_guard_counts_the_upper_bound(
    judged: tuple[Settings, Judge], clips: duckdb.DuckDBPyConnection
) -> None:
    settings, judge = judged
    asked = len(judge.asked)
    statement = "SELECT tl_filter(video, 'a bell rings', start_sec, vector => vector) FROM clips LIMIT 3"
    tl_data.register(clips, settings, max_calls=3)
    with pytest.raises(duckdb.Error, match=r"BudgetReached.*4 calls"):
        clips.sql(statement).fetchall()
    assert len(judge.asked) == asked
    tl_data.register(clips, settings, max_calls=4)
    assert len(clips.sql(statement).fetchall()) == 3
    assert len(judge.asked) == asked + 3


def test_a_vector_of_another_model_is_refused_and_a_zero_one_is_asked(
    judged: tuple[Settings, Judge], clips: duckdb.DuckDBPyConnection
) -> None:
    asked = len(judged[1].asked)
    with pytest.raises(duckdb.Error, match=r"vector has 2 numbers"):
        clips.sql(f"SELECT tl_filter(video, '{CONDITION}', vector => [1, 0]) FROM clips LIMIT 1").fetchall()
    assert len(judged[1].asked) == asked
    question = (
        "SELECT tl_filter(video, 'zero', vector => list_transform(vector, lambda x: 0)) FROM clips LIMIT 1"
    )
    assert len(clips.sql(question).fetchall()) == 1
    assert len(judged[1].asked) == asked + 1


@pytest.mark.parametrize("moments", ["{}", "[1]", "[]", "no", "[{}, {}]", '[{"start": 6}]'])
def test_moments_that_do_not_fit_are_refused(library: Library, moments: str) -> None:
    with pytest.raises(SchemaMismatch):
        tl_data.estimate(
            "filter", [library.urls[0]], '{"condition": "x"}', moments, settings=library.settings
        )


def test_an_index_that_does_not_exist_is_not_looked_up_for_each_row(
    judged: tuple[Settings, Judge], library: Library
) -> None:
    """Analyses of URLs need no index; 120 rows are priced."""
    settings = judged[0].but(index="nowhere", concurrency=4)
    moments = "[" + ",".join(f'{{"start_sec": {n / 60}, "end_sec": 4}}' for n in range(120)) + "]"
    before = _requests(settings, "GET /indexes")
    arguments = '{"condition": "it is priced"}'
    [row] = tl_data.estimate("filter", [library.urls[0]] * 120, arguments, moments, settings=settings)
    assert row["calls"] == 120
    assert _requests(settings, "GET /indexes") - before <= 32, "one per row that is priced at the same time"


def _requests(settings: Settings, route: str) -> int:
    root = str(settings.base_url).removesuffix("/v1.3")
    counts = httpx.get(f"{root}/_engine/stats").json()["requests"]
    return sum(counts.get(route, {}).values())
