"""`python -m tl_data` is `tl-data`."""

from tl_data.cli.main import main

main()
