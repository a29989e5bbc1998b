"""Engines that batch on their own: a lane for each request, and the next segment drawn ahead."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from functools import partial

import pytest

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, SaferModel, TemperatureLadder
from stars_guard.algorithm.replay import replay
from stars_guard.algorithm.rules import Best, LinearInTokens, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, ScoringError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.loop.drivers import SharedDriver
from stars_guard.loop.lanes import LaneDriver
from stars_guard.loop.loop import Loop
from stars_guard.loop.shutdown import stop_all
from stars_guard.rewards.batching import MicroBatching
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, SelfBatchingModel, TabularModel
from stars_guard.types import Reward, StopReason
from tests.support import guards
from tests.support.guards import guarded

LONG = 30.0
ABC = TabularModel(lambda ids: [0.4, 0.3, 0.25, 0.05], ["a", "b", "c", ""], eos=3)
SCRIPT = [["one "], ["two "], ["three"]]
hard = partial(guards.hard, segments=FixedLength(max_tokens=4), drawing=Fixed(candidates=2))


def guard(model, reward=None, config=None, **parts):
    return guarded(model, reward, config or hard(), **parts)


class Likes:
    """A soft reward that makes some rejections."""

    name = "likes"

    def score(self, requests):
        return [Reward(one.response.count("b") - one.response.count("c")) for one in requests]

    def release(self, run_id):
        """Nothing is kept."""


SOFT = hard(threshold=LinearInTokens(target=1.5), acceptance=Soft(beta=0.7), max_attempts=50)


class Noted(SelfBatchingModel):
    """Notes orders and threads; may do something before it draws."""

    def __init__(self, model, before=lambda order: None, **options):
        super().__init__(model, **options)
        self.before = before
        self.orders = []
        self.threads = set()

    def propose(self, orders):
        self.orders.extend(orders)
        self.threads.add(threading.current_thread())
        for order in orders:
            self.before(order)
        return super().propose(orders)


def test_the_driver_follows_from_the_model():
    assert type(Loop(ABC, Likes()).driver) is SharedDriver
    assert type(Loop(SelfBatchingModel(ABC), Likes()).driver) is LaneDriver


def test_micro_batching_without_lanes_is_refused():
    with pytest.raises(ConfigurationError, match="micro_batching has no effect with tabular"):
        guard(ABC, micro_batching=MicroBatching())


@pytest.mark.parametrize("room", [True, False])
def test_answers_are_those_of_the_plain_loop(room):
    plain = guard(ABC, Likes(), SOFT)
    lanes = guard(SelfBatchingModel(ABC, lambda: room), Likes(), SOFT)
    for seed in range(60):
        sampling = SamplingParams(max_tokens=24, seed=seed)
        one, other = plain.generate("x", sampling=sampling), lanes.generate("x", sampling=sampling)
        assert (one.text, one.token_ids, one.stop_reason) == (other.text, other.token_ids, other.stop_reason)
        assert one.trace.segments == other.trace.segments
        replay(other.trace)


def test_many_at_once_give_what_each_gives_alone():
    lanes = guard(SelfBatchingModel(ABC), Likes(), SOFT, max_rows=8)
    sampling = [SamplingParams(max_tokens=24, seed=seed) for seed in range(40)]
    alone = [guard(ABC, Likes(), SOFT).generate("x", sampling=one).text for one in sampling]
    assert [result.text for result in lanes.batch(["x"] * 40, sampling=sampling)] == alone


def test_tokens_drawn_ahead_are_counted_kept_or_wasted():
    script = [["bad ", "one "], ["two "], ["three"]]
    config = hard(drawing=Fixed(candidates=1))
    usage = guard(SelfBatchingModel(ScriptedModel(script)), config=config).generate("x").usage
    # Ahead of "bad " (wasted), of "one " and of "two ".
    assert usage.ahead_wasted_tokens == len("two ")
    assert usage.ahead_tokens == len("two ") + len("two ") + len("three")
    assert usage.proposed_tokens == len("bad one two three") + len("two ")
    plain = guard(ScriptedModel(script), config=config).generate("x").usage
    assert (plain.ahead_tokens, plain.ahead_wasted_tokens) == (0, 0)


def test_the_next_segment_is_drawn_while_the_reward_is_computed():
    drawn_ahead = threading.Event()

    def before(order):
        if order.segment == 1:
            drawn_ahead.set()

    class Slow(KeywordReward):
        def score(self, requests):
            assert drawn_ahead.wait(LONG)  # would never come if drawing waited for the score
            return super().score(requests)

    model = Noted(ScriptedModel(SCRIPT), before)
    assert guard(model, Slow([])).generate("x").text == "one two three"
    assert [order.segment for order in model.orders] == [0, 1, 2]


def test_nothing_drawn_ahead_is_seen_before_it_is_judged():
    reward = KeywordReward(["poison"])
    script = [["ok "], ["poison ", "fine"]]
    stream = guard(SelfBatchingModel(ScriptedModel(script)), reward).stream("x")
    assert list(stream) == ["ok ", "fine"]
    assert "ok poison " in [request.response for request in reward.seen]


def test_without_room_nothing_is_drawn_ahead():
    model = Noted(ScriptedModel(SCRIPT), has_room=lambda: False)
    usage = guard(model).generate("x").usage
    assert usage.ahead_tokens == 0
    assert [order.segment for order in model.orders] == [0, 1, 2]


def test_a_token_budget_is_not_spent_on_what_may_be_wasted():
    model = SelfBatchingModel(ScriptedModel(SCRIPT))
    assert guard(model).generate("x", budget=Budget(max_proposed_tokens=1000)).usage.ahead_tokens == 0


def test_a_failure_ahead_is_one_only_if_it_is_one_again():
    failed = []

    def before(order):
        if order.segment == 1 and not failed:
            failed.append(order)
            raise OSError("gone for a moment")

    model = Noted(ScriptedModel(SCRIPT), before)
    assert guard(model).generate("x").text == "one two three"

    def always(order):
        if order.segment == 1:
            raise OSError("gone")

    with pytest.raises(GenerationError, match="OSError"):
        guard(Noted(ScriptedModel(SCRIPT), always)).generate("x")


def test_a_dropped_draw_is_told_to_stop_and_waited_for():
    stopped = []

    def before(order):
        if order.segment == 1 and order.session.text.startswith("bad"):
            while order.alive():
                threading.Event().wait(0.001)
            stopped.append(order)

    model = Noted(ScriptedModel([["bad ", "one "], ["two"]]), before)
    result = guard(model, config=hard(drawing=Fixed(candidates=1))).generate("x")
    assert result.text == "one two"
    assert len(stopped) == 1
    assert result.usage.ahead_wasted_tokens == 0  # it drew nothing


def test_a_draw_ahead_that_fails_and_is_dropped_costs_nothing():
    def before(order):
        if order.session.text.startswith("bad"):
            raise OSError("gone")

    model = Noted(ScriptedModel([["bad ", "one "], ["two"]]), before)
    result = guard(model, config=hard(drawing=Fixed(candidates=1))).generate("x")
    assert (result.text, result.usage.ahead_wasted_tokens) == ("one two", 0)


@pytest.mark.parametrize("policy", [Backtrack(), TemperatureLadder(after=2)])
def test_escalation_is_as_in_the_plain_loop(policy):
    config = SOFT.changed(escalation=(policy,), max_attempts=3)
    plain, lanes = guard(ABC, Likes(), config), guard(SelfBatchingModel(ABC), Likes(), config)
    for seed in range(60):
        sampling = SamplingParams(max_tokens=24, seed=seed)
        one, other = plain.generate("x", sampling=sampling), lanes.generate("x", sampling=sampling)
        assert (one.text, one.trace.segments) == (other.text, other.trace.segments)


def test_another_models_candidates_are_not_drawn_from_ahead():
    config = hard(escalation=(SaferModel(after=1),), drawing=Fixed(candidates=1))
    safer = ScriptedModel([["unused", "safe "], ["end"]])
    model = Noted(ScriptedModel([["bad "], ["end"]]))
    result = guard(model, config=config, safer_model=safer).generate("x")
    assert result.text == "safe end"
    assert [order.segment for order in model.orders] == [0, 1, 1]  # ahead of "bad ", dropped; then anew


ADAPTING = SOFT.changed(
    exhaustion=Best(floor=-99),
    max_attempts=2,
    drawing=Adaptive(max_candidates=4, memory=2, segment_tokens=(1, 5), slack=0.5),
)


@pytest.mark.parametrize("policies", [(), (Backtrack(),), (TemperatureLadder(after=1),)])
def test_a_plan_that_the_decision_changed_is_drawn_by_anew(policies):
    config = ADAPTING.changed(escalation=policies)
    plain, lanes = guard(ABC, Likes(), config), guard(SelfBatchingModel(ABC), Likes(), config)
    wasted, forced = 0, 0
    for seed in range(60):
        sampling = SamplingParams(max_tokens=24, seed=seed)
        one, other = plain.generate("x", sampling=sampling), lanes.generate("x", sampling=sampling)
        assert (one.token_ids, one.trace.segments) == (other.token_ids, other.trace.segments)
        assert replay(other.trace) == []
        wasted, forced = wasted + other.usage.ahead_wasted_tokens, forced + other.forced
    assert min(wasted, forced) > 0


def test_at_temperature_0_one_candidate_is_drawn_ahead_as_it_would_be_drawn_then():
    model = Noted(ScriptedModel(SCRIPT))
    usage = guard(model).generate("x", sampling=SamplingParams(temperature=0)).usage
    assert [(order.segment, order.candidates) for order in model.orders] == [(0, 1), (1, 1), (2, 1)]
    assert usage.ahead_wasted_tokens == 0


@pytest.mark.parametrize("policies", [(), (Backtrack(),), (TemperatureLadder(after=2),)])
def test_retries_at_temperature_0_are_as_in_the_plain_loop(policies):
    config = ADAPTING.changed(escalation=policies, max_attempts=5)
    plain, lanes = guard(ABC, Likes(), config), guard(SelfBatchingModel(ABC), Likes(), config)
    retried = 0
    for seed in range(40):
        sampling = SamplingParams(max_tokens=24, seed=seed, temperature=0)
        one, other = plain.generate("x", sampling=sampling), lanes.generate("x", sampling=sampling)
        assert (one.token_ids, one.trace.segments) == (other.token_ids, other.trace.segments)
        assert replay(other.trace) == []
        retried += sum(segment.chosen != 0 for segment in one.trace.segments)
    assert retried > 40


def test_requests_beyond_the_lanes_wait_in_order():
    gate, model = threading.Event(), ScriptedModel(lambda prompt: [[prompt.as_text()]])
    noted = Noted(model, lambda order: gate.wait(LONG))
    llm = guard(noted, max_rows=2)
    streams = [llm.stream(str(n)) for n in range(5)]
    while len(noted.orders) < 2:
        threading.Event().wait(0.001)
    assert len(model.sessions) == 2
    gate.set()
    assert [stream.read().text for stream in streams] == [str(n) for n in range(5)]
    # Two lanes, and requests in order: each begins before the one after the next.
    begun = [int(session.prompt.as_text()) for session in model.sessions]
    assert all(abs(place - n) <= 1 for place, n in enumerate(begun))


def test_scoring_of_many_lanes_meets_in_few_calls():
    calls = []

    class Counting(KeywordReward):
        def score(self, requests):
            calls.append(len(requests))
            return super().score(requests)

    barrier = threading.Barrier(4, timeout=LONG)
    model = Noted(ScriptedModel(SCRIPT), lambda order: barrier.wait() if order.segment == 0 else None)
    llm = guard(
        model, Counting([]), hard(drawing=Fixed(candidates=1)), micro_batching=MicroBatching(max_wait=LONG)
    )
    assert [result.text for result in llm.batch(["x"] * 4)] == ["one two three"] * 4
    assert sum(calls) == 12
    assert calls[0] == 4


def test_a_reward_outage_fails_its_request_alone():
    class Picky(KeywordReward):
        def score(self, requests):
            if any("two" in request.prompt.as_text() for request in requests):
                raise OSError("down")
            return super().score(requests)

    llm = guard(SelfBatchingModel(ScriptedModel(SCRIPT)), Picky([]))
    streams = [llm.stream(text) for text in ("one", "two", "three")]
    assert streams[0].read().text == "one two three"
    with pytest.raises(ScoringError, match="OSError"):
        streams[1].read()
    assert streams[2].read().text == "one two three"


def test_an_unforeseen_failure_reaches_the_caller_and_frees_the_lane(caplog):
    class Broken(SelfBatchingModel):
        def ahead(self, session, candidate):
            raise KeyError("a bug")

    llm = guard(Broken(ScriptedModel(SCRIPT)), max_rows=1)
    for _ in range(2):
        with pytest.raises(GenerationError, match="drawing ahead with scripted failed: KeyError"):
            llm.generate("x")


def test_closing_a_stream_stops_its_lane():
    halt = threading.Event()

    def before(order):
        if order.segment == 1:
            halt.set()
            while order.alive():
                threading.Event().wait(0.001)

    model = Noted(ScriptedModel(SCRIPT), before, has_room=lambda: False)
    with guard(model).stream("x") as stream:
        assert next(stream) == "one "
        assert halt.wait(LONG)
    assert stream.read().stop_reason is StopReason.CANCELLED
    assert model.model.sessions[0].closed


async def test_tasks_are_served_without_a_worker():
    llm = guard(SelfBatchingModel(ScriptedModel(SCRIPT)))
    results = await asyncio.gather(*(llm.agenerate("x") for _ in range(5)))
    assert {result.text for result in results} == {"one two three"}


def test_stopping_ends_what_is_at_work():
    def before(order):
        while order.alive():
            threading.Event().wait(0.001)

    model = Noted(ScriptedModel(SCRIPT), before)
    stream = guard(model).stream("x")
    while not model.orders:
        threading.Event().wait(0.001)
    stop_all()
    assert stream.read().stop_reason is StopReason.CANCELLED


def test_a_dropped_guard_frees_its_models():
    llm = guard(SelfBatchingModel(ScriptedModel(SCRIPT)))
    assert llm.generate("x").text == "one two three"
    gone = [weakref.ref(part) for part in (llm.loop, llm.loop.driver, llm.loop.rounds, llm.model)]
    stop_all()  # its lanes have ended
    del llm
    gc.collect()
    assert [part() for part in gone] == [None] * 4


def test_a_shared_guard_has_lanes_too(monkeypatch):
    monkeypatch.setattr(
        parts, "load_parts", lambda *_, **__: (SelfBatchingModel(ScriptedModel(SCRIPT)), KeywordReward([]))
    )
    monkeypatch.setattr(parts, "_SHARED", {})
    shared = StarsGuardedLLM.shared("a", "b", hard())
    assert isinstance(shared.loop.driver, LaneDriver)
    assert shared.loop is StarsGuardedLLM.shared("a", "b", hard()).loop


def test_failing_from_the_start_is_an_outage():
    with pytest.raises(ScoringError):
        guard(SelfBatchingModel(ABC), FailingReward(OSError("down"))).generate("x")
