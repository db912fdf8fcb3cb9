"""What things cost: a table of prices, and the sum of a bill.

    prices = Prices.load()                           # TL_PRICES, or the list that comes with the package
    prices.of("index", video_minutes=12.5)           # 0.525

A price is computed from the totals of an operation, never added up call by call: so a plan and the bill
of the run it was made for are equal to the last digit.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from tl_data.errors import SettingsError

OPERATIONS = ("index", "embed_video", "embed_audio", "embed_image", "embed_text", "search", "analyze")
UNITS = ("video_minute", "call", "input_token", "output_token")


@dataclass(frozen=True)
class Prices:
    """Prices of operations by unit; an operation or unit that is not listed is free."""

    currency: str
    as_of: date
    source: str
    units: Mapping[str, Mapping[str, float]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Prices:
        """Read a price list.

        Args:
            path: a TOML file as `prices.toml`; None: TL_PRICES, else the package's own list.

        Raises:
            SettingsError: the file is missing or not a price list, and what is wrong with it.
        """
        chosen = path or os.environ.get("TL_PRICES")
        try:
            if chosen:
                text = Path(chosen).read_text(encoding="utf-8")
            else:
                text = resources.files("tl_data").joinpath("prices.toml").read_text(encoding="utf-8")
            return cls._read(tomllib.loads(text), str(chosen or "prices.toml"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"prices: {chosen} cannot be read: {error}") from error

    @classmethod
    def _read(cls, table: Mapping[str, Any], where: str) -> Prices:
        units = {name: part for name, part in table.items() if isinstance(part, dict)}
        for operation, part in units.items():
            if operation not in OPERATIONS:
                raise SettingsError(f"{where}: no operation {operation!r}; there are {', '.join(OPERATIONS)}")
            for unit, price in part.items():
                if unit not in UNITS:
                    raise SettingsError(
                        f"{where}: [{operation}] no unit {unit!r}; there are {', '.join(UNITS)}"
                    )
                if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
                    raise SettingsError(f"{where}: [{operation}] {unit} is {price!r}; a price is 0 or more")
        as_of = table.get("as_of")
        if not isinstance(as_of, date):
            raise SettingsError(f"{where}: as_of is {as_of!r}; say when the prices held: as_of = 2026-07-31")
        return cls(str(table.get("currency", "USD")), as_of, str(table.get("source", where)), units)

    @classmethod
    def free(cls) -> Prices:
        """What the embedded engine costs."""
        return cls("USD", date.today(), "the embedded engine costs nothing", {})

    def said(self) -> dict[str, Any]:
        """As it is written down beside what was paid by it."""
        return {
            "currency": self.currency,
            "as_of": str(self.as_of),
            "source": self.source,
            "units": self.units,
        }

    @classmethod
    def heard(cls, said: Any) -> Prices | None:
        """A list that was written down; None if it is none."""
        try:
            units = {name: dict(part) for name, part in said["units"].items()}
            return cls(said["currency"], date.fromisoformat(said["as_of"]), said["source"], units)
        except (KeyError, TypeError, ValueError, AttributeError):
            return None

    def of(
        self,
        operation: str,
        *,
        video_minutes: float = 0.0,
        calls: int = 0,
        input_tokens: int = 0,
        output_tokens: int = 0,
    ) -> float:
        """The price of all calls of one operation together, in `currency`."""
        amounts = (video_minutes, calls, input_tokens, output_tokens)
        rates = self.units.get(operation, {})
        return sum(rates.get(unit, 0.0) * amount for unit, amount in zip(UNITS, amounts, strict=True))
