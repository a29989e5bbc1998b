"""Serve a scripted model behind a real guard; ``/served`` tells what became of each request.

The model offers the forbidden word first at every segment, so that whatever a client gets was resampled.
Run: python tests/clients/serve_scripted.py; it prints the port and the key.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Sequence

import scenario
import uvicorn
from fastapi import FastAPI

from stars_guard import Constant, GuardConfig, Hard, Refuse, StarsGuardedLLM
from stars_guard.errors import ScoringError
from stars_guard.loop.events import Judged
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.server.app import create_app
from stars_guard.server.config import ServerConfig
from stars_guard.server.entry.keys import hash_key
from stars_guard.server.telemetry.exchange import Exchange
from stars_guard.testing import KeywordReward, Script, ScriptedModel
from stars_guard.text.dialects import HERMES
from stars_guard.types import Reward as Judgement

waiting, turned_away = threading.Event(), threading.Event()
"""Set while a request fills the server, and when another one was answered 429 since then."""

KEY = "sk-scripted"


def script(prompt: Prompt) -> Script:
    """What the model would say to a prompt: the forbidden word first, then what it is asked for."""
    asked, tools = prompt.as_text(), prompt.tools.names if prompt.tools else []
    if scenario.WAIT in asked:
        turned_away.clear()
        waiting.set()
        turned_away.wait(30)
        waiting.clear()
        return resampled(["Done."])
    if scenario.HARM in asked:
        return [[harm()]]
    if scenario.HALF in asked:
        return [[scenario.OPENING], [harm()]]
    if scenario.OUTAGE in asked:
        return [[scenario.OPENING], [scenario.UNJUDGED]]
    if scenario.TALE in asked:
        return [[scenario.VERSE]] * scenario.VERSES
    if scenario.FACTS in asked:
        return facts(tools)
    if "[[ ## " in asked:
        return resampled(fields(asked))
    if scenario.WEATHER in asked:
        return weather(asked, tools)
    return resampled(scenario.PIECES)


class Reward(KeywordReward):
    """Rejects one word, breaks down at another, and takes its time over the endless tale."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Judgement]:
        """Look for all three."""
        if any(scenario.VERSE in request.response for request in requests):
            time.sleep(0.05)
        if any(scenario.UNJUDGED in request.response for request in requests):
            raise ScoringError("the reward model is away")
        return super().score(requests)


def weather(asked: str, tools: Sequence[str]) -> Script:
    """A call of the tool until its result is there, then the report, by a last call where agents want one."""
    if scenario.MEASURED not in asked:
        return [[call(scenario.TOOL, city=city) for city in (scenario.FORBIDDEN, scenario.CITY)]]
    if "final_answer" in tools:
        return [[call("final_answer", answer=answer) for answer in (harm(), scenario.REPORT)]]
    return resampled([scenario.REPORT])


def facts(tools: Sequence[str]) -> Script:
    """The facts as the arguments of the tool there is, or else as JSON text."""
    wrong = {**scenario.FOUND, "name": scenario.FORBIDDEN}
    if tools:
        return [[call(tools[0], **arguments) for arguments in (wrong, scenario.FOUND)]]
    return [[json.dumps(wrong), json.dumps(scenario.FOUND)]]


def call(tool: str, **arguments: object) -> str:
    """A call as the model writes it."""
    return HERMES.call(tool, arguments)


def harm() -> str:
    """A text that is never accepted."""
    return f"Take {scenario.FORBIDDEN}. "


def resampled(pieces: Sequence[str]) -> Script:
    """One segment a piece, each offered second."""
    return [[harm(), piece] for piece in pieces]


def fields(asked: str) -> list[str]:
    """What DSPy wants: fields between marks of its own, and a tool named in them; a segment each."""
    if scenario.WEATHER not in asked:
        return ["[[ ## answer ## ]]\n", *scenario.PIECES, END]
    measured = scenario.MEASURED in asked
    if "next_tool_name" not in asked:
        return [field("reasoning", "It was measured."), field("answer", scenario.REPORT), END]
    tool, arguments = ("finish", {}) if measured else (scenario.TOOL, {"city": scenario.CITY})
    return [
        field("next_thought", "I should measure it."),
        field("next_tool_name", tool),
        field("next_tool_args", json.dumps(arguments)),
        END,
    ]


def field(name: str, value: str) -> str:
    """One field as DSPy reads it."""
    return f"[[ ## {name} ## ]]\n{value}\n\n"


END = "\n\n[[ ## completed ## ]]"


class Told:
    """An observer that keeps what became of each request until a test asks for it."""

    def __init__(self) -> None:
        self._ended: list[dict[str, object]] = []
        self._running: set[str] = set()

    def began(self, exchange: Exchange) -> None:
        """Received: before its client can have any answer."""
        self._running.add(exchange.id)

    def admitted(self, exchange: Exchange) -> None:
        """Nothing to tell."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Nothing to tell."""

    def ended(self, exchange: Exchange) -> None:
        """Status, outcome, and how many candidates the guard rejected."""
        segments = [segment for result in exchange.results for segment in result.trace.segments]
        rejected = sum(not attempt.accepted for segment in segments for attempt in segment.attempts)
        self._ended.append({"status": exchange.status, "outcome": exchange.outcome, "rejected": rejected})
        if exchange.status == 429:
            turned_away.set()
        self._running.remove(exchange.id)

    async def served(self) -> list[dict[str, object]]:
        """What ended since the last call, once no request runs.

        A client has its answer before the request has ended here, so without the wait a test would miss
        lines of its own and the next one find them.
        """
        while self._running:
            await asyncio.sleep(0.005)
        ended, self._ended = self._ended, []
        return ended


def guard() -> StarsGuardedLLM:
    """The hard rule: what holds the forbidden word is never shown."""
    config = GuardConfig(
        threshold=Constant(target=1.0),
        acceptance=Hard(),
        exhaustion=Refuse(),
        max_attempts=4,
        refusal_text=scenario.REFUSAL,
    )
    return StarsGuardedLLM(ScriptedModel(script), Reward([scenario.FORBIDDEN]), config)


def settings() -> ServerConfig:
    """One key, one web page, and room for one request: others are to come again two seconds later."""
    return ServerConfig(
        served_name="scripted",
        keys=[{"name": "clients", "sha256": hash_key(KEY)}],
        cors_origins=[scenario.PAGE],
        limits={
            "running": 1,
            "queued": 0,
            "queue_seconds": 8,
            "max_prompt_characters": scenario.MOST_CHARACTERS,
            "max_tokens": len(scenario.VERSE) * scenario.VERSES,
            "default_tokens": len(scenario.VERSE) * scenario.VERSES,
        },
        observability={"logs": "off"},
    )


def application() -> FastAPI:
    """The server, with two pages for the tests: what was served, and one that waits until it is full."""
    told = Told()
    app = create_app(guard(), settings(), [told])
    app.add_api_route("/served", told.served)
    app.add_api_route("/full", lambda: waiting.wait(30))
    return app


def serve(app: FastAPI) -> None:
    """Serve on a free port, which is printed first, together with the key."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        print(json.dumps({"port": listening.getsockname()[1], "key": KEY}), flush=True)  # noqa: T201
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


if __name__ == "__main__":
    serve(application())
