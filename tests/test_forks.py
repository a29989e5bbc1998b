"""A process that forks after use: the child answers, and what its parent was at is one clear error."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from weakref import WeakSet

import pytest

from stars_guard import forks
from stars_guard.errors import StarsGuardError
from stars_guard.forks import ForkedLock
from stars_guard.http.access import HttpAccess
from stars_guard.models.engines.openai import OpenAICompatibleModel, connection
from stars_guard.testing import KeywordReward, ScriptedModel, SelfBatchingModel
from tests.support.guards import guarded
from tests.support.http_judge import HttpJudge, Reply

LONG = 30.0
DRIVERS = [lambda model: model, SelfBatchingModel]

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")


def test_a_lock_that_is_held_is_open_in_a_child():
    lock = ForkedLock()
    with lock:
        assert not lock.acquire(blocking=False)
        lock.renew()
        assert lock.acquire(blocking=False)
    assert lock.acquire()
    lock.release()


def test_parts_are_renewed_as_long_as_they_live(monkeypatch):
    monkeypatch.setattr(forks, "_PARTS", WeakSet())
    renewed = []

    class Part:
        def renew(self):
            renewed.append(self)

    part = Part()
    forks.renew_in_children(part)
    forks.renew_in_children(Part())
    forks.renew_all()
    assert renewed == [part]


class Waits(KeywordReward):
    """Waits in its first call until it is let go."""

    def __init__(self):
        super().__init__([])
        self.inside, self.go = threading.Event(), threading.Event()

    def score(self, requests):
        if not self.inside.is_set():
            self.inside.set()
            assert self.go.wait(LONG)
        return super().score(requests)


@pytest.mark.parametrize("wrap", DRIVERS)
def test_answers_under_way_stay_with_the_parent(wrap):
    """What a child does to its copy of the guard, done here: its threads are somebody else's."""
    reward = Waits()
    guard = guarded(wrap(ScriptedModel([["one "], ["two"]])), reward)
    stream = guard.stream("parent")
    if wrap is DRIVERS[0]:
        guard.loop.driver.start_worker()
    assert reward.inside.wait(LONG)
    guard.loop.driver.renew()
    guard.loop.rounds._scorer.renew()
    with pytest.raises(StarsGuardError, match="in the process that this one was forked from; ask anew here"):
        stream.read()
    stream.close()
    assert guard.generate("child").text == "one two"
    reward.go.set()


def test_an_engine_model_counts_anew_in_a_child():
    with OpenAICompatibleModel("http://localhost:1", "openai", model="m") as model:
        model._in_flight = 256
        assert not model.has_room
        model.renew()
        assert model.has_room


def test_a_child_has_connections_of_its_own():
    with HttpJudge(lambda handler, body: Reply({"fine": True})) as server:
        client = connection(server.url, HttpAccess(backoff=0.0))
        assert client.post_all("/v1", [{}]) == [{"fine": True}]
        old, loop = client._connections.client, client._loop._loop
        thread = client._loop._thread
        client._loop.renew()
        client._connections.renew()
        assert client.post_all("/v1", [{}]) == [{"fine": True}]
        assert client._connections.client is not old
        assert server.connections == 2
        client.close()
        # What follows is the parent's to do.
        asyncio.run_coroutine_threadsafe(old.aclose(), loop).result(LONG)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LONG)


FORKS = """
import asyncio, os, sys, threading
import torch
from stars_guard import Budget, Constant, FunctionReward, GuardConfig, StarsGuardedLLM
from stars_guard.testing import KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import Reward

torch.set_num_threads(2)
WEIGHTS = torch.ones(600, 600)

class Computes(KeywordReward):
    def score(self, requests):
        (WEIGHTS @ WEIGHTS).sum()  # the workers of torch belong to the thread that asks
        return super().score(requests)

async def judge(prompt, response):
    return 1.0

def guards():
    for model in (ScriptedModel([["one "], ["two"]]), SelfBatchingModel(ScriptedModel([["one "], ["two"]]))):
        for reward in (Computes([]), FunctionReward(judge)):
            yield StarsGuardedLLM(model, reward, GuardConfig(threshold=Constant(target=0)))

def answers(guard):
    yield guard.generate("x").text
    yield guard.generate("x", budget=Budget(max_seconds=60)).text
    yield asyncio.run(guard.agenerate("x")).text
    yield from (result.text for result in guard.batch(["x"] * 3))

used = list(guards())
for guard in used:
    assert set(answers(guard)) == {"one two"}
children = []
for _ in range(2):
    child = os.fork()
    if child == 0:
        ok = all(set(answers(guard)) == {"one two"} for guard in used)
        os._exit(0 if ok else 1)
    children.append(child)
for child in children:
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
assert all(set(answers(guard)) == {"one two"} for guard in used)
print("parent and children answered")
"""


def test_children_of_a_process_that_used_its_guards_answer():
    done = subprocess.run(
        [sys.executable, "-c", FORKS],
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, "OMP_NUM_THREADS": "2"},
    )
    assert (done.returncode, done.stdout) == (0, "parent and children answered\n"), done.stderr
