"""The baseline of the gateway: the same experts behind starlette and uvicorn, and nothing else.

``python -m benchmarks.bare_starlette`` serves on a free port and prints its URL as one line of JSON.
"""

import json
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from benchmarks.null_expert import answer, timed_pieces

ID = "chatcmpl-0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b"


def head(kind: str, model: str) -> dict[str, Any]:
    return {"id": ID, "object": kind, "created": int(time.time()), "model": model}


def whole(model: str, text: str) -> dict[str, Any]:
    """OpenAI's object, with as much in ``mesh`` as the gateway says."""
    message = {"role": "assistant", "content": text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
    mesh = {"request": ID, "strategy": "best_peer", "policy": "p2c_peak_ewma", "domain": "language", "expert": model}
    mesh |= {"model": model, "peers": [ID], "attempts": 1, "agreement": 1.0, "latency_ms": 1.0, "fallback": ""}
    return {**head("chat.completion", model), "choices": [choice], "usage": None, "mesh": mesh}


def frame(model: str, delta: dict[str, str], finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
    chunk = {**head("chat.completion.chunk", model), "choices": [choice]}
    return b"data: " + msgspec.json.encode(chunk) + b"\n\n"


async def frames(model: str, question: str) -> AsyncIterator[bytes]:
    yield frame(model, {"role": "assistant", "content": ""})
    async for piece in timed_pieces(question):
        yield frame(model, {"content": piece})
    yield frame(model, {}, "stop")
    yield b"data: [DONE]\n\n"


async def chat(request: Request) -> Response:
    body = msgspec.json.decode(await request.body())
    question = body["messages"][-1]["content"]
    if body.get("stream"):
        return StreamingResponse(frames(body["model"], question), media_type="text/event-stream")
    text = await answer(question)
    return Response(msgspec.json.encode(whole(body["model"], text)), media_type="application/json")


def main() -> None:
    listening = socket.create_server(("127.0.0.1", 0))
    print(json.dumps({"url": f"http://127.0.0.1:{listening.getsockname()[1]}"}), flush=True)
    app = Starlette(routes=[Route("/v1/chat/completions", chat, methods=["POST"])])
    config = uvicorn.Config(app, access_log=False, log_level="error", lifespan="off", timeout_keep_alive=75)
    uvicorn.Server(config).run([listening])


if __name__ == "__main__":
    main()
