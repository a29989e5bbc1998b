"""The simulator against queueing theory, and against itself with more or less of something."""

from __future__ import annotations

from bisect import bisect_right
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard import ConfigurationError
from stars_guard.planning.capacity import demand, unhurried_seconds
from stars_guard.planning.scenario import (
    Fleet,
    Guarding,
    Scenario,
    SimulatedEngine,
    Stage,
    Traffic,
    geometric,
)
from stars_guard.planning.scenario import mean as expectation
from stars_guard.planning.simulate import Simulated, simulate, traffic

pytestmark = pytest.mark.slow

INSTANT = Stage(fixed=0.0, per_candidate=0.0, max_batch=64)
ONE = Fleet(engines=1, rewards=1)
REAL = SimulatedEngine(tokens_per_second={1: 50, 8: 300, 64: 1000}, prefill_per_second=5000)
SLOW = Stage(fixed=0.02, per_candidate=0.002, max_batch=16)


def scenario(
    rate: float = 2.0,
    lengths: dict[int, float] | None = None,
    attempts: dict[int, float] | None = None,
    engine: SimulatedEngine = REAL,
    reward: Stage = SLOW,
    **guarding: int | bool,
) -> Scenario:
    return Scenario(
        engine=engine,
        reward=reward,
        guarding=Guarding(attempts=attempts or geometric(0.6, 10), **guarding),  # type: ignore[arg-type]
        traffic=Traffic(
            requests_per_second=rate, prompt_tokens=100, answer_tokens=lengths or {40: 1, 100: 1}
        ),
    )


def run(asked: Scenario, fleet: Fleet = ONE, requests: int = 300, seed: int = 1) -> Simulated:
    return simulate(asked, fleet, traffic(asked, requests, seed))


def latency(found: Simulated) -> float:
    return mean(one.ended - one.arrived for one in found.requests)


scenarios = st.builds(
    scenario,
    rate=st.floats(0.5, 8),
    attempts=st.floats(0.3, 1).map(lambda rate: geometric(rate, 8)),
    reward=st.builds(Stage, fixed=st.floats(0, 0.2), per_candidate=st.floats(0, 0.02), max_batch=st.just(16)),
    segment_tokens=st.integers(5, 60),
    candidates=st.integers(1, 3),
    ahead=st.booleans(),
)


@settings(max_examples=10)
@given(scenarios, st.integers(1, 3), st.integers(1, 3))
def test_more_replicas_do_not_make_it_slower(asked: Scenario, engines: int, rewards: int) -> None:
    times = latency(run(asked, Fleet(engines=engines, rewards=rewards), 120))
    more = latency(run(asked, Fleet(engines=2 * engines, rewards=rewards), 120))
    both = latency(run(asked, Fleet(engines=2 * engines, rewards=2 * rewards), 120))
    # Greedy batches and routing are not optimal, so single orders of events may cost a little.
    assert more <= 1.02 * times
    assert both <= 1.02 * more


@settings(max_examples=15)
@given(scenarios, st.integers(1, 3))
def test_everything_is_accounted_for(asked: Scenario, engines: int) -> None:
    found = run(asked, Fleet(engines=engines, rewards=1), 100)
    for one in found.requests:
        assert one.arrived < one.candidates <= one.delivered <= one.ended
        rounds = [-(-count // asked.guarding.candidates) for count in one.attempts]
        own = sum(a * b for a, b in zip(rounds, one.segments, strict=True)) * asked.guarding.candidates
        assert one.drawn - one.ahead_wasted == pytest.approx(own)
    assert 0 <= found.engine <= 1 + 1e-9
    assert 0 <= found.reward <= 1 + 1e-9
    # Tokens drawn come from somewhere: no engine is faster than at its fastest.
    drawn = sum(one.drawn for one in found.requests)
    assert drawn / found.seconds <= engines * asked.engine.peak * (1 + 1e-9)


@settings(max_examples=15)
@given(st.floats(0.2, 6), st.integers(1, 50), st.booleans())
def test_without_rejections_and_scoring_time_it_is_the_bare_engine(
    rate: float, cut: int, ahead: bool
) -> None:
    guarded = scenario(rate, attempts={1: 1}, reward=INSTANT, segment_tokens=cut, ahead=ahead)
    bare = scenario(rate, attempts={1: 1}, reward=INSTANT, segment_tokens=100)
    pairs = zip(run(guarded, requests=60).requests, run(bare, requests=60).requests, strict=True)
    for one, other in pairs:
        assert one.ended == pytest.approx(other.ended)
        assert one.drawn == other.kept


def test_an_engine_that_shares_its_speed_is_a_processor_sharing_queue() -> None:
    """M/G/1-PS: an answer takes its own time over the share that is left."""
    level = SimulatedEngine(tokens_per_second={1: 100, 64: 100}, prefill_per_second=1e9)
    asked = scenario(0.7, {50: 1, 150: 1}, {1: 1}, level, INSTANT, segment_tokens=20)
    assert latency(run(asked, requests=6_000)) == pytest.approx(1.0 / (1 - 0.7), rel=0.08)


def test_a_reward_that_takes_one_at_a_time_is_a_queue() -> None:
    """M/D/1: the mean wait is load times service time over twice what is left."""
    fast = SimulatedEngine(tokens_per_second={1: 1e9, 10_000: 1e13}, prefill_per_second=1e9)
    asked = scenario(8.0, {1: 1}, {1: 1}, fast, Stage(fixed=0.1, per_candidate=0.0))
    assert latency(run(asked, requests=10_000)) == pytest.approx(0.1 + 0.8 * 0.1 / 2 / 0.2, rel=0.08)


def test_arrivals_see_what_is_there_on_average() -> None:
    """Little's law: requests in the system are arrivals a second times the time that they stay."""
    found = run(scenario(), requests=4000)
    ends = sorted(one.ended for one in found.requests)
    seen = [number - bisect_right(ends, one.arrived) for number, one in enumerate(found.requests)]
    rate = len(found.requests) / found.requests[-1].arrived
    assert mean(seen) == pytest.approx(rate * latency(found), rel=0.05)


@pytest.mark.parametrize(
    ("slowest", "engine", "reward"),
    [
        ("engine", REAL, INSTANT),
        ("reward", REAL.changed(prefill_per_second=1e9), Stage(fixed=0.5, per_candidate=0.0)),
    ],
)
def test_a_flood_is_served_at_the_bound(slowest: str, engine: SimulatedEngine, reward: Stage) -> None:
    asked = scenario(1000.0, {96: 1}, {1: 1}, engine, reward, ahead=False)
    found = run(asked, requests=600)
    bound = demand(asked).bound(ONE)
    assert 0.85 * bound <= len(found.requests) / found.seconds <= bound * (1 + 1e-9)
    assert getattr(found, slowest) > 0.85


def test_drawing_ahead_hides_the_reward_and_wastes_what_is_rejected() -> None:
    slow = Stage(fixed=0.3, per_candidate=0.0, max_batch=64)
    with_, without = (run(scenario(0.2, reward=slow, ahead=ahead)) for ahead in (True, False))
    assert latency(with_) < latency(without) - 0.3
    assert sum(one.ahead_wasted for one in with_.requests) > 0
    assert sum(one.ahead_wasted for one in without.requests) == 0
    nothing = run(scenario(0.2, attempts={1: 1}, reward=slow))
    assert sum(one.ahead_wasted for one in nothing.requests) == 0


def test_a_full_engine_does_not_go_ahead_and_lets_requests_wait() -> None:
    small = SimulatedEngine(tokens_per_second={1: 50, 2: 90}, prefill_per_second=5000)
    found = run(scenario(20.0, engine=small, candidates=2), requests=50)
    assert sum(one.ahead_wasted for one in found.requests) > 0  # its own sequences rest while they are scored
    ends = sorted(one.ended for one in found.requests)
    assert all(one.candidates >= ended for one, ended in zip(found.requests[1:], ends, strict=False))


def test_the_guard_itself_takes_time() -> None:
    free = scenario(0.02, ahead=False)
    busy = free.changed(guard=Stage(fixed=0.1, per_candidate=0.0))
    rounds = mean(sum(one.attempts) for one in run(busy, requests=100).requests)
    assert latency(run(busy, requests=100)) - latency(run(free, requests=100)) == pytest.approx(
        0.1 * rounds, rel=0.05
    )


def test_the_same_seed_is_the_same_traffic() -> None:
    first, again, other = (traffic(scenario(), 20, seed) for seed in (1, 1, 2))
    assert [one.arrived for one in first] == [one.arrived for one in again]
    assert [one.attempts for one in first] != [one.attempts for one in other]


def test_an_answer_alone_takes_what_it_takes() -> None:
    asked = scenario(0.001, {64: 1}, {3: 1})
    assert unhurried_seconds(asked) == pytest.approx(latency(run(asked, requests=50)), rel=0.01)
    assert demand(asked).drawn_tokens == 192
    assert demand(asked).segments == 2


def test_speed_between_and_beyond_the_points() -> None:
    assert [REAL.speed(batch) * batch for batch in (1, 8, 36, 64, 100)] == [50, 300, 650, 1000, 1000]
    assert SimulatedEngine(tokens_per_second={4: 100}, prefill_per_second=1).speed(1) == 25
    assert expectation(geometric(0.5, 50)) == pytest.approx(2)
    assert geometric(1.0, 3) == {1: 1.0}
    assert geometric(0.5, 2) == {1: 0.5, 2: 0.5}


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda: SimulatedEngine(tokens_per_second={}, prefill_per_second=1), "tokens_per_second"),
        (lambda: SimulatedEngine(tokens_per_second={0: 1}, prefill_per_second=1), "1 sequence or more"),
        (lambda: SimulatedEngine(tokens_per_second={1: 9, 2: 8}, prefill_per_second=1), "must not be slower"),
        (lambda: Guarding(attempts={0: 1}), "1 attempt or more"),
        (lambda: Traffic(requests_per_second=1, prompt_tokens=1, answer_tokens={0: 1}), "1 token or more"),
        (lambda: scenario(candidates=65), "do not fit an engine"),
        (lambda: scenario(candidates=17), "do not fit a reward call"),
    ],
)
def test_wrong_inputs(build: object, reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason):
        build()  # type: ignore[operator]
