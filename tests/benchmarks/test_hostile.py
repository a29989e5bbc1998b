"""The hostile benchmark, at a toy's size: every attack runs, and honest clients are measured."""

from __future__ import annotations

import asyncio
import time

import pytest

from benchmarks.hostile import PATIENCE, Pair, Seen, honest, is_over, rows
from benchmarks.hostile_attacks import ATTACKS, Attack, Target, _attack
from benchmarks.hostile_server import SEGMENT_TOKENS, EngineModel, InProcessModel, paced
from benchmarks.page import table
from stars_guard import SamplingParams
from tests.support.server_client import quiet
from tests.support.server_socket import listening, wait_until


@pytest.fixture(scope="module")
def server():
    limits = {"running": 8, "queued": 8, "max_seconds": 30}
    with listening(paced(EngineModel()), quiet(limits=limits, traces={"enabled": True})) as (
        address,
        service,
        _,
    ):
        yield address[1], service


# One that hangs the engine would keep this process, too.
@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in ATTACKS if "hang" not in name])
def test_every_attack_reaches_the_server_and_ends(server, name):
    port, service = server
    asyncio.run(_attack(Attack(ATTACKS[name].act, 2), Target(port, time.monotonic() + 0.3)))
    wait_until(lambda: service.admission.running + service.admission.queued == 0)
    seen = asyncio.run(honest(port, 1, 0.01, SEGMENT_TOKENS))
    assert (seen.answers, seen.failed) == (1, 0)


def test_honest_clients_measure_the_first_text_and_each_token(server):
    port, _ = server
    seen = asyncio.run(honest(port, 2, 0.01, 3 * SEGMENT_TOKENS))
    assert (seen.answers, seen.failed, len(seen.first), len(seen.gaps)) == (2, 0, 2, 4)


@pytest.mark.parametrize("make", [InProcessModel, EngineModel])
def test_a_paced_model_writes_as_much_as_it_is_asked_for(make):
    result = paced(make()).generate("Hi", sampling=SamplingParams(max_tokens=20))
    assert (result.text, result.stop_reason) == ("word " * 20, "length")


def pair(quiet_ms, attacked_ms, failed=0):
    return Pair(
        Seen([quiet_ms / 1000], [quiet_ms / 1000], 1),
        Seen([attacked_ms / 1000], [attacked_ms / 1000], 1, failed),
    )


def test_an_answer_that_failed_took_as_long_as_anybody_waits():
    assert Seen([0.1], failed=1).figure("first", 0.95) == PATIENCE
    assert Seen([0.1, 0.3]).figure("first", 0.5) == 0.1


def test_the_table_has_medians_over_the_turns():
    turns = [pair(100, 150), pair(100, 110), pair(100, 300)]
    (row,) = rows({"flood": turns})
    assert row == [
        "flood",
        "100 / 150",
        "100 / 150",
        "1.50",
        "100.0 / 150.0",
        "100.0 / 150.0",
        "1.50",
        "0 of 3",
    ]
    assert table(["x"] * len(row), [row]).count("\n") == 3


def test_twice_as_slow_or_a_failed_answer_is_over_the_limit():
    assert not is_over([pair(100, 190)])
    assert is_over([pair(100, 210)])
    assert is_over([pair(100, 100, failed=1)])
