"""How many requests a job for texts alone makes, counted by a server that answers as an account of today.

    python benchmarks/request_counts.py [--videos 1000] [--delay 20]

The server keeps assets and batches in memory and looks at no video: each asset is ready `--delay` seconds
after it was made (half to one and a half times as long), each batch after as long again. So the figure is of
the client alone. The aim is 1.2 requests a video, the asset included.
"""

from __future__ import annotations

import argparse
import json
import random
import socket
import tempfile
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from benchmarks.films import film, with_label
from tl_data import pipeline
from tl_data.connection import connect
from tl_data.demo.file_server import FileServer
from tl_data.lake.lake import Lake
from tl_data.lake.schemas import SUMMARIES
from tl_data.pipeline.job import Job, Source

AIM = 1.2

ANSWER = json.dumps(
    {
        "summary": "Gray squares.",
        "title": "Squares",
        "topics": ["squares"],
        "hashtags": ["#squares"],
        "chapters": [{"start_sec": 0, "end_sec": 4, "chapter_title": "Squares", "chapter_summary": "Gray."}],
    }
)


@dataclass
class Account:
    """An account of today, as far as texts of assets need it. `counted` has the requests by route."""

    delay: float
    url: str = ""
    counted: Counter[str] = field(default_factory=Counter)
    assets: dict[str, float] = field(default_factory=dict)  # id -> when it is ready
    batches: dict[str, tuple[float, list[dict[str, str]]]] = field(default_factory=dict)
    _dice: random.Random = field(default_factory=lambda: random.Random(13))

    def _until(self) -> float:
        return time.time() + self.delay * self._dice.uniform(0.5, 1.5)

    def _asset(self, asset_id: str) -> dict[str, Any]:
        ready = time.time() >= self.assets[asset_id]
        shown = {"_id": asset_id, "status": "ready" if ready else "processing", "filename": "film.mp4"}
        return shown | ({"duration": 4.0} if ready else {})

    async def empty(self, request: Request) -> Response:
        return JSONResponse({"data": [], "page_info": {"page": 1, "total_page": 1}})

    async def create_asset(self, request: Request) -> Response:
        await request.body()
        asset_id = uuid.uuid4().hex[:24]
        self.assets[asset_id] = self._until()
        return JSONResponse({"_id": asset_id, "status": "processing"}, 201)

    async def list_assets(self, request: Request) -> Response:
        wanted = [i for part in request.query_params.getlist("asset_ids") for i in part.split(",")]
        data = [self._asset(asset_id) for asset_id in wanted]
        return JSONResponse({"data": data, "page_info": {"page": 1, "total_page": 1}})

    async def create_batch(self, request: Request) -> Response:
        requests = (await request.json())["requests"]
        if any(self._asset(item["video"]["asset_id"])["status"] != "ready" for item in requests):
            return JSONResponse({"error": {"code": "asset_not_ready", "message": "not ready"}}, 409)
        if sum(time.time() < end for end, _ in self.batches.values()) >= 5:
            return JSONResponse({"error": {"code": "too_many_requests", "message": "five are active"}}, 429)
        items = [{"task_id": uuid.uuid4().hex[:24], "custom_id": item["custom_id"]} for item in requests]
        batch_id = uuid.uuid4().hex[:24]
        self.batches[batch_id] = self._until(), items
        return JSONResponse({"batch_id": batch_id, "status": "pending", "items": items}, 201)

    async def batch(self, request: Request) -> Response:
        end, items = self.batches[request.path_params["id"]]
        over = time.time() >= end
        ready = {"ready_items": len(items) if over else 0, "failed_items": 0, "canceled_items": 0}
        return JSONResponse({"status": "completed" if over else "processing", **ready})

    async def results(self, request: Request) -> Response:
        end, items = self.batches[request.path_params["id"]]
        over = time.time() >= end
        answer = {
            "data": ANSWER,
            "finish_reason": "stop",
            "usage": {"output_tokens": 50, "input_tokens": 900},
        }
        lines = [
            {**i, "status": "ready", "data": answer} if over else {**i, "status": "queued"} for i in items
        ]
        return PlainTextResponse("\n".join(map(json.dumps, lines)), media_type="application/jsonl")


@contextmanager
def serve(delay: float) -> Iterator[Account]:
    """The account over HTTP."""
    account = Account(delay)
    routes = [
        Route("/v1.3/indexes", account.empty),
        Route("/v1.3/analyze/tasks", account.empty),
        Route("/v1.3/assets", account.create_asset, methods=["POST"]),
        Route("/v1.3/assets", account.list_assets),
        Route("/v1.3/analyze/batches", account.create_batch, methods=["POST"]),
        Route("/v1.3/analyze/batches/{id}", account.batch),
        Route("/v1.3/analyze/batches/{id}/results", account.results),
    ]
    inner = Starlette(routes=routes)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            parts = ["{id}" if len(p) == 24 else p for p in scope["path"].split("/")]
            account.counted[f"{scope['method']} {'/'.join(parts)}"] += 1
        await inner(scope, receive, send)

    listener = socket.create_server(("127.0.0.1", 0))
    account.url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1.3"
    server = uvicorn.Server(uvicorn.Config(counting, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield account
    finally:
        server.should_exit = True
        thread.join()
        listener.close()


def requests_of(videos: int, delay: float, folder: Path) -> Counter[str]:
    """The requests of a job for the texts of so many videos, by route."""
    data = film(folder / "film.mp4")
    for number in range(videos):
        (folder / f"{number}.mp4").write_bytes(with_label(data, f"{number}"))
    with serve(delay) as account, FileServer(folder) as server:
        given = {
            "api_key": "tlk_A0KEY",
            "base_url": account.url,
            "home": str(folder / "home"),
            "ledger": str(folder / "ledger"),
        }
        urls = tuple(server.url(f"{number}.mp4") for number in range(videos))
        job = Job(
            Source("urls", urls), str(folder / "lake"), tables=("summaries", "chapters"), settings=given
        )
        connection = connect(job.load_settings())
        try:
            done = pipeline.run(job)
        finally:
            connection.close()
        if done.failed or Lake(job.folder).read(SUMMARIES).num_rows != videos:
            raise SystemExit("\n".join(done.lines()))
        return account.counted


def main() -> None:
    parser = argparse.ArgumentParser(description="Requests of a job for texts alone.")
    parser.add_argument("--videos", type=int, default=1000)
    parser.add_argument("--delay", type=float, default=20.0)
    options = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        counted = requests_of(options.videos, options.delay, Path(folder))
    each = counted.total() / options.videos
    seconds = time.monotonic() - began
    print(f"{options.videos} videos: {each:.3f} requests a video (aim {AIM}) in {seconds:.0f} s")
    for route, number in sorted(counted.items()):
        print(f"  {number:6} {route}")
    raise SystemExit(each > AIM)


if __name__ == "__main__":
    main()
