"""A real OpenAI-compatible server in a thread: it reads what it gets and answers from that."""

from __future__ import annotations

import asyncio
import base64
import json
import re
import socket
import threading
import time
from collections.abc import AsyncIterator
from typing import Any

import cv2
import numpy as np
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

MODEL = "tiny-vl"
KEY = "sk-PLANTED-0123"
THOUGHTS = "\n<think>\nThe user asks for {} and I had better look twice.\n</think>\n\n"

UNDECIDED = {"evidence": "Nothing is seen.", "decidable": False}


class LanguageServer:
    """`url` is its address. `ways` says how it misbehaves, `asked` what it was sent."""

    def __init__(self) -> None:
        self.asked: list[dict[str, Any]] = []
        self.ways: list[str] = []  # one for each coming request: "broken", "cut off", "500" ...
        self.key: str | None = None
        routes = [
            Route("/v1/chat/completions", self._complete, methods=["POST"]),
            Route("/v1/models", self._models, methods=["GET"]),
        ]
        app = Starlette(routes=routes)
        config = uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", ws="none")
        self._server = uvicorn.Server(config)
        self._at = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._at.getsockname()[1]}/v1"
        self._thread = threading.Thread(target=self._server.run, args=([self._at],), daemon=True)

    def __enter__(self) -> LanguageServer:
        self._thread.start()
        while not self._server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)
        self._at.close()

    async def _models(self, request: Request) -> Response:
        way = self.ways.pop(0) if self.ways else ""
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            return JSONResponse({"error": {"message": "Incorrect API key"}}, 401)
        if way == "elsewhere":
            return Response(status_code=307, headers={"location": "http://127.0.0.1:1/v1/models"})
        if way.isdigit():
            return JSONResponse({"error": {"message": "no such path"}}, int(way))
        return JSONResponse({"object": "list", "data": [{"id": MODEL, "object": "model"}]})

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        way = self.ways.pop(0) if self.ways else ""
        if self.key and request.headers.get("authorization") != f"Bearer {self.key}":
            said = f"Incorrect API key: {request.headers.get('authorization')}"
            return JSONResponse({"error": {"message": said}}, 401)
        if body["model"] != MODEL:
            return JSONResponse({"error": {"message": f"model {body['model']} not found"}}, 404)
        if way.isdigit():
            return JSONResponse({"error": {"message": "out of memory"}}, int(way))
        if way == "silent":  # until the client has gone
            await request.receive()
        thoughts = THOUGHTS if way.startswith("thinking") else ""
        if way == "elsewhere":
            return Response(status_code=307, headers={"location": "http://127.0.0.1:1/v1/chat/completions"})
        text = thoughts + answer_to(body, way)
        if way == "html":
            return Response("<html>hello</html>", media_type="text/html")
        if body.get("stream"):
            return StreamingResponse(_chunks(text, way), media_type="text/event-stream")
        reason = "length" if way == "cut off" else "stop"
        text = text[: len(text) // 2] if way == "cut off" else text
        text = "" if way == "empty" else text
        if way == "thinking without end":
            text, reason = THOUGHTS[:30], "length"
        answer = {
            "object": "chat.completion",
            "choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": reason}],
            "usage": {"prompt_tokens": 321, "completion_tokens": 45},
        }
        if way in ("in pieces", "broken off"):
            return StreamingResponse(_pieces(json.dumps(answer), way), media_type="application/json")
        return JSONResponse(answer)


class Judge(LanguageServer):
    """A language model that answers what a test says, for a word in the question."""

    def __init__(self) -> None:
        super().__init__()
        self.answers: dict[str, Any] = {}

    async def _complete(self, request: Request) -> Response:
        body = await request.json()
        self.asked.append(body)
        text = json.dumps(body["messages"])
        answer = next((answer for word, answer in self.answers.items() if word in text), UNDECIDED)
        message = {"role": "assistant", "content": json.dumps(answer)}
        return JSONResponse(
            {
                "object": "chat.completion",
                "choices": [{"message": message, "finish_reason": "stop"}],
                "usage": {"prompt_tokens": 10, "completion_tokens": 5},
            }
        )


def decided(answer: Any) -> dict[str, Any]:
    """An answer of a judge that saw enough."""
    return {"evidence": "A soup is seen.", "decidable": True, "answer": answer}


async def _pieces(text: str, way: str) -> AsyncIterator[str]:
    """As a long answer arrives over a network: bit by bit, each sent before the next is there."""
    for at in range(0, len(text), 50):
        yield text[at : at + 50]
        await asyncio.sleep(0.005)
        if way == "broken off":
            raise ConnectionError("the server ends")


async def _chunks(text: str, way: str) -> AsyncIterator[str]:
    for word in re.findall(r"\S+\s*", text):
        chunk = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {"content": word}}]}
        yield f"data: {json.dumps(chunk)}\n\n"
        if way == "breaks off":
            return
    end = {"object": "chat.completion.chunk", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
    yield f"data: {json.dumps(end)}\n\n"
    usage = {"prompt_tokens": 321, "completion_tokens": 45}
    yield f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n"


def answer_to(body: dict[str, Any], way: str = "") -> str:
    """What the request holds: its frames, decoded, and the words spoken; in the form that it asks for."""
    parts = body["messages"][1]["content"]
    urls = [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]
    colors = [_color(url) for url in urls]
    text = "\n".join(part["text"] for part in parts if part["type"] == "text")
    said = text.split("Spoken:\n")[1].split("\n\nOn screen")[0]
    spoken = re.findall(r"^\[[\d.]+-[\d.]+\] (.*)$", said, re.M)
    summary = f"{len(urls)} frames, colours {', '.join(colors)}. Spoken: {' '.join(spoken)}"
    schema = (body.get("response_format") or {}).get("json_schema", {}).get("schema")
    if schema is None:
        return summary
    if way == "broken":
        return "I would rather talk."
    if way == "too long":
        return json.dumps({next(iter(schema["properties"])): [_item(0, 1e6, schema)]})
    value = {name: _value(name, kind, summary, spoken) for name, kind in schema["properties"].items()}
    text = json.dumps(value)
    return f"```json\n{text}\n```" if way == "fenced" else text


def _value(name: str, kind: dict[str, Any], summary: str, spoken: list[str]) -> Any:
    if kind["type"] == "array" and kind["items"]["type"] == "object":
        return [_item(0, 2.5, {"properties": {name: kind}}, spoken[0] if spoken else "nothing")]
    return spoken if kind["type"] == "array" else len(summary) if kind["type"] == "integer" else summary


def _item(start: float, end: float, schema: dict[str, Any], text: str = "") -> dict[str, Any]:
    properties = next(iter(schema["properties"].values()))["items"]["properties"]
    times = {"start_sec": start, "end_sec": end}
    return {name: times.get(name, text) for name in properties}


def _color(url: str) -> str:
    kind, data = url.split(";base64,")
    assert kind == "data:image/jpeg"
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    assert picture is not None
    assert max(picture.shape) <= 512
    return ("blue", "green", "red")[int(np.argmax(picture.reshape(-1, 3).mean(axis=0)))]
