"""What the service would bill: minutes of video, calls and tokens by operation, kept across restarts."""

from __future__ import annotations

from typing import Any

from tl_data.local.storage.database import Store

OPERATIONS = ("index", "embed_video", "embed_audio", "embed_image", "embed_text", "search", "analyze")
UNITS = ("video_us", "calls", "input_tokens", "output_tokens")


class Bill:
    """The charges. Lengths are counted in whole microseconds: sums are exact."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def charge(
        self,
        operation: str,
        *,
        seconds: float = 0.0,
        calls: int = 1,
        input_tokens: int = 0,
        output_tokens: int = 0,
    ) -> None:
        """Add a call. `seconds` is the billed length, which may be a multiple of the video's."""
        if operation not in OPERATIONS:
            raise ValueError(f"no operation {operation!r}")
        amounts = (round(seconds * 1_000_000), calls, input_tokens, output_tokens)
        with self._store.transaction():
            for unit, amount in zip(UNITS, amounts, strict=True):
                if amount:
                    self._store.count(f"bill {operation} {unit}", amount)

    def clear(self) -> None:
        """Begin a new bill."""
        for name in self._store.counts():
            if name.startswith("bill "):
                self._store.forget(name)

    def answer(self) -> dict[str, Any]:
        """Operation -> `video_us`, `video_minutes`, `calls`, `input_tokens`, `output_tokens`."""
        counts = self._store.counts()
        bill: dict[str, Any] = {}
        for operation in OPERATIONS:
            units = {unit: int(counts.get(f"bill {operation} {unit}", 0)) for unit in UNITS}
            if any(units.values()):
                bill[operation] = units | {"video_minutes": units["video_us"] / 60e6}
        return bill
