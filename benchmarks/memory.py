"""Ten times the input: how much more memory?

    python benchmarks/memory.py [--ways pool duckdb job] [--rows 60000] [--videos 1000]

Each measurement is a process of its own; `peak` is its largest resident size (ru_maxrss). The server is
one that does no work, so that rows come fast: it answers as the API does for videos of four seconds.

pool     rows through the pool, each a call that answers with a kilobyte
duckdb   SELECT tl_embed_text(text) over distinct rows of a table, fetched batch by batch
job      tl-data run over a table of videos: looked at, indexed, cut into clips and vectors, in Delta tables

`row` is what each further row takes, in bytes. The pool keeps up to 20,000 answers in memory and the others
in a temporary file, whose page cache is 16 MB: fewer rows than the default would measure how both fill.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import multiprocessing
import resource
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import numpy as np
from aiohttp import web

from benchmarks.films import film
from tl_data.settings import Settings

WAYS = ("pool", "duckdb", "job")
DIMENSION = 512
INDEX = "0" * 24


def serve(folder: str, ports: Any, stop: Event) -> None:
    """The server process: it keeps of each task its id, its time and what is needed to find it again."""
    picture = film(Path(folder, "film.mp4"))
    vectors = np.random.default_rng(7).standard_normal((256, DIMENSION)).round(6)

    def vector(number: int) -> list[float]:
        """Not two alike: equal ones would be packed to nothing, as those of real videos never are."""
        floats: list[float] = np.roll(vectors[number % 256], number // 256).tolist()
        return floats

    keys: list[str] = []
    times: list[str] = []

    def task(number: int) -> dict[str, Any]:
        ids = {"_id": f"{number:023x}a", "video_id": f"{number:023x}b", "index_id": INDEX}
        return {**ids, "status": "ready", "created_at": times[number], "updated_at": times[number]}

    async def create(request: web.Request) -> web.Response:
        form = await request.post()
        keys.append(json.loads(str(form["user_metadata"]))["tl_data_key"])
        times.append(datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"))
        return web.json_response(task(len(keys) - 1), status=201)

    async def tasks(request: web.Request) -> web.Response:
        page, size = int(request.query.get("page", 1)), int(request.query.get("page_limit", 10))
        newest = range(len(keys) - 1 - (page - 1) * size, max(-1, len(keys) - 1 - page * size), -1)
        pages = -(-len(keys) // size)
        info = {"page": page, "limit_per_page": size, "total_page": pages, "total_results": len(keys)}
        return web.json_response({"data": [task(n) for n in newest], "page_info": info})

    async def one(request: web.Request) -> web.Response:
        return web.json_response(task(int(request.match_info["task"][:-1], 16)))

    async def video(request: web.Request) -> web.Response:
        number = int(request.match_info["video"][:-1], 16)
        segment = {
            "start_offset_sec": 0.0,
            "end_offset_sec": 4.0,
            "embedding_scope": "clip",
            "embedding_option": "visual",
            "float": vector(number),
        }
        return web.json_response(
            {
                "_id": request.match_info["video"],
                "created_at": times[number],
                "system_metadata": {"duration": 4.0, "width": 360, "height": 360, "fps": 1.0, "size": 9000},
                "user_metadata": {"tl_data_key": keys[number]},
                "embedding": {"video_embedding": {"segments": [segment]}},
                "transcription": [],
            }
        )

    async def indexes(request: web.Request) -> web.Response:
        info = {"page": 1, "limit_per_page": 10, "total_page": 1, "total_results": 1}
        found = [{"_id": INDEX, "index_name": "memory"}]
        return web.json_response({"data": found, "page_info": info})

    async def index(request: web.Request) -> web.Response:
        models = [{"model_name": "marengo3.0", "model_options": ["visual", "audio"]}]
        return web.json_response({"_id": INDEX, "index_name": "memory", "models": models})

    async def embed(request: web.Request) -> web.Response:
        await request.post()
        return web.json_response({"text_embedding": {"segments": [{"float": vector(0)}]}})

    async def file(request: web.Request) -> web.Response:
        headers = {"ETag": f'"{int(request.match_info["n"]):032x}"', "Accept-Ranges": "bytes"}
        part = request.http_range
        if part.start is None:
            return web.Response(body=picture, headers=headers, content_type="video/mp4")
        body = picture[part]
        span = f"bytes {part.start}-{part.start + len(body) - 1}/{len(picture)}"
        return web.Response(
            status=206, body=body, headers={**headers, "Content-Range": span}, content_type="video/mp4"
        )

    async def main() -> None:
        app = web.Application()
        app.add_routes(
            [
                web.post("/v1.3/tasks", create),
                web.get("/v1.3/tasks", tasks),
                web.get("/v1.3/tasks/{task}", one),
                web.get("/v1.3/indexes", indexes),
                web.get("/v1.3/indexes/{index}", index),
                web.get("/v1.3/indexes/{index}/videos/{video}", video),
                web.post("/v1.3/embed", embed),
                web.get("/films/{n}.mp4", file),
            ]
        )
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        ports.put(runner.addresses[0][1])
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()

    asyncio.run(main())


def pool(rows: int, origin: str, folder: Path) -> None:
    """Rows from an iterator, whose answers are dropped."""
    from tl_data.runtime.pool import Pool

    async def call(row: int) -> bytes:
        await asyncio.sleep(0)
        return bytes(1024)

    async def main() -> int:
        return sum([len(outcomes) async for outcomes in Pool(16).chunks(call, iter(range(rows)), most=1)])

    assert asyncio.run(main()) == rows


def duck(rows: int, origin: str, folder: Path) -> None:
    """Distinct texts of a table, in SQL."""
    import duckdb

    import tl_data

    con = duckdb.connect(str(folder / f"{rows}.duckdb"), config={"memory_limit": "200MB", "threads": 1})
    tl_data.register(con, settings(origin, folder))
    con.execute(f"CREATE TABLE texts AS SELECT 'text ' || range AS text FROM range({rows})")
    found = con.sql("SELECT tl_embed_text(text) AS v FROM texts").to_arrow_reader(2048)
    assert sum(batch.num_rows for batch in found) == rows
    con.close()


def job(rows: int, origin: str, folder: Path) -> None:
    """A job from a CSV file to Delta tables."""
    from tl_data import pipeline
    from tl_data.pipeline.job import Job, Source

    place = folder / str(rows)
    place.mkdir()
    with (place / "videos.csv").open("w") as file:
        file.write("url\n")
        file.writelines(f"{origin}/films/{rows}{n:06}.mp4\n" for n in range(rows))
    said = Job(
        Source("files", str(place / "videos.csv")),
        str(place / "lake"),
        tables=("clips", "vectors"),
        settings=vars(settings(origin, place)),
    )
    report = pipeline.run(said)
    assert (report.submitted, report.failed, report.status) == (rows, 0, "done"), report.lines()


def settings(origin: str, folder: Path) -> Settings:
    """For the server that does no work."""
    return Settings(
        base_url=f"{origin}/v1.3",
        index="memory",
        home=str(folder / "home"),
        ledger=str(folder / "ledger"),
        poll_interval=0.2,
        search_model="marengo3.0",
    )


def measure(way: str, rows: int, origin: str, folder: Path) -> tuple[float, float]:
    """Peak in megabytes and seconds, of a process of its own."""
    command = [sys.executable, __file__, "--one", way, str(rows), origin, str(folder)]
    said = subprocess.run(command, capture_output=True, text=True, check=False)
    if said.returncode:
        raise SystemExit(said.stdout + said.stderr)
    peak, seconds = json.loads(said.stdout.splitlines()[-1])
    return peak, seconds


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", nargs="+", default=list(WAYS), choices=WAYS)
    parser.add_argument("--rows", type=int, default=60_000, help="of pool and duckdb; and ten times that")
    parser.add_argument("--videos", type=int, default=1_000, help="of the job; and ten times that")
    parser.add_argument("--one", nargs=4, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.one:
        way, rows, origin, place = said.one
        began = datetime.now(UTC)
        {"pool": pool, "duckdb": duck, "job": job}[way](int(rows), origin, Path(place))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps([peak, (datetime.now(UTC) - began).total_seconds()]))
        return
    context = multiprocessing.get_context("spawn")
    ports, stop = context.Queue(), context.Event()
    print(f"{'way':8}{'rows':>8}{'MB':>7}{'seconds':>9}{'rows':>9}{'MB':>7}{'seconds':>9}", end="")
    print(f"{'growth':>8}{'row':>7}", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        server = context.Process(target=serve, args=(folder, ports, stop))
        server.start()
        try:
            origin = f"http://127.0.0.1:{ports.get(timeout=30)}"
            for way in said.ways:
                few = said.videos if way == "job" else said.rows
                (less, first), (more, second) = (
                    measure(way, rows, origin, Path(folder)) for rows in (few, 10 * few)
                )
                print(f"{way:8}{few:8}{less:7.0f}{first:9.1f}{10 * few:9}{more:7.0f}{second:9.1f}", end="")
                print(f"{more / less - 1:8.1%}{(more - less) * 2**20 / (9 * few):7.0f}", flush=True)
        finally:
            stop.set()
            server.join(timeout=10)


if __name__ == "__main__":
    main()
