"""Prices of operations, and bills of runs and statements.

    prices = Prices.load()                           # TL_PRICES, or the list of the package
    prices.of("index", video_minutes=12.5)           # 0.525

A price is computed from the total units of an operation, not as a sum over calls. So a plan and the bill of
its run are equal to the last digit.

A run opens a `RunAccount`. The ledger writes each charge with the id of the run into the record of the paid
call, and adds it to the account in the same step. So the bill of a killed run is the sum of the charges in
the ledger's records.
"""

from __future__ import annotations

import math
import os
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib import resources
from pathlib import Path
from typing import Any

from tl_data.errors import SettingsError
from tl_data.runtime.context import call_context, current_context
from tl_data.untrusted import parse_toml

OPERATIONS = ("index", "embed_video", "embed_audio", "embed_image", "embed_text", "search", "analyze", "agg")
UNITS = ("video_minute", "call", "input_token", "output_token")


@dataclass(frozen=True)
class Prices:
    """Prices of operations by unit. An operation or unit that is not listed is free."""

    currency: str
    as_of: date
    source: str
    units: Mapping[str, Mapping[str, float]]

    @classmethod
    def load(cls, path: str | Path | None = None) -> Prices:
        """Read a price list.

        Args:
            path: a TOML file in the format of `prices.toml`; None: the file that TL_PRICES names, else the
                list of the package.

        Raises:
            SettingsError: the file is missing or invalid.
        """
        chosen = path or os.environ.get("TL_PRICES")
        try:
            if chosen:
                text = Path(chosen).read_text(encoding="utf-8")
            else:
                text = resources.files("tl_data").joinpath("prices.toml").read_text(encoding="utf-8")
            return cls._read(parse_toml(text), str(chosen or "prices.toml"))
        except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
            raise SettingsError(f"prices: {chosen or 'prices.toml'} cannot be read: {error}") from error

    @classmethod
    def _read(cls, table: Mapping[str, Any], where: str) -> Prices:
        units = {name: rates for name, rates in table.items() if isinstance(rates, dict)}
        for operation, rates in units.items():
            if operation not in OPERATIONS:
                raise SettingsError(
                    f"{where}: unknown operation {operation!r}; operations are {', '.join(OPERATIONS)}"
                )
            for unit, price in rates.items():
                if unit not in UNITS:
                    raise SettingsError(
                        f"{where}: [{operation}] unknown unit {unit!r}; units are {', '.join(UNITS)}"
                    )
                if isinstance(price, bool) or not isinstance(price, int | float) or price < 0:
                    raise SettingsError(
                        f"{where}: [{operation}] {unit} is {price!r}; a price must be at least 0"
                    )
        as_of = table.get("as_of")
        if not isinstance(as_of, date):
            raise SettingsError(
                f"{where}: as_of is {as_of!r}; it must be the date of the prices: as_of = 2026-07-31"
            )
        return cls(str(table.get("currency", "USD")), as_of, str(table.get("source", where)), units)

    @classmethod
    def free(cls) -> Prices:
        """The prices of the embedded engine: everything is free."""
        return cls("USD", date.today(), "the embedded engine costs nothing", {})

    def to_record(self) -> dict[str, Any]:
        """The price list as a JSON object, for the record of a run."""
        return {
            "currency": self.currency,
            "as_of": str(self.as_of),
            "source": self.source,
            "units": self.units,
        }

    @classmethod
    def from_record(cls, record: Any) -> Prices | None:
        """The price list from a JSON object; None if the object is invalid."""
        try:
            units = {name: dict(rates) for name, rates in record["units"].items()}
            return cls(record["currency"], date.fromisoformat(record["as_of"]), record["source"], units)
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
        """The price of all calls of one operation, in `currency`."""
        amounts = (video_minutes, calls, input_tokens, output_tokens)
        rates = self.units.get(operation, {})
        return sum(rates.get(unit, 0.0) * amount for unit, amount in zip(UNITS, amounts, strict=True))


#: Operations of the ledger that have the same name in the price list. All others are billed as analyses.
_SAME_NAME = ("index", "embed_video", "embed_text", "search", "agg")


#: Microseconds. The platform rounds lengths to milliseconds, so its length of a video and the length in the
#: header of the file may differ by less than this. Such a difference is not charged; otherwise a run that
#: only reuses answers would pay for 4e-06 minutes.
ROUNDED_US = 1_000


@dataclass
class Units:
    """The billed units of one operation. Lengths are whole microseconds, so that sums are exact."""

    video_us: int = 0
    calls: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    @property
    def video_minutes(self) -> float:
        return self.video_us / 60e6


@dataclass(frozen=True)
class Charge:
    """One entry of an account.

    A submission is charged by the length that is known at that time. If the end of the task shows another
    length or tokens, the ledger adds a correction: a charge for the difference, without calls. Its length may
    be negative.
    """

    run: str
    operation: str  # name in the price list
    video_us: int = 0
    calls: int = 1
    input_tokens: int = 0
    output_tokens: int = 0

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Charge | None:
        """The charge in a record of the ledger; None if it has none."""
        try:
            charge = cls(**record["charge"])
        except (KeyError, TypeError):
            return None
        amounts = (charge.video_us, charge.calls, charge.input_tokens, charge.output_tokens)
        return charge if all(isinstance(number, int) for number in amounts) else None

    def in_record(self) -> dict[str, Any]:
        """The fields by which a record of the ledger stores the charge."""
        return {"charge": asdict(self)}


@dataclass
class Bill:
    """The billed units, by operation of the price list."""

    operations: dict[str, Units] = field(default_factory=dict)

    def add(
        self, operation: str, seconds: float | None, *, calls: int = 1, tokens: tuple[int, int] = (0, 0)
    ) -> None:
        """Add calls for a video of the given length, with input and output tokens."""
        self._add(operation, round((seconds or 0.0) * 1e6) * calls, calls, *tokens)

    def enter(self, charge: Charge) -> None:
        """Add the charge of a record."""
        self._add(charge.operation, charge.video_us, charge.calls, charge.input_tokens, charge.output_tokens)

    def _add(self, operation: str, video_us: int, calls: int, input_tokens: int, output_tokens: int) -> None:
        units = self.operations.setdefault(operation, Units())
        units.video_us += video_us
        units.calls += calls
        units.input_tokens += input_tokens
        units.output_tokens += output_tokens

    @property
    def submitted(self) -> int:
        """The number of indexing tasks."""
        return self.operations.get("index", Units()).calls

    @property
    def video_minutes(self) -> float:
        """Minutes of video submitted for indexing."""
        return self.operations.get("index", Units()).video_minutes

    @property
    def calls(self) -> int:
        """The number of paid calls of all operations."""
        return sum(units.calls for units in self.operations.values())

    @property
    def input_tokens(self) -> int:
        return sum(units.input_tokens for units in self.operations.values())

    @property
    def output_tokens(self) -> int:
        return sum(units.output_tokens for units in self.operations.values())

    def price(self, prices: Prices, *, tokens: bool = True) -> float:
        """The price. Without `tokens`, only that of minutes and calls, which are known in advance."""
        return math.fsum(
            prices.of(
                operation,
                video_minutes=units.video_minutes,
                calls=units.calls,
                input_tokens=units.input_tokens if tokens else 0,
                output_tokens=units.output_tokens if tokens else 0,
            )
            for operation, units in sorted(self.operations.items())
        )


@dataclass
class RunAccount:
    """The account of a run in progress."""

    run: str
    bill: Bill
    unsettled: int = 0  # requests that got no answer, but may have created a task

    def enter(self, charge: Charge | None) -> None:
        """Add a recorded charge if it belongs to this run."""
        if charge is not None and charge.run == self.run:
            self.bill.enter(charge)


@contextmanager
def recording(account: RunAccount) -> Iterator[RunAccount]:
    """Bill the calls inside the block to this account, in this asyncio task and its children."""
    with call_context(account=account):
        yield account


def current_account() -> RunAccount | None:
    """The account of the current run; None outside of a run."""
    account: RunAccount | None = current_context().account
    return account


def billed_as(operation: str) -> str:
    """The name in the price list of an operation of the ledger."""
    return operation if operation in _SAME_NAME else "analyze"


def make_charge(
    operation: str,
    video_minutes: float,
    *,
    run: str | None = None,
    calls: int = 1,
    less_us: int = 0,
    tokens: tuple[int, int] = (0, 0),
) -> Charge | None:
    """Make a charge, for a record of the ledger, and add it to the bills of the current call.

    These are the bills of the session and of the SQL statement. A charge to another run is not added to them.

    Args:
        operation: name in the ledger.
        run: the id of the run that pays; None: the current run.
        less_us: microseconds of video that were charged earlier.

    Returns:
        The charge; None if there is nothing to charge, or no run that pays.
    """
    video_us = round(video_minutes * 60e6) - less_us
    if less_us and abs(video_us) < ROUNDED_US:
        video_us = 0
    if not (video_us or calls or any(tokens)):
        return None
    if run is None:
        for bill in current_context().bills:
            bill.enter(Charge("", billed_as(operation), video_us, calls, *tokens))
    account = current_account()
    run = run or (account.run if account else None)
    if run is None:
        return None
    return Charge(run, billed_as(operation), video_us, calls, *tokens)


def enter_charge(charge: Charge | None) -> None:
    """Add a charge to the account of the current run if it belongs to that run."""
    if (account := current_account()) is not None:
        account.enter(charge)
