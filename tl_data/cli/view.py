"""The command `tl-data view`: shows a lake in the browser."""

from __future__ import annotations

import click


@click.command()
@click.argument("place", required=False, metavar="[LAKE|JOB.toml]")
@click.option("--port", type=click.IntRange(0, 65535), default=0, help="the port; 0: any free port")
@click.option("--open/--no-open", "open_browser", default=True, help="open the page in the browser")
@click.option(
    "--media", metavar="FOLDER", help="play the files in this folder that have the names of the sources"
)
def view(place: str | None, port: int, open_browser: bool, media: str | None) -> None:
    """Show a lake in the browser: videos, timelines, search, errors, runs. Nothing is written.

    \b
    LAKE: a folder or bucket with the tables of a job, or a job file [default: tl-job.toml, lake, demo-lake]
    """
    from tl_data.view.server import open_lake, serve

    def print_address(address: str) -> None:
        click.echo(f"The viewer is at {address}\nPress Ctrl-C to stop it.")

    serve(open_lake(place, media), print_address, port=port, open_browser=open_browser)
