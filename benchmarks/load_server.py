"""The servers that the load benchmark compares, each in a process of its own.

    python -m benchmarks.load_server guarded|bare PORT STEP_SECONDS

``guarded`` is our server in front of the scripted engine. ``bare`` is the least that streams the same
answers: FastAPI, uvicorn and the same text in the same pieces, with no guard and no engine behind it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable

import uvicorn
from fastapi import FastAPI, Request
from starlette.responses import StreamingResponse

from benchmarks.stepped import Script, SteppedModel, SteppedReward
from stars_guard import StarsGuardedLLM
from stars_guard.server.app import create_app
from stars_guard.server.config import Limits, ServerConfig

SCRIPT = Script()
MAX_RUNNING = 256


def guarded(step: float) -> FastAPI:
    """Our server."""
    model = SteppedModel(SCRIPT, (lambda batch: step) if step else None)
    llm = StarsGuardedLLM(
        model, SteppedReward(SCRIPT), SCRIPT.config, sampling=SCRIPT.sampling, max_rows=MAX_RUNNING
    )
    limits = Limits(running=MAX_RUNNING, queued=1000, queue_seconds=60)
    return create_app(llm, ServerConfig(limits=limits))


def bare(step: float) -> FastAPI:
    """The same answers, unguarded."""
    app = FastAPI()

    @app.post("/v1/chat/completions")
    async def answer(request: Request) -> StreamingResponse:
        body = await request.json()
        prompt = body["messages"][-1]["content"]
        return StreamingResponse(_pieces(prompt, step), media_type="text/event-stream")

    return app


async def _pieces(prompt: str, step: float) -> AsyncIterator[bytes]:
    for name in SCRIPT.expected(prompt):
        if step:
            await asyncio.sleep(step * SCRIPT.segment_tokens)
        delta = {"content": f"{name}@{time.monotonic():.6f};"}
        chunk = {"id": "x", "object": "chat.completion.chunk", "choices": [{"index": 0, "delta": delta}]}
        yield b"data: " + json.dumps(chunk).encode() + b"\n\n"
    yield b"data: [DONE]\n\n"


SERVERS: dict[str, Callable[[float], FastAPI]] = {"guarded": guarded, "bare": bare}


def watched(app: FastAPI) -> FastAPI:
    """With an endpoint that says what is left lying about."""

    @app.get("/benchmark/state")
    async def state() -> dict[str, int]:
        return {"tasks": len(asyncio.all_tasks()), "threads": threading.active_count()}

    return app


def main(kind: str, port: str, step: str) -> None:
    """Serve until the process is ended.

    Args:
        kind: which of ``SERVERS``.
        port: of this machine.
        step: seconds of a decoding step; 0 decodes at once.
    """
    config = uvicorn.Config(
        watched(SERVERS[kind](float(step))),
        port=int(port),
        access_log=False,
        log_level="warning",
        timeout_keep_alive=60,  # a client that was kept waiting must not find its connection closed
    )
    uvicorn.Server(config).run()


if __name__ == "__main__":
    main(*sys.argv[1:])
