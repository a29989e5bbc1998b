"""Functions as rewards, and the check that every reward passes through."""

from __future__ import annotations

import asyncio
import contextvars
import math

import numpy as np
import pytest
import torch

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.function import FunctionReward
from stars_guard.types import Reward

PROMPT = Prompt.of("How do I bake bread?")
RESPONSES = ["Mix the flour", "", "I cannot help with that, but I can help you", "Wait", "a b c d e f g"]


def requests(responses=RESPONSES):
    return [ScoreRequest(PROMPT, response, False, run_id="run") for response in responses]


def values(reward, batch=None):
    return [item.value for item in reward.score(batch or requests())]


def test_function_sees_plain_texts_and_keeps_the_order():
    seen = []

    def by_length(prompt, response):
        seen.append((prompt, response))
        return len(response)

    reward = FunctionReward(by_length)
    assert isinstance(reward, RewardModel)
    assert reward.name == "by_length"
    assert values(reward) == [float(len(response)) for response in RESPONSES]
    assert seen == [(PROMPT.as_text(), response) for response in RESPONSES]
    assert reward.score([]) == []
    reward.release("run")


@pytest.mark.parametrize(
    "value", [1, 0.5, np.float32(0.5), np.array(2.0), np.int64(3), torch.tensor(0.25), torch.tensor(3)]
)
def test_function_may_return_any_scalar(value):
    (reward,) = score_checked(FunctionReward(lambda prompt, response: value), requests(["x"]))
    assert type(reward.value) is float
    assert reward.value == float(value)


@pytest.mark.parametrize(
    "value",
    [None, "0.5", True, [0.5], np.array([0.5]), torch.tensor([0.5]), 1j, math.nan, math.inf, -math.inf],
    ids=repr,
)
def test_function_must_return_one_finite_number(value):
    reward = FunctionReward(lambda prompt, response: value, name="judge")
    with pytest.raises(ScoringError, match="judge returned"):
        score_checked(reward, requests(["x"]))


def test_function_that_raises_is_named():
    def broken(prompt, response):
        raise KeyError("no such thing")

    with pytest.raises(ScoringError, match="scoring with broken failed: KeyError"):
        score_checked(FunctionReward(broken), requests())


def test_function_must_be_callable():
    with pytest.raises(ConfigurationError, match="needs a callable"):
        FunctionReward("not a function")


def test_callable_object_is_named_after_its_class():
    class Judge:
        def __call__(self, prompt, response):
            return 1.0

    assert FunctionReward(Judge()).name == "Judge"


VARIABLE = contextvars.ContextVar("VARIABLE", default=0.0)


def test_coroutines_are_awaited_together_and_in_order():
    arrived = []

    async def judge(prompt, response):
        arrived.append(response)
        while len(arrived) < len(RESPONSES):  # never ends unless all are awaited together
            await asyncio.sleep(0)
        return len(response) + VARIABLE.get()

    token = VARIABLE.set(0.5)
    assert values(FunctionReward(judge)) == [len(response) + 0.5 for response in RESPONSES]
    VARIABLE.reset(token)


async def test_coroutines_work_where_a_loop_is_running():
    async def judge(prompt, response):
        return 1.0

    assert values(FunctionReward(judge)) == [1.0] * len(RESPONSES)


def test_coroutine_that_raises_is_named():
    async def judge(prompt, response):
        raise TimeoutError("too late")

    with pytest.raises(ScoringError, match="scoring with judge failed: TimeoutError"):
        score_checked(FunctionReward(judge), requests())


class WrongShape:
    name = "wrong"

    def __init__(self, result):
        self.result = result

    def score(self, requests):
        return self.result

    def release(self, run_id):
        raise NotImplementedError


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ([], "wrong returned 0 rewards for 1 requests"),
        ([0.5], "wrong returned float; return stars_guard Reward"),
        ([Reward("high")], "wrong returned a reward of type str"),
        ([Reward(True)], "wrong returned a reward of type bool"),
        ([Reward(math.nan)], "wrong returned the reward nan"),
        ([Reward(math.inf)], "wrong returned the reward inf"),
        (None, "scoring with wrong failed: TypeError"),
    ],
)
def test_nothing_but_finite_rewards_passes(result, message):
    with pytest.raises(ScoringError, match=message):
        score_checked(WrongShape(result), requests(["x"]))
