"""What a fleet can do at most, in closed form: no simulation can beat it, and none is needed to know it."""

from __future__ import annotations

import math

from stars_guard.planning.scenario import Fleet, Scenario
from stars_guard.settings import Record


class Demand(Record):
    """What one answer asks for on average, and the least number of replicas that can keep up."""

    segments: float
    rounds: float
    """Draws of candidates, all segments together."""
    drawn_tokens: float
    """Tokens drawn, without those drawn ahead in vain."""
    scored: float
    """Candidates scored."""
    engine_seconds: float
    """Seconds of one engine at its fastest; so for the others."""
    reward_seconds: float
    guard_seconds: float

    def bound(self, fleet: Fleet) -> float:
        """Requests a second that a fleet can never exceed in the long run."""
        seconds = (
            (fleet.engines, self.engine_seconds),
            (fleet.rewards, self.reward_seconds),
            (fleet.guards, self.guard_seconds),
        )
        return min(count / each if each else math.inf for count, each in seconds)

    def least(self, requests_per_second: float) -> Fleet:
        """The smallest fleet whose bound is over the traffic."""
        each = (self.engine_seconds, self.reward_seconds, self.guard_seconds)
        engines, rewards, guards = (math.floor(requests_per_second * seconds) + 1 for seconds in each)
        return Fleet(engines=engines, rewards=rewards, guards=guards)


def demand(scenario: Scenario) -> Demand:
    """What an answer asks for."""
    guarding, traffic = scenario.guarding, scenario.traffic
    total, n = sum(guarding.attempts.values()), guarding.candidates
    rounds = sum(-(-count // n) * weight for count, weight in guarding.attempts.items()) / total
    lengths = traffic.answer_tokens
    answers = sum(lengths.values())
    segments = sum(-(-length // guarding.segment_tokens) * w for length, w in lengths.items()) / answers
    kept = sum(length * weight for length, weight in lengths.items()) / answers
    drawn, scored = kept * rounds * n, segments * rounds * n
    prefill = traffic.prompt_tokens / scenario.engine.prefill_per_second
    return Demand(
        segments=segments,
        rounds=segments * rounds,
        drawn_tokens=drawn,
        scored=scored,
        engine_seconds=prefill + drawn / scenario.engine.peak,
        reward_seconds=scored / scenario.reward.peak,
        guard_seconds=segments * rounds * scenario.guard.seconds(n),
    )


def unhurried_seconds(scenario: Scenario) -> float:
    """About what an answer takes on empty machines."""
    needed, n = demand(scenario), scenario.guarding.candidates
    prefill = scenario.traffic.prompt_tokens / scenario.engine.prefill_per_second
    drawing = needed.drawn_tokens / n / scenario.engine.speed(n)
    return prefill + drawing + needed.rounds * (scenario.reward.seconds(n) + scenario.guard.seconds(n))
