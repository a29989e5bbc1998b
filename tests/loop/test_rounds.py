"""The rounds and their worker: budgets, deadlines, cancellation, outages, and waiting for room."""

from __future__ import annotations

import asyncio
import logging
import math
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Best, Constant, Hard, Last, LinearInTokens, Raise, Refuse, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.algorithm.trace import Verdict
from stars_guard.errors import (
    GenerationError,
    NoAcceptableSegment,
    PromptError,
    ScoringError,
    StarsGuardError,
)
from stars_guard.loop import lifetime as lifetime_module
from stars_guard.loop import rounds as rounds_module
from stars_guard.loop import usage as usage_module
from stars_guard.loop.events import Failed, Finished, Judged, Request
from stars_guard.loop.loop import Loop
from stars_guard.loop.request import RequestInFlight
from stars_guard.models.base import Proposal
from stars_guard.prompts import Prompt
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, TabularModel
from stars_guard.text.transcript import Piece
from stars_guard.types import Candidate, Channel, Reward, StopReason

AB = TabularModel(lambda ids: [0.45, 0.45, 0.1], ["a", "b", ""], eos=2)
ENDLESS = TabularModel(lambda ids: [0.5, 0.5], ["a", "b"])


def guard(**changes):
    parts = {
        "threshold": Constant(target=0.5),
        "acceptance": Hard(),
        "segments": FixedLength(max_tokens=4),
        "drawing": Fixed(candidates=2),
        "max_attempts": 6,
        **changes,
    }
    return GuardConfig(**parts)


class Asked:
    """A request of a test, and the events it emitted."""

    def __init__(self, prompt="hello", config=None, budget=None, **sampling):
        self.events = []
        self.ended = threading.Event()
        sampling = SamplingParams(**{"seed": 1, "max_tokens": 12, **sampling})
        self.request = RequestInFlight(
            Request(Prompt.of(prompt), sampling, config or guard(), budget or Budget()), self._take
        )

    def _take(self, event):
        self.events.append(event)
        if isinstance(event, Finished | Failed):
            self.ended.set()

    @property
    def result(self):
        (end,) = (event for event in self.events if isinstance(event, Finished | Failed))
        assert self.events[-1] is end
        assert isinstance(end, Finished), end
        return end.result

    @property
    def error(self):
        end = self.events[-1]
        assert isinstance(end, Failed), end
        return end.error

    @property
    def shown(self):
        return "".join(event.text for event in self.events if isinstance(event, Piece))


def drive(loop, *asked, rounds=1000):
    """Step in this thread until everything has ended."""
    for _ in range(rounds):
        requests = [one.request for one in asked if not one.request.ended]
        if not requests:
            return asked[0]
        loop.rounds.step(requests)
    raise AssertionError("the loop does not come to an end")


def answer(model, reward, *args, **kwargs):
    return drive(Loop(model, reward), Asked(*args, **kwargs))


class Scored:
    """A reward from a function of the response, or of the whole request."""

    def __init__(self, function, name="scored"):
        self.name = name
        self.function = function
        self.requests = []
        self.released = []

    def score(self, requests):
        self.requests.extend(requests)
        return [Reward(self.function(request)) for request in requests]

    def release(self, run_id):
        self.released.append(run_id)


def likes_b():
    return Scored(lambda request: request.response.count("b") / max(1, len(request.response)))


def test_a_plain_answer_and_what_it_cost():
    model, reward = ScriptedModel([["bad", "good "], ["end"]]), KeywordReward(["bad"])
    config = guard(segments=FixedLength(max_tokens=5))
    asked = answer(model, reward, "three small words", config=config, max_tokens=50)
    result = asked.result
    assert result.text == asked.shown == "good end"
    assert bytes(result.token_ids).decode() == "good end"
    assert result.stop_reason is StopReason.EOS
    assert not result.refused
    assert result.forced == 0
    usage = result.usage
    assert usage.prompt_tokens == 3
    assert usage.proposed_tokens == len("bad" + "good " + "end" + "end")
    assert usage.kept_tokens == len("good end")
    assert usage.reward_calls == len(reward.seen) == 4
    assert usage.forward_passes == model.sessions[0].forward_passes == 3
    seconds = usage.seconds
    assert 0 <= seconds.queued <= seconds.first_segment <= seconds.total
    assert min(seconds.prefill, seconds.propose, seconds.score) >= 0
    assert [event.verdict for event in asked.events if isinstance(event, Judged)] == [
        Verdict.OPEN,
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
    ]
    assert [segment.drawn for segment in result.trace.segments] == [2, 2]
    assert replay(result.trace) == []
    assert model.sessions[0].closed
    assert reward.released == [result.trace.run_id]


def test_a_missing_seed_is_drawn_and_reported():
    first, second = (
        answer(AB, likes_b(), seed=None, config=guard(exhaustion=Last())).result for _ in range(2)
    )
    assert first.trace.sampling.seed != second.trace.sampling.seed
    again = answer(AB, likes_b(), seed=first.trace.sampling.seed, config=guard(exhaustion=Last())).result
    assert again.text == first.text


def test_a_reward_is_told_what_is_finished():
    reward = Scored(lambda request: 1.0)
    answer(
        ScriptedModel([["one "], ["two"]]), reward, max_tokens=50, config=guard(drawing=Fixed(candidates=1))
    )
    assert [(one.response, one.finished) for one in reward.requests] == [("one ", False), ("one two", True)]
    assert all(one.prompt == Prompt.of("hello") for one in reward.requests)
    assert {one.run_id for one in reward.requests} == set(reward.released)


def test_the_bare_prompt_is_scored_once_when_the_schedule_needs_it():
    reward = Scored(lambda request: -1.0 if request.response == "" else 1.0)
    config = guard(threshold=LinearInTokens(target=0.5), floor=-1)
    result = answer(AB, reward, config=config).result
    assert result.trace.base_rewards == {Channel.ANSWER: -1.0}
    assert [one.response for one in reward.requests].count("") == 1
    assert not reward.requests[0].finished
    assert result.usage.reward_calls == len(reward.requests)
    assert answer(AB, likes_b(), config=guard()).result.trace.base_rewards == {}


def test_the_best_of_an_earlier_round_can_still_be_forced():
    values = {"x": -3.0, "y": -1.0, "z": -2.0, "w": -4.0}
    reward = Scored(lambda request: values.get(request.response, 1.0))
    model = ScriptedModel([["x", "y", "z", "w"], ["!"]])
    config = guard(exhaustion=Best(floor=-9), max_attempts=4)
    result = answer(model, reward, config=config).result
    assert result.text == "y!"
    assert result.forced == 1
    assert [one.text for one in model.sessions[0].held] == ["y"]
    assert result.trace.segments[0].chosen == 1


def test_a_round_never_has_more_candidates_than_attempts_are_left():
    model = ScriptedModel([["bad"]])
    config = guard(drawing=Fixed(candidates=4), max_attempts=6, exhaustion=Refuse())
    result = answer(model, KeywordReward(["bad"]), config=config).result
    assert result.trace.segments[0].drawn == 6
    assert result.usage.reward_calls == 6


def test_a_round_without_candidates_decides_nothing():
    asked, session = Asked(), ScriptedModel([["x"]]).start(Prompt.of("hello"), SamplingParams(seed=1))
    asked.request.judge(session, [], [])
    assert asked.events == session.held == []
    assert asked.request.run.attempts_left == 6


# Refusal and exhaustion


def test_a_refusal_follows_the_accepted_text():
    config = guard(exhaustion=Refuse(), refusal_text="I stop here.")
    model = ScriptedModel([["fine"], ["bad"], ["never"]])
    asked = answer(model, KeywordReward(["bad"]), config=config)
    assert asked.result.text == asked.shown == "fine\n\nI stop here."
    assert asked.result.stop_reason is StopReason.REFUSED
    assert asked.result.refused
    assert bytes(asked.result.token_ids).decode() == "fine"


def test_an_answer_refused_at_once_is_the_refusal_text_alone():
    config = guard(exhaustion=Refuse(), refusal_text="No.")
    asked = answer(ScriptedModel([["bad"]]), KeywordReward(["bad"]), config=config)
    assert asked.result.text == asked.shown == "No."
    assert asked.result.token_ids == []
    assert asked.result.usage.seconds.first_segment is None


def test_a_refusal_comes_after_text_that_was_held_back_for_a_stop_string():
    config = guard(exhaustion=Refuse(), refusal_text="No.")
    asked = answer(
        ScriptedModel([["fine EN"], ["bad"]]), KeywordReward(["bad"]), config=config, stop=("END",)
    )
    assert [event.text for event in asked.events if isinstance(event, Piece)] == ["fine ", "EN", "\n\nNo."]
    assert asked.result.text == "fine EN\n\nNo."


def test_policy_raise_carries_the_trace_and_no_text():
    asked = answer(
        ScriptedModel([["fine"], ["bad"]]), KeywordReward(["bad"]), config=guard(exhaustion=Raise())
    )
    error = asked.error
    assert isinstance(error, NoAcceptableSegment)
    assert "segment 1: 6 attempts rejected, best reward -1, last threshold 0.5" in str(error)
    assert "bad" not in str(error)
    assert error.trace.stop_reason is StopReason.EXHAUSTED
    assert error.trace.segments[-1].verdict is Verdict.EXHAUSTED
    assert replay(error.trace) == []


def test_forcing_and_refusing_are_logged_without_text(caplog):
    reward = KeywordReward(["poison"])  # no word that the hexadecimal id of a run could hold
    forced = answer(ScriptedModel([["poison forced"]]), reward, config=guard(exhaustion=Last(), floor=-1))
    refused = answer(ScriptedModel([["poison refused"]]), reward, config=guard(exhaustion=Refuse()))
    assert [(one.name, one.levelno) for one in caplog.records] == [("stars_guard", logging.WARNING)] * 2
    first, second = (one.getMessage() for one in caplog.records)
    assert f"{forced.request.run_id}: segment 0 forced after 6 attempts (threshold 0.5 not reached)" in first
    assert f"{refused.request.run_id}: refused after 0 tokens" in second
    assert "poison" not in caplog.text


# Budgets


def test_the_token_budget_stops_before_a_round_that_could_pass_it():
    config = guard(drawing=Fixed(candidates=1), exhaustion=Refuse())
    for bound, drawn in ((3, 0), (4, 4), (10, 8), (12, 12), (15, 12)):
        asked = answer(
            ENDLESS, Scored(lambda request: -1.0), config=config, budget=Budget(max_proposed_tokens=bound)
        )
        assert asked.result.stop_reason is StopReason.TOKEN_BUDGET
        assert asked.result.usage.proposed_tokens == drawn
        assert asked.result.text == ""


def test_a_budget_makes_the_last_round_smaller():
    config = guard(drawing=Fixed(candidates=4), exhaustion=Refuse(), max_attempts=9)
    tokens = answer(
        ENDLESS, Scored(lambda request: -1.0), config=config, budget=Budget(max_proposed_tokens=27)
    )
    assert tokens.result.stop_reason is StopReason.TOKEN_BUDGET
    assert tokens.result.usage.proposed_tokens == 24
    calls = answer(ENDLESS, Scored(lambda request: -1.0), config=config, budget=Budget(max_reward_calls=7))
    assert calls.result.stop_reason is StopReason.REWARD_BUDGET
    assert calls.result.usage.reward_calls == 7
    assert len(calls.result.trace.segments[0].attempts) == 7


def test_the_bare_prompt_counts_against_the_reward_budget():
    config = guard(threshold=LinearInTokens(target=0.5), floor=-1)
    reward = Scored(lambda request: 1.0)
    asked = answer(AB, reward, config=config, budget=Budget(max_reward_calls=1))
    assert asked.result.stop_reason is StopReason.REWARD_BUDGET
    assert len(reward.requests) == 1


bounds = st.none() | st.integers(1, 60)


@settings(max_examples=150, deadline=None)
@given(
    tokens=bounds,
    calls=bounds,
    seed=st.integers(0, 999),
    candidates=st.integers(1, 5),
    length=st.integers(1, 6),
    base=st.booleans(),
)
def test_no_budget_is_ever_passed_and_none_stops_an_answer_early(
    tokens, calls, seed, candidates, length, base
):
    reward = likes_b()
    config = guard(
        threshold=LinearInTokens(target=0.5) if base else Constant(target=0.5),
        acceptance=Soft(beta=0.3),
        segments=FixedLength(max_tokens=length),
        drawing=Fixed(candidates=candidates),
        exhaustion=Refuse(),
    )
    budget = Budget(max_proposed_tokens=tokens, max_reward_calls=calls)
    asked = answer(AB, reward, config=config, budget=budget, seed=seed)
    result, run = asked.result, asked.request.run
    assert result.usage.reward_calls == len(reward.requests) <= (calls or math.inf)
    assert result.usage.proposed_tokens <= (tokens or math.inf)
    reasons = {StopReason.EOS, StopReason.LENGTH, StopReason.REFUSED}
    if result.stop_reason is StopReason.TOKEN_BUDGET:
        assert tokens - result.usage.proposed_tokens < run.plan.max_tokens
    elif result.stop_reason is StopReason.REWARD_BUDGET:
        assert result.usage.reward_calls == calls
    else:
        assert result.stop_reason in reasons
    assert len(result.token_ids) <= 12
    assert replay(result.trace) == []
    # What was bought is a beginning of what would have been bought without a bound.
    free = answer(AB, likes_b(), config=config, seed=seed).result
    assert free.token_ids[: len(result.token_ids)] == result.token_ids


# Deadline and cancellation


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    for module in (lifetime_module, rounds_module, usage_module):
        monkeypatch.setattr(module, "time", clock)
    return clock


TEN_SECONDS = Budget(max_seconds=10)


def test_an_answer_within_its_deadline_is_not_disturbed(clock):
    asked = answer(AB, likes_b(), budget=TEN_SECONDS)
    assert asked.request.deadline == 110
    assert asked.result.token_ids == answer(AB, likes_b()).result.token_ids
    assert answer(AB, likes_b()).request.deadline is None


def test_a_request_that_waited_too_long_is_never_started(clock):
    asked, model = Asked(budget=TEN_SECONDS), ScriptedModel([["x"]])
    clock.now += 10
    drive(Loop(model, KeywordReward([])), asked)
    assert asked.result.stop_reason is StopReason.DEADLINE
    assert asked.result.text == ""
    assert model.sessions == []


def test_the_deadline_is_asked_before_every_token(clock):
    def slow(ids):
        clock.now += 1
        return [0.5, 0.5]

    asked = answer(
        TabularModel(slow, ["a", "b"]), Scored(lambda request: 1.0), budget=TEN_SECONDS, max_tokens=999
    )
    assert asked.result.stop_reason is StopReason.DEADLINE
    assert asked.result.usage.seconds.total == 10
    assert len(asked.result.token_ids) == 4


def test_scores_that_come_too_late_decide_nothing(clock):
    def late(request):
        clock.now += 3
        return 1.0

    reward = Scored(late)
    asked = answer(ENDLESS, reward, budget=TEN_SECONDS, max_tokens=999)
    assert asked.result.stop_reason is StopReason.DEADLINE
    assert len(asked.result.token_ids) == 4
    assert len(asked.result.trace.segments) == 2
    assert asked.result.trace.segments[1].attempts == []
    assert {one.deadline for one in reward.requests} == {110}
    assert reward.released == [asked.request.run_id]


def test_the_deadline_may_pass_while_the_prompt_is_read(clock):
    class SlowStart(ScriptedModel):
        def start(self, prompt, sampling):
            clock.now += 11
            return super().start(prompt, sampling)

    model = SlowStart([["x"]])
    asked = answer(model, KeywordReward([]), budget=TEN_SECONDS)
    assert asked.result.stop_reason is StopReason.DEADLINE
    assert asked.result.usage.proposed_tokens == 0
    assert model.sessions[0].closed


@pytest.mark.parametrize("when", ["before", "while proposing", "while scoring"])
def test_a_cancelled_request_ends_with_what_was_accepted_and_disturbs_no_other(when):
    victim, other = Asked("victim", seed=5), Asked("other", seed=6)

    def maybe_cancel(moment):
        if moment == when and victim.request.run.token_ids:
            victim.request.cancel()

    def distribution(ids):
        maybe_cancel("while proposing")
        return [0.5, 0.5]

    def judged(request):
        maybe_cancel("while scoring")
        return 1.0

    reward = Scored(judged)
    if when == "before":
        victim.request.cancel()
    drive(Loop(TabularModel(distribution, ["a", "b"]), reward), victim, other)
    assert victim.result.stop_reason is StopReason.CANCELLED
    assert not victim.request.alive()
    assert len(victim.result.token_ids) == (0 if when == "before" else 4)
    assert victim.result.text == victim.shown
    assert other.result.token_ids == answer(ENDLESS, likes_good(), "other", seed=6).result.token_ids
    assert sorted(reward.released) == sorted([victim.request.run_id, other.request.run_id])
    victim.request.cancel()
    assert not victim.request.sessions


def likes_good():
    return Scored(lambda request: 1.0)


# Outages


class Faulty:
    """A wrapped model and reward that fail for prompts with the word "poison" in a given way."""

    def __init__(self, fault):
        self.fault = fault
        self.name = "faulty"
        self.sessions = []
        self.released = []

    def _broken(self, prompt, fault):
        return fault == self.fault and "poison" in prompt.as_text()

    def start(self, prompt, sampling):
        if self._broken(prompt, "start raises"):
            raise RuntimeError("no memory")
        if self._broken(prompt, "prompt error"):
            raise PromptError("too long")
        self.sessions.append(AB.start(prompt, sampling))
        return self.sessions[-1]

    def propose(self, orders):
        proposals = AB.propose(orders)
        for number, order in enumerate(orders):
            if self._broken(order.session.prompt, "propose raises"):
                raise RuntimeError("no memory")
            if self._broken(order.session.prompt, "too few candidates"):
                proposals[number] = Proposal(proposals[number].candidates[:-1], 1)
            if self._broken(order.session.prompt, "too few proposals"):
                return proposals[:-1]
        return proposals

    def score(self, requests):
        rewards = likes_b().score(requests)
        for number, request in enumerate(requests):
            if self._broken(request.prompt, "score raises"):
                raise RuntimeError("no memory")
            if self._broken(request.prompt, "base score raises") and request.response == "":
                raise RuntimeError("no memory")
            if self._broken(request.prompt, "NaN"):
                rewards[number] = Reward(math.nan)
            if self._broken(request.prompt, "infinite"):
                rewards[number] = Reward(-math.inf)
            if self._broken(request.prompt, "None"):
                rewards[number] = None
            if self._broken(request.prompt, "no number"):
                rewards[number] = Reward("high")
            if self._broken(request.prompt, "too few scores") and request.response:
                return rewards[:-1]
        return rewards

    def release(self, run_id):
        self.released.append(run_id)


MODEL_FAULTS = {
    "start raises": "reading the prompt with faulty failed: RuntimeError",
    "propose raises": "drawing candidates with faulty failed: RuntimeError",
    "too few candidates": "1 of 2 candidates came back",
    "too few proposals": "drawing candidates with faulty failed: ValueError",
}
REWARD_FAULTS = {
    "score raises": "scoring with faulty failed: RuntimeError",
    "base score raises": "scoring with faulty failed: RuntimeError",
    "NaN": "faulty returned the reward nan; it must be finite",
    "infinite": "faulty returned the reward -inf; it must be finite",
    "None": "faulty returned NoneType",
    "no number": "faulty returned a reward of type str; it must be a number",
    "too few scores": "faulty returned 1 rewards for 2 requests",
}
FAULTS = MODEL_FAULTS | REWARD_FAULTS


def ramped(**changes):
    return guard(
        threshold=LinearInTokens(target=0.4), acceptance=Soft(beta=0.2), exhaustion=Last(), **changes
    )


def together(fault, on_error):
    """Three requests in one batch, the middle one poisoned."""
    faulty = Faulty(fault)
    config = ramped(on_error=on_error)
    asked = [Asked(text, config, seed=n) for n, text in enumerate(["first", "poison", "third"])]
    drive(Loop(faulty, faulty), *asked)
    return faulty, asked


@pytest.mark.parametrize("fault", [*FAULTS, "prompt error"])
def test_an_outage_fails_only_the_request_that_caused_it(fault):
    faulty, (first, poisoned, third) = together(fault, "raise")
    for number, other in ((0, first), (2, third)):
        assert other.result.token_ids == answer(AB, likes_b(), config=ramped(), seed=number).result.token_ids
        assert replay(other.result.trace) == []
    kind = GenerationError if fault in MODEL_FAULTS else ScoringError
    error = poisoned.error
    assert isinstance(error, PromptError if fault == "prompt error" else kind)
    assert str(error).startswith(FAULTS.get(fault, "reading the prompt with"))
    assert error.trace.run_id == poisoned.request.run_id
    assert error.trace.attempts == 0
    reason = {GenerationError: StopReason.GENERATION_ERROR, ScoringError: StopReason.SCORING_ERROR}
    assert error.trace.stop_reason is reason.get(type(error))
    assert poisoned.shown == ""
    assert all(session.closed for session in faulty.sessions)
    assert sorted(faulty.released) == sorted(one.request.run_id for one in (first, poisoned, third))


@pytest.mark.parametrize("fault", FAULTS)
def test_an_outage_may_stop_the_answer_instead(fault, caplog):
    _, (_, poisoned, _) = together(fault, "stop")
    expected = StopReason.GENERATION_ERROR if fault in MODEL_FAULTS else StopReason.SCORING_ERROR
    assert poisoned.result.stop_reason is expected
    assert poisoned.result.text == ""
    assert f"{poisoned.request.run_id}: stopped by an outage: " in caplog.text
    assert "no memory" not in caplog.text  # the words of a foreign error may quote what was written


def test_a_prompt_error_is_raised_even_when_outages_stop():
    _, (_, poisoned, _) = together("prompt error", "stop")
    assert isinstance(poisoned.error, PromptError)


@pytest.mark.parametrize("on_error", ["raise", "stop"])
def test_an_outage_later_on_keeps_what_was_accepted(on_error):
    model = ScriptedModel([["one "], ["two "], ["never"]])
    asked = answer(model, FailingReward(OSError("down"), after=2), config=guard(on_error=on_error))
    assert asked.shown == "one two "
    if on_error == "stop":
        assert asked.result.text == "one two "
        trace = asked.result.trace
    else:
        trace = asked.error.trace
    assert [segment.verdict for segment in trace.segments] == [
        Verdict.ACCEPTED,
        Verdict.ACCEPTED,
        Verdict.OPEN,
    ]
    assert trace.stop_reason is StopReason.SCORING_ERROR
    assert replay(trace) == []


def test_a_batch_survives_an_outage_that_was_over_when_each_was_tried_alone():
    class Hiccup(Scored):
        calls = 0

        def score(self, requests):
            self.calls += 1
            if self.calls == 1:
                raise OSError("once")
            return super().score(requests)

    asked = [Asked(seed=n, config=guard()) for n in range(3)]
    drive(Loop(AB, Hiccup(lambda request: 1.0)), *asked)
    for number, one in enumerate(asked):
        assert one.result.token_ids == answer(AB, likes_good(), seed=number).result.token_ids


def test_a_reward_that_cannot_forget_undoes_no_answer(caplog):
    class Clinging(KeywordReward):
        def release(self, run_id):
            raise OSError("no")

    asked = answer(ScriptedModel([["fine"]]), Clinging(["bad"]))
    assert asked.result.text == "fine"
    assert "failed to release its cache" in caplog.text


class Rewriting(ScriptedModel):
    """Each segment replaces the text before it, as a tokenizer that is not prefix-stable would."""

    def _candidate(self, order, session, attempt):
        one = super()._candidate(order, session, attempt)
        return Candidate(one.token_ids, one.text[len(session.text) :], one.finish)


def test_text_that_changes_after_it_was_shown_is_an_error_of_that_request():
    asked = answer(Rewriting([["abc"], ["xyz"]]), KeywordReward(["bad"]))
    assert isinstance(asked.error, GenerationError)
    assert "cannot be streamed" in str(asked.error)
    assert asked.shown == "abc"
    assert asked.error.trace.stop_reason is StopReason.GENERATION_ERROR


def test_text_that_changes_after_it_was_shown_can_stop_the_answer():
    asked = answer(Rewriting([["abc"], ["xyz"]]), KeywordReward(["bad"]), config=guard(on_error="stop"))
    assert asked.result.stop_reason is StopReason.GENERATION_ERROR
    assert asked.result.text == asked.shown == "abc"


class Breaking(ScriptedModel):
    """A model whose sessions raise in one method for prompts with the word "poison"."""

    def __init__(self, method):
        rejected = ["bad", "bad"] if method == "hold" else []
        super().__init__([[*rejected, "one "], ["two"]])
        self.method = method

    def start(self, prompt, sampling):
        session = super().start(prompt, sampling)
        if "poison" in prompt.as_text():
            setattr(session, self.method, self._raise)
        return session

    def _raise(self, *args):
        raise RuntimeError("lost connection")


@pytest.mark.parametrize(
    "method",
    [
        "accept",
        "hold",
        "close",
    ],
)
def test_a_session_that_raises_fails_its_own_request_only(method):
    model = Breaking(method)
    reward = KeywordReward(["bad"])
    poisoned, other = Asked("poison"), Asked("other")
    drive(Loop(model, reward), poisoned, other)
    assert other.result.text == "one two"
    if method == "close":
        assert poisoned.result.text == "one two"
    else:
        assert isinstance(poisoned.error, GenerationError)
        assert str(poisoned.error.__cause__) == "lost connection"
        assert replay(poisoned.error.trace) == []


def test_an_answer_whose_last_segment_could_not_be_taken_over_replays_all_the_same():
    model = Breaking("accept")
    model._script = [["only"]]
    asked = answer(model, KeywordReward(["bad"]), "poison")
    assert isinstance(asked.error, GenerationError)
    assert replay(asked.error.trace) == []


# Waiting for room


class Watching(TabularModel):
    """Remembers for every round how many candidates each prompt was given."""

    def __init__(self):
        super().__init__(lambda ids: [0.5, 0.5], ["a", "b"])
        self.rounds = []

    def propose(self, orders):
        self.rounds.append({order.session.prompt.as_text(): order.candidates for order in orders})
        return super().propose(orders)


def test_max_rows_makes_later_requests_wait_in_order_of_submission():
    model = Watching()
    asked = [Asked(f"p{n}", seed=n) for n in range(5)]
    drive(Loop(model, likes_good(), max_rows=5), *asked)
    # Two candidates each: two requests fit into five rows; each takes three segments.
    assert [list(one) for one in model.rounds] == [["p0", "p1"]] * 3 + [["p2", "p3"]] * 3 + [["p4"]] * 3
    for number, one in enumerate(asked):
        assert one.result.token_ids == answer(ENDLESS, likes_good(), seed=number).result.token_ids


def test_a_request_wider_than_all_rows_goes_alone():
    model = Watching()
    wide = guard(drawing=Fixed(candidates=8))
    asked = [Asked("wide", wide), Asked("narrow"), Asked("wide too", wide)]
    drive(Loop(model, likes_good(), max_rows=3), *asked)
    assert [set(one) for one in model.rounds] == [{"wide"}] * 3 + [{"narrow"}] * 3 + [{"wide too"}] * 3


def test_requests_join_between_segments():
    model = Watching()
    loop = Loop(model, likes_good())
    early, late = Asked("early"), Asked("late")
    loop.rounds.step([early.request])
    drive(loop, early, late)
    assert [list(one) for one in model.rounds] == [["early"], ["early", "late"], ["early", "late"], ["late"]]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 99), st.integers(1, 6)), min_size=1, max_size=8), st.integers(1, 12))
def test_no_batch_changes_an_answer_and_none_has_too_many_rows(requests, max_rows):
    model = Watching()
    config = {n: ramped(drawing=Adaptive(min_candidates=n, max_candidates=6)) for n in range(1, 7)}
    asked = [Asked(f"p{n}", config[width], seed=seed) for n, (seed, width) in enumerate(requests)]
    drive(Loop(model, likes_b(), max_rows=max_rows), *asked)
    for batch in model.rounds:
        assert len(batch) == 1 or sum(batch.values()) <= max_rows
    for one, (seed, width) in zip(asked, requests, strict=True):
        alone = answer(ENDLESS, likes_b(), config=config[width], seed=seed).result
        assert one.result.token_ids == alone.token_ids
        assert decisions(one.result) == decisions(alone)


def decisions(result):
    """The trace without what depends on company: how many were drawn at once, judged or not."""
    return [segment.model_dump(exclude={"drawn"}) for segment in result.trace.segments]


def test_requests_in_company_draw_fewer_candidates_at_once():
    model = Watching()
    asked = [Asked(f"p{n}", ramped(drawing=Fixed(candidates=8)), seed=n) for n in range(4)]
    drive(Loop(model, likes_b()), *asked)
    assert set(model.rounds[0].values()) == {4}
    model.rounds.clear()
    drive(Loop(model, likes_b()), Asked("alone", ramped(drawing=Fixed(candidates=8)), seed=1))
    assert set(model.rounds[0].values()) == {6}  # as many as there may be attempts


# The worker thread


def workers():
    return [thread for thread in threading.enumerate() if thread.name == "stars-guard"]


def finish_workers():
    for thread in workers():
        thread.join(5)
    assert workers() == []


def test_the_worker_ends_when_idle_and_starts_again():
    finish_workers()
    driver = Loop(AB, likes_good()).driver
    for seed in range(3):
        asked = Asked(seed=seed)
        driver.submit(asked.request)
        driver.start_worker()
        assert asked.ended.wait(5)
        assert asked.result.token_ids == answer(AB, likes_good(), seed=seed).result.token_ids
        finish_workers()


def test_one_worker_serves_all_that_is_submitted_meanwhile():
    finish_workers()
    entered, go_on = threading.Event(), threading.Event()

    def wait(request):
        entered.set()
        assert go_on.wait(5)
        return 1.0

    driver = Loop(AB, Scored(wait)).driver
    first, *later = (Asked(seed=seed) for seed in range(4))
    driver.submit(first.request)
    driver.start_worker()
    assert entered.wait(5)
    for one in later:
        driver.submit(one.request)
        driver.start_worker()
    assert len(workers()) == 1
    assert workers()[0].daemon
    go_on.set()
    for one in (first, *later):
        assert one.ended.wait(5)
    finish_workers()


def test_an_internal_bug_fails_its_requests_and_not_the_worker(monkeypatch, caplog):
    driver = Loop(AB, likes_good()).driver
    broken = [Asked(seed=seed) for seed in range(2)]

    def fitting(requests, share):
        raise ZeroDivisionError("a bug")

    with monkeypatch.context() as patch:
        patch.setattr(driver.rounds, "_fitting", fitting)
        for one in broken:
            driver.submit(one.request)
            driver.start_worker()
        for one in broken:
            assert one.ended.wait(5)
            assert type(one.error) is StarsGuardError
            assert str(one.error) == "internal error: ZeroDivisionError"
        finish_workers()
    assert "internal error" in caplog.text
    again = Asked()
    driver.submit(again.request)
    driver.start_worker()
    assert again.ended.wait(5)
    assert again.result.token_ids


def test_a_bug_in_the_middle_of_a_batch_leaves_those_alone_that_have_ended(monkeypatch):
    finish_workers()
    gone, there = Asked("gone"), Asked("there")
    gone.request.cancel()
    driver = Loop(AB, likes_good()).driver
    monkeypatch.setattr(driver.rounds, "_propose", lambda entries: 1 / 0)
    monkeypatch.setattr(driver, "_unfinished", iter([[gone.request, there.request], []]).__next__)
    driver._work()
    assert gone.result.stop_reason is StopReason.CANCELLED
    assert "ZeroDivisionError" in str(there.error)
    assert len([event for event in gone.events if isinstance(event, Finished | Failed)]) == 1


@pytest.mark.parametrize("error", [asyncio.CancelledError(), SystemExit(1)], ids=repr)
def test_an_adapter_that_raises_more_than_an_exception_does_not_hang_its_callers(error):
    reward = FailingReward(error)
    driver = Loop(AB, reward).driver
    for _ in range(2):
        asked = Asked()
        driver.submit(asked.request)
        driver.start_worker()
        finish_workers()
        assert asked.ended.is_set()
        assert isinstance(asked.error, StarsGuardError)
        assert type(error).__name__ in str(asked.error)
