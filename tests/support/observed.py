"""Requests as a server would serve them, without HTTP: real results of the guard, told to observers."""

from __future__ import annotations

import asyncio
import time
from itertools import count

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.algorithm.rules import Refuse
from stars_guard.errors import GenerationError, NoAcceptableSegment, ScoringError
from stars_guard.loop.events import Request
from stars_guard.prompts import Prompt
from stars_guard.server.telemetry.exchange import Exchange, Outcome
from stars_guard.shadow import shadowed_request
from stars_guard.testing import ScriptedModel
from stars_guard.types import StopReason
from tests.support.guards import guarded, hard

MARKER = "Zanzibar"
"""In every prompt and every answer; nothing of the operator's may hold it."""
SCRIPT = [[f"Bad {MARKER}. ", f"Good {MARKER}. "], ["Fine."]]
CONFIG = hard(drawing=Fixed(candidates=1), max_attempts=3, exhaustion=Refuse())
_IDS = count()
_ERRORS = {
    NoAcceptableSegment: Outcome.EXHAUSTED,
    ScoringError: Outcome.SCORING_ERROR,
    GenerationError: Outcome.GENERATION_ERROR,
}
_STOPS = {StopReason.REFUSED: Outcome.REFUSED, StopReason.CANCELLED: Outcome.CANCELLED}


def guard(script=SCRIPT, reward=None, config=CONFIG, **parts):
    return guarded(script, reward, config, **parts)


def asked(config=CONFIG, seed=7, prompt=f"Tell me of {MARKER}.", **sampling):
    return Request(Prompt.of(prompt), SamplingParams(seed=seed, **sampling), config, Budget())


def exchange(**values):
    parts = {"id": f"request-{next(_IDS)}", "endpoint": "chat.completions", "model": "served", **values}
    return Exchange(**parts)


async def serve(llm, observers, requests=None, **values):
    """One request, from its beginning to its end."""
    one = exchange(**values)
    one.requests = requests or [asked(llm.config)]
    for observer in observers:
        observer.began(one)
    one.admitted = time.monotonic()
    for observer in observers:
        observer.admitted(one)
    try:
        await asyncio.gather(*(_choice(llm, observers, one, index) for index in range(len(one.requests))))
        reasons = {result.stop_reason for result in one.results}
        one.outcome = next((_STOPS[one] for one in reasons if one in _STOPS), Outcome.ANSWERED)
        one.status = 200
    except tuple(_ERRORS) as error:
        one.error, one.outcome, one.status = error, _ERRORS[type(error)], 503
    end(one, observers)
    return one


async def _choice(llm, observers, one, index):
    request = one.requests[index]
    if one.shadow:
        request = shadowed_request(request)

    def decided(judged):
        for observer in observers:
            observer.decided(one, index, judged)

    stream = llm.astream(
        request.prompt,
        on_decision=decided,
        sampling=request.sampling,
        config=request.config,
        budget=request.budget,
    )
    async for _ in stream:
        one.delivered = one.delivered or time.monotonic()
    one.results.append(stream.result)


def end(one, observers):
    one.ended = time.monotonic()
    for observer in observers:
        observer.ended(one)


def turned_away(observers, outcome=Outcome.REJECTED, **values):
    """A request that never got as far as the guard."""
    one = exchange(status=429, outcome=outcome, **values)
    for observer in observers:
        observer.began(one)
    end(one, observers)
    return one


class BrokenModel(ScriptedModel):
    """Opens sessions, and fails to draw."""

    def propose(self, orders):
        raise RuntimeError(f"no {MARKER} today")


class Waiting:
    """What runs and waits, as told."""

    running, queued = 3, 2
