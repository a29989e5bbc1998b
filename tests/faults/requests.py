"""HTTP requests to come, drawn from a seed: what they ask, what is wrong with them, when clients go away."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any

from stars_guard import GuardConfig
from tests.faults.plan import LAYOUTS, TOOLS, StreamPlan, settings, stream

REQUESTS = 128
"""Requests of a wave, which share a server."""
SERVERS = 10
"""An even number, of which every other one has lanes."""
CLIENTS = ("reads", "leaves reading", "leaves in time", "leaves in the body", "reads slowly", "breaks")
_CHAT, _TEXT, _SCORE = "/v1/chat/completions", "/v1/completions", "/v1/guard/score"


@dataclass(slots=True)
class RequestPlan:
    """One request: what is sent, and what its client does then."""

    stream: StreamPlan
    method: str
    path: str
    body: bytes
    is_sound: bool
    """Whether the request is one that the server should answer."""
    client: str
    reads: int
    """Messages after which a client that goes away does so."""


@dataclass(frozen=True)
class ServerPlan:
    """How a server is set up, over all waves that are sent to it."""

    lanes: bool
    over_sockets: bool
    config: GuardConfig
    limits: dict[str, Any]
    traces: bool
    streams: tuple[StreamPlan, ...] = ()


def server_plans(seed: int) -> list[ServerPlan]:
    """The servers of a run; requests reach the last two over sockets."""
    rng = Random(f"{seed}:servers")
    return [_server(rng, lanes=bool(n % 2), over_sockets=n >= SERVERS - 2) for n in range(SERVERS)]


def _server(rng: Random, *, lanes: bool, over_sockets: bool) -> ServerPlan:
    return ServerPlan(
        lanes,
        over_sockets,
        config=settings(rng).changed(keep_rejected_text=False),
        limits={
            "running": rng.choice((4, 32)),
            "queued": rng.choice((4, 128)),
            "queue_seconds": rng.choice((0.05, 30.0)),
        },
        traces=rng.random() < 0.5,
    )


@dataclass(frozen=True)
class RequestWave:
    """Requests that share a server."""

    seed: str
    server: int
    at_once: int
    requests: tuple[RequestPlan, ...]

    @property
    def streams(self) -> tuple[StreamPlan, ...]:
        """The plans of what the guard is asked."""
        return tuple(request.stream for request in self.requests)


def request_wave(seed: int, number: int) -> RequestWave:
    """The plan of a wave of requests; every eighth goes over sockets."""
    name = f"{seed}:requests:{number}"
    rng = Random(name)
    first = number * REQUESTS
    socket_turn = number % 16 in (6, 15)
    server = SERVERS - 2 + number % 2 if socket_turn else number % (SERVERS - 2)
    requests = tuple(_request(rng, first + n) for n in range(REQUESTS))
    return RequestWave(name, server, rng.choice((1, 16, 48)), requests)


def _request(rng: Random, number: int) -> RequestPlan:
    plan = stream(rng, number, is_async=True)
    method, path = "POST", rng.choice((*[_CHAT] * 8, _TEXT, _SCORE))
    if path == _TEXT:
        plan.layout = LAYOUTS[0]  # it takes no tools, so what looks like a call would be mere text
    body = json.dumps(_fields(rng, path, plan)).encode()
    sound = rng.random() < 0.9
    if not sound:
        method, path, body = _spoiled(rng, method, path, body)
    client = rng.choice(CLIENTS) if rng.random() < 0.6 else "reads"
    return RequestPlan(plan, method, path, body, sound, client, reads=rng.randint(0, 5))


def _fields(rng: Random, path: str, plan: StreamPlan) -> dict[str, Any]:
    if path == _SCORE:
        return {"prompt": f"#{plan.number}", "response": "Fine."}
    asked: dict[str, Any] = (
        {"messages": [{"role": "user", "content": f"#{plan.number}"}]}
        if path == _CHAT
        else {"prompt": f"#{plan.number}"}
    )
    sampling, budget = plan.sampling, plan.budget
    if path == _CHAT and plan.prompt.tools:
        asked["tools"] = list(TOOLS.schemas)
    asked |= {"max_tokens": sampling.max_tokens, "temperature": sampling.temperature, "seed": sampling.seed}
    if sampling.stop:
        asked["stop"] = list(sampling.stop)
    if stars := budget.model_dump(exclude_none=True):
        asked["stars"] = stars
    if path == _CHAT and rng.random() < 0.15:
        asked["n"] = 2
    if rng.random() < 0.7:
        asked["stream"] = True
    return asked


def _spoiled(rng: Random, method: str, path: str, body: bytes) -> tuple[str, str, bytes]:
    kind = rng.randint(0, 7)
    spoiled = {
        0: body[: rng.randrange(len(body))],
        1: body.replace(b'"', b"'"),
        2: b"\xff\xfe" + body,
        3: b"[" * 5000,
        4: body.replace(b'"temperature"', b'"temperature": "hot", "t"'),
        5: body[:-1] + b', "max_tokens": 1e999}',
    }
    if kind == 6:
        return "GET", path, b""
    if kind == 7:
        return method, "/v1/no/such/path", body
    return method, path, spoiled[kind]
