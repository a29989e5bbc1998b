"""How room is shared between keys: none can have all of it, and the others do not notice."""

from __future__ import annotations

import asyncio
import contextlib
import threading

import pytest

from stars_guard.errors import ConfigurationError
from stars_guard.server.config import Limits
from stars_guard.server.entry.admission import Admission
from stars_guard.server.entry.keys import hash_key
from stars_guard.server.openai.faults import Fault
from tests.support.server_client import CHAT, asking, guard, quiet, served

GREEDY, MODEST = "sk-0123456789abcdef", "sk-fedcba9876543210"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def keyed(**limits):
    names = {"greedy": GREEDY, "modest": MODEST}
    keys = [{"name": name, "sha256": hash_key(key)} for name, key in names.items()]
    return quiet(keys=keys, limits=limits)


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def test_a_key_that_asks_for_everything_gets_its_share_and_the_others_theirs():
    going_on = threading.Event()

    def script(prompt):
        assert going_on.wait(60)
        return [["done"]]

    async with served(guard(script), keyed(running=4, queued=4), timeout=60) as client:
        admission = client._transport.app.state.service.admission

        def ask(key):
            return asyncio.create_task(client.post(CHAT, json=asking(), headers=bearer(key)))

        greedy = [ask(GREEDY) for _ in range(20)]
        await until(lambda: sum(task.done() for task in greedy) == 16)
        refused = [task.result() for task in greedy if task.done()]
        assert {answer.status_code for answer in refused} == {429}
        assert all(int(answer.headers["retry-after"]) >= 1 for answer in refused)
        assert all("of this key" in answer.json()["error"]["message"] for answer in refused)
        assert (admission.running, admission.queued) == (2, 2)
        modest = [ask(MODEST) for _ in range(4)]
        await until(lambda: (admission.running, admission.queued) == (4, 4))
        going_on.set()
        assert [(await task).status_code for task in modest] == [200] * 4
        assert sorted([(await task).status_code for task in greedy]) == [200] * 4 + [429] * 16
        assert (admission.running, admission.queued, admission._entered.total()) == (0, 0, 0)
        assert (await ask(GREEDY)).status_code == 200


async def held(admission, key, choices=1):
    """Room that a key holds until it is closed."""
    stack = contextlib.AsyncExitStack()
    await stack.enter_async_context(admission.admitted(choices, key))
    return stack


async def test_a_key_at_its_share_keeps_nobody_waiting():
    admission = Admission(Limits(running=4, queued=4), keys=2)
    mine = [await held(admission, "greedy") for _ in range(2)]
    waiting = asyncio.create_task(held(admission, "greedy"))
    await until(lambda: admission.queued == 1)
    theirs = await held(admission, "modest")
    assert (admission.running, admission.queued) == (3, 1)
    await mine.pop().aclose()
    last = await waiting
    for stack in (*mine, theirs, last):
        await stack.aclose()
    assert (admission.running, admission.queued) == (0, 0)


async def test_a_large_request_of_a_key_is_not_overtaken_by_the_keys_own():
    admission = Admission(Limits(running=4, queued=8), keys=2)
    order = []

    async def ask(name, choices):
        async with admission.admitted(choices, "greedy"):
            order.append(name)

    first = await held(admission, "greedy")
    tasks = [asyncio.create_task(ask("large", 2)), asyncio.create_task(ask("small", 1))]
    await until(lambda: admission.queued == 2)
    await first.aclose()
    await asyncio.gather(*tasks)
    assert order == ["large", "small"]


async def test_the_queue_is_full_for_a_key_before_it_is_for_all():
    admission = Admission(Limits(running=2, queued=2), keys=2)
    running = await held(admission, "greedy")
    waiting = asyncio.create_task(held(admission, "greedy"))
    await until(lambda: admission.queued == 1)
    with pytest.raises(Fault) as refused:
        await held(admission, "greedy")
    assert (refused.value.status, refused.value.retry_after) == (429, 8)
    await running.aclose()
    await (await waiting).aclose()
    assert (admission.running, admission.queued) == (0, 0)


@pytest.mark.parametrize("keys", [0, 1])
async def test_who_is_alone_may_have_all_of_it(keys):
    admission = Admission(Limits(running=4, queued=4), keys)
    stacks = [await held(admission, "only") for _ in range(4)]
    assert admission.running == 4
    for stack in stacks:
        await stack.aclose()


async def test_an_operator_may_share_otherwise():
    admission = Admission(Limits(running=4, queued=4, key_share=1), keys=5)
    stack = await held(admission, "greedy", choices=4)
    assert admission.running == 4
    await stack.aclose()
    with pytest.raises(ConfigurationError, match=r"key_share=1\.5"):
        Limits(key_share=1.5)


def test_places_are_counted_from_before_a_request_is_read():
    admission = Admission(Limits(running=2, queued=2), keys=2)
    with admission.entered("greedy"), admission.entered("greedy"):
        with pytest.raises(Fault) as refused, admission.entered("greedy"):
            """Never reached."""
        assert "of this key" in refused.value.message
        with admission.entered("modest"), admission.entered("modest"):
            with pytest.raises(Fault) as full, admission.entered("third"):
                """Never reached."""
            assert "as many requests" in full.value.message
        with admission.entered("modest"):
            """There is room again."""
