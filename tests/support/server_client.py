"""A server of a test: the application over a scripted model, asked without a network."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx

from stars_guard import Refuse, StarsGuardedLLM
from stars_guard.server.app import create_app
from stars_guard.server.config import ServerConfig
from stars_guard.testing import KeywordReward
from tests.support.guards import guarded, hard

BAD = "poison"
CHAT = "/v1/chat/completions"


def guard(script: Any = None, reward: Any = None, **config: Any) -> StarsGuardedLLM:
    """The hard rule over a script; what holds the bad word is never accepted."""
    script = script or [[f"{BAD} ", "one "], ["two "], ["three"]]
    return guarded(script, reward or KeywordReward([BAD]), hard(**{"exhaustion": Refuse(), **config}))


def quiet(**sections: Any) -> ServerConfig:
    """A configuration without logs; its server asks itself nothing unless it is asked whether it is ready.

    Its streams send what they have to show, and nothing else.
    """
    still = {"observability": {"logs": "off"}, "health": {"interval_seconds": 3600.0}}
    limits = {"keep_alive_seconds": 3600.0, **sections.pop("limits", {})}
    return ServerConfig(**{**still, **sections, "limits": limits})


class CannotJudge(KeywordReward):
    """A reward model that is away for every response with a certain text.

    Args:
        text: that it cannot judge.
        words: what makes any other response bad.
    """

    def __init__(self, text: str, *words: str) -> None:
        super().__init__(words)
        self._text = text

    def score(self, requests):
        if any(self._text in request.response for request in requests):
            raise OSError("away")
        return super().score(requests)


class Watcher:
    """An observer that keeps what it is told."""

    def __init__(self) -> None:
        self.began_, self.admitted_, self.decided_, self.ended_ = [], [], [], []

    def keep_nothing(self):
        """From now on, for a server that is to run for long."""
        self.began_, self.admitted_, self.decided_, self.ended_ = (deque(maxlen=0) for _ in range(4))

    def began(self, exchange):
        self.began_.append(exchange)

    def admitted(self, exchange):
        self.admitted_.append(exchange)

    def decided(self, exchange, choice, judged):
        self.decided_.append((choice, judged))

    def ended(self, exchange):
        self.ended_.append(exchange)


@asynccontextmanager
async def served(
    llm: StarsGuardedLLM | None = None,
    config: ServerConfig | None = None,
    observers: Any = (),
    **options: Any,
) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application."""
    app = create_app(llm or guard(), config or quiet(), observers)
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://server", **options) as client:
        yield client


def asking(text: str = "Hi", **fields: Any) -> dict[str, Any]:
    """The body of a chat request."""
    return {"messages": [{"role": "user", "content": text}], **fields}


def chunks(body: str) -> list[Any]:
    """What a stream held, ``[DONE]`` included."""
    lines = [line for line in body.split("\n\n") if line]
    assert all(line.startswith("data: ") for line in lines)
    return [line if line == "data: [DONE]" else json.loads(line[6:]) for line in lines]


def named_events(body: str) -> list[Any]:
    """What a stream held whose events have names, each of which says the same as the event."""
    events = []
    for event in body.strip().split("\n\n"):
        name, data = event.split("\n")
        events.append(json.loads(data.removeprefix("data: ")))
        assert name == f"event: {events[-1]['type']}"
    return events


def said(stream: list[Any], choice: int = 0) -> str:
    """The text of one choice of a stream."""
    deltas = [
        one["delta"]
        for chunk in stream
        if isinstance(chunk, dict)
        for one in chunk.get("choices", ())
        if one["index"] == choice
    ]
    return "".join(delta.get("content") or "" for delta in deltas)
