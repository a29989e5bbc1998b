"""The smallest fleet that meets a target, what it delivers, and what it costs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from pydantic import Field

from stars_guard.planning.capacity import Demand, demand, unhurried_seconds
from stars_guard.planning.scenario import Fleet, Scenario
from stars_guard.planning.simulate import Simulated, SimulatedRequest, simulate, traffic
from stars_guard.planning.spread import Spread, spread
from stars_guard.settings import Record, Settings

_GUARD_LOAD = 0.7
"""Guards are cheap, so they get room to spare."""
_CELL_ENGINES, _CELL_REWARDS = 4, 2
"""Least machines of a cell; smaller ones would wait for each other more than the whole fleet does."""
_LEAST_REQUESTS = 600
"""A 95th percentile of fewer would rest on too few slow answers."""
_STEADY = (0.3, 0.9)
"""Part of the requests that is looked at: not those that found empty machines, or left them empty."""


class Target(Settings):
    """What must be met. Times are in seconds; 95 of 100 answers must be as fast."""

    p95: float = Field(default=10.0, gt=0)
    """Until the answer is complete."""
    first_segment_p95: float | None = Field(default=None, gt=0)
    """Until its first segment is delivered; None: whenever."""
    max_engines: int = Field(default=10_000, ge=1)
    max_rewards: int = Field(default=10_000, ge=1)


class Prices(Settings):
    """Prices of one replica of each, an hour, in whatever currency."""

    engine: float = Field(default=0.0, ge=0)
    reward: float = Field(default=0.0, ge=0)
    guard: float = Field(default=0.0, ge=0)

    def per_hour(self, fleet: Fleet) -> float:
        """Price of a fleet."""
        return fleet.engines * self.engine + fleet.rewards * self.reward + fleet.guards * self.guard


class Tokens(Record):
    """Tokens of an answer, on average."""

    kept: float
    drawn: float
    """Drawn tokens, kept or not."""
    ahead_wasted: float
    """Drawn tokens that were ahead of a candidate that was not accepted."""


class Utilisation(Record):
    """Share of the highest throughput that is used."""

    engine: float
    reward: float
    guard: float


class Plan(Record):
    """A fleet and what it does, by simulation; ``demand`` and ``most_requests_per_second`` in closed form."""

    met: bool
    reason: str | None
    """Why the target is not met."""
    fleet: Fleet
    cells: int
    """Equal parts that the traffic is split into at random, of which one was simulated."""
    requests: int
    """Requests that were simulated."""
    answer: Spread
    candidates: Spread
    """Until the first candidates are drawn: time to the first tokens upstream."""
    first_segment: Spread
    """Until the first segment is delivered."""
    load: Utilisation
    tokens: Tokens
    demand: Demand
    most_requests_per_second: float
    """Requests a second that the fleet can take in the long run."""
    cost_per_hour: float
    cost_per_1000_answers: float
    target: Target
    prices: Prices
    scenario: Scenario


class Planner:
    """Simulates one cell of a scenario.

    Args:
        scenario: the whole traffic.
        cells: equal parts it is split into.
        seed: of the traffic.
        requests: how many to simulate; None for enough that they overlap a few times over.
    """

    def __init__(self, scenario: Scenario, cells: int, seed: int, requests: int | None = None) -> None:
        rate = scenario.traffic.requests_per_second / cells
        self.scenario, self.cells = scenario, cells
        self._cell = scenario.changed(traffic=scenario.traffic.changed(requests_per_second=rate))
        overlapping = math.ceil(5 * rate * unhurried_seconds(scenario))
        self.requests = requests or max(_LEAST_REQUESTS, overlapping)
        self._seed = seed

    def run(self, fleet: Fleet) -> Simulated:
        """Simulate a cell with these machines."""
        return simulate(self._cell, fleet, traffic(self._cell, self.requests, self._seed))

    def plan(self, fleet: Fleet, target: Target, prices: Prices) -> Plan:
        """What such a cell does, and all of them cost.

        Args:
            fleet: the machines of one cell.
            target: what to meet.
            prices: of the machines.
        """
        simulated, whole = self.run(fleet), _times(fleet, self.cells)
        requests, rate = steady_requests(simulated.requests), self.scenario.traffic.requests_per_second
        wanted, hourly = demand(self.scenario), prices.per_hour(whole)
        reason = _unmet(requests, target) or _unstable(wanted.bound(whole), rate)
        return Plan(
            met=reason is None,
            reason=reason,
            fleet=whole,
            cells=self.cells,
            requests=self.requests,
            answer=spread([request.ended - request.arrived for request in requests]),
            candidates=spread([request.candidates - request.arrived for request in requests]),
            first_segment=spread([request.delivered - request.arrived for request in requests]),
            load=Utilisation(engine=simulated.engine, reward=simulated.reward, guard=simulated.guard),
            tokens=_tokens(requests),
            demand=wanted,
            most_requests_per_second=wanted.bound(whole),
            cost_per_hour=hourly,
            cost_per_1000_answers=hourly / (3.6 * rate),
            target=target,
            prices=prices,
            scenario=self.scenario,
        )


def evaluate_fleet(
    scenario: Scenario, fleet: Fleet, target: Target, prices: Prices, *, seed: int = 0
) -> Plan:
    """What a given fleet does.

    Args:
        scenario: speeds, settings and traffic.
        fleet: all the machines.
        target: what to meet.
        prices: of the machines.
        seed: of the traffic.
    """
    shared = math.gcd(fleet.engines, fleet.rewards, fleet.guards)
    fitting = [cells for cells in range(1, shared + 1) if shared % cells == 0 and _is_cell(fleet, cells)]
    cells = max(fitting, default=1)
    return Planner(scenario, cells, seed).plan(_over(fleet, cells), target, prices)


def plan(
    scenario: Scenario,
    target: Target,
    prices: Prices,
    *,
    seed: int = 0,
    requests: int | None = None,
) -> Plan:
    """The smallest fleet that meets the target: as few engines as will do, then as few rewards.

    Args:
        scenario: speeds, settings and traffic.
        target: what to meet, and with how many machines at most.
        prices: of the machines.
        seed: of the traffic; the same for all fleets that are compared.
        requests: how many to simulate of each; None for enough.

    Returns:
        The plan; ``met`` is False if no fleet within the limits will do, and the plan is that of the largest.
    """
    rate = scenario.traffic.requests_per_second
    least = demand(scenario).least(rate)
    cells = max(1, min(least.engines // _CELL_ENGINES, least.rewards // _CELL_REWARDS))
    planner = Planner(scenario, cells, seed, requests)
    base = demand(scenario).least(rate / cells)
    base = base.changed(guards=math.ceil(rate / cells * demand(scenario).guard_seconds / _GUARD_LOAD) or 1)
    # With a machine for each of four times the requests that overlap, more would stand idle.
    idle = base.engines + math.ceil(4 * rate / cells * unhurried_seconds(scenario))
    most = Fleet(
        engines=max(1, min(idle, target.max_engines // cells)),
        rewards=max(1, target.max_rewards // cells),
        guards=base.guards,
    )

    def meets(engines: int, rewards: int) -> bool:
        simulated = planner.run(base.changed(engines=engines, rewards=rewards))
        return _unmet(steady_requests(simulated.requests), target) is None

    plenty = min(most.rewards, 2 * base.rewards)
    engines = smallest(lambda count: meets(count, plenty), base.engines, most.engines)
    if engines is None:
        return planner.plan(most, target, prices)
    rewards = smallest(lambda count: meets(engines, count), base.rewards, plenty)
    return planner.plan(base.changed(engines=engines, rewards=rewards or plenty), target, prices)


def smallest(fits: Callable[[int], bool], least: int, most: int) -> int | None:
    """The smallest number in a range that fits; None if none does.

    Args:
        fits: whether a number does; above one that fits, all do.
        least: where the range begins.
        most: where it ends, itself included.
    """
    step, tried = 1, least - 1
    while tried < most:
        candidate = min(most, tried + step)
        if fits(candidate):
            low, high = tried + 1, candidate
            while low < high:
                middle = (low + high) // 2
                low, high = (low, middle) if fits(middle) else (middle + 1, high)
            return high
        tried, step = candidate, 2 * step
    return None


def steady_requests(requests: Sequence[SimulatedRequest]) -> Sequence[SimulatedRequest]:
    """The requests in the middle."""
    begin, end = (int(share * len(requests)) for share in _STEADY)
    return requests[begin : max(1, end)]


def _unmet(requests: Sequence[SimulatedRequest], target: Target) -> str | None:
    whole = spread([request.ended - request.arrived for request in requests]).p95
    if whole > target.p95:
        return f"95 of 100 answers take {whole:.3g} s, and not {target.p95:g} s"
    if target.first_segment_p95 is None:
        return None
    first = spread([request.delivered - request.arrived for request in requests]).p95
    if first > target.first_segment_p95:
        return f"95 of 100 first segments take {first:.3g} s, and not {target.first_segment_p95:g} s"
    return None


def _unstable(bound: float, rate: float) -> str | None:
    if bound > rate:
        return None
    return f"it takes {bound:.3g} requests a second at most, and {rate:g} come: the queue grows for ever"


def _tokens(requests: Sequence[SimulatedRequest]) -> Tokens:
    count = len(requests)
    return Tokens(
        kept=sum(request.kept for request in requests) / count,
        drawn=sum(request.drawn for request in requests) / count,
        ahead_wasted=sum(request.ahead_wasted for request in requests) / count,
    )


def _times(fleet: Fleet, cells: int) -> Fleet:
    return Fleet(**{name: count * cells for name, count in dict(fleet).items()})


def _over(fleet: Fleet, cells: int) -> Fleet:
    return Fleet(**{name: count // cells for name, count in dict(fleet).items()})


def _is_cell(fleet: Fleet, cells: int) -> bool:
    return fleet.engines // cells >= _CELL_ENGINES and fleet.rewards // cells >= _CELL_REWARDS
