"""Traces as preferences: which pairs are taken, and what is on either side."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack
from stars_guard.algorithm.rules import Best, Constant, Refuse, Soft
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.batch.answers import RowResult
from stars_guard.batch.rows import Row
from stars_guard.errors import ConfigurationError
from stars_guard.prompts import Prompt
from stars_guard.training.preferences import (
    PairLimits,
    export_rows,
    preference_rows,
    prompts_by_run,
    segment_pairs,
)
from stars_guard.types import Candidate, Channel, Finish, Reward
from tests.support.traces import trace_of

ALL = PairLimits()
PROMPT = Prompt.of("How do I bake bread?")


def drawn(
    rewards: Sequence[float],
    *,
    finish_from: float = 3.0,
    channels: Sequence[Channel] = (),
    keep: bool = True,
    **settings: object,
) -> Trace:
    """An answer whose candidates get these rewards in turn; one of ``finish_from`` or more ends it."""
    config = GuardConfig(
        **{
            "threshold": Constant(target=1.0),
            "acceptance": Soft(beta=0.5),
            "floor": -9.0,
            "max_attempts": 3,
            "exhaustion": Best(),
            "keep_rejected_text": keep,
            **settings,
        }
    )
    run = Run(config, SamplingParams(seed=7, max_tokens=400))
    text = ""
    for number, value in enumerate(rewards):
        if run.stop_reason is not None:
            break
        candidate = Candidate((number,), f"{text}w{number} ", Finish.EOS if value >= finish_from else None)
        channel = channels[number] if number < len(channels) else Channel.ANSWER
        decision = run.offer(candidate, Reward(value), channel)
        if decision.segment.chosen is not None:
            text = decision.segment.attempts[decision.segment.chosen].text or ""
    return trace_of(run)


some_rewards = st.lists(st.floats(-2, 4, width=16), min_size=1, max_size=24)
limits = st.builds(PairLimits, min_margin=st.floats(0, 3), per_answer=st.none() | st.integers(1, 4))


@given(some_rewards, limits, st.booleans())
def test_pairs_are_of_one_accepted_segment_and_keep_to_the_limits(rewards, wanted, backtracks):
    escalation = (Backtrack(segments=1),) if backtracks else ()
    trace = drawn(rewards, escalation=escalation, exhaustion=Refuse())
    pairs = segment_pairs(trace, wanted)
    for pair in pairs:
        segment = trace.segments[pair.segment]
        assert segment.verdict is Verdict.ACCEPTED
        assert pair.chosen is segment.attempts[segment.chosen]
        assert pair.rejected in segment.attempts
        assert not pair.rejected.accepted
        assert pair.margin > 0
        assert pair.margin >= wanted.min_margin
    assert wanted.per_answer is None or len(pairs) <= wanted.per_answer
    assert [pair.segment for pair in pairs] == sorted(pair.segment for pair in pairs)


@given(some_rewards, st.integers(1, 4))
def test_of_too_many_pairs_those_with_the_largest_margins_stay(rewards, most):
    trace = drawn(rewards)
    every = segment_pairs(trace, ALL)
    kept = segment_pairs(trace, PairLimits(per_answer=most))
    largest = sorted((pair.margin for pair in every), reverse=True)[:most]
    assert sorted((pair.margin for pair in kept), reverse=True) == largest


@given(some_rewards)
def test_both_sides_are_the_answer_up_to_there_and_share_what_was_kept_before(rewards):
    trace = drawn(rewards)
    chosen = {segment.index: (segment.attempts, segment.chosen) for segment in trace.segments}
    kept = {number: attempts[at].text for number, (attempts, at) in chosen.items() if at is not None}
    for row in preference_rows(trace, PROMPT, ALL, "plain"):
        before = kept.get(row.segment - 1, "")
        assert row.chosen == kept[row.segment]
        assert row.chosen.startswith(before)
        assert row.rejected.startswith(before)
        assert row.chosen != row.rejected


def test_the_two_forms_and_where_an_answer_ends():
    (row,) = preference_rows(drawn([-1.0, 3.0]), PROMPT, ALL)
    assert row.prompt == [{"role": "user", "content": "How do I bake bread?"}]
    assert row.chosen == [{"role": "assistant", "content": "w1 "}]
    assert row.rejected == [{"role": "assistant", "content": "w0 "}]
    assert (row.chosen_ends, row.rejected_ends) == (True, False)
    assert (row.margin, row.run_id, row.segment) == (4.0, "r", 0)
    (plain,) = preference_rows(drawn([-1.0, 3.0]), PROMPT, ALL, "plain")
    assert (plain.prompt, plain.chosen, plain.rejected) == ("How do I bake bread?", "w1 ", "w0 ")


def test_what_was_forced_is_no_chosen_side_and_may_stand_before_one():
    trace = drawn([-1.0, 0.0, -1.0, -1.0, 2.0], acceptance="hard")
    assert [segment.verdict for segment in trace.segments][:2] == [Verdict.FORCED, Verdict.ACCEPTED]
    (pair,) = segment_pairs(trace, ALL)
    assert pair.segment == 1
    assert pair.chosen.text == "w1 w4 "


def test_what_was_withdrawn_has_no_pairs():
    escalation = (Backtrack(segments=1),)
    rewards = [-1.0, 2.0, -1.0, -1.0, -1.0, -1.0, 2.5]
    trace = drawn(rewards, acceptance="hard", escalation=escalation)
    verdicts = [segment.verdict for segment in trace.segments]
    assert verdicts[:3] == [Verdict.WITHDRAWN, Verdict.BACKTRACKED, Verdict.ACCEPTED]
    assert [pair.segment for pair in segment_pairs(trace, ALL)] == [2]


def test_pairs_end_where_the_answer_has_something_else():
    channels = [Channel.ANSWER, Channel.ANSWER, Channel.REASONING, Channel.ANSWER, Channel.ANSWER]
    trace = drawn([-1.0, 2.0, 2.0, -1.0, 2.0], acceptance="hard", channels=channels)
    assert [pair.segment for pair in segment_pairs(trace, ALL)] == [0]
    rejected_elsewhere = drawn([-1.0, 2.0], acceptance="hard", channels=[Channel.TOOL])
    assert segment_pairs(rejected_elsewhere, ALL) == []


def test_texts_that_are_the_same_are_no_pair():
    trace = drawn([-1.0, 2.0], acceptance="hard")
    trace.segments[0].attempts[0].text = trace.segments[0].attempts[1].text
    assert segment_pairs(trace, ALL) == []


def test_without_texts_it_is_said_how_to_draw_such_traces():
    with pytest.raises(ConfigurationError, match=r"run r has no texts.*settings.*--keep-rejected-text"):
        segment_pairs(drawn([-1.0, 2.0], keep=False), ALL)


def test_prompts_are_found_by_run_through_the_answers():
    rows = [Row(id="a", prompt="one"), Row(id="b", messages=({"role": "user", "content": "two"},))]
    answers = [
        RowResult(id="b", seed=1, run_id="r-b"),
        RowResult(id="gone", seed=1, run_id="r-gone"),
        RowResult(id="a", seed=1),
    ]
    assert {run: prompt.as_text() for run, prompt in prompts_by_run(rows, answers).items()} == {"r-b": "two"}
    assert prompts_by_run(rows, None)["a"].as_text() == "one"


def test_an_export_counts_and_an_empty_one_says_why():
    good, dull, foreign = drawn([-1.0, 2.0]), drawn([2.0, 2.0]), drawn([-1.0, 2.0])
    dull.run_id, foreign.run_id = "r2", "elsewhere"
    prompts = {"r": PROMPT, "r2": PROMPT}
    rows, count = export_rows([good, dull, foreign], prompts, ALL)
    assert [row.run_id for row in rows] == ["r"]
    assert count.model_dump() == {"traces": 3, "unknown": 1, "paired": 1, "pairs": 1}
    with pytest.raises(ConfigurationError, match="no pair in 1 traces, 1 of them of runs whose prompt"):
        export_rows([foreign], prompts, ALL)


def test_a_text_that_was_drawn_twice_is_one_pair():
    trace = drawn([-1.0, -2.0, 3.0])
    first, second, _ = trace.segments[0].attempts
    assert len(segment_pairs(trace, ALL)) == 2
    second.text = first.text
    assert [pair.rejected for pair in segment_pairs(trace, ALL)] == [first]
    assert len(segment_pairs(trace, PairLimits(per_answer=2))) == 1


def test_a_pair_that_several_traces_hold_is_one_row():
    again = drawn([-1.0, 3.0])
    again.run_id = "r2"
    rows, count = export_rows([drawn([-1.0, 3.0]), again], {"r": PROMPT, "r2": PROMPT}, ALL)
    assert [row.run_id for row in rows] == ["r"]
    assert (count.traces, count.paired, count.pairs) == (2, 1, 1)
