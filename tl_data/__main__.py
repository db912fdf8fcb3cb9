"""`python -m tl_data` runs the `tl-data` command."""

from tl_data.cli.main import main

main()
