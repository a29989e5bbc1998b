"""Plans: the smallest fleet that meets a target, and what is said when none does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard import ConfigurationError, TraceError
from stars_guard.algorithm.trace import write_jsonl
from stars_guard.planning.measured import measured
from stars_guard.planning.plan import Planner, Prices, Target, evaluate_fleet, plan, smallest, steady_requests
from stars_guard.planning.scenario import (
    Fleet,
    Guarding,
    Scenario,
    SimulatedEngine,
    Stage,
    Traffic,
    geometric,
)
from stars_guard.planning.spread import percentile
from tests.support.batch_guard import guard

SCENARIO = Scenario(
    engine=SimulatedEngine(tokens_per_second={1: 50, 8: 300, 32: 600}, prefill_per_second=5000),
    reward=Stage(fixed=0.05, per_candidate=0.005, max_batch=8),
    guard=Stage(fixed=0.001, per_candidate=0.0),
    guarding=Guarding(attempts=geometric(0.6, 10), segment_tokens=20),
    traffic=Traffic(requests_per_second=10, prompt_tokens=50, answer_tokens={40: 1, 80: 1}),
)
PRICES = Prices(engine=2.0, reward=1.0, guard=0.5)


def test_the_smallest_fleet_that_meets_the_target() -> None:
    target = Target(p95=6.0)
    found = plan(SCENARIO, target, PRICES)
    assert (found.met, found.reason, found.cells) == (True, None, 1)
    assert found.answer.p50 <= found.answer.p95 <= 6.0
    assert found.candidates.p95 <= found.first_segment.p95 <= found.answer.p95
    fewer = found.fleet.changed(engines=found.fleet.engines - 1)
    assert not evaluate_fleet(SCENARIO, fewer, target, PRICES).met
    assert found.most_requests_per_second > 10
    assert found.cost_per_hour == 2 * found.fleet.engines + found.fleet.rewards + 0.5 * found.fleet.guards
    assert found.cost_per_1000_answers == pytest.approx(found.cost_per_hour / 36)
    assert found.tokens.kept == pytest.approx(60, rel=0.1)
    assert found.tokens.drawn == pytest.approx(found.demand.drawn_tokens + found.tokens.ahead_wasted, rel=0.1)


def test_a_stricter_target_takes_more() -> None:
    loose, strict = (plan(SCENARIO, Target(p95=seconds), PRICES, requests=300) for seconds in (10.0, 4.5))
    assert strict.fleet.engines > loose.fleet.engines
    first = plan(SCENARIO, Target(p95=10.0, first_segment_p95=1.9), PRICES, requests=300)
    assert first.first_segment.p95 <= 1.9 < loose.first_segment.p95


def test_what_cannot_be_met_is_said() -> None:
    found = plan(SCENARIO, Target(p95=1.0, max_engines=3, max_rewards=2), PRICES)
    assert not found.met
    assert "95 of 100 answers take" in (found.reason or "")
    assert (found.fleet.engines, found.fleet.rewards) == (3, 2)
    late = evaluate_fleet(SCENARIO, Fleet(engines=6, rewards=4), Target(first_segment_p95=0.1), PRICES)
    assert "95 of 100 first segments take" in (late.reason or "")


def test_machines_that_would_stand_idle_are_not_tried() -> None:
    found = plan(SCENARIO, Target(p95=0.5), PRICES)
    assert not found.met
    assert found.fleet.engines < 200


def test_a_queue_that_grows_for_ever_is_said() -> None:
    found = evaluate_fleet(SCENARIO, Fleet(engines=1, rewards=1), Target(p95=1e6), PRICES)
    assert "the queue grows for ever" in (found.reason or "")
    assert found.most_requests_per_second < 10


def test_large_traffic_is_split_into_cells() -> None:
    large = SCENARIO.changed(traffic=SCENARIO.traffic.changed(requests_per_second=60))
    found = plan(large, Target(p95=6.0), PRICES, requests=600)
    assert found.cells > 1
    assert found.met
    assert {count % found.cells for _, count in found.fleet} == {0}
    again = evaluate_fleet(large, found.fleet, Target(p95=6.0), PRICES)
    assert again.cells >= found.cells
    assert again.answer.p95 == pytest.approx(found.answer.p95, rel=0.3)


@given(st.integers(1, 60), st.integers(1, 40), st.integers(1, 60))
def test_smallest(least: int, most: int, threshold: int) -> None:
    right = [one for one in range(least, most + 1) if one >= threshold]
    assert smallest(lambda one: one >= threshold, least, most) == (right[0] if right else None)


def test_only_the_middle_is_looked_at() -> None:
    asked = Planner(SCENARIO, 1, seed=0, requests=10).run(Fleet(engines=6, rewards=4)).requests
    assert steady_requests(asked) == asked[3:9]
    assert steady_requests(asked[:1]) == asked[:1]


def test_percentiles() -> None:
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.5) == 2.0
    assert percentile([3.0, 1.0, 2.0, 4.0], 0.95) == 4.0


def test_measured_traces(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    results = [guard().generate(f"p{number}") for number in range(5)]
    write_jsonl(file, [one.trace for one in results])
    found = measured(file)
    assert sum(found.attempts.values()) == sum(len(one.trace.segments) for one in results)
    assert found.answer_tokens == {len(results[0].token_ids): 5.0}


def test_measured_by_calibration(tmp_path: Path) -> None:
    file = tmp_path / "summary.json"
    summary = {"fitted": {"promised": {"made": [1.0, 0.5, 0.25]}}, "delivered": None}
    file.write_text(json.dumps(summary, indent=2))
    assert measured(file).attempts == geometric(0.5, 3)
    # Of a hundred segments, eighty take one attempt, and those that patience gives up take two.
    file.write_text(json.dumps({**summary, "delivered": {"made": [1.0, 0.2, 0.0]}}))
    assert measured(file).attempts == pytest.approx({1: 0.8, 2: 0.2})
    file.write_text(json.dumps({"fitted": {}}))
    with pytest.raises(ConfigurationError, match="not a summary"):
        measured(file)


def test_measured_in_something_else(tmp_path: Path) -> None:
    file = tmp_path / "traces.jsonl"
    file.write_text("")
    with pytest.raises(ConfigurationError, match="no trace of an answer"):
        measured(file)
    file.write_text("{}\n")
    with pytest.raises(TraceError, match="not a trace"):
        measured(file)
