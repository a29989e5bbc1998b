"""Serve a scripted model behind a real guard, and say on standard output what became of each request.

The model offers the forbidden word first at every segment, so that whatever a client gets was resampled.
Run: python tests/clients/serve_scripted.py; the first line is the port.
"""

from __future__ import annotations

import json
import socket
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import scenario
import uvicorn

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

turned_away = threading.Event()
"""Set when a request was answered 429."""


KEY = "sk-scripted"


def script(prompt: Prompt) -> Script:
    """What the model would say to a prompt: the forbidden word first, then what it is asked for."""
    asked, tools = prompt.as_text(), prompt.tools.names if prompt.tools else []
    if scenario.WAIT in asked:
        turned_away.clear()
        say(waiting=True)
        turned_away.wait(30)
        return resampled(["Done."])
    if scenario.HARM in asked:
        return [[harm()]]
    if scenario.HALF in asked:
        return [[scenario.OPENING], [harm()]]
    if scenario.OUTAGE in asked:
        return [[scenario.OPENING], [scenario.UNJUDGED]]
    if scenario.FACTS in asked:
        return facts(tools)
    if "[[ ## " in asked:
        return resampled(fields(asked))
    if scenario.WEATHER in asked:
        return weather(asked, tools)
    return resampled(scenario.PIECES)


class Reward(KeywordReward):
    """Rejects one word, and breaks down at another."""

    def score(self, requests: Sequence[ScoreRequest]) -> list[Judgement]:
        """Look for both."""
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
    """An observer that tells the tests what became of each request, and when one was turned away."""

    def began(self, exchange: Exchange) -> None:
        """Nothing to tell."""

    def admitted(self, exchange: Exchange) -> None:
        """Nothing to tell."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Nothing to tell."""

    def ended(self, exchange: Exchange) -> None:
        """Status, outcome, and how many candidates the guard rejected."""
        segments = [segment for result in exchange.results for segment in result.trace.segments]
        rejected = sum(not attempt.accepted for segment in segments for attempt in segment.attempts)
        say(status=exchange.status, outcome=exchange.outcome, rejected=rejected)
        if exchange.status == 429:
            turned_away.set()


def say(**facts: object) -> None:
    """Tell the tests, a line at a time."""
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


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


def serve(app: Callable[..., Any]) -> None:
    """Serve on a free port, which is told first, together with the key."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        say(port=listening.getsockname()[1], key=KEY)
        uvicorn.Server(uvicorn.Config(app, log_level="warning")).run(sockets=[listening])


def settings() -> ServerConfig:
    """One key, and room for one request: another one is turned away."""
    return ServerConfig(
        served_name="scripted",
        keys=[{"name": "clients", "sha256": hash_key(KEY)}],
        limits={"running": 1, "queued": 0},
        observability={"logs": "off"},
    )


if __name__ == "__main__":
    serve(create_app(guard(), settings(), [Told()]))
