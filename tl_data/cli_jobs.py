"""The commands around jobs and the ledger."""

from __future__ import annotations

import click

COMMANDS: list[click.Command] = []
