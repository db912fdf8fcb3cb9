"""What others named reaches no terminal as a command, and what signs an address is not shown."""

from __future__ import annotations

import io

import pyarrow as pa
import pytest
from rich.console import Console

from tl_data.cli.output import echo, grid
from tl_data.untrusted import printable

NAME = "\x1b]0;owned\x07\x1b[31mred\u202egpj.exe"
SIGNED = "https://user:PASSWORD@h.example/a.mp4?X-Amz-Signature=SIGNATURE&x=1"


def test_control_characters_are_shown_as_text() -> None:
    assert printable("a\tb\nc é 東京") == "a\tb\nc é 東京"
    assert printable("\x1b[2J\r\x9b\x7f") == "\\x1b[2J\\r\\x9b\\x7f"
    assert printable("\u202e\ud800") == "\\u202e\\ud800"


@pytest.mark.parametrize("form", ["line", "table"])
def test_no_command_reaches_the_terminal(form: str, capsys: pytest.CaptureFixture[str]) -> None:
    if form == "line":
        echo(f"{NAME} {SIGNED}")
        said = capsys.readouterr().out
    else:
        rows = pa.table({NAME: [1], "name": [NAME], "url": [SIGNED], "names": [[NAME, "[bold]x[/bold]"]]})
        out = io.StringIO()
        Console(file=out, width=400, force_terminal=False).print(grid(rows))
        said = out.getvalue()
        assert "[bold]x[/bold]" in said
    assert not {"\x1b", "\x07", "\u202e"} & set(said)
    assert "\\x1b]0;owned" in said
    assert "PASSWORD" not in said
    assert "SIGNATURE" not in said
    assert "h.example/a.mp4" in said
