"""What the table `runs` says was paid, beside what the server billed and what the ledger knows."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tl_data.billing import Bill, Prices

Row = Mapping[str, Any]


def lost_tokens(rows: Sequence[Row], stats: Row) -> int:
    """Tokens of texts that the server wrote and no run has."""
    return int(stats["output_tokens"] - sum(row["output_tokens"] for row in rows))


def differences(rows: Sequence[Row], ledger: Path, stats: Row, prices: str) -> list[str]:
    """Sentences about what does not agree; none when all does.

    Args:
        rows: of the table `runs`, of all runs that used the ledger and the server.
        ledger: its folder.
        stats: the server's own counts, as `/_engine/stats` gives them.
        prices: the price list that the runs went by.
    """
    wrong = []
    if going := [row["run_id"] for row in rows if row["status"] == "running"]:
        wrong.append(f"runs that never ended: {going}")
    if left := list((ledger / "runs").iterdir()):
        wrong.append(f"{len(left)} runs whose accounts are open")
    answers = [
        record
        for record in map(_record, (ledger / "calls").rglob("done"))
        if record["operation"] not in ("index", "asset")  # an asset costs nothing by itself
    ]
    submitted = sum(row["submitted"] for row in rows)
    minutes = math.fsum(row["video_minutes"] for row in rows)
    analyses = sum(row["calls"] for row in rows) - submitted
    tokens = sum(row["output_tokens"] for row in rows)
    # Parts that one analysis answered have records of their own: one of them has what it cost.
    asked = {record.get("task_id") or number for number, record in enumerate(answers)}
    written = sum((record.get("charge") or {}).get("output_tokens", 0) for record in answers)
    bill = Bill()
    bill.add("index", minutes * 60)
    bill.add("analyze", math.fsum(r["video_minutes"] for r in answers) * 60, tokens=(0, written))
    price, money = bill.price(Prices.load(prices)), math.fsum(row["price"] for row in rows)
    for what, said, billed, exact in (
        ("tasks, the server", submitted, stats["tasks_created"], 0.0),
        # Lengths of headers and of the server differ by less than a millisecond.
        ("minutes, the server", minutes, stats["video_minutes_indexed"], max(1e-5, submitted / 60_000)),
        ("analyses, the ledger", analyses, len(asked), 0.0),
        ("tokens, the ledger", tokens, written, 0.0),
        ("of money, the price list", money, price, 1e-5),
    ):
        if abs(said - billed) > exact:
            wrong.append(f"runs: {said} {what}: {billed}")
    if (lost := lost_tokens(rows, stats)) < 0:
        wrong.append(f"runs: {-lost} tokens more than the server wrote")
    return wrong


def _record(path: Path) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(path.read_bytes())
    return record
