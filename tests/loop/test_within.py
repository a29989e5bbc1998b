"""A model or a reward that asks the guard which is waiting for it is told so at once."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

from stars_guard.algorithm.config import Budget
from stars_guard.errors import GenerationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.asking import asked_from_within, askers, asking, on_behalf_of
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import StopReason
from tests.support.guards import guarded, hard

DRIVERS = [lambda model: model, SelfBatchingModel]
TEXT = ScoreRequest(Prompt.of("x"), "y", finished=True)


class Critic(KeywordReward):
    """Does something before it judges, the first time."""

    asks = staticmethod(lambda: None)

    def __init__(self):
        super().__init__([])
        self.inside = False

    def score(self, requests):
        if not self.inside:
            self.inside = True
            self.asks()
        return super().score(requests)


WAYS = {
    "directly": lambda guard: guard.generate("is this ok?"),
    "in a batch": lambda guard: guard.batch(["is this ok?"]),
    "as a stream": lambda guard: guard.stream("is this ok?").read(),
    "for a score": lambda guard: guard.loop.rounds.score([TEXT]),
    "in a task": lambda guard: asyncio.run(guard.agenerate("is this ok?")),
    "in a thread of a task": lambda guard: asyncio.run(asyncio.to_thread(guard.generate, "is this ok?")),
}


@pytest.mark.parametrize("wrap", DRIVERS)
@pytest.mark.parametrize("way", WAYS)
def test_a_reward_that_asks_its_own_guard_gets_an_error(wrap, way):
    critic = Critic()
    guard = guarded(wrap(ScriptedModel([["fine"]])), critic)

    critic.asks = lambda: WAYS[way](guard)
    with pytest.raises(ScoringError, match="keywords asks the guard that is waiting for it"):
        guard.generate("q")
    assert guard.generate("q").text == "fine"


@pytest.mark.parametrize("wrap", DRIVERS)
async def test_so_it_does_where_a_worker_computes(wrap):
    critic = Critic()
    guard = guarded(wrap(ScriptedModel([["fine"]])), critic)
    critic.asks = lambda: guard.generate("is this ok?")
    with pytest.raises(ScoringError, match="give it a guard of its own"):
        await guard.agenerate("q")


@pytest.mark.parametrize("wrap", DRIVERS)
def test_an_async_reward_gets_the_same_error(wrap):
    async def critic(prompt, response):
        return len((await guard.agenerate("is this ok?")).text)

    guard = guarded(wrap(ScriptedModel([["fine"]])), FunctionReward(critic))
    with pytest.raises(ScoringError, match="critic asks the guard"):
        guard.generate("q")


@pytest.mark.parametrize("wrap", DRIVERS)
def test_a_language_model_that_asks_its_own_guard_gets_an_error(wrap):
    class Thinks(ScriptedModel):
        def propose(self, orders):
            guard.generate("what shall I say?")
            return super().propose(orders)

    guard = guarded(wrap(Thinks([["fine"]])))
    with pytest.raises(GenerationError, match="scripted asks the guard"):
        guard.generate("q")


@pytest.mark.parametrize("wrap", DRIVERS)
@pytest.mark.parametrize("wrap_other", DRIVERS)
@pytest.mark.parametrize("seconds", [None, 30.0])
def test_a_detour_over_another_guard_changes_nothing(wrap, wrap_other, seconds):
    first, second = Critic(), Critic()
    budget = Budget(max_seconds=seconds)
    guard = guarded(wrap(ScriptedModel([["fine"]])), first)
    other = guarded(wrap_other(ScriptedModel([["ok"]])), second)
    first.asks = lambda: other.generate("is this ok?", budget=budget)
    second.asks = lambda: guard.generate("and this?", budget=budget)
    with pytest.raises(ScoringError, match="keywords asks the guard"):
        guard.generate("q", budget=budget)


@pytest.mark.parametrize("wrap", DRIVERS)
def test_another_guard_may_be_asked(wrap):
    critic = Critic()
    other = guarded([["ok"]])
    answers = []
    critic.asks = lambda: answers.append(other.generate("is this ok?").text)
    assert guarded(wrap(ScriptedModel([["fine"]])), critic).generate("q").text == "fine"
    assert answers == ["ok"]


def test_a_task_that_outlives_the_call_may_ask_the_guard():
    later = []

    async def critic(prompt, response):
        if not later:
            later.append(asyncio.create_task(afterwards()))
        return 1.0

    async def afterwards():
        while not answered:
            await asyncio.sleep(0.001)
        result.set_result((await guard.agenerate("and now?")).text)

    answered, result = [], Future()
    guard = guarded([["fine"]], FunctionReward(critic))
    answered.append(guard.generate("q").text)
    assert result.result(30) == "fine"


@pytest.mark.parametrize("wrap", DRIVERS)
def test_where_it_cannot_be_seen_the_deadline_holds(wrap):
    critic = Critic()
    guard = guarded(wrap(ScriptedModel([["fine"]])), critic)
    budget = Budget(max_seconds=0.2)
    inner = []

    def asks():
        with ThreadPoolExecutor(1) as threads:  # hands no context on
            inner.append(threads.submit(guard.generate, "is this ok?", budget=budget).result())

    critic.asks = asks
    assert guard.generate("q", budget=budget).stop_reason is StopReason.DEADLINE
    while not inner:
        asyncio.run(asyncio.sleep(0.01))
    assert inner[0].stop_reason is StopReason.DEADLINE
    assert guard.generate("q").text == "fine"


def test_async_rewards_inside_async_rewards_are_served():
    async def inner(prompt, response):
        return 1.0

    other = guarded([["ok"]], FunctionReward(inner))

    async def outer(prompt, response):
        return float(other.generate("is this ok?").text == "ok")  # blocks the loop that serves async rewards

    assert guarded([["fine"]], FunctionReward(outer), hard()).generate("q").text == "fine"


def test_a_call_on_behalf_of_others_knows_them_all():
    first, second = object(), object()
    with asking(first, ScoringError):
        mine = askers()
    with asking(second, GenerationError):
        with on_behalf_of([mine, askers()]):
            assert asked_from_within(second) is GenerationError
            assert asked_from_within(first) is None  # that call is over
        with asking(second, ScoringError):
            assert asked_from_within(second) is ScoringError
    assert asked_from_within(second) is None
