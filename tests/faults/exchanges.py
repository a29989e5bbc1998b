"""Waves of HTTP requests: planned, sent, held against the ledger, and cleaned up after."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

from stars_guard.server.app import create_app
from stars_guard.server.config import ServerConfig
from stars_guard.server.service import Service
from tests.faults.clients import ask_app, ask_socket
from tests.faults.requests import RequestPlan, RequestWave, ServerPlan, request_wave, server_plans
from tests.faults.responses import Response, shown_by
from tests.faults.streams import Guarded, becomes_zero
from tests.faults.tally import Tally
from tests.support.server_socket import listening

Ask = Callable[[RequestPlan], Coroutine[Any, Any, Response]]


@dataclass(frozen=True)
class Server:
    """A server that runs as long as its run does."""

    plan: ServerPlan
    guarded: Guarded
    service: Service
    ask: Ask


class Exchanges:
    """Runs waves of requests, one after the other, in the same event loop."""

    def __init__(self) -> None:
        self._tasks = asyncio.Runner()
        self._running = ExitStack()
        self._servers: dict[tuple[int, int], Server] = {}

    def close(self) -> None:
        """End the servers and the event loop."""
        self._running.close()
        self._tasks.close()

    def wave(self, seed: int, number: int, tally: Tally) -> None:
        """Run a wave and write down what came of it.

        Args:
            seed: of the whole run.
            number: of the wave.
            tally: of the whole run.
        """
        plan = request_wave(seed, number)
        server = self._server(seed, plan.server)
        server.guarded.expect(plan.streams)
        responses = self._tasks.run(_all(plan, server.ask))
        shown = [
            shown_by(request.stream.number, response)
            for request, response in zip(plan.requests, responses, strict=True)
        ]
        wrong = _slots_left(server.service)
        wrong += server.guarded.complaints(each for choices in shown for each in choices)
        wrong += _failures(plan, responses)
        _count(tally, plan, server.plan, responses)
        tally.counts["characters sent"] += sum(each.characters for choices in shown for each in choices)
        tally.complain([f"wave {plan.seed}: {complaint}" for complaint in wrong])

    def _server(self, seed: int, number: int) -> Server:
        if (seed, number) not in self._servers:
            self._servers[seed, number] = self._started(server_plans(seed)[number])
        return self._servers[seed, number]

    def _started(self, plan: ServerPlan) -> Server:
        guarded = Guarded.by(plan, max_rows=64)
        config = ServerConfig(
            limits=plan.limits, traces={"enabled": plan.traces, "keep": 20}, observability={"logs": "off"}
        )
        if plan.over_sockets:
            address, service, watcher = self._running.enter_context(listening(guarded.llm, config))
            watcher.keep_nothing()
            return Server(plan, guarded, service, partial(ask_socket, address))
        app = create_app(guarded.llm, config)
        self._running.callback(lambda: self._tasks.run(app.state.service.aclose()))
        return Server(plan, guarded, app.state.service, partial(ask_app, app))


async def _all(plan: RequestWave, ask: Ask) -> list[Response]:
    places = asyncio.Semaphore(plan.at_once)

    async def in_turn(request: RequestPlan) -> Response:
        async with places:
            return await ask(request)

    responses = await asyncio.gather(*map(in_turn, plan.requests))
    # A client without a network stays until its server has done with it, and so do the tasks of both.
    left = asyncio.all_tasks() - {asyncio.current_task()}
    if left:
        responses[0].error = AssertionError(f"{len(left)} tasks that do not end")
    return responses


def _slots_left(service: Service) -> list[str]:
    admission = service.admission
    if becomes_zero(lambda: admission.running + admission.queued):
        return []
    return [f"{admission.running} slots and {admission.queued} places in the queue that are not free again"]


def _failures(plan: RequestWave, responses: list[Response]) -> list[str]:
    """Requests that failed and had no fault of their own, and exchanges that did not end."""
    wrong = []
    for request, response in zip(plan.requests, responses, strict=True):
        if response.error is not None:
            wrong.append(f"request {request.stream.number}: {response.error!r}")
        if request.stream.is_faultless and response.is_outage:
            wrong.append(f"request {request.stream.number}: hit by the fault of another: {response.status}")
        if request.is_sound and request.client == "reads" and not response.status:
            wrong.append(f"request {request.stream.number}: no answer")
    return wrong


def _count(tally: Tally, plan: RequestWave, server: ServerPlan, responses: list[Response]) -> None:
    tally.counts["requests"] += len(responses)
    tally.counts["requests over sockets"] += len(responses) if server.over_sockets else 0
    for request, response in zip(plan.requests, responses, strict=True):
        tally.counts[f"status: {response.status or 'none'}"] += 1
        tally.counts[f"client: {request.client}"] += 1
    tally.struck(plan.streams)
