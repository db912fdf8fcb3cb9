"""A task of Databricks: what `tl-data VERB JOB.toml` does, and a failed task when it does not end well."""

from __future__ import annotations

import sys

from tl_data.cli.main import exit_code

if code := exit_code(*sys.argv[1:]):  # an exit with 0 is left out: it would be shown as an error
    sys.exit(code)
