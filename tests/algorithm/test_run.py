"""The algorithm as a state machine, and the replay that verifies a trace."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive, Fixed, SegmentPlan
from stars_guard.algorithm.config import ChannelRules, GuardConfig, SamplingParams
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.replay import replay, verify
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Table,
    Watch,
)
from stars_guard.algorithm.run import Run
from stars_guard.algorithm.segments import FixedLength
from stars_guard.algorithm.trace import Trace, Verdict
from stars_guard.errors import ConfigurationError, TraceError
from stars_guard.types import Candidate, Channel, Finish, Reward, StopReason
from tests.support.traces import trace_of


def new_run(*, seed=0, max_tokens=100, temperature=0.8, **changes):
    parts = {"threshold": Constant(target=0), "acceptance": Hard(), "max_attempts": 3, **changes}
    return Run(
        GuardConfig(**parts), SamplingParams(seed=seed, max_tokens=max_tokens, temperature=temperature)
    )


def segment(*ids, text="text", finish=None):
    return Candidate(ids or (1, 2), text, finish)


def offer(run, *rewards, finish=None):
    """Offer one candidate a reward; candidate ``j`` is the id ``j``. Returns the decisions."""
    return [run.offer(segment(j, finish=finish), Reward(value)) for j, value in enumerate(rewards)]


def test_a_run_needs_a_seed():
    with pytest.raises(ConfigurationError, match="fresh_seed"):
        Run(GuardConfig(threshold=Constant(target=0)), SamplingParams())


def test_candidates_are_judged_in_the_order_offered_until_one_is_accepted():
    run = new_run()
    first, second = offer(run, -1, 1)
    assert first.verdict is Verdict.OPEN
    assert first.chosen is None
    assert second.verdict is Verdict.ACCEPTED
    assert second.chosen == segment(1)
    assert second.segment.chosen == 1
    assert [attempt.index for attempt in second.segment.attempts] == [0, 1]
    assert run.token_ids == [1]
    assert run.stop_reason is None
    assert run.segment.index == 1
    assert run.segment.prefix_tokens == 1


def test_acceptance_compares_the_addressed_draw_with_the_probability():
    run = new_run(seed=9, acceptance=Soft(beta=1.0), max_attempts=50)
    for value in [-0.7] * 200:
        number, index = run.segment.index, len(run.segment.attempts)
        attempt = run.offer(segment(), Reward(value)).attempt
        assert attempt.uniform == uniform(9, number, index, ACCEPTANCE)
        assert attempt.probability == pytest.approx(math.exp(-0.7))
        assert attempt.accepted == (attempt.uniform < attempt.probability)
        if run.stop_reason or run.segment.max_tokens <= 2:
            break
    assert {attempt.accepted for one in run.segments for attempt in one.attempts} == {True, False}


def test_a_probability_of_0_is_never_accepted_and_one_of_1_always():
    config, sampling = new_run().config, SamplingParams(seed=0)
    assert not offer(Run(config, sampling, lambda *address: 0.0), -1)[0].attempt.accepted
    assert offer(Run(config, sampling, lambda *address: 1 - 2**-53), 1)[0].attempt.accepted


@pytest.mark.parametrize("exhaustion", [Best(), Last(), Refuse(), Raise()])
@pytest.mark.parametrize("acceptance", [Soft(beta=9.0), Hard()])
def test_no_policy_and_no_draw_shows_what_is_under_the_floor(exhaustion, acceptance):
    parts = {"threshold": Constant(target=1), "max_attempts": 3}
    config = GuardConfig(floor=0, exhaustion=exhaustion, acceptance=acceptance, **parts)
    run = Run(config, SamplingParams(seed=0), lambda *address: 0.0)
    offer(run, -0.001, -0.5, -7)
    assert run.token_ids == []
    assert run.stop_reason in (StopReason.REFUSED, StopReason.EXHAUSTED)
    assert [attempt.probability for attempt in run.segment.attempts] == [0.0] * 3


def test_only_shadow_mode_shows_what_is_under_the_floor():
    run = new_run(exhaustion=Watch(), max_attempts=1)
    assert offer(run, -9)[0].verdict is Verdict.FORCED


@pytest.mark.parametrize("finish", [Finish.EOS, Finish.STOP])
def test_a_candidate_that_completes_the_answer_is_held_against_the_target(finish):
    parts = {"threshold": LinearInTokens(target=1, alpha=0), "floor": -5}
    for config, bar in ((parts, 1.0), (parts | {"final_at_target": False}, -5 + 6 / 256)):
        run = new_run(**config)
        run.base_rewards[Channel.ANSWER] = -9.0
        assert run.offer(segment(1, finish=finish), Reward(0)).attempt.threshold == pytest.approx(bar)


@pytest.mark.parametrize("drop", [0, 4])
def test_the_bar_at_the_end_is_never_under_the_schedules(drop):
    run = new_run(threshold=FrontLoaded(target=1, start=1 + drop, decay_tokens=1e9))
    attempt = run.offer(segment(1, finish=Finish.EOS), Reward(0)).attempt
    assert attempt.threshold == pytest.approx(1 + drop)


@given(st.integers(1, 5000), st.floats(-3, 3))
def test_what_a_request_asks_for_does_not_move_the_bar(max_tokens, reward):
    thresholds = set()
    for most in (max_tokens, 4096):
        run = new_run(max_tokens=most, threshold=LinearInTokens(target=2), floor=-2)
        run.base_rewards[Channel.ANSWER] = -6.0
        # The longest segment there may be; where max_tokens cuts it short, it is shorter.
        ids = range(min(most, 32))
        finish = Finish.LENGTH if most <= 32 else None
        attempt = run.offer(segment(*ids, finish=finish), Reward(reward)).attempt
        thresholds.add((attempt.threshold, attempt.probability, attempt.accepted))
    assert len(thresholds) == 1


def test_a_whole_answer_that_max_tokens_cut_is_held_against_the_target():
    run = new_run(threshold=LinearInSegments(target=1, segments=9, alpha=0), floor=-5, max_tokens=299)
    run.base_rewards[Channel.ANSWER] = -5.0
    assert run.offer(segment(*range(299), finish=Finish.LENGTH), Reward(0)).attempt.threshold == 1


def test_every_part_must_reach_what_may_be_forced():
    rules = ChannelRules(threshold=Constant(target=9.0), acceptance=Hard(), floor=-9.0)
    for answer, verdict in ((0.2, Verdict.REFUSED), (0.6, Verdict.FORCED)):
        run = new_run(threshold=Constant(target=1), floor=0, exhaustion=Best(floor=0.5), reasoning=rules)
        parts = [(Channel.REASONING, Reward(-5.0)), (Channel.ANSWER, Reward(answer))]
        for attempt in range(3):
            channel, reward = run.hardest(segment(attempt), parts)
            assert channel is Channel.REASONING
            last = run.offer(segment(attempt), reward, channel)
        assert last.verdict is verdict
        assert replay(trace_of(run, run.stop_reason)) == []


@pytest.mark.parametrize("order", [1, -1])
def test_the_floor_of_every_channel_holds(order):
    rules = ChannelRules(threshold=Constant(target=0.0), acceptance=Hard(), floor=-1.0)
    run = new_run(threshold=Constant(target=2.0), acceptance=Soft(beta=0.25), floor=0, reasoning=rules)
    rewards = [(Channel.REASONING, Reward(-0.5)), (Channel.ANSWER, Reward(-0.1))][::order]
    # Reasoning has no chance under the hard rule, and the answer is the nearer to its own target; but it is
    # the answer that may not be forced.
    assert run.hardest(segment(), rewards)[0] is Channel.ANSWER
    for attempt in range(3):
        channel, reward = run.hardest(segment(attempt), rewards)
        run.offer(segment(attempt), reward, channel)
    assert run.stop_reason is StopReason.REFUSED


def test_what_may_be_forced_goes_before_what_is_nearer_to_a_target():
    rules = ChannelRules(threshold=Constant(target=50.0), acceptance=Hard(), floor=49.5)
    run = new_run(tools=rules, floor=-9)
    run.offer(segment(1), Reward(49.0), Channel.TOOL)
    run.offer(segment(2), Reward(-5.0))
    assert run.offer(segment(3), Reward(-6.0)).chosen == segment(2)


def test_keyed_draws_decide_and_are_taken_from_the_trace():
    run = Run(new_run(acceptance=Soft(beta=1.0)).config, SamplingParams(seed=1), lambda *address: 0.25)
    offer(run, -1, -2, -1)
    trace = trace_of(run)
    assert replay(trace)  # the seed's draws are others
    keyed = trace.model_copy(update={"keyed": True})
    assert replay(keyed) == []
    keyed.segments[0].attempts[0].uniform = 0.5
    assert replay(keyed)


def test_the_schedule_counts_segments_from_1():
    run = new_run(threshold=LinearInSegments(target=4, segments=4, alpha=0), floor=0)
    run.base_rewards[Channel.ANSWER] = 0.0
    thresholds = [run.offer(segment(), Reward(9)).attempt.threshold for _ in range(5)]
    assert thresholds == [1, 2, 3, 4, 4]


def test_an_attempt_records_what_it_was_given():
    ramp = LinearInTokens(target=4, horizon=100)
    run = new_run(threshold=ramp, drawing=Adaptive(slack=0), keep_rejected_text=True, floor=-9)
    run.base_rewards[Channel.ANSWER] = -4.0
    run.token_ids.extend([7] * 8)
    attempt = run.offer(segment(1, 2, text="abc"), Reward(-9, 5, {"harm": 0.5})).attempt
    assert (attempt.tokens, attempt.text_length, attempt.text) == (2, 3, "abc")
    assert (attempt.reward, attempt.truncated_tokens, attempt.components) == (-9, 5, {"harm": 0.5})
    assert attempt.threshold == pytest.approx(0 + (8 + 2) / 100 * 4)
    assert attempt.finish is None


def test_attempts_left_counts_down_and_starts_anew_with_each_segment():
    run = new_run(exhaustion=Last(), floor=-1)
    counts = []
    for value in (-1, -1, 1, -1, -1, -1, -1):
        counts.append(run.attempts_left)
        run.offer(segment(), Reward(value))
    assert counts == [3, 2, 1, 3, 2, 1, 3]
    assert [one.verdict for one in run.segments] == [Verdict.ACCEPTED, Verdict.FORCED, Verdict.OPEN]


def test_greedy_without_retries_gets_one_attempt():
    run = new_run(temperature=0, exhaustion=Refuse(), retry_temperature=None)
    assert run.attempts_left == 1
    (decision,) = offer(run, -1)
    assert decision.verdict is Verdict.REFUSED
    assert run.attempts_left == 0


BEST_OF_FLOOR = Best(floor=-5)


@pytest.mark.parametrize(
    ("policy", "rewards", "verdict", "chosen", "reason"),
    [
        (BEST_OF_FLOOR, (-3, -1, -2), Verdict.FORCED, 1, None),
        (BEST_OF_FLOOR, (-1, -1, -2), Verdict.FORCED, 0, None),  # the first of equals
        (BEST_OF_FLOOR, (-3, -2, -1), Verdict.FORCED, 2, None),
        (BEST_OF_FLOOR, (-7, -5, -6), Verdict.FORCED, 1, None),  # at the floor
        (BEST_OF_FLOOR, (-7, -5.001, -6), Verdict.REFUSED, None, StopReason.REFUSED),
        (Best(), (-1, -0.001, -1), Verdict.REFUSED, None, StopReason.REFUSED),  # hard rule: floor = target
        (Last(), (-1, -2, -9), Verdict.REFUSED, None, StopReason.REFUSED),  # likewise
        (Watch(), (-1, -2, -9), Verdict.FORCED, 2, None),
        (Refuse(), (-1, -2, -3), Verdict.REFUSED, None, StopReason.REFUSED),
        (Raise(), (-1, -2, -3), Verdict.EXHAUSTED, None, StopReason.EXHAUSTED),
    ],
)
def test_exhaustion_policies(policy, rewards, verdict, chosen, reason):
    run = new_run(exhaustion=policy)
    *earlier, last = offer(run, *rewards)
    assert [decision.verdict for decision in earlier] == [Verdict.OPEN, Verdict.OPEN]
    assert last.verdict is verdict
    assert last.segment.verdict is verdict
    assert last.segment.chosen == chosen
    assert run.stop_reason is reason
    assert run.token_ids == ([] if chosen is None else [chosen])
    assert last.chosen == (None if chosen is None else segment(chosen))
    assert not any(attempt.accepted for attempt in last.segment.attempts)


def test_the_best_rejected_candidate_is_known_while_the_segment_is_open():
    run = new_run(exhaustion=Best(floor=-5))
    assert run.best is None
    offer(run, -3)
    assert run.best == segment(0)
    run.offer(segment(8), Reward(-2))
    run.offer(segment(9), Reward(-4))
    assert run.token_ids == [8]
    assert run.best is None


@pytest.mark.parametrize("finish", Finish)
@pytest.mark.parametrize("rewards", [(1,), (-1, -1, -1)])
def test_the_chosen_candidate_ends_the_answer(finish, rewards):
    run = new_run(exhaustion=Last(), floor=-1)
    offer(run, *rewards, finish=finish)
    assert run.stop_reason == StopReason(finish.value)
    assert len(run.segments) == 1
    assert run.segments[0].attempts[-1].finish is finish


def test_a_rejected_candidate_that_is_finished_ends_nothing():
    run = new_run()
    offer(run, -1, finish=Finish.EOS)
    assert run.stop_reason is None


def test_the_answer_can_be_stopped_from_outside():
    run = new_run()
    run.stop(StopReason.CANCELLED)
    assert run.stop_reason is StopReason.CANCELLED


def test_parameters_adapt_between_segments_only():
    run = new_run(
        drawing=Adaptive(segment_tokens=(2, 30), slack=4.0, target_rate=0.5),
        exhaustion=Last(),
        floor=-9,
        max_attempts=5,
    )
    plans = []
    for _ in range(2):
        for _ in range(5):
            plans.append(run.plan)
            run.offer(segment(), Reward(-9))
        plans.append(None)
    first, second = plans[:5], plans[6:11]
    assert len(set(first)) == len(set(second)) == 1
    assert second[0].candidates > first[0].candidates
    assert second[0].max_tokens < first[0].max_tokens
    assert second[0].threshold_shift < first[0].threshold_shift == 0
    recorded = run.segments[1]
    assert SegmentPlan(recorded.candidates, recorded.max_tokens, recorded.threshold_shift) == second[0]
    assert recorded.attempts[0].threshold == second[0].threshold_shift


@given(st.integers(1, 60), st.lists(st.integers(1, 9), min_size=1, max_size=20), st.booleans())
def test_a_plan_never_passes_the_room_of_the_answer(max_tokens, lengths, adaptive):
    drawing = Adaptive(segment_tokens=(3, 50)) if adaptive else Fixed()
    run = new_run(max_tokens=max_tokens, drawing=drawing, segments=FixedLength(max_tokens=9))
    for length in lengths:
        room = max_tokens - len(run.token_ids)
        assert 1 <= run.plan.max_tokens <= room
        assert run.segment.max_tokens == run.plan.max_tokens
        drawn = min(length, run.plan.max_tokens)
        finish = Finish.LENGTH if drawn == room else None
        run.offer(Candidate((5,) * drawn, "t", finish), Reward(1))
        if finish:
            assert len(run.token_ids) == max_tokens
            break


# Replay

shifts = st.builds(
    Adaptive, slack=st.sampled_from([0.0, 2.0]), segment_tokens=st.sampled_from([None, (2, 9)])
)
thresholds = st.sampled_from(
    [
        LinearInTokens(target=1),
        LinearInSegments(target=1, segments=4, alpha=0.2),
        Constant(target=0.5),
        FrontLoaded(target=0, start=2),
        Table(positions=(4, 8), thresholds=(0.0, 1.0)),
    ]
)
configs = st.builds(
    GuardConfig,
    threshold=thresholds,
    acceptance=st.sampled_from([Hard(), Soft(beta=0.3), Soft(beta=3.0)]),
    drawing=shifts | st.builds(Fixed, candidates=st.integers(1, 8)),
    exhaustion=st.sampled_from([Best(), Best(floor=-9), Last(), Refuse(), Raise()]),
    max_attempts=st.integers(1, 4),
    keep_rejected_text=st.booleans(),
    retry_temperature=st.sampled_from([None, 0.7]),
)
samplings = st.builds(
    SamplingParams,
    seed=st.integers(0, 2**63 - 1),
    max_tokens=st.integers(1, 40),
    temperature=st.sampled_from([0.0, 1.0]),
)


@st.composite
def answers(draw):
    """The trace of a run that was offered anything for a while."""
    run = Run(draw(configs), draw(samplings))
    if run.config.threshold.needs_base_reward:
        run.base_rewards[Channel.ANSWER] = draw(st.floats(-3, 3))
    for _ in range(draw(st.integers(0, 25))):
        tokens = draw(st.integers(1, run.plan.max_tokens))
        full = len(run.token_ids) + tokens == run.sampling.max_tokens
        finish = Finish.LENGTH if full else draw(st.sampled_from([None, None, None, Finish.EOS, Finish.STOP]))
        reward = Reward(draw(st.floats(-4, 4)), draw(st.integers(0, 3)), {"part": 1.0})
        run.offer(Candidate((3,) * tokens, "x" * draw(st.integers(0, 50)), finish), reward)
        if run.stop_reason is not None:
            break
    else:
        run.stop(draw(st.sampled_from([StopReason.CANCELLED, StopReason.DEADLINE, StopReason.TOKEN_BUDGET])))
    return trace_of(run)


@settings(max_examples=200)
@given(answers())
def test_every_trace_replays_without_differences(trace):
    assert replay(trace) == []
    assert replay(Trace.model_validate_json(trace.model_dump_json())) == []
    verify(trace)


def rich_run():
    """Rejections, an accepted, a forced and an ending segment, with a shifted threshold."""
    run = new_run(
        seed=3,
        threshold=LinearInTokens(target=1, horizon="request"),
        acceptance=Soft(beta=0.5),
        drawing=Adaptive(slack=1.0, target_rate=0.9),
        exhaustion=Best(floor=-99),
        max_attempts=4,
    )
    run.base_rewards[Channel.ANSWER] = -1.0
    for value in (-5.0, -4.0, 2.0, -5.0, -4.5, -6.0, -5.5):
        run.offer(Candidate((1, 2, 3), "abc"), Reward(value))
    run.offer(Candidate((4,), "abcd", Finish.EOS), Reward(0.9))
    if run.stop_reason is None:
        run.offer(Candidate((4,), "abcd", Finish.EOS), Reward(3.0))
    return run


def rich_trace():
    run = rich_run()
    verdicts = [one.verdict for one in run.segments]
    assert verdicts == [Verdict.ACCEPTED, Verdict.FORCED, Verdict.ACCEPTED]
    assert run.stop_reason is StopReason.EOS
    assert run.segments[1].threshold_shift < 0
    return trace_of(run)


def places(data, path=()):
    """Every leaf of nested data, as (path, value)."""
    if isinstance(data, dict):
        for key, value in data.items():
            yield from places(value, (*path, key))
    elif isinstance(data, list):
        for index, value in enumerate(data):
            yield from places(value, (*path, index))
    else:
        yield path, data


def tampered(trace, path, value):
    data = trace.model_dump()
    inner = data
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return Trace.model_validate(data)


# Facts that a replay takes as given: it has no model and no reward to ask again. A text is not compared.
GIVEN = {
    "drawn",
    "truncated_tokens",
    "text_length",
    "text",
    "finish",
    "channel",
    "reward",
    "tokens",
    "opening_tokens",
}


def recomputed_places():
    trace = rich_trace()
    return [(path, value) for path, value in places(trace.model_dump()["segments"]) if path[-1] not in GIVEN]


def other(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, Verdict):
        return Verdict.OPEN if value is Verdict.ACCEPTED else Verdict.ACCEPTED
    if isinstance(value, int):
        return value + 1
    if isinstance(value, str):
        return f"{value} too"
    return value + 1e-9


@pytest.mark.parametrize(
    ("path", "value"),
    recomputed_places(),
    ids=lambda part: ".".join(map(str, part)) if isinstance(part, tuple) else "",
)
def test_tampering_with_any_recorded_decision_is_reported(path, value):
    changed = tampered(rich_trace(), ("segments", *path), other(value))
    differences = replay(changed)
    assert differences, path
    with pytest.raises(TraceError, match="trace r does not replay: "):
        verify(changed)


def test_every_kind_of_decision_is_among_the_tampered():
    names = {path[-1] for path, _ in recomputed_places()}
    decisions = {
        "threshold",
        "uniform",
        "probability",
        "accepted",
        "chosen",
        "verdict",
        "threshold_shift",
        "index",
    }
    assert decisions | {"candidates", "max_tokens", "prefix_tokens"} <= names


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("sampling", "seed"), 4),
        (("sampling", "max_tokens"), 99),
        (("sampling", "temperature"), 0.0),
        (("base_rewards", "answer"), -1.001),
        (("config", "threshold", "target"), 1.001),
        (("config", "threshold", "alpha"), 0.501),
        (("config", "acceptance", "beta"), 0.501),
        (("config", "drawing", "slack"), 1.001),
        (("config", "drawing", "max_candidates"), 1),
        (("config", "max_attempts"), 3),
        (("config", "max_attempts"), 5),
        (("config", "exhaustion", "floor"), 0.0),
        (("stop_reason",), StopReason.LENGTH),
        (("stop_reason",), StopReason.CANCELLED),
        (("stop_reason",), None),
        (("segments", 0, "attempts", 0, "reward"), -4.999),
        (("segments", 1, "attempts", 1, "reward"), -5.2),
        (("segments", 2, "attempts", 0, "finish"), None),
        (("segments", 0, "attempts", 0, "tokens"), 2),
    ],
    ids=repr,
)
def test_tampering_with_what_a_decision_follows_from_is_reported(path, value):
    assert replay(tampered(rich_trace(), path, value))


def test_a_missing_or_repeated_attempt_or_segment_is_reported():
    for number in range(3):
        data = rich_trace().model_dump()
        data["segments"].pop(number)
        assert replay(Trace.model_validate(data))
        data = rich_trace().model_dump()
        data["segments"][number]["attempts"].append(data["segments"][number]["attempts"][-1])
        assert replay(Trace.model_validate(data))
        data = rich_trace().model_dump()
        data["segments"][number]["attempts"].pop()
        assert replay(Trace.model_validate(data))


def test_a_candidate_longer_than_its_segment_may_be_is_reported():
    trace = rich_trace()
    longest = trace.segments[1].max_tokens
    changed = tampered(trace, ("segments", 1, "attempts", 0, "tokens"), longest + 1)
    assert f"segment 1 attempt 0: {longest + 1} tokens, but max_tokens is {longest}" in replay(changed)


def test_more_or_fewer_candidates_than_rounds_draw_are_reported():
    run = new_run(drawing=Fixed(candidates=2))
    offer(run, -1, -1, 1)
    run.segment.drawn = 0
    for drawn, allowed in ((2, False), (3, True), (4, False)):
        run.segments[0].drawn = drawn
        differences = [] if allowed else [f"segment 0 drawn: recorded {drawn}, the plan allows 3 to 3"]
        assert replay(trace_of(run, StopReason.CANCELLED)) == differences


def test_a_plan_is_compared_also_where_the_number_of_segments_differs():
    run = new_run()
    offer(run, 1, 1)
    cut = trace_of(run, StopReason.CANCELLED)
    cut.segments.pop()
    cut.segments[1].max_tokens += 1
    assert replay(cut) == [
        "2 segments recorded, 3 recomputed",
        f"segment 1 max_tokens: recorded {cut.segments[1].max_tokens}, recomputed {run.plan.max_tokens}",
    ]


def test_going_on_after_the_end_is_reported():
    trace = rich_trace()
    data = trace.model_dump()
    data["segments"].append({**data["segments"][0], "index": 3})
    (difference,) = replay(Trace.model_validate(data))
    assert difference == "segment 3 goes on after the answer ended (eos)"


def test_a_missing_open_segment_is_reported():
    run = new_run()
    offer(run, 1)
    trace = trace_of(run, StopReason.CANCELLED)
    assert replay(trace) == []
    trace.segments.pop()
    assert replay(trace) == ["1 segments recorded, 2 recomputed"]


@pytest.mark.parametrize(
    "claimed", [StopReason.EOS, StopReason.LENGTH, StopReason.REFUSED, StopReason.EXHAUSTED]
)
def test_an_interrupted_answer_that_claims_to_be_complete_is_reported(claimed):
    run = new_run()
    offer(run, 1)
    assert replay(trace_of(run, claimed))


def test_at_most_five_differences_are_told():
    trace = tampered(rich_trace(), ("config", "drawing", "slack"), 0.0)
    for one in trace.segments:
        one.prefix_tokens += 1
        one.max_tokens += 1
    assert len(replay(trace)) > 5
    with pytest.raises(TraceError) as caught:
        verify(trace)
    assert str(caught.value).count("recomputed") == 5


def test_a_trace_without_its_seed_does_not_replay():
    trace = guarded_trace()
    stripped = trace.model_copy(update={"sampling": trace.sampling.model_copy(update={"seed": None})})
    assert "seed" in replay(stripped)[0]


def test_a_trace_without_the_reward_of_its_prompt_does_not_replay():
    trace = guarded_trace()
    ramped = trace.config.model_copy(update={"threshold": LinearInTokens(target=1.0), "floor": 0.0})
    assert "bare prompt" in replay(trace.model_copy(update={"config": ramped}))[0]


def guarded_trace():
    run = Run(GuardConfig(threshold=Constant(target=0.0)), SamplingParams(seed=1, max_tokens=4))
    run.offer(Candidate((1, 2, 3, 4), "text", Finish.LENGTH), Reward(1.0))
    return Trace(
        run_id="one",
        model="m",
        reward="r",
        config=run.config,
        sampling=run.sampling,
        base_rewards={},
        segments=run.segments,
        stop_reason=run.stop_reason,
    )
