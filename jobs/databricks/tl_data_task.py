"""A task of Databricks that runs `tl-data VERB JOB.toml`. It fails if the exit code is not 0."""

from __future__ import annotations

import sys

from tl_data.cli.main import exit_code

if code := exit_code(*sys.argv[1:]):  # Databricks shows any SystemExit as an error, also with code 0
    sys.exit(code)
