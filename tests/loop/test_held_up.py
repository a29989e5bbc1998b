"""A call that does not come back in time: its requests end all the same, and others are served."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref

import pytest

from stars_guard.algorithm.config import Budget
from stars_guard.errors import ScoringError, StarsGuardError
from stars_guard.loop import lifetime, streams
from stars_guard.loop.drawing import RoundEntry
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import OneAtATime, ScoreRequest
from stars_guard.rewards.batching import MicroBatched, MicroBatching
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import Reward, StopReason
from tests.support.guards import guarded, hard

LONG = 30.0
SCRIPT = [["one "], ["two"]]
DRIVERS = [lambda model: model, SelfBatchingModel]
SOON = Budget(max_seconds=0.1)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(lifetime, "_GRACE", 0.05)


class Hangs(KeywordReward):
    """Hangs for the prompt of a culprit until it is let go."""

    def __init__(self):
        super().__init__([])
        self.hanging, self.go = threading.Event(), threading.Event()

    def score(self, requests):
        if any("culprit" in request.prompt.as_text() for request in requests):
            self.hanging.set()
            assert self.go.wait(LONG)
        return super().score(requests)


class HangingModel(ScriptedModel):
    """Hangs where it draws, or where it reads the prompt, for the prompt of a culprit."""

    def __init__(self, place):
        super().__init__(SCRIPT)
        self.place, self.hanging, self.go = place, threading.Event(), threading.Event()

    def _maybe(self, place, prompt):
        if place == self.place and "culprit" in prompt.as_text():
            self.hanging.set()
            assert self.go.wait(LONG)

    def start(self, prompt, sampling):
        self._maybe("start", prompt)
        return super().start(prompt, sampling)

    def propose(self, orders):
        for order in orders:
            self._maybe("propose", order.session.prompt)
        return super().propose(orders)


def hang(place):
    """A model and a reward, and the part of them that hangs."""
    model, reward = HangingModel(place), Hangs()
    return model, reward, reward if place == "score" else model


@pytest.mark.parametrize("wrap", DRIVERS)
@pytest.mark.parametrize("place", ["start", "propose", "score"])
def test_a_request_whose_call_hangs_ends_by_its_deadline(wrap, place, caplog):
    model, reward, hanging = hang(place)
    guard = guarded(wrap(model), reward)
    result = guard.generate("culprit", budget=SOON)
    assert (result.stop_reason, result.text) == (StopReason.DEADLINE, "")
    assert hanging.hanging.is_set()
    assert not hanging.go.is_set()
    assert f"run {result.trace.run_id}: " in caplog.text
    assert "deadline" in caplog.text
    assert "culprit" not in caplog.text
    usage = repr(result.usage)
    # Nobody else waits longer than the deadline.
    assert guard.generate("bystander", budget=SOON).stop_reason in (StopReason.DEADLINE, StopReason.EOS)
    hanging.go.set()
    assert guard.generate("bystander").text == "one two"
    assert repr(result.usage) == usage
    while not all(session.closed for session in model.sessions):
        threading.Event().wait(0.01)


@pytest.mark.parametrize("wrap", DRIVERS)
async def test_a_task_does_not_wait_for_it_either(wrap):
    model, reward, _ = hang("score")
    guard = guarded(wrap(model), reward)
    assert (await guard.agenerate("culprit", budget=SOON)).stop_reason is StopReason.DEADLINE
    reward.go.set()
    assert (await guard.agenerate("bystander")).text == "one two"


@pytest.mark.parametrize("wrap", DRIVERS)
async def test_a_stream_that_is_closed_ends_though_its_call_hangs(wrap):
    model, reward, _ = hang("score")
    guard = guarded(wrap(model), reward)
    stream = guard.astream("culprit")
    await asyncio.to_thread(reward.hanging.wait, LONG)
    await stream.aclose()
    assert (await stream.read()).stop_reason is StopReason.CANCELLED
    reward.go.set()


def test_a_thread_that_waits_for_a_worker_is_told_of_the_end():
    model, reward, _ = hang("score")
    guard = guarded(model, reward)
    stream = guard.stream("culprit")
    guard.loop.driver.start_worker()
    assert reward.hanging.wait(LONG)
    stream.close()
    assert stream.read().stop_reason is StopReason.CANCELLED
    reward.go.set()


def test_whoever_waits_for_its_turn_ends_by_its_deadline():
    model, reward, _ = hang("score")
    guard = guarded(SelfBatchingModel(model), reward, max_rows=1)
    first = guard.stream("culprit")
    assert reward.hanging.wait(LONG)
    assert guard.generate("bystander", budget=SOON).stop_reason is StopReason.DEADLINE
    reward.go.set()
    assert first.read().text == "one two"


def test_the_end_of_an_answer_does_not_wait_for_a_call_of_others():
    class Slow(Hangs):
        parallel_calls = 1

    reward = Slow()
    model = ScriptedModel([["only"]])
    guard = guarded(SelfBatchingModel(model), reward)
    stream = guard.stream("culprit")
    assert reward.hanging.wait(LONG)
    scorer = guard.loop.rounds._scorer
    scorer.release("another")  # does not block
    assert reward.released == []
    reward.go.set()
    assert stream.read().text == "only"
    assert "another" in reward.released


def test_a_turn_is_waited_for_until_the_deadline_only():
    reward = Hangs()
    for shared in (OneAtATime(reward), MicroBatched(reward, MicroBatching(), company=lambda: 1)):
        reward.hanging.clear()
        reward.go.clear()
        culprit = [ScoreRequest(Prompt.of("culprit"), "x", finished=True)]
        late = [ScoreRequest(Prompt.of("x"), "x", finished=True, deadline=0.0)]
        busy = threading.Thread(target=shared.score, args=(culprit,))
        busy.start()
        assert reward.hanging.wait(LONG)
        with pytest.raises(ScoringError, match=r"(by|until) the deadline"):
            shared.score(late)
        seen = len(reward.seen)
        shared.release("run")
        reward.go.set()
        busy.join(LONG)
        assert shared.score([ScoreRequest(Prompt.of("x"), "y", finished=True)]) == [Reward(1.0)]
        assert len(reward.seen) == seen + 2  # nobody asked for the late one
        assert reward.released.pop() == "run"


def test_an_answer_that_cannot_be_forgotten_late_fails_nobody(caplog):
    class Clings(Hangs):
        def release(self, run_id):
            raise OSError("no")

    reward = Clings()
    shared = OneAtATime(reward)
    busy = threading.Thread(target=shared.score, args=([ScoreRequest(Prompt.of("culprit"), "", False)],))
    busy.start()
    assert reward.hanging.wait(LONG)
    shared.release("run")
    reward.go.set()
    busy.join(LONG)
    assert "run run: keywords failed to release its cache: OSError" in caplog.text


@pytest.mark.parametrize("wrap", DRIVERS)
def test_an_async_reward_is_cancelled_at_the_deadline_and_others_go_on(wrap):
    cancelled = threading.Event()

    async def judge(prompt, response):
        if "culprit" in prompt:
            try:
                await asyncio.sleep(LONG)
            finally:
                cancelled.set()
        return 1.0

    guard = guarded(wrap(ScriptedModel(SCRIPT)), FunctionReward(judge), hard())
    culprit = guard.stream("culprit", budget=SOON)
    bystander = guard.stream("bystander", budget=Budget(max_seconds=LONG))
    assert culprit.read().stop_reason is StopReason.DEADLINE
    assert bystander.read().text == "one two"
    assert cancelled.wait(LONG)


class Meddles(KeywordReward):
    """Ends a request from elsewhere while its own thread is about to."""

    stream = None
    error: Exception | None = None

    def __init__(self):
        super().__init__([])

    def score(self, requests):
        if self.error:
            raise self.error
        return super().score(requests)

    def release(self, run_id):
        self.stream._request.cancel()
        assert self.endings.abandon(self.stream._request)


@pytest.mark.parametrize("error", [None, OSError("down")])
def test_a_request_ends_once_whoever_ends_it(monkeypatch, error):
    monkeypatch.setattr(lifetime, "_GRACE", 0.0)
    reward = Meddles()
    guard = guarded(SCRIPT, reward)
    reward.error, reward.endings = error, guard.loop.rounds.endings
    reward.stream = guard.stream("x")
    assert reward.stream.read().stop_reason is StopReason.CANCELLED
    assert reward.endings.abandon(reward.stream._request)


def test_what_was_scored_too_late_is_not_offered():
    guard = guarded(SCRIPT)
    stream = guard.stream("x")
    stream.close()
    entry = RoundEntry(stream._request, None, None)
    assert guard.loop.rounds._offer([entry]) == []
    assert stream.read().text == ""


def test_a_bug_in_a_round_leaves_those_alone_that_have_ended(monkeypatch):
    guard = guarded(SCRIPT)
    gone, there = guard.stream("gone"), guard.stream("there")
    gone._request.cancel()
    monkeypatch.setattr(guard.loop.rounds, "_fitting", lambda requests, share: 1 / 0)
    assert gone.read().stop_reason is StopReason.CANCELLED
    with pytest.raises(StarsGuardError, match="internal error: ZeroDivisionError"):
        there.read()


async def test_a_stream_that_is_gone_is_not_watched_any_more():
    guard = guarded(SCRIPT)
    stream = guard.astream("x", budget=Budget(max_seconds=LONG))
    assert (await stream.read()).text == "one two"
    gone = weakref.ref(stream)
    streams._abandon(gone)
    assert stream._watch is None
    del stream
    gc.collect()
    assert gone() is None
    streams._abandon(gone)
