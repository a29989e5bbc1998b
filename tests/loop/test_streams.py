"""Streams pass on what the loop shows, and stop the model when nobody reads on."""

from __future__ import annotations

import asyncio
import gc
import threading

import pytest

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Raise
from stars_guard.algorithm.trace import Verdict
from stars_guard.errors import NoAcceptableSegment, ScoringError, StarsGuardError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loop.streams import AsyncGuardedStream, GuardedStream
from stars_guard.testing import FailingReward, FakeSession, KeywordReward, ScriptedModel
from stars_guard.types import StopReason

CONFIG = GuardConfig(
    threshold=Constant(target=0.5), acceptance=Hard(), drawing=Fixed(candidates=2), exhaustion=Raise()
)
SCRIPT = [["bad", "one "], ["two "], ["three"]]
PIECES = ["one ", "two ", "three"]


def llm_of(script=SCRIPT, reward=None, **config):
    return StarsGuardedLLM(
        ScriptedModel(script),
        reward or KeywordReward(["bad"]),
        CONFIG.model_copy(update=config),
        sampling=SamplingParams(seed=1),
    )


class Watched(FakeSession):
    def __init__(self, prompt, sampling):
        super().__init__(prompt, sampling)
        self.ended = threading.Event()

    def close(self):
        super().close()
        self.ended.set()


class Slow(ScriptedModel):
    """Draws the first segment; then prompts with "slow" wait until they die or may go on."""

    def __init__(self):
        super().__init__(SCRIPT)
        self.stuck = threading.Event()
        self.go_on = threading.Event()

    def start(self, prompt, sampling):
        self.sessions.append(Watched(prompt, sampling))
        return self.sessions[-1]

    def propose(self, orders):
        slow = [order for order in orders if order.segment > 0 and "slow" in order.session.prompt.as_text()]
        while any(order.alive() for order in slow) and not self.go_on.is_set():
            self.stuck.set()
            self.go_on.wait(0.002)
        return super().propose(orders)


class SlowGuard:
    """A guard whose requests with "slow" in the prompt hang after their first segment."""

    def __init__(self):
        self.model = Slow()
        self.reward = KeywordReward(["bad"])
        self.llm = StarsGuardedLLM(self.model, self.reward, CONFIG, sampling=SamplingParams(seed=1))

    def check_stopped(self, number=0):
        """The session was closed and the reward model told, once."""
        session = self.model.sessions[number]
        assert session.ended.wait(5)
        join_workers()
        assert len(self.reward.released) == len(set(self.reward.released)) == len(self.model.sessions)
        assert session.token_ids == tuple(map(ord, "one "))


def join_workers():
    for thread in threading.enumerate():
        if thread.name == "stars-guard":
            thread.join(5)
            assert not thread.is_alive()


# Reading


def test_pieces_come_one_by_one_and_the_result_at_the_end():
    stream = llm_of().stream("hello")
    assert isinstance(stream, GuardedStream)
    assert iter(stream) is stream
    assert list(stream) == PIECES
    assert stream.result.text == "".join(PIECES)
    assert stream.result.stop_reason is StopReason.EOS
    assert list(stream) == []
    assert stream.read() is stream.result


async def test_pieces_come_one_by_one_for_tasks():
    stream = llm_of().astream("hello")
    assert isinstance(stream, AsyncGuardedStream)
    assert aiter(stream) is stream
    assert [piece async for piece in stream] == PIECES
    assert stream.result.text == "".join(PIECES)
    assert [piece async for piece in stream] == []
    assert await stream.read() is stream.result


def test_the_result_is_not_there_before_the_end():
    with llm_of().stream("hello") as stream:
        assert next(stream) == "one "
        with pytest.raises(StarsGuardError, match="read it to its end first"):
            _ = stream.result
        assert stream.read().text == "one two three"


async def test_decisions_are_told_to_the_reader_in_its_own_thread():
    told = []

    def note(judged):
        told.append((judged.segment, judged.verdict, threading.current_thread()))

    list(llm_of().stream("hello", on_decision=note))
    await llm_of().astream("hello", on_decision=note).read()
    once = [(0, Verdict.OPEN), (0, Verdict.ACCEPTED), (1, Verdict.ACCEPTED), (2, Verdict.ACCEPTED)]
    assert [one[:2] for one in told] == once * 2
    assert {one[2] for one in told} == {threading.current_thread()}


@pytest.mark.parametrize(
    ("llm", "kind", "before"),
    [
        (lambda: llm_of([["one "], ["bad"]]), NoAcceptableSegment, ["one "]),
        (lambda: llm_of(reward=FailingReward(OSError("down"), after=1)), ScoringError, ["bad"]),
    ],
    ids=["exhausted", "outage"],
)
async def test_a_failed_request_raises_after_its_pieces_and_from_the_result(llm, kind, before):
    stream, pieces = llm().stream("hello"), []
    with pytest.raises(kind) as caught:
        pieces.extend(stream)
    assert pieces == before
    assert caught.value.trace.segments
    with pytest.raises(kind):
        _ = stream.result
    assert list(stream) == []
    aside, seen = llm().astream("hello"), []
    with pytest.raises(kind):  # noqa: PT012
        async for piece in aside:
            seen.append(piece)
    assert seen == before
    with pytest.raises(kind):
        await aside.read()


# Stopping


def test_closing_stops_the_model_and_gives_what_was_accepted():
    guard = SlowGuard()
    stream = guard.llm.stream("slow")
    assert next(stream) == "one "
    guard.llm.loop.driver.start_worker()  # as when others wait, too; alone, it goes on only when it is read
    assert guard.model.stuck.wait(5)
    stream.close()
    stream.close()
    guard.check_stopped()
    assert list(stream) == []
    assert stream.result.stop_reason is StopReason.CANCELLED
    assert stream.result.text == "one "


def test_leaving_the_with_block_stops_the_model():
    guard = SlowGuard()
    with pytest.raises(KeyError), guard.llm.stream("slow") as stream:  # noqa: PT012
        assert next(stream) == "one "
        raise KeyError
    guard.check_stopped()


def test_dropping_a_stream_stops_the_model():
    guard = SlowGuard()
    stream = guard.llm.stream("slow")
    assert next(stream) == "one "
    del stream
    gc.collect()
    guard.check_stopped()


def test_breaking_out_of_a_loop_stops_the_model():
    guard = SlowGuard()
    for piece in guard.llm.stream("slow"):
        assert piece == "one "
        break
    guard.check_stopped()


def test_closing_after_the_end_changes_nothing():
    llm = llm_of()
    stream = llm.stream("hello")
    result = stream.read()
    stream.close()
    assert stream.result is result
    assert result.stop_reason is StopReason.EOS
    assert len(llm.reward.released) == 1


async def test_closing_an_async_stream_stops_the_model():
    guard = SlowGuard()
    async with guard.llm.astream("slow") as stream:
        assert await anext(stream) == "one "
    await asyncio.to_thread(guard.check_stopped)
    assert (await stream.read()).stop_reason is StopReason.CANCELLED


async def test_cancelling_the_reading_task_stops_the_model():
    guard = SlowGuard()
    stream = guard.llm.astream("slow")
    task = asyncio.create_task(stream.read())
    assert await asyncio.to_thread(guard.model.stuck.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(guard.check_stopped)


async def test_cancelling_a_task_that_awaits_an_answer_stops_the_model():
    guard = SlowGuard()
    task = asyncio.create_task(guard.llm.agenerate("slow"))
    assert await asyncio.to_thread(guard.model.stuck.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await asyncio.to_thread(guard.check_stopped)


async def test_a_timeout_stops_the_model():
    guard = SlowGuard()

    async def expire(limit):
        assert await asyncio.to_thread(guard.model.stuck.wait, 5)
        limit.reschedule(0)

    with pytest.raises(TimeoutError):  # noqa: PT012
        async with asyncio.timeout(None) as limit:
            expiring = asyncio.create_task(expire(limit))
            await guard.llm.agenerate("slow")
    await expiring
    await asyncio.to_thread(guard.check_stopped)


async def test_dropping_an_async_stream_stops_the_model():
    guard = SlowGuard()
    stream = guard.llm.astream("slow")
    assert await anext(stream) == "one "
    assert await asyncio.to_thread(guard.model.stuck.wait, 5)
    del stream
    gc.collect()
    try:
        assert await asyncio.to_thread(guard.model.sessions[0].ended.wait, 0.1)
    finally:
        guard.model.go_on.set()
        await asyncio.to_thread(join_workers)


def test_a_loop_that_is_gone_harms_nobody():
    guard = SlowGuard()

    async def leave():
        stream = guard.llm.astream("slow")
        assert await anext(stream) == "one "
        return stream

    stream = asyncio.run(leave())
    guard.model.go_on.set()
    assert guard.model.sessions[0].ended.wait(5)
    join_workers()
    assert guard.model.sessions[0].text == "one two three"
    assert guard.llm.generate("hello").text == "one two three"
    del stream


def test_stopping_one_request_leaves_those_in_its_batch_alone():
    guard = SlowGuard()
    slow = guard.llm.stream("slow")
    assert next(slow) == "one "
    guard.llm.loop.driver.start_worker()
    assert guard.model.stuck.wait(5)
    others = [guard.llm.stream(f"quick {number}") for number in range(3)]
    slow.close()
    assert [stream.read().text for stream in others] == ["one two three"] * 3
    assert slow.read().text == "one "
    guard.check_stopped()


def test_the_failure_of_a_batch_stops_its_other_requests():
    class Poisoned(KeywordReward):
        def score(self, requests):
            if any(request.prompt.as_text() == "poison" for request in requests):
                raise OSError("down")
            return super().score(requests)

    guard = SlowGuard()
    guard.reward = Poisoned(["bad"])
    llm = StarsGuardedLLM(guard.model, guard.reward, CONFIG, sampling=SamplingParams(seed=1))
    with pytest.raises(ScoringError) as caught:
        llm.batch(["poison", "slow"])
    # The traceback still holds the streams, so that dropping them is not what stops them.
    assert caught.tb
    join_workers()
    assert all(session.closed for session in guard.model.sessions)
    assert len(guard.reward.released) == len(set(guard.reward.released)) == 2


# Requests that could not be submitted


def test_a_stream_that_was_never_submitted_can_be_dropped(monkeypatch):
    llm = llm_of()

    def refuse(request):
        raise OSError("no threads left")

    monkeypatch.setattr(llm.loop.driver, "submit", refuse)
    with pytest.raises(OSError, match="no threads left"):
        llm.stream("hello")
    gc.collect()


def test_an_async_stream_needs_a_running_loop():
    with pytest.raises(RuntimeError, match="no running event loop"):
        llm_of().astream("hello")
    gc.collect()
