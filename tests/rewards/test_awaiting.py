"""Coroutines of users: on one event loop for the whole process, each until its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time

import pytest

from stars_guard.errors import ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards import awaiting
from stars_guard.rewards.awaiting import Due, await_all
from stars_guard.rewards.base import ScoreRequest, score_checked
from stars_guard.rewards.function import FunctionReward
from tests.support.http_judge import HttpJudge, Reply

LONG = 30.0


def asked(*responses, deadline=None):
    prompt = Prompt.of("Hi")
    return [ScoreRequest(prompt, response, False, deadline=deadline) for response in responses]


async def given(value):
    await asyncio.sleep(0)
    return value


def test_all_calls_run_in_one_loop():
    loops = set()

    async def judge(prompt, response):
        loops.add(asyncio.get_running_loop())
        return 1.0

    for reward in (FunctionReward(judge), FunctionReward(judge)):
        for _ in range(3):
            assert [one.value for one in reward.score(asked("a", "b"))] == [1.0, 1.0]
    assert len(loops) == 1


def test_a_client_may_be_kept():
    httpx = pytest.importorskip("httpx")
    with HttpJudge(lambda handler, body: Reply({"score": len(body["text"])})) as server:
        client = httpx.AsyncClient(base_url=server.url, trust_env=False)

        async def judge(prompt, response):
            return (await client.post("/", json={"text": response})).json()["score"]

        reward = FunctionReward(judge)
        for _ in range(4):
            assert [one.value for one in reward.score(asked("a"))] == [1]
        assert server.connections == 1
        await_all([Due(client.aclose())], "client")


def test_values_come_in_order_and_nothing_is_awaited_for_nothing():
    assert await_all([Due(given(n)) for n in range(5)], "judge") == list(range(5))
    assert await_all([], "judge") == []


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), GeneratorExit(), SystemExit(1), KeyboardInterrupt()], ids=repr
)
def test_what_would_end_the_loop_or_a_task_is_an_error_of_the_call(error):
    async def judge(prompt, response):
        raise error

    with pytest.raises(ScoringError, match=f"scoring with judge failed: {type(error).__name__}"):
        FunctionReward(judge).score(asked("a"))
    assert await_all([Due(given(1))], "judge") == [1]


def test_the_first_failure_cancels_the_others():
    cancelled = threading.Event()

    async def judge(prompt, response):
        if response == "bad":
            raise ValueError("no")
        try:
            await asyncio.sleep(LONG)
        finally:
            cancelled.set()

    with pytest.raises(ValueError, match="no"):
        FunctionReward(judge).score(asked("slow", "bad"))
    assert cancelled.wait(LONG)


def test_each_is_awaited_until_its_deadline():
    async def judge(prompt, response):
        await asyncio.sleep(LONG)

    with pytest.raises(ScoringError, match="judge gave no answer by the deadline"):
        score_checked(FunctionReward(judge), asked("a", deadline=time.monotonic() + 0.05))
    with pytest.raises(ScoringError, match="judge gave no answer by the deadline"):
        score_checked(FunctionReward(judge), asked("a", deadline=time.monotonic() - 1))


def test_a_timeout_of_its_own_is_its_own():
    async def judge(prompt, response):
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        FunctionReward(judge).score(asked("a", deadline=time.monotonic() + LONG))


def test_one_that_will_not_be_cancelled_holds_nobody_up():
    go_on = threading.Event()

    async def stubborn(prompt, response):
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.01)
        return 1.0

    with pytest.raises(ScoringError, match="stubborn gave no answer by the deadline"):
        FunctionReward(stubborn).score(asked("a", deadline=time.monotonic() + 0.05))
    go_on.set()


def test_an_awaitable_that_is_no_coroutine_is_awaited_too():
    class Later:
        def __await__(self):
            return given(2.0).__await__()

    assert [one.value for one in FunctionReward(lambda p, r: Later()).score(asked("a"))] == [2.0]
    assert await_all([Due(Later(), time.monotonic() + LONG)], "later") == [2.0]


def test_a_forked_process_has_a_loop_of_its_own():
    async def where():
        return asyncio.get_running_loop()

    (before,) = await_all([Due(where())], "x")
    thread = awaiting._LOOP._thread
    awaiting._LOOP.renew()  # as in a child
    (after,) = await_all([Due(where())], "x")
    assert after is not before
    assert before.is_running()  # the parent's is left alone
    before.call_soon_threadsafe(before.stop)
    thread.join(LONG)


def test_what_runs_in_the_loop_may_itself_wait_for_coroutines():
    async def outer():
        return await_all([Due(given(2))], "inner")[0] + 1

    assert await_all([Due(outer())], "outer") == [3]
