"""The load benchmark's checks, without times; and the simulator's count beside a real guard's."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from benchmarks import planning
from benchmarks.load import Server, load, started
from benchmarks.load_server import SCRIPT
from benchmarks.serving import slope
from benchmarks.stepped import MAX_ATTEMPTS, Script, SteppedModel, SteppedReward, read_answer
from stars_guard import StarsGuardedLLM

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def guarded() -> Iterator[Server]:
    with started("guarded", 0.001) as server:
        yield server


async def test_no_segment_is_lost_doubled_or_mixed_up(guarded: Server) -> None:
    before = guarded.state
    served = await load(guarded, SCRIPT, streams=64, seconds=0, name="all")
    assert served.wrong == []
    assert (served.answers, served.segments) == (64, 64 * SCRIPT.segments)
    assert len(served.late) == served.segments
    await asyncio.sleep(0)
    assert guarded.state["tasks"] <= before["tasks"] + 1
    assert guarded.resident_kib > 0


async def test_it_would_be_seen(guarded: Server) -> None:
    served = await load(
        guarded, Script(segments=SCRIPT.segments - 1), streams=2, seconds=0, name="one too many"
    )
    assert len(served.wrong) == 2
    unsafe = await load(guarded, Script(acceptance=0.9), streams=8, seconds=0, name="another law")
    assert unsafe.wrong


async def test_a_refused_request_would_be_seen(guarded: Server) -> None:
    nowhere = Server(guarded.url + "/nowhere", guarded.pid)
    served = await load(nowhere, SCRIPT, streams=1, seconds=0, name="lost")
    assert "404" in served.wrong[0]


def test_the_bare_server_gives_the_same_answers() -> None:
    with started("bare", 0.0) as server:
        served = asyncio.run(load(server, SCRIPT, streams=4, seconds=0, name="bare"))
    assert (served.answers, served.wrong) == (4, [])


@pytest.mark.parametrize("candidates", [1, 3])
def test_the_right_answer_is_known_beforehand(candidates: int) -> None:
    script = Script(candidates=candidates)
    model = SteppedModel(script, lambda batch: 0.0)
    llm = StarsGuardedLLM(model, SteppedReward(script), script.config, sampling=script.sampling)
    result = llm.generate("any")
    assert read_answer(result.text)[0] == script.expected("any")
    assert [len(one.attempts) for one in result.trace.segments] == script.attempts("any")
    assert max(max(script.attempts(f"p{number}")) for number in range(200)) <= MAX_ATTEMPTS


async def test_as_many_tokens_are_drawn_as_simulated() -> None:
    case = planning.Case(Script(segments=3, acceptance=0.5), 40.0, step=0.002, reward=0.005)
    times = planning.arrivals(case, 24, seed=2)
    real, foretold = await planning.measured(case, times), planning.simulated(case, times)
    assert real.drawn == pytest.approx(foretold.drawn, rel=0.15)
    assert set(planning.compared(real, foretold)) >= {"answer, p95 s", "tokens drawn"}


def test_figures() -> None:
    assert slope([10, 12, 14]) == 2
    assert slope([10]) == 0
