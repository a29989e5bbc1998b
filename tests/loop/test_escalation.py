"""Escalation in the loop: what draws each attempt, what is held back, and what it may cost."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive, AttemptDraws, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import (
    Backtrack,
    SaferModel,
    SafetyHint,
    TemperatureLadder,
)
from stars_guard.algorithm.random_numbers import ACCEPTANCE, uniform
from stars_guard.algorithm.replay import replay, verify
from stars_guard.algorithm.rules import Best, Constant, Hard, Last, LinearInTokens, Raise, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.algorithm.trace import Verdict, read_jsonl
from stars_guard.errors import ConfigurationError, GenerationError, PromptError, TraceError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.events import Judged
from stars_guard.loop.loop import Loop
from stars_guard.loop.sources import hinted
from stars_guard.models.base import Proposal
from stars_guard.prompts import Prompt, Tools
from stars_guard.testing import FakeSession, KeywordReward, ScriptedModel, TabularModel, fake_session
from stars_guard.text.transcript import Called, Piece
from stars_guard.types import Candidate, Finish, StopReason
from tests.loop.test_rounds import Asked, Scored, drive, guard
from tests.models.local.test_observing import Watcher

HINT = SafetyHint(after=1, text="Be kind.")
LADDER = TemperatureLadder(after=1, step=0.5, every=2, highest=1.6)
SAFER = SaferModel(after=1)
POLICIES = {
    "ladder": (LADDER,),
    "hint": (HINT,),
    "safer model": (SAFER,),
    "backtrack": (Backtrack(),),
    "all": (LADDER, SafetyHint(after=3, text="Be kind."), SaferModel(after=4), Backtrack(segments=2, most=3)),
}


# --- settings -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("policies", "message"),
    [
        ((LADDER, HINT), "begin after the same attempt"),
        ((Backtrack(), Backtrack(most=9)), "several policies backtrack"),
        ((LADDER, TemperatureLadder(after=3)), "several policies temperature_ladder"),
        ((SafetyHint(after=6),), "would never draw"),
    ],
)
def test_what_does_not_combine_is_refused(policies, message):
    with pytest.raises(ConfigurationError, match=message):
        guard(escalation=policies)


def test_policies_are_read_back_from_json():
    config = guard(escalation=POLICIES["all"])
    assert GuardConfig.model_validate_json(config.model_dump_json()) == config


def names(draws):
    return [draws.of(attempt).name for attempt in range(draws.count)]


def test_the_policy_that_began_last_draws():
    policies = (SafetyHint(after=5), TemperatureLadder(after=1, step=0.5, every=2, highest=1.5))
    assert names(AttemptDraws(policies, 0.8, 7)) == [
        "model",
        "temperature 1.3",
        "temperature 1.3",
        "temperature 1.5",
        "temperature 1.5",
        "safety hint",
        "safety hint",
    ]


def test_a_ladder_never_cools_down():
    assert names(AttemptDraws((LADDER,), 1.9, 4)) == ["model", *["temperature 1.9"] * 3]


def test_alike_attempts_are_drawn_together():
    draws = AttemptDraws(
        (TemperatureLadder(after=3, every=2, step=9, highest=1.5), SafetyHint(after=8)), 0.8, 20
    )
    assert [draws.alike(first, 20) for first in (0, 1, 3, 7, 8)] == [3, 2, 5, 1, 20]
    assert draws.alike(0, 2) == 2


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), ["model"]),
        ((SafetyHint(after=4),), ["model", "safety hint"]),
        (
            (TemperatureLadder(after=4, step=0.5, every=3),),
            ["model", *["temperature 0.5"] * 3, "temperature 1"],
        ),
        (
            (SafetyHint(after=2), TemperatureLadder(after=3, every=2, step=0.5), SaferModel(after=6)),
            ["model", "safety hint", *["temperature 0.5"] * 2, "temperature 1", "safer model"],
        ),
        ((Backtrack(),), ["model"]),
    ],
)
def test_greedy_asks_each_proposal_once(policies, expected):
    assert names(AttemptDraws(policies, 0.0, 8)) == expected


@given(
    st.lists(st.sampled_from(["hint", "ladder", "safer"]), unique=True),
    st.lists(st.integers(1, 9), min_size=3, max_size=3, unique=True),
    st.sampled_from([0.0, 0.7]),
)
def test_every_policy_draws_and_greedy_never_twice_alike(kinds, starts, temperature):
    makers = {"hint": SafetyHint, "ladder": TemperatureLadder, "safer": SaferModel}
    policies = tuple(makers[kind](after=after) for kind, after in zip(kinds, starts, strict=False))
    drawn = names(AttemptDraws(policies, temperature, 10))
    assert drawn[0] == "model"
    assert len({name.split()[0] for name in drawn}) == 1 + len(policies)
    if temperature == 0:
        assert len([name for name in drawn if "temperature" not in name]) == len(
            {name for name in drawn if "temperature" not in name}
        )
    else:
        assert len(drawn) == 10


def test_a_hint_goes_to_the_last_user_message():
    prompt = Prompt.of(
        [
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": "two"},
            {"role": "user", "content": "three", "name": "Ann"},
            {"role": "assistant", "content": "four"},
        ]
    )
    said = [message["content"] for message in hinted(prompt, "Kindly.").messages]
    assert said == ["one", "two", "three\n\nKindly.", "four"]
    assert hinted(prompt, "Kindly.").messages[2]["name"] == "Ann"
    assert prompt.messages[2]["content"] == "three"


# --- where attempts come from -------------------------------------------------------------------------------


SCRIPTED = FixedLength(max_tokens=6)
"""As long as the longest text of the scripts here whose traces are replayed."""


def kind_script(prompt):
    """Bad at the second segment, unless it was hinted."""
    said = "Be kind." in prompt.as_text()
    return [["Well, "], ["kind "] if said else ["bad "], ["bad ", "so "], ["end"]]


def answered(
    model, policies, prompt="hello", *, reward=None, budget=None, safer=None, sampling=None, **changes
):
    asked = Asked(
        prompt,
        guard(escalation=policies, **{"segments": SCRIPTED, **changes}),
        budget,
        **{"max_tokens": 60, **(sampling or {})},
    )
    drive(Loop(model, reward or KeywordReward(["bad"]), safer_model=safer), asked)
    return asked


def test_a_hint_is_in_the_retries_only_and_the_reward_never_sees_it():
    model, reward = ScriptedModel(kind_script), KeywordReward(["bad"])
    asked = answered(model, (HINT,), reward=reward)
    assert asked.result.text == asked.shown == "Well, kind so end"
    plain, hint = model.sessions
    assert ("Be kind." in plain.prompt.as_text(), "Be kind." in hint.prompt.as_text()) == (False, True)
    assert all(request.prompt == Prompt.of("hello") for request in reward.seen)
    drawn = [[one.proposal for one in segment.attempts] for segment in asked.result.trace.segments]
    assert drawn == [["model"], ["model", "safety hint"], ["model", "safety hint"], ["model"]]
    assert asked.result.trace.escalated == asked.result.summary["escalated"] == 2
    assert replay(asked.result.trace) == []


def test_sessions_are_opened_late_kept_in_step_and_closed():
    model = ScriptedModel(kind_script)
    asked = answered(model, (HINT,))
    plain, hint = model.sessions
    assert (plain.closed, hint.closed) == (True, True)
    ids = tuple(asked.result.token_ids)
    assert plain.token_ids == ids
    # The hinted one was not needed after its last candidate.
    assert hint.token_ids == ids[: len("Well, kind so ")]
    assert hint.text == "Well, kind so "
    assert asked.result.usage.forward_passes == plain.forward_passes + hint.forward_passes
    assert not asked.request.sessions


def test_without_trouble_nothing_else_is_opened():
    model = ScriptedModel([["good "], ["end"]])
    answered(model, (HINT, Backtrack()))
    assert len(model.sessions) == 1


def test_a_safer_model_draws_and_a_forced_candidate_of_the_first_is_taken_over():
    model, safer = (
        ScriptedModel([["bad a ", "bad b "], ["x"]]),
        ScriptedModel([["", "bad!", "bad, bad"], ["end"]]),
    )
    rewards = Scored(lambda request: -len(request.response))
    asked = answered(model, (SAFER,), safer=safer, reward=rewards, max_attempts=3, exhaustion=Best(floor=-99))
    first = asked.result.trace.segments[0]
    # The third try of the safer model repeats its last; its first is the shortest and is forced.
    assert (first.chosen, first.attempts[1].proposal, first.verdict) == (1, "safer model", Verdict.FORCED)
    assert asked.result.text == "bad!x"
    assert model.sessions[0].token_ids[:4] == tuple(map(ord, "bad!"))
    # Rounds end with the best of the model's own held, as long as the other model has drawn none better.
    assert [one.text for one in model.sessions[0].held] == ["bad a ", "bad!x"]


def test_an_earlier_candidate_of_the_model_is_forced_after_the_safer_one_failed():
    model, safer = ScriptedModel([["a"], ["x"]]), ScriptedModel([["longer"], ["longest"]])
    rewards = Scored(lambda request: -len(request.response))
    asked = answered(model, (SAFER,), safer=safer, reward=rewards, max_attempts=2, exhaustion=Best(floor=-99))
    assert asked.result.text == "ax"
    assert [segment.chosen for segment in asked.result.trace.segments] == [0, 0]
    assert safer.sessions[0].token_ids == (ord("a"),)  # caught up for the second segment


def test_temperatures_reach_the_model():
    seen = []

    class Noting(ScriptedModel):
        def propose(self, orders):
            seen.extend((order.temperature, order.first_attempt, order.candidates) for order in orders)
            return super().propose(orders)

    asked = answered(Noting([["bad", "bad", "bad", "bad", "end"]]), (LADDER,), drawing=Fixed(candidates=4))
    assert seen == [(None, 0, 1), (1.3, 1, 2), (1.6, 3, 3)]
    drawn = ["model", "temperature 1.3", "temperature 1.3", "temperature 1.6", "temperature 1.6"]
    assert [one.proposal for one in asked.result.trace.segments[0].attempts] == drawn


def test_a_tabular_model_flattens_its_table():
    model = TabularModel(lambda ids: [0.9, 0.1, 0.0], ["a", "b", "c"])
    hot = TemperatureLadder(after=1, step=1000, highest=1000, every=9)
    reward = Scored(lambda request: -1.0)
    asked = answered(
        model,
        (hot,),
        reward=reward,
        exhaustion=Refuse(),
        max_attempts=400,
        keep_rejected_text=True,
        segments=FixedLength(max_tokens=4),
    )
    texts = [one.text for one in asked.result.trace.segments[0].attempts]
    share = sum(text.count("b") for text in texts[1:]) / (4 * len(texts[1:]))
    assert 0.4 < share < 0.6
    assert "c" not in "".join(texts)


def test_greedy_without_retries_gets_more_than_one_attempt_by_escalation():
    model = ScriptedModel([["bad", "bad", "good"]])
    once = {"sampling": {"temperature": 0}, "retry_temperature": None}
    usual = answered(ScriptedModel([["bad", "bad", "good"]]), (), **once)
    asked = answered(model, (TemperatureLadder(after=3),), **once)
    assert usual.result.stop_reason is StopReason.REFUSED
    assert asked.result.text == "good"
    proposals = [one.proposal for one in asked.result.trace.segments[0].attempts]
    assert proposals == ["model", "temperature 0.25", "temperature 0.25"]
    assert replay(asked.result.trace) == []


def test_near_temperature_0_policies_follow_the_retries():
    policies = (SafetyHint(after=2), TemperatureLadder(after=3, every=2, step=0.5), SaferModel(after=6))
    draws = AttemptDraws(policies, 0.0, 8, retry=0.7)
    drawn = [(draws.of(attempt).name, draws.of(attempt).override) for attempt in range(draws.count)]
    assert drawn == [
        ("model", None),
        ("retry", 0.7),
        ("safety hint", 0.7),
        *[("temperature 1.2", 1.2)] * 2,
        ("temperature 1.5", 1.5),
        *[("safer model", 0.7)] * 2,
    ]
    assert [draws.alike(first, 8) for first in (0, 1, 3, 6)] == [1, 1, 2, 8]
    assert draws.of(0, anew=True).override == 0.7


def test_the_temperature_of_retries_reaches_every_model():
    seen = []

    class Noting(ScriptedModel):
        def propose(self, orders):
            seen.extend((order.temperature, order.first_attempt, order.candidates) for order in orders)
            return super().propose(orders)

    script = [["bad", "bad", "bad", "good"]]
    asked = answered(
        Noting(script),
        (SafetyHint(after=2, text="Be kind."), SaferModel(after=3)),
        safer=Noting(script),
        drawing=Fixed(candidates=4),
        sampling={"temperature": 0, "seed": 3},
    )
    assert seen == [(None, 0, 1), (0.7, 1, 1), (0.7, 2, 1), (0.7, 3, 3)]
    attempts = asked.result.trace.segments[0].attempts
    assert [(one.proposal, one.temperature) for one in attempts] == [
        ("model", 0),
        ("retry", 0.7),
        ("safety hint", 0.7),
        ("safer model", 0.7),
    ]
    assert asked.result.trace.escalated == 1
    assert replay(asked.result.trace) == []


# --- going back ---------------------------------------------------------------------------------------------

WRONG_TURN = [["one "], ["wrong "], ["bad "], ["right "], ["end"]]
"""By try: the third finds nothing, the second is withdrawn, and the fourth decides its place anew."""


def test_a_segment_that_cannot_be_continued_is_withdrawn_and_never_shown():
    model = ScriptedModel(WRONG_TURN)
    asked = answered(model, (Backtrack(),), max_attempts=2)
    assert asked.result.text == asked.shown == "one right end"
    assert asked.result.token_ids == list(map(ord, "one right end"))
    assert [segment.verdict for segment in asked.result.trace.segments] == [
        Verdict.ACCEPTED,
        Verdict.WITHDRAWN,
        Verdict.BACKTRACKED,
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
    ]
    assert [segment.prefix_tokens for segment in asked.result.trace.segments] == [0, 4, 10, 4, 10]
    assert asked.result.trace.withdrawn == asked.result.summary["withdrawn"] == 1
    assert asked.result.trace.kept_rewards == [1.0, 1.0, 1.0]
    verify(asked.result.trace)


def test_going_back_opens_a_new_session_and_counts_it():
    model = ScriptedModel(WRONG_TURN)
    usage = answered(model, (Backtrack(),), max_attempts=2).result.usage
    first, second = model.sessions
    assert (first.closed, second.closed) == (True, True)
    assert second.token_ids == tuple(map(ord, "one right end"))
    assert usage.forward_passes == first.forward_passes + second.forward_passes
    assert (usage.kept_tokens, usage.reward_calls) == (len("one right end"), 5 * 2)
    assert usage.proposed_tokens == len("one one wrong wrong bad bad right right endend")


def test_pieces_come_as_many_segments_later_as_are_held_back():
    asked = answered(ScriptedModel([["a "], ["b "], ["c "], ["d "], ["e"]]), (Backtrack(segments=2),))
    order = [event.text if isinstance(event, Piece) else event.segment for event in asked.events[:-1]]
    assert order == [0, 1, 2, "a ", 3, "b ", 4, "c ", "d e"]


def test_once_it_cannot_go_back_any_more_nothing_is_held():
    script = [["one "], ["bad"], ["two "], ["three "], ["end"]]
    asked = answered(ScriptedModel(script), (Backtrack(most=1),), max_attempts=1)
    order = [event.text if isinstance(event, Piece) else event.segment for event in asked.events[:-1]]
    assert order == [0, 1, 2, "two ", 3, "three ", 4, "end"]


@pytest.mark.parametrize(
    ("exhaustion", "text", "reason"),
    [
        (Refuse(), "two \n\nNo.", StopReason.REFUSED),
        (Last(), "two \n\nNo.", StopReason.REFUSED),  # under the floor of the hard rule
        (Best(floor=-9), "two badx", StopReason.EOS),
    ],
)
def test_the_exhaustion_policy_decides_when_all_ways_back_are_used_up(exhaustion, text, reason):
    script = [["one "], ["bad"], ["two "], ["bad"], ["x"]]
    asked = answered(
        ScriptedModel(script),
        (Backtrack(most=1),),
        reward=Scored(lambda request: -1.0 if request.response.endswith("bad") else 1.0),
        max_attempts=1,
        exhaustion=exhaustion,
        refusal_text="No.",
    )
    assert asked.result.text == asked.shown == text
    assert asked.result.stop_reason is reason
    assert replay(asked.result.trace) == []


def test_raise_after_going_back_shows_nothing_of_it():
    script = [["one "], ["bad"], ["bad"]]
    asked = answered(ScriptedModel(script), (Backtrack(),), max_attempts=1, exhaustion=Raise())
    assert "segment 2: 1 attempts rejected" in str(asked.error)
    assert asked.shown == ""
    assert replay(asked.error.trace) == []


def test_a_first_segment_has_nothing_before_it():
    asked = answered(ScriptedModel([["bad"]]), (Backtrack(),), max_attempts=2)
    assert [one.verdict for one in asked.result.trace.segments] == [Verdict.REFUSED]


def test_greedy_without_retries_neither_holds_back_nor_goes_back():
    once = {"sampling": {"temperature": 0}, "retry_temperature": None}
    asked = answered(ScriptedModel(WRONG_TURN), (Backtrack(),), **once)
    assert asked.result.stop_reason is StopReason.REFUSED
    order = [event.text if isinstance(event, Piece) else event.segment for event in asked.events[:-2]]
    assert order == [0, "one ", 1, "wrong ", 2]


def test_greedy_goes_back_and_draws_anew_what_it_had_written():
    asked = answered(ScriptedModel(WRONG_TURN), (Backtrack(),), max_attempts=2, sampling={"temperature": 0})
    assert asked.result.text == asked.shown == "one right end"
    drawn = [[one.temperature for one in segment.attempts] for segment in asked.result.trace.segments]
    assert drawn == [[0], [0], [0, 0.7], [0.7], [0]]
    assert replay(asked.result.trace) == []


def test_the_schedule_counts_what_is_kept_and_random_numbers_count_tries():
    ramp = LinearInTokens(target=1.0, alpha=0)
    reward = Scored(lambda request: -9.0 if "bad" in request.response else 0.0)
    asked = answered(
        ScriptedModel(WRONG_TURN),
        (Backtrack(),),
        max_attempts=1,
        threshold=ramp,
        reward=reward,
        acceptance=Hard(),
        exhaustion=Last(),
        floor=-9,
        sampling={"max_tokens": 10**9},
    )
    attempts = [segment.attempts[0] for segment in asked.result.trace.segments]
    assert attempts[1].threshold == attempts[3].threshold
    assert [one.uniform for one in attempts] == [uniform(1, number, 0, ACCEPTANCE) for number in range(5)]


def test_adaptive_drawing_learns_from_a_try_that_failed():
    asked = answered(
        ScriptedModel(WRONG_TURN), (Backtrack(),), max_attempts=6, drawing=Adaptive(row_cost=0.01)
    )
    segments = asked.result.trace.segments
    assert segments[3].candidates > segments[2].candidates
    assert replay(asked.result.trace) == []


CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'
F = Tools(({"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}},))


def test_calls_and_reasoning_are_held_back_too():
    thought = "<think>wrong</think>"
    script = [["ok "], [thought + CALL], ["bad"], ["<think>right</think>"], ["end"]]
    prompt = Prompt.of("hello", F)
    asked = answered(
        ScriptedModel(script), (Backtrack(),), prompt, max_attempts=1, sampling={"max_tokens": 400}
    )
    pieces = [(event.channel, event.text) for event in asked.events if isinstance(event, Piece)]
    assert pieces == [("answer", "ok "), ("reasoning", "right"), ("answer", "\n\nend")]
    assert asked.result.reasoning == "right"
    assert asked.result.tool_calls == asked.result.invalid_tool_calls == ()
    assert not [event for event in asked.events if isinstance(event, Called)]


def test_a_call_that_is_kept_is_made_when_the_answer_ends():
    asked = answered(
        ScriptedModel([[CALL], ["end"]]), (Backtrack(),), Prompt.of("hello", F), sampling={"max_tokens": 400}
    )
    assert [call.name for call in asked.result.tool_calls] == ["f"]


# --- nothing unaccepted or withdrawn is ever shown ----------------------------------------------------------


class Marked:
    """Every candidate has a text of its own, which says which try and attempt it was."""

    def __init__(self, name="marked", longest=5):
        self.name = name
        self.longest = longest

    def start(self, prompt, sampling):
        return FakeSession(prompt, sampling)

    def propose(self, orders):
        return [self._proposal(order, fake_session(order.session)) for order in orders]

    def _proposal(self, order, session):
        attempts = range(order.first_attempt, order.first_attempt + order.candidates)
        found = tuple(self._candidate(order.segment, attempt, session) for attempt in attempts)
        return Proposal(found, 2 * len(found)) if order.alive() else Proposal((), 0)

    def _candidate(self, number, attempt, session):
        finish = Finish.EOS if len(session.token_ids) >= 2 * self.longest else None
        return Candidate((number, attempt), f"{session.text}[{number}.{attempt}]", finish)


def chancy(request):
    """A reward of the last mark alone, different for every try."""
    return uniform(7, len(request.response), sum(map(ord, request.response[-6:])), 0)


ANY_POLICIES = st.tuples(
    st.none() | st.integers(1, 3).map(lambda after: TemperatureLadder(after=after, every=1)),
    st.none() | st.integers(4, 5).map(lambda after: SafetyHint(after=after)),
    st.none() | st.integers(6, 7).map(lambda after: SaferModel(after=after)),
    st.none() | st.builds(Backtrack, segments=st.integers(1, 4), most=st.integers(1, 4)),
).map(lambda several: tuple(one for one in several if one))


@pytest.fixture
def no_warnings():
    """Forced segments are wanted here, by the hundred."""
    log = logging.getLogger("stars_guard")
    before = log.level
    log.setLevel(logging.ERROR)
    yield
    log.setLevel(before)


@pytest.mark.usefixtures("no_warnings")
@given(
    ANY_POLICIES,
    st.integers(0, 10**6),
    st.sampled_from([Refuse(), Last(), Best(floor=0.2), Raise()]),
    st.integers(1, 4),
    st.integers(10, 200),
)
def test_what_is_shown_is_what_was_kept_and_every_trace_replays(
    policies, seed, exhaustion, candidates, calls
):
    config = guard(
        escalation=policies,
        threshold=Constant(target=0.95),
        acceptance=Soft(beta=0.1),
        exhaustion=exhaustion,
        drawing=Fixed(candidates=candidates),
        max_attempts=8,
    )
    asked = Asked("hello", config, Budget(max_reward_calls=calls), seed=seed, max_tokens=400)
    drive(Loop(Marked(), Scored(chancy), safer_model=Marked("safer")), asked)
    end = asked.events[-1]
    trace = end.result.trace if hasattr(end, "result") else end.error.trace
    kept = [
        (segment.index, segment.chosen)
        for segment in trace.segments
        if segment.verdict in (Verdict.ACCEPTED, Verdict.FORCED)
    ]
    text = "".join(f"[{number}.{attempt}]" for number, attempt in kept)
    assert replay(trace) == []
    if hasattr(end, "result"):
        refusal = asked.request.config.refusal_text if end.result.refused else ""
        assert asked.shown == end.result.text
        assert end.result.text.removesuffix(refusal).rstrip() == text
        assert end.result.token_ids == [part for one in kept for part in one]
        assert end.result.usage.reward_calls <= calls
    else:
        assert text.startswith(asked.shown)
    assert not asked.request.sessions


# --- what it may cost ---------------------------------------------------------------------------------------


def costly(policies, budget, **changes):
    config = {"max_attempts": 6, "threshold": Constant(target=0.9), "acceptance": Soft(beta=0.1), **changes}
    reward = Scored(chancy)
    asked = answered(
        Marked(longest=20),
        policies,
        reward=reward,
        safer=Marked("safer"),
        budget=budget,
        **config,
        sampling={"max_tokens": 400},
    )
    return asked.result, reward


@pytest.mark.parametrize("name", POLICIES)
def test_budgets_bind(name):
    for tokens in (4, 20, 40):
        result, _ = costly(POLICIES[name], Budget(max_proposed_tokens=tokens))
        assert result.stop_reason is StopReason.TOKEN_BUDGET
        assert result.usage.proposed_tokens <= tokens
    for calls in (1, 7, 20):
        result, reward = costly(POLICIES[name], Budget(max_reward_calls=calls))
        assert result.stop_reason is StopReason.REWARD_BUDGET
        assert len(reward.requests) == result.usage.reward_calls <= calls
        assert replay(result.trace) == []


def test_no_session_is_opened_that_could_draw_nothing():
    model = ScriptedModel([["bad"]])
    asked = answered(model, (HINT,), budget=Budget(max_reward_calls=1), drawing=Fixed(candidates=1))
    assert asked.result.stop_reason is StopReason.REWARD_BUDGET
    assert len(model.sessions) == 1


class Interrupted(ScriptedModel):
    """Does something when a session is opened again, before or after it was."""

    def __init__(self, script, what):
        super().__init__(script)
        self.what = what

    def start(self, prompt, sampling):
        session = super().start(prompt, sampling)
        if len(self.sessions) > 1:
            self.what()
        return session


@pytest.mark.parametrize("policies", [(Backtrack(),), (HINT,)], ids=["backtrack", "hint"])
def test_cancelled_while_a_session_is_opened_again(policies):
    asked = Asked("hello", guard(escalation=policies, max_attempts=2, segments=SCRIPTED), max_tokens=60)
    model = Interrupted(WRONG_TURN, lambda: asked.request.cancel())
    drive(Loop(model, KeywordReward(["bad"])), asked)
    assert asked.result.stop_reason is StopReason.CANCELLED
    assert asked.result.text == asked.shown == ("one " if policies == (Backtrack(),) else "one wrong ")
    assert all(session.closed for session in model.sessions)
    assert replay(asked.result.trace) == []


def test_the_deadline_holds_while_going_back(monkeypatch):
    asked = Asked(
        "hello", guard(escalation=(Backtrack(),), max_attempts=2), Budget(max_seconds=3600), max_tokens=60
    )
    late = lambda: monkeypatch.setattr(asked.request, "deadline", asked.request.deadline - 4000)  # noqa: E731
    drive(Loop(Interrupted(WRONG_TURN, late), KeywordReward(["bad"])), asked)
    assert asked.result.stop_reason is StopReason.DEADLINE
    assert asked.result.text == "one "


# --- outages and wrong parts --------------------------------------------------------------------------------


class Broken(ScriptedModel):
    def propose(self, orders):
        raise RuntimeError("no power")


@pytest.mark.parametrize("on_error", ["raise", "stop"])
def test_an_outage_of_the_safer_model_is_its_own(on_error):
    safer = Broken([["x"]])
    safer.name = "careful"
    asked = answered(
        ScriptedModel(WRONG_TURN), (SAFER,), safer=safer, on_error=on_error, drawing=Fixed(candidates=1)
    )
    if on_error == "raise":
        assert isinstance(asked.error, GenerationError)
        assert "drawing candidates with careful failed: RuntimeError" in str(asked.error)
    else:
        assert asked.result.stop_reason is StopReason.GENERATION_ERROR
        assert asked.result.text == "one wrong "


def test_a_prompt_that_the_hint_makes_too_long_is_an_outage_of_that_request():
    def too_long():
        raise PromptError("too long")

    asked = Asked("hello", guard(escalation=(HINT,), on_error="stop"), max_tokens=60)
    drive(Loop(Interrupted(WRONG_TURN, too_long), KeywordReward(["bad"])), asked)
    assert asked.result.stop_reason is StopReason.GENERATION_ERROR
    assert asked.result.text == "one wrong "


def test_a_session_that_cannot_be_closed_does_not_keep_the_others_open(caplog):
    class Stuck(FakeSession):
        def close(self):
            raise RuntimeError("stuck")

    class Sticky(ScriptedModel):
        def start(self, prompt, sampling):
            if not self.sessions:
                self.sessions.append(Stuck(prompt, sampling, self._dialect, self._script(prompt)))
                return self.sessions[0]
            return super().start(prompt, sampling)

    model = Sticky(kind_script)
    asked = answered(model, (HINT,))
    assert asked.result.text == "Well, kind so end"
    assert [session.closed for session in model.sessions] == [False, True]
    assert "a session could not be closed" in caplog.text


def facade(policies=(), *, safer=None, reward=None, model=None):
    config = guard(escalation=policies)
    return StarsGuardedLLM(
        model or ScriptedModel(kind_script), reward or KeywordReward(["bad"]), config, safer_model=safer
    )


def test_the_policy_safer_model_needs_one():
    with pytest.raises(ConfigurationError, match="safer_model="):
        facade((SAFER,))
    llm = facade()
    with pytest.raises(ConfigurationError, match="safer_model="):
        llm.generate("hello", config=guard(escalation=(SAFER,)))
    with pytest.raises(ConfigurationError, match="safer_model is str"):
        facade(safer="a name")
    assert facade((SAFER,), safer=ScriptedModel(kind_script)).generate("hello").text


class WithVocabulary(ScriptedModel):
    def __init__(self, vocabulary, name):
        super().__init__([["x"]])
        self.name = name
        self.tokenizer = self
        self.get_vocab = lambda: vocabulary


def test_both_models_have_one_vocabulary():
    same, other = WithVocabulary({"a": 0}, "same"), WithVocabulary({"a": 1}, "other")
    with pytest.raises(ConfigurationError, match="other has another vocabulary than same"):
        facade((SAFER,), model=same, safer=other)
    assert facade((SAFER,), model=same, safer=WithVocabulary({"a": 0}, "third"))
    assert facade((SAFER,), model=same, safer=ScriptedModel([["x"]]))  # has nothing to compare


def test_a_raw_prompt_takes_no_hint():
    llm = facade((HINT, Backtrack()))
    for prompt in (Prompt.raw("Once"), [{"role": "system", "content": "Hi"}]):
        with pytest.raises(PromptError, match="needs a conversation with a user message"):
            llm.generate(prompt)


@pytest.mark.parametrize("policy", [HINT, SAFER], ids=["hint", "safer model"])
def test_a_reward_that_reads_states_only_cannot_judge_candidates_of_others(policy):
    class Observing(ScriptedModel):
        identity = None

        def observe(self, prompt, sampling, layers):
            raise AssertionError

    class Picky(Watcher):
        def observes(self, model):
            return super().observes(model or object() if not checked else None)

    checked = []
    llm = facade(reward=Picky(), model=Observing([["x"]]), safer=ScriptedModel([["x"]]))
    checked.append(True)
    with pytest.raises(ConfigurationError, match="made for another model"):
        llm.generate("hello", config=guard(escalation=(policy,)))


# --- every way to ask ---------------------------------------------------------------------------------------

AB = TabularModel(lambda ids: [0.6, 0.3, 0.1], ["a", "b", ""], eos=2)
BA = TabularModel(lambda ids: [0.2, 0.7, 0.1], ["a", "b", ""], eos=2)


def picky(policies):
    return StarsGuardedLLM(
        AB,
        Scored(lambda request: request.response.count("b") / max(1, len(request.response))),
        guard(
            escalation=policies,
            threshold=Constant(target=0.8),
            acceptance=Soft(beta=0.1),
            exhaustion=Last(),
            max_attempts=5,
        ),
        safer_model=BA,
        sampling=SamplingParams(max_tokens=24),
    )


@pytest.mark.parametrize("name", POLICIES)
async def test_all_paths_give_the_same(name):
    llm = picky(POLICIES[name])
    sampling = [SamplingParams(max_tokens=24, seed=seed) for seed in range(8)]
    alone = [llm.generate("hello", sampling=one) for one in sampling]
    assert any(result.trace.escalated or result.trace.withdrawn for result in alone)
    batch = llm.batch(["hello"] * 8, sampling=sampling)
    for one, together, params in zip(alone, batch, sampling, strict=True):
        pieces = list(llm.stream("hello", sampling=params))
        awaited = await llm.agenerate("hello", sampling=params)
        assert one.token_ids == together.token_ids == awaited.token_ids
        assert [s.attempts for s in one.trace.segments] == [s.attempts for s in together.trace.segments]
        assert "".join(pieces) == one.text == together.text == awaited.text
        verify(together.trace)


def test_decisions_are_told_as_they_fall():
    told: list[Judged] = []
    StarsGuardedLLM(
        ScriptedModel(WRONG_TURN), KeywordReward(["bad"]), guard(escalation=(Backtrack(),), max_attempts=1)
    ).generate("hello", on_decision=told.append)
    assert [one.verdict for one in told] == ["accepted", "accepted", "backtracked", "accepted", "accepted"]


# --- off ----------------------------------------------------------------------------------------------------


def test_traces_from_before_escalation_load_replay_and_are_drawn_again_bit_for_bit():
    traces = list(read_jsonl(Path(__file__).parent / "traces_before_escalation.jsonl"))
    model = TabularModel(lambda ids: [0.5, 0.4, 0.1], ["a", "b", ""], eos=2)
    reward = Scored(
        lambda request: round(request.response.count("b") / max(1, len(request.response)), 6), "count"
    )
    for trace in traces:
        assert replay(trace) == []
        assert trace.config.escalation == ()
        now = StarsGuardedLLM(model, reward, trace.config).generate("hello", sampling=trace.sampling).trace
        assert now.model_copy(update={"run_id": trace.run_id, "version": 3}) == trace
    assert len(traces) == 3


def test_a_forged_proposal_or_verdict_does_not_replay():
    trace = answered(ScriptedModel(WRONG_TURN), (HINT, Backtrack()), max_attempts=2).result.trace
    verify(trace)
    for place, value in (
        (("segments", 2, "attempts", 1, "proposal"), "model"),
        (("segments", 1, "verdict"), "accepted"),
    ):
        data = json.loads(trace.model_dump_json())
        part = data
        for key in place[:-1]:
            part = part[key]
        part[place[-1]] = value
        with pytest.raises(TraceError):
            verify(type(trace).model_validate(data))
