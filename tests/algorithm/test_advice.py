"""Advice on settings: given exactly where most segments found no acceptable candidate, in numbers alone."""

from __future__ import annotations

import json
import math
import random
from statistics import median

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.advice import advice_on
from stars_guard.algorithm.config import ChannelRules, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack
from stars_guard.algorithm.rules import Constant, Last, LinearInTokens, Raise, Refuse, Soft, Watch
from stars_guard.algorithm.run import Run
from stars_guard.types import Candidate, Channel, Finish, Reward
from tests.support.traces import trace_of

SETTINGS = {"threshold": Constant(target=1), "floor": -9.0, "max_attempts": 3, "exhaustion": Last()}
SECRET = "marmalade"


def run_of(segments, channel=Channel.ANSWER, **changes):
    """A run whose segments get these rewards, attempt by attempt, until each is decided."""
    run = Run(GuardConfig(**SETTINGS | changes), SamplingParams(seed=0, max_tokens=10_000))
    for rewards in segments:
        for reward in rewards:
            run.offer(Candidate((1,), SECRET), Reward(reward), channel)
    return run


def advice(segments, **changes):
    return advice_on(trace_of(run_of(segments, **changes)))


segments = st.lists(
    st.sampled_from(["accepted", "forced"]).flatmap(
        lambda kind: (
            st.just([1.0]) if kind == "accepted" else st.lists(st.floats(-5, 0.99), min_size=3, max_size=3)
        )
    ),
    max_size=9,
)


@given(segments)
def test_advice_is_given_where_more_than_half_of_three_or_more_segments_failed(rewards):
    failed = [tries for tries in rewards if len(tries) == 3]
    given_advice = advice(rewards)
    assert (given_advice is not None) == (len(rewards) >= 3 and len(failed) > len(rewards) / 2)
    if given_advice is not None:
        assert (given_advice.decided, given_advice.exhausted) == (len(rewards), len(failed))
        assert given_advice.reached == median(max(tries) for tries in failed) < given_advice.asked == 1


@given(segments, st.randoms(use_true_random=False))
def test_the_order_of_segments_and_of_attempts_does_not_matter(rewards, dice: random.Random):
    shuffled = [dice.sample(tries, len(tries)) for tries in dice.sample(rewards, len(rewards))]
    assert advice(shuffled) == advice(rewards)


@given(segments)
def test_a_segment_that_is_not_decided_counts_for_nothing(rewards):
    assert advice([*rewards, [0.0, 0.0]]) == advice(rewards)


@given(segments)
def test_it_is_about_the_segments_and_not_about_who_wrote_them(rewards):
    found = advice(rewards)
    if found is not None:
        assert SECRET not in found.model_dump_json()
        assert json.loads(found.model_dump_json()) == found.model_dump(mode="json")
        assert str(found.exhausted) in found.message


def test_the_message_says_what_was_out_of_reach_and_what_to_do():
    message = advice([[0.1, 0.31, 0.2], [1], [0.4, -1, 0.2], [0.2, 0.1, 0.3]], floor=-0.3).message
    assert message.startswith(
        "3 of 4 segments found no candidate that the rule accepts: the best of each had a median reward of "
        "0.31, where 1 was asked (target=1, floor=-0.3, max_attempts=3). Run `stars-guard calibrate`"
    )
    assert "lower target" in message


def test_a_refusal_counts_and_what_is_under_the_floor_is_said_to_be():
    rewards = [[0, 0, 0], [-11, -12, -13], [-12, -13, -10]]
    assert advice(rewards[:2], exhaustion=Refuse()) is None
    refused = advice([*rewards[:1] * 2, rewards[1]])
    assert (refused.decided, refused.exhausted, refused.reached) == (3, 3, 0)
    assert "under the floor" not in refused.message
    back = run_of([[1], *rewards[1:]], escalation=(Backtrack(segments=1, most=2),))
    assert [segment.verdict.value for segment in back.segments[:3]] == ["withdrawn", "backtracked", "refused"]
    found = advice_on(trace_of(back))
    assert (found.decided, found.exhausted) == (3, 2)
    assert "a median reward of -10.5, under the floor, where 1 was asked" in found.message


def test_an_error_counts_as_a_failure_too():
    back = (Backtrack(segments=1, most=9),)
    failing = run_of([[1], [0, 0, 0], [0, 0, 0]], exhaustion=Raise(), escalation=back)
    assert failing.segment.verdict.value == "exhausted"
    assert advice_on(trace_of(failing)).exhausted == 2


def test_shadow_mode_gives_none():
    assert advice([[0]] * 5, max_attempts=1, exhaustion=Watch()) is None
    assert advice([[0]] * 5, max_attempts=1) is not None


def test_rewards_of_other_channels_are_not_mixed_in():
    thought = ChannelRules(threshold=Constant(target=100), acceptance=Soft(beta=0.001), floor=90)
    run = Run(GuardConfig(**SETTINGS, reasoning=thought), SamplingParams(seed=0))
    channels = [Channel.REASONING, Channel.REASONING, Channel.ANSWER]
    for channel in channels:
        for reward in (95, 91, 92) if channel is Channel.REASONING else (0, 0.5, 0.25):
            run.offer(Candidate((1,), SECRET), Reward(reward), channel)
    found = advice_on(trace_of(run))
    assert (found.channel, found.exhausted, found.reached, found.asked) == (Channel.REASONING, 3, 95, 100)
    assert (found.target, found.floor) == (100, 90)
    assert "accepts (channel reasoning): the best" in found.message


def test_it_takes_the_thresholds_that_were_asked_for():
    ramp = LinearInTokens(target=1, alpha=1, horizon=10)
    assert advice([[0, 0, 0]] * 3, threshold=ramp).asked == 1
    start = LinearInTokens(target=10, alpha=0, horizon=10)
    run = Run(GuardConfig(**SETTINGS | {"threshold": start}), SamplingParams(seed=0))
    run.base_rewards[Channel.ANSWER] = 0
    for _ in range(9):
        run.offer(Candidate((1,), SECRET), Reward(-1))
    assert advice_on(trace_of(run)).asked == pytest.approx(2)


def test_no_floor_is_told_in_json_too():
    found = advice([[0, 0, 0]] * 3, floor=-math.inf)
    assert json.loads(found.model_dump_json())["floor"] == "-inf"
    assert "floor=-inf" in found.message


def test_an_answer_that_ended_well_needs_none():
    run = Run(GuardConfig(**SETTINGS), SamplingParams(seed=0))
    run.offer(Candidate((1,), SECRET, Finish.EOS), Reward(1))
    assert advice_on(trace_of(run)) is None
