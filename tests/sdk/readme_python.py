"""Run the code of the README that came with the Python SDK, block after block: by an interpreter of its own.

Arguments: a JSON object of what stands in the places of placeholders, and one of ids that a block would leave
to those after it. Prints a JSON array: for each block that calls the client the calls and the error, if any.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import sys
import textwrap
import time
from importlib.metadata import metadata
from types import SimpleNamespace

sleep = time.sleep
time.sleep = lambda seconds: sleep(min(seconds, 0.2))  # between polls of a task

about = metadata("twelvelabs")
text = about.get_payload() or about["Description"]
scope: dict[str, object] = {"os": os}  # its import is left out where the key is read from the environment
scope |= {name: SimpleNamespace(id=value) for name, value in json.loads(sys.argv[2]).items()}
report = []
for block in re.findall(r"^[ ]*```(?:py|python)\n(.*?)^[ ]*```", text, re.DOTALL | re.MULTILINE):
    code = textwrap.dedent(block)
    for placeholder, value in json.loads(sys.argv[1]).items():
        code = code.replace(f"<{placeholder}>", value)
    printed = io.StringIO()
    error = None
    with contextlib.redirect_stdout(printed):
        try:
            exec(compile(code, "README", "exec"), scope)
        except Exception as failed:  # noqa: BLE001  it belongs to the report
            error = f"{type(failed).__name__}: {failed}"
    calls = re.findall(r"client\.([\w.]+)\(", re.sub(r"^\s*#.*", "", code, flags=re.MULTILINE))
    if calls or error:
        report.append({"call": calls[0] if calls else "", "error": error, "printed": printed.getvalue()})
print(json.dumps(report))
