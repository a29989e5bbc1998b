"""Who computes: a lone reader does it itself; as soon as others wait, a worker serves them all."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.loop import Loop
from stars_guard.loop.shutdown import stop_all
from stars_guard.loop.streams import AsyncGuardedStream, GuardedStream
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import StopReason
from tests.support.guards import guarded

CONFIG = GuardConfig(threshold=Constant(target=1.0))


class Watched(ScriptedModel):
    """Notes the threads that compute, and may do something on the way."""

    def __init__(self, during=lambda: None) -> None:
        super().__init__([["one "], ["two "], ["three"]])
        self.threads: list[threading.Thread] = []
        self.during = during

    def propose(self, orders):
        self.threads.append(threading.current_thread())
        self.during()
        return super().propose(orders)


def guard(model: ScriptedModel) -> StarsGuardedLLM:
    return guarded(model, config=CONFIG)


def test_a_lone_reader_computes_in_its_own_thread() -> None:
    model = Watched()
    assert guard(model).generate("x").text == "one two three"
    assert set(model.threads) == {threading.current_thread()}


def test_a_stream_that_is_not_read_computes_nothing() -> None:
    model = Watched()
    stream = guard(model).stream("x")
    assert model.threads == []
    assert next(stream) == "one "
    assert len(model.threads) == 1


def test_a_second_reader_is_served_while_the_first_computes() -> None:
    second_waits, release = threading.Event(), threading.Event()

    def during() -> None:
        if not release.is_set():
            second_waits.set()
            assert release.wait(10)

    model = Watched(during)
    llm = guard(model)
    texts: list[str] = []
    first = threading.Thread(target=lambda: texts.append(llm.generate("first").text))
    first.start()
    assert second_waits.wait(10)
    second = threading.Thread(target=lambda: texts.append(llm.generate("second").text))
    second.start()
    while llm.loop.driver._thread is None:  # the second has asked for a worker
        second.join(0.01)
    release.set()
    first.join(10)
    second.join(10)
    assert texts == ["one two three"] * 2
    assert {thread.name for thread in model.threads} > {"stars-guard"}


def test_an_interrupt_reaches_the_reader_and_the_stream_can_still_be_ended() -> None:
    def interrupt() -> None:
        if len(model.threads) == 2:
            raise KeyboardInterrupt

    model = Watched(interrupt)
    stream = guard(model).stream("x")
    assert next(stream) == "one "
    with pytest.raises(KeyboardInterrupt):
        next(stream)
    stream.close()
    assert stream.read().stop_reason is StopReason.CANCELLED
    assert stream.result.text == "one "
    assert model.sessions[0].closed


def test_closing_frees_at_once_when_nobody_computes() -> None:
    model = Watched()
    stream = guard(model).stream("x")
    next(stream)
    stream.close()
    assert model.sessions[0].closed


def test_sweeping_needs_no_lock_that_its_own_thread_may_hold() -> None:
    model = Watched()
    llm = guard(model)
    stream = llm.stream("x")
    next(stream)
    with llm.loop.driver._lock:  # as when the garbage collector drops a stream in the middle of submit
        stream.close()
    assert model.sessions[0].closed


def test_sweeping_leaves_it_to_whoever_computes() -> None:
    model = Watched()
    llm = guard(model)
    stream = llm.stream("x")
    with llm.loop.driver._turn:
        stream.close()
    assert not stream._request.ended
    assert stream.read().stop_reason is StopReason.CANCELLED


def test_a_worker_is_started_once() -> None:
    gate = threading.Event()
    model = Watched(lambda: gate.wait(10))
    llm = guard(model)
    stream = llm.stream("x")
    llm.loop.driver.start_worker()
    worker = llm.loop.driver._thread
    llm.loop.driver.start_worker()
    assert llm.loop.driver._thread is worker
    gate.set()
    assert stream.read().text == "one two three"
    assert set(model.threads) == {worker}


def test_a_lone_reader_also_does_the_work_that_is_before_its_own() -> None:
    model = Watched()
    one_at_a_time = CONFIG.model_copy(update={"drawing": Fixed(candidates=2)})
    llm = guarded(model, config=one_at_a_time, max_rows=2)
    first, second = llm.stream("first"), llm.stream("second")
    assert second.read().text == "one two three"
    assert first.read().text == "one two three"


@pytest.mark.parametrize("kind", [GuardedStream, AsyncGuardedStream])
def test_a_stream_that_was_never_made_can_be_dropped(kind) -> None:
    kind.__new__(kind).__del__()


def test_a_worker_with_nothing_to_do_ends() -> None:
    driver = Loop(Watched(), KeywordReward([])).driver
    driver.start_worker()
    worker = driver._thread
    if worker is not None:
        worker.join(10)
    assert driver._thread is None


def test_stopping_cancels_what_is_at_work_and_waits_for_it() -> None:
    gate = threading.Event()
    model = Watched(lambda: gate.wait(10))
    llm = guard(model)
    stream = llm.stream("x")
    llm.loop.driver.start_worker()
    while not model.threads:
        threading.Event().wait(0.01)
    threading.Timer(0.05, gate.set).start()
    stop_all()
    assert llm.loop.driver._thread is None
    assert stream.read().stop_reason is StopReason.CANCELLED


def test_stopping_an_idle_driver_does_nothing() -> None:
    Loop(Watched(), KeywordReward([])).driver.stop()


FREED_BY_THE_WORKER = """
import asyncio, time
from stars_guard import Constant, GuardConfig, StarsGuardedLLM
from stars_guard.loop.drivers import SharedDriver
from stars_guard.testing import KeywordReward, ScriptedModel

class Heavy(ScriptedModel):
    def __del__(self):
        time.sleep(0.6)  # like the memory of a big model: other threads run meanwhile
        print("freed")

def slow_to_leave(self, work=SharedDriver._work):
    work(self)
    time.sleep(0.05)

SharedDriver._work = slow_to_leave

async def main():
    config = GuardConfig(threshold=Constant(target=0))
    llm = StarsGuardedLLM(Heavy([["one "], ["two"]]), KeywordReward([]), config)
    stream = llm.astream("Hi")
    del llm  # the worker is the last to hold the model
    print((await stream.read()).text)

asyncio.run(main())
time.sleep(0.3)
"""


def test_the_interpreter_waits_for_a_worker_that_still_frees_its_model():
    done = subprocess.run(
        [sys.executable, "-c", FREED_BY_THE_WORKER], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout) == (0, "one two\nfreed\n"), done.stderr
