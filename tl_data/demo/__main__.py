"""`python -m tl_data.demo` is `tl-data demo`."""

import sys

from tl_data.cli.main import main

sys.argv.insert(1, "demo")
main()
