"""Many requests on one guard: no cross-talk, and no one's trouble is another's."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from guards import HARD, last_text, user
from stars_guard import GuardConfig, Prompt, Soft
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.models import Order, Proposal
from stars_guard.rewards import Reward, ScoreRequest
from stars_guard.testing import FakeSession, ScriptedModel

from llama_index.llms.stars_guard import StarsGuardedLLM

COUNT = 32


class Uneven:
    """A reward that differs by text, so that seeds decide what a soft rule accepts."""

    name = "uneven"

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        return [Reward((len(request.response) * 7 % 5) / 4) for request in requests]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""


def _script(prompt: Prompt) -> list[list[str]]:
    marker = last_text(prompt)
    return [[f"<{marker}:{k}{'.' * j}>" for j in range(12)] for k in range(4)]


def _llm(config: GuardConfig | None = None) -> StarsGuardedLLM:
    soft = GuardConfig(threshold=HARD.threshold, acceptance=Soft(beta=0.3))
    return StarsGuardedLLM(guard=Guard(ScriptedModel(_script), Uneven(), config or soft), include_trace=True)


def _decisions(response: Any) -> list[Any]:
    return response.raw["trace"]["segments"]


async def test_answers_carry_their_own_marker_and_equal_those_made_alone() -> None:
    llm = _llm()
    markers = [f"marker{n:02d}" for n in range(COUNT)]
    alone = [llm.chat(user(marker), seed=n) for n, marker in enumerate(markers)]
    together = await asyncio.gather(*(llm.achat(user(marker), seed=n) for n, marker in enumerate(markers)))
    for marker, single, other in zip(markers, alone, together, strict=True):
        assert other.message.content.count(marker) == 4
        assert other.message == single.message
    attempts = {answer.raw["stars"]["attempts"] for answer in alone}
    assert len(attempts) > 1, "the seeds must have made a difference"
    for single, other in zip(alone, together, strict=True):
        assert [
            [(a["reward"], a["uniform"], a["accepted"]) for a in segment["attempts"]]
            for segment in _decisions(single)
        ] == [
            [(a["reward"], a["uniform"], a["accepted"]) for a in segment["attempts"]]
            for segment in _decisions(other)
        ]


async def test_streams_do_not_mix() -> None:
    llm = _llm()

    async def read(n: int) -> str:
        stream = await llm.astream_chat(user(f"marker{n:02d}"), seed=n)
        return "".join([chunk.delta or "" async for chunk in stream])

    texts = await asyncio.gather(*(read(n) for n in range(COUNT)))
    assert texts == [llm.chat(user(f"marker{n:02d}"), seed=n).message.content for n in range(COUNT)]


def test_threads_do_not_mix() -> None:
    llm = _llm()
    with ThreadPoolExecutor(max_workers=8) as pool:
        texts = list(pool.map(lambda n: llm.complete(f"marker{n:02d}", seed=n).text, range(COUNT)))
    assert texts == [llm.complete(f"marker{n:02d}", seed=n).text for n in range(COUNT)]


class Poisoned(ScriptedModel):
    """Refuses to start on one prompt, and waits for a sign on another."""

    def __init__(self) -> None:
        super().__init__(_script)
        self.reached = threading.Event()
        self.may_go_on = threading.Event()

    def start(self, prompt: Prompt, sampling: Any) -> FakeSession:
        if last_text(prompt) == "crash":
            raise RuntimeError("no")
        return super().start(prompt, sampling)

    def propose(self, orders: Sequence[Order]) -> list[Proposal]:
        self.reached.set()
        if not self.may_go_on.wait(timeout=20):
            raise TimeoutError("nobody gave the sign")
        return super().propose(orders)


async def test_a_crash_and_a_cancellation_disturb_no_other() -> None:
    model = Poisoned()
    llm = StarsGuardedLLM(guard=Guard(model, Uneven(), _llm().guard.config))
    markers = [f"marker{n:02d}" for n in range(COUNT)]
    others = [asyncio.create_task(llm.achat(user(marker), seed=n)) for n, marker in enumerate(markers)]
    crashing = asyncio.create_task(llm.achat(user("crash")))
    cancelled = asyncio.create_task(llm.achat(user("cancelled")))
    await asyncio.to_thread(model.reached.wait, 20)
    cancelled.cancel()
    model.may_go_on.set()
    outcomes = await asyncio.gather(crashing, cancelled, *others, return_exceptions=True)
    assert str(outcomes[0]).endswith("failed: RuntimeError")
    assert isinstance(outcomes[1], asyncio.CancelledError)
    alone = _llm()
    for n, marker in enumerate(markers):
        assert outcomes[2 + n].message == alone.chat(user(marker), seed=n).message


async def test_an_abandoned_stream_disturbs_no_other() -> None:
    llm = _llm()
    left = await llm.astream_chat(user("left"))
    first = await anext(left)
    assert first.delta.startswith("<left:0")
    await left.aclose()
    assert "kept" in (await llm.achat(user("kept"))).message.content
