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
from stars_guard.planning.stations import Clock, Replica, SimulatedDraw, Station


@dataclass(slots=True, eq=False)
class SimulatedRequest:
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
    ahead: SimulatedDraw | None = field(default=None, repr=False)

    @property
    def kept(self) -> int:
        """Tokens of the answer."""
        return sum(self.segments)


@dataclass(frozen=True)
class Simulated:
    """What happened.

    Attributes:
        requests: every request, in order of arrival.
        seconds: from the start to the last answer.
        engine: share of the time that the engines were in use, at their fastest; so for the others.
    """

    requests: Sequence[SimulatedRequest]
    seconds: float
    engine: float
    reward: float
    guard: float


def traffic(scenario: Scenario, requests: int, seed: int) -> list[SimulatedRequest]:
    """Requests as they arrive.

    Args:
        scenario: says how often, and how long answers are.
        requests: how many, 1 or more.
        seed: of all draws.
    """
    source = random.Random(seed)
    lengths, attempts = scenario.traffic.answer_tokens, scenario.guarding.attempts
    now, arriving = 0.0, []
    for _ in range(requests):
        now += source.expovariate(scenario.traffic.requests_per_second)
        draws = random.Random(source.getrandbits(64))
        (length,) = draws.choices(list(lengths), list(lengths.values()))
        whole, rest = divmod(length, scenario.guarding.segment_tokens)
        segments = [scenario.guarding.segment_tokens] * whole + [rest] * (rest > 0)
        needed = draws.choices(list(attempts), list(attempts.values()), k=len(segments))
        arriving.append(SimulatedRequest(now, segments, needed))
    return arriving


def simulate(scenario: Scenario, fleet: Fleet, requests: Sequence[SimulatedRequest]) -> Simulated:
    """Serve requests, from empty machines to the last answer.

    Args:
        scenario: speeds and settings.
        fleet: how many replicas.
        requests: from :func:`traffic`; filled in.
    """
    clock = Clock()
    service = _Service(clock, scenario, fleet)
    for request in requests:
        clock.at(request.arrived, lambda request=request: service.arrive(request))  # type: ignore[misc]
    clock.run()
    return Simulated(
        requests=requests,
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
        self._queue: deque[SimulatedRequest] = deque()

    def used(self, replica: Replica) -> float:
        """Seconds of an engine at its fastest."""
        return replica.reading + replica.drawn / self._scenario.engine.peak

    def arrive(self, request: SimulatedRequest) -> None:
        """To the engine with the fewest requests, once there is one with room."""
        self._queue.append(request)
        self._admit()

    def _admit(self) -> None:
        while self._queue:
            replica = min(self.replicas, key=lambda each: each.requests)
            if replica.requests >= self._most:
                return
            request = self._queue.popleft()
            request.replica = replica
            replica.requests += 1
            replica.read(self._scenario.traffic.prompt_tokens, lambda request=request: self._draw(request))  # type: ignore[misc]

    def _draw(self, request: SimulatedRequest) -> None:
        tokens = request.segments[request.segment]
        request.replica.draw(SimulatedDraw(self._n, tokens, lambda: self._drawn(request)))

    def _drawn(self, request: SimulatedRequest) -> None:
        request.candidates = request.candidates or self._clock.now
        request.drawn += self._n * request.segments[request.segment]
        self._go_ahead(request)
        self.guard.take(self._n, lambda: self.reward.take(self._n, lambda: self._judged(request)))

    def _go_ahead(self, request: SimulatedRequest) -> None:
        """Begin the next segment as if the first candidate were accepted."""
        request.ahead = None
        last = request.segment + 1 == len(request.segments)
        if self._scenario.guarding.ahead and not last and request.replica.has_room(self._n):
            request.ahead = SimulatedDraw(self._n, request.segments[request.segment + 1], _nothing)
            request.replica.draw(request.ahead)

    def _judged(self, request: SimulatedRequest) -> None:
        needed, before = request.attempts[request.segment], request.judged
        request.judged += self._n
        first = needed == before + 1
        if request.ahead is not None and not first:
            wasted = request.replica.drop(request.ahead)
            request.ahead_wasted += wasted
            request.drawn += wasted
            request.ahead = None
        if request.judged < needed:
            self._draw(request)
            return
        request.delivered = request.delivered or self._clock.now
        request.segment, request.judged = request.segment + 1, 0
        if request.segment < len(request.segments):
            self._continue(request)
        else:
            self._end(request)

    def _continue(self, request: SimulatedRequest) -> None:
        if request.ahead is None:
            self._draw(request)
        elif request.ahead.ended:
            self._drawn(request)
        else:
            request.ahead.then = lambda: self._drawn(request)

    def _end(self, request: SimulatedRequest) -> None:
        request.ended = self._clock.now
        request.replica.requests -= 1
        self._admit()


def _nothing() -> None:
    """Drawn, but not known yet to be of use."""
