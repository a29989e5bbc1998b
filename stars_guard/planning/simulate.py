"""Guarded answers, simulated event by event: arrive, read, draw, score, accept or draw again.

Arrivals, lengths and attempts are drawn before anything happens and do not depend on the fleet, so that two
fleets are compared on the same traffic.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from stars_guard.planning.scenario import Fleet, Scenario
from stars_guard.planning.stations import Clock, Draw, Replica, Station


@dataclass(slots=True, eq=False)
class Asked:
    """One request, and what became of it. Times are in seconds from the start of the simulation.

    Attributes:
        segments: their lengths, in tokens.
        attempts: candidates that each takes.
        candidates: when the first were drawn.
        delivered: when the first segment was accepted.
        ahead_wasted: tokens drawn ahead of a candidate that was not accepted.
    """

    arrived: float
    segments: Sequence[int]
    attempts: Sequence[int]
    replica: Replica = field(init=False, repr=False)
    candidates: float = 0.0
    delivered: float = 0.0
    ended: float = 0.0
    drawn: float = 0.0
    ahead_wasted: float = 0.0
    segment: int = 0
    judged: int = 0
    ahead: Draw | None = field(default=None, repr=False)

    @property
    def kept(self) -> int:
        """Tokens of the answer."""
        return sum(self.segments)


@dataclass(frozen=True)
class Simulated:
    """What happened.

    Attributes:
        asked: every request, in order of arrival.
        seconds: from the start to the last answer.
        engine: share of the time that the engines were in use, at their fastest; likewise the others.
    """

    asked: Sequence[Asked]
    seconds: float
    engine: float
    reward: float
    guard: float


def traffic(scenario: Scenario, requests: int, seed: int) -> list[Asked]:
    """Requests as they arrive."""
    source = random.Random(seed)
    lengths, attempts = scenario.traffic.answer_tokens, scenario.guarding.attempts
    now, asked = 0.0, []
    for _ in range(requests):
        now += source.expovariate(scenario.traffic.requests_per_second)
        own = random.Random(source.getrandbits(64))
        (length,) = own.choices(list(lengths), list(lengths.values()))
        whole, rest = divmod(length, scenario.guarding.segment_tokens)
        segments = [scenario.guarding.segment_tokens] * whole + [rest] * (rest > 0)
        asked.append(
            Asked(now, segments, own.choices(list(attempts), list(attempts.values()), k=len(segments)))
        )
    return asked


def simulate(scenario: Scenario, fleet: Fleet, asked: Sequence[Asked]) -> Simulated:
    """Serve requests, from empty machines to the last answer.

    Args:
        scenario: speeds and settings.
        fleet: how many replicas.
        asked: from :func:`traffic`; filled in.
    """
    clock = Clock()
    service = _Service(clock, scenario, fleet)
    for one in asked:
        clock.at(one.arrived, lambda one=one: service.arrive(one))  # type: ignore[misc]
    clock.run()
    return Simulated(
        asked=asked,
        seconds=clock.now,
        engine=sum(service.used(replica) for replica in service.replicas) / fleet.engines / clock.now,
        reward=service.reward.taken / scenario.reward.peak / fleet.rewards / clock.now,
        guard=service.guard.busy / fleet.guards / clock.now,
    )


class _Service:
    """The way of a request. It stays on one engine, whose cache has its prefix."""

    def __init__(self, clock: Clock, scenario: Scenario, fleet: Fleet) -> None:
        self.replicas = [Replica(clock, scenario.engine) for _ in range(fleet.engines)]
        self.reward = Station(clock, scenario.reward, fleet.rewards)
        self.guard = Station(clock, scenario.guard, fleet.guards)
        self._clock, self._scenario = clock, scenario
        self._n = scenario.guarding.candidates
        self._most = scenario.engine.max_batch // self._n
        self._queue: deque[Asked] = deque()

    def used(self, replica: Replica) -> float:
        """Seconds of an engine at its fastest."""
        return replica.reading + replica.drawn / self._scenario.engine.peak

    def arrive(self, one: Asked) -> None:
        """To the engine with the fewest requests, once there is one with room."""
        self._queue.append(one)
        self._admit()

    def _admit(self) -> None:
        while self._queue:
            replica = min(self.replicas, key=lambda each: each.requests)
            if replica.requests >= self._most:
                return
            one = self._queue.popleft()
            one.replica = replica
            replica.requests += 1
            replica.read(self._scenario.traffic.prompt_tokens, lambda one=one: self._draw(one))  # type: ignore[misc]

    def _draw(self, one: Asked) -> None:
        one.replica.draw(Draw(self._n, one.segments[one.segment], lambda: self._drawn(one)))

    def _drawn(self, one: Asked) -> None:
        one.candidates = one.candidates or self._clock.now
        one.drawn += self._n * one.segments[one.segment]
        self._go_ahead(one)
        self.guard.take(self._n, lambda: self.reward.take(self._n, lambda: self._judged(one)))

    def _go_ahead(self, one: Asked) -> None:
        """Begin the next segment as if the first candidate were accepted."""
        one.ahead = None
        last = one.segment + 1 == len(one.segments)
        if self._scenario.guarding.ahead and not last and one.replica.has_room(self._n):
            one.ahead = Draw(self._n, one.segments[one.segment + 1], _nothing)
            one.replica.draw(one.ahead)

    def _judged(self, one: Asked) -> None:
        needed, before = one.attempts[one.segment], one.judged
        one.judged += self._n
        first = needed == before + 1
        if one.ahead is not None and not first:
            wasted = one.replica.drop(one.ahead)
            one.ahead_wasted += wasted
            one.drawn += wasted
            one.ahead = None
        if one.judged < needed:
            self._draw(one)
            return
        one.delivered = one.delivered or self._clock.now
        one.segment, one.judged = one.segment + 1, 0
        if one.segment < len(one.segments):
            self._continue(one)
        else:
            self._end(one)

    def _continue(self, one: Asked) -> None:
        if one.ahead is None:
            self._draw(one)
        elif one.ahead.ended:
            self._drawn(one)
        else:
            one.ahead.then = lambda: self._drawn(one)

    def _end(self, one: Asked) -> None:
        one.ended = self._clock.now
        one.replica.requests -= 1
        self._admit()


def _nothing() -> None:
    """Drawn, but not known yet to be of use."""
