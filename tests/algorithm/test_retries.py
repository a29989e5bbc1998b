"""Where attempts would repeat one another, and how they are drawn instead."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.retries import near_greedy, redrawn_at
from stars_guard.algorithm.rules import Constant, Hard, Refuse
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Trace
from stars_guard.errors import ConfigurationError
from stars_guard.types import Candidate, Reward
from tests.support.traces import trace_of

NARROW = [
    {"temperature": 0},
    {"temperature": 1e-8},
    {"temperature": 0.05},
    {"top_k": 1},
    {"top_p": 0.01},
    {"min_p": 1},
]


@pytest.mark.parametrize("fields", NARROW)
def test_sampling_that_would_repeat_one_candidate_is_near_greedy(fields):
    assert near_greedy(SamplingParams(**fields))
    assert not near_greedy(redrawn_at(SamplingParams(**fields), 0.7))


@pytest.mark.parametrize(
    "fields", [{}, {"temperature": 0.1}, {"top_k": 2}, {"top_k": 0}, {"top_p": 0.1}, {"min_p": 0.9}]
)
def test_other_sampling_is_not(fields):
    assert not near_greedy(SamplingParams(**fields))


def test_retries_keep_what_leaves_a_choice():
    sampling = SamplingParams(temperature=0, top_p=0.5, top_k=7, min_p=0.2, seed=3, stop="x")
    assert redrawn_at(sampling, 0.7) == sampling.changed(temperature=0.7)
    sampling = SamplingParams(temperature=1.1, top_p=0.01, top_k=1, min_p=1, repetition_penalty=1.2)
    assert redrawn_at(sampling, 0.7) == SamplingParams(temperature=0.7, repetition_penalty=1.2)


@pytest.mark.parametrize("temperature", [0, 0.05, -1, float("nan")])
def test_a_temperature_of_retries_that_would_repeat_them_too_is_refused(temperature):
    with pytest.raises(ConfigurationError, match=f"retry_temperature={temperature}: "):
        GuardConfig(threshold=Constant(target=0), retry_temperature=temperature)


def run_of(sampling, **changes):
    config = GuardConfig(
        **{"threshold": Constant(target=0.5), "acceptance": Hard(), "exhaustion": Refuse(), **changes}
    )
    return Run(config, SamplingParams(seed=1, **sampling))


def attempts_of(run, *rewards):
    for reward in rewards:
        run.offer(Candidate((1,), "x"), Reward(reward))
    return [(one.proposal, one.temperature) for segment in run.segments for one in segment.attempts]


@pytest.mark.parametrize("fields", NARROW)
def test_each_segment_begins_as_asked_and_goes_on_with_retries(fields):
    run = run_of(fields, max_attempts=4, retry_temperature=1.2)
    asked = ("model", run.sampling.temperature)
    assert (run.most_attempts, run.alike(4)) == (4, 1)
    assert attempts_of(run, -1, -1, 1, -1) == [asked, ("retry", 1.2), ("retry", 1.2), asked]
    assert (run.draw.override, run.alike(4)) == (1.2, 4)
    assert run.alike_after(4) == 1


def test_ordinary_sampling_is_drawn_as_asked_whatever_the_temperature_of_retries():
    run = run_of({"temperature": 0.3}, retry_temperature=1.2)
    assert attempts_of(run, -1, -1) == [("model", 0.3)] * 2
    assert run.alike(9) == 9


def test_without_a_temperature_of_retries_greedy_gets_one_attempt_and_others_repeat_themselves():
    assert run_of({"temperature": 0}, retry_temperature=None).most_attempts == 1
    run = run_of({"top_k": 1}, retry_temperature=None)
    assert attempts_of(run, -1, -1) == [("model", 0.8)] * 2


def test_the_trace_says_the_temperatures_and_a_replay_verifies_them():
    run = run_of({"temperature": 0}, max_attempts=3)
    attempts_of(run, -1, -1, -1)
    trace = trace_of(run)
    assert replay(trace) == []
    assert trace.escalated == 0
    for changes in ({"temperature": 0.0}, {"temperature": 0.8}, {"proposal": "model"}):
        data = trace.model_dump()
        data["segments"][0]["attempts"][1].update(changes)
        assert len(replay(Trace.model_validate(data))) == 1
