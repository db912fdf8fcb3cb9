"""Price lists and sums."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import pytest

from tl_data.billing import OPERATIONS, Prices, make_charge
from tl_data.errors import SettingsError


def test_the_list_that_comes_with_the_package() -> None:
    prices = Prices.load()
    assert set(prices.units) == set(OPERATIONS)
    assert prices.as_of >= date(2026, 1, 1)
    assert prices.source.startswith("https://")
    assert prices.of("index", video_minutes=100) == pytest.approx(4.2)
    assert prices.of("analyze", video_minutes=10, output_tokens=1000) == pytest.approx(0.292 + 0.0075)
    assert prices.of("search", calls=1000) == pytest.approx(4.0)
    assert Prices.free().of("index", video_minutes=100) == 0


def test_a_list_of_ones_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = tmp_path / "own.toml"
    own.write_text('currency = "EUR"\nas_of = 2026-11-01\n[index]\nvideo_minute = 1\n')
    assert Prices.load(own).of("index", video_minutes=2.5) == 2.5
    assert Prices.load(own).of("analyze", video_minutes=2.5) == 0
    monkeypatch.setenv("TL_PRICES", str(own))
    assert Prices.load().currency == "EUR"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "as_of = 2026-11-01\n[indx]\nvideo_minute = 1",
            "unknown operation 'indx'; operations are index, embed_video",
        ),
        (
            "as_of = 2026-11-01\n[index]\nminute = 1",
            r"\[index\] unknown unit 'minute'; units are video_minute",
        ),
        ("as_of = 2026-11-01\n[index]\ncall = -1", r"\[index\] call is -1; a price must be at least 0"),
        ("[index]\ncall = 1", "it must be the date of the prices"),
        ("[index", "cannot be read"),
    ],
)
def test_lists_with_faults(tmp_path: Path, text: str, said: str) -> None:
    own = tmp_path / "own.toml"
    own.write_text(text)
    with pytest.raises(SettingsError, match=said):
        Prices.load(own)


def test_a_list_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"none\.toml cannot be read"):
        Prices.load(tmp_path / "none.toml")


@pytest.mark.parametrize(
    ("seconds", "corrected_us"),
    [(45.000251, 0), (44.9996, 0), (45.0, 0), (45.001, 1_000), (44.5, -500_000), (0.0, -45_000_000)],
)
def test_a_correction_is_more_than_rounding(seconds: float, corrected_us: int) -> None:
    """The header says 45 s; what the platform says of the length corrects what was charged by it."""
    correction = make_charge("index", seconds / 60, run="r", calls=0, less_us=45_000_000)
    assert (correction.video_us if correction else 0) == corrected_us
