"""Who may ask, and how much: keys, bodies, room, waiting, draining."""

from __future__ import annotations

import asyncio
import threading
import time

import httpx
import pytest

from stars_guard.errors import ConfigurationError
from stars_guard.server.config import Limits
from stars_guard.server.entry.admission import Admission
from stars_guard.server.entry.keys import ApiKey, Keys, hash_key
from stars_guard.server.openai.faults import Fault
from tests.support.server_client import CHAT, Watcher, asking, guard, quiet, served

KEY = "sk-0123456789abcdef"
OTHER = "sk-fedcba9876543210"


def bearer(key):
    return {"Authorization": f"Bearer {key}"}


def keyed(**limits):
    keys = [{"name": "one", "sha256": hash_key(KEY), **limits}, {"name": "two", "sha256": hash_key(OTHER)}]
    return quiet(keys=keys, traces={"enabled": True})


async def test_only_who_has_a_key_may_ask():
    watcher = Watcher()
    async with served(config=keyed(), observers=[watcher]) as client:
        for headers in ({}, bearer("sk-wrong"), {"Authorization": f"Basic {KEY}"}):
            response = await client.post(CHAT, json=asking(), headers=headers)
            assert (response.status_code, response.json()["error"]["code"]) == (401, "invalid_api_key")
            assert response.headers["www-authenticate"] == "Bearer"
        assert (await client.post(CHAT, content=b"{", headers={})).status_code == 401
        answer = await client.post(CHAT, json=asking(), headers=bearer(OTHER))
        assert answer.status_code == 200
        assert (await client.get("/health/live")).status_code == 200
        trace = f"/v1/traces/{answer.json()['id']}"
        assert (await client.get(trace, headers=bearer(OTHER))).status_code == 200
        assert (await client.get(trace, headers=bearer(KEY))).status_code == 404
    assert [exchange.key for exchange in watcher.ended_[-3:]] == ["two", "two", "one"]


async def test_a_key_has_limits_of_its_own():
    config = keyed(requests_per_minute=2, max_tokens=10)
    async with served(config=config) as client:
        long = await client.post(CHAT, json=asking(max_tokens=11), headers=bearer(KEY))
        assert long.json()["stars"][0]["max_tokens"] == {"requested": 11, "granted": 10}
        assert long.headers["x-stars-max-tokens"] == "10"
        assert (await client.post(CHAT, json=asking(), headers=bearer(KEY))).status_code == 200
        full = await client.post(CHAT, json=asking(), headers=bearer(KEY))
        assert full.status_code == 429
        assert 1 <= int(full.headers["retry-after"]) <= 61
        assert (await client.post(CHAT, json=asking(), headers=bearer(OTHER))).status_code == 200


def test_a_key_may_have_so_many_requests_at_once():
    key = ApiKey(name="one", sha256=hash_key(KEY), concurrent=1)
    keys = Keys([key])
    with keys.counted(key), pytest.raises(Fault), keys.counted(key):
        """Never reached."""
    with keys.counted(key):
        """There is room again."""


@pytest.mark.parametrize("announced", [True, False])
async def test_a_long_body_is_refused_and_not_read_for_ever(announced, monkeypatch):
    monkeypatch.setattr("stars_guard.server.entry.body._SPILL", 5000)
    sent = 0

    async def body():
        nonlocal sent
        while True:
            sent += 1
            yield b"x" * 1000

    headers = {"content-length": "10000"} if announced else {}
    async with served(config=quiet(limits={"max_body_bytes": 3000})) as client:
        response = await client.post(CHAT, content=body(), headers=headers)
        assert (response.status_code, response.json()["error"]["code"]) == (413, "body_too_large")
        assert sent == (5 if announced else 9)
        assert (await client.post(CHAT, json=asking())).status_code == 200


async def test_a_long_prompt_is_refused():
    async with served(config=quiet(limits={"max_prompt_characters": 10})) as client:
        response = await client.post(CHAT, json=asking("x" * 11))
        assert response.json()["error"]["code"] == "context_length_exceeded"


class Gate:
    """A script whose answers wait until they may go on."""

    def __init__(self):
        self.open = threading.Event()
        self.begun = threading.Semaphore(0)

    def __call__(self, prompt):
        self.begun.release()
        assert self.open.wait(30)
        return [["done"]]


async def until(condition):
    while not condition():
        await asyncio.sleep(0.002)


async def test_a_full_queue_says_when_to_come_back():
    gate = Gate()
    config = quiet(limits={"running": 1, "queued": 1})
    async with served(guard(gate), config) as client:
        service = client._transport.app.state.service
        first = asyncio.create_task(client.post(CHAT, json=asking()))
        await until(lambda: service.admission.running == 1)
        second = asyncio.create_task(client.post(CHAT, json=asking()))
        await until(lambda: service.admission.queued == 1)
        third = await client.post(CHAT, json=asking())
        assert third.status_code == 429
        assert int(third.headers["retry-after"]) >= 1
        assert "stars_guard_queue_depth 1.0" in (await client.get("/metrics")).text
        gate.open.set()
        assert [(await request).status_code for request in (first, second)] == [200, 200]


async def test_waiting_is_bounded():
    gate = Gate()
    config = quiet(limits={"running": 1, "queue_seconds": 0.05})
    async with served(guard(gate), config) as client:
        service = client._transport.app.state.service
        first = asyncio.create_task(client.post(CHAT, json=asking()))
        await until(lambda: service.admission.running == 1)
        late = await client.post(CHAT, json=asking())
        assert (late.status_code, service.admission.queued) == (429, 0)
        gate.open.set()
        assert (await first).status_code == 200
        assert service.admission.running == 0


async def test_room_is_given_in_order_and_never_lost():
    admission = Admission(Limits(running=2, queued=9))
    order = []

    async def ask(name, choices):
        async with admission.admitted(choices):
            order.append(name)
            assert admission.running <= 2
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(ask(n, 1 + n % 2)) for n in range(8)]
    await asyncio.sleep(0)
    tasks[5].cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 1, 2, 3, 4, 6, 7]
    assert (admission.running, admission.queued) == (0, 0)


async def test_who_gives_up_as_room_is_given_leaves_it_to_the_next():
    admission = Admission(Limits(running=1))
    entered = []

    async def ask(name):
        async with admission.admitted(1):
            entered.append(name)

    async with admission.admitted(1):
        first, second = asyncio.create_task(ask("first")), asyncio.create_task(ask("second"))
        await until(lambda: admission.queued == 2)
    first.cancel()  # its turn has come, and it has not noticed yet
    await asyncio.gather(first, second, return_exceptions=True)
    assert entered == ["second"]
    assert admission.running == 0


async def test_draining_takes_nothing_on_and_waits_for_what_runs():
    gate = Gate()
    async with served(guard(gate)) as client:
        service = client._transport.app.state.service
        running = asyncio.create_task(client.post(CHAT, json=asking()))
        await until(lambda: service.admission.running == 1)
        drained = asyncio.create_task(service.admission.drained())
        await until(lambda: service.admission.draining)
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        refused = await client.post(CHAT, json=asking())
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert not drained.done()
        gate.open.set()
        assert (await running).status_code == 200
        await drained


async def test_a_deadline_with_nothing_accepted_is_one():
    def script(prompt):
        time.sleep(0.1)
        return [["late"]]

    config = quiet(limits={"max_seconds": 0.05})
    async with served(guard(script), config) as client:
        response = await client.post(CHAT, json=asking())
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")


@pytest.mark.parametrize("wrong", [{"running": 0}, {"queued": -1}, {"max_body_bytes": 0}, {"speed": 1}])
def test_limits_are_checked(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        Limits(**wrong)


async def test_sixty_four_streams_at_once_are_not_mixed_up():
    def script(prompt):
        name = prompt.as_text()
        return [["poison ", f"<{name}>"], [f"({name})"], [f"[{name}]"]]

    async with served(guard(script), quiet(limits={"running": 64, "queued": 200}), timeout=60) as client:

        async def ask(n):
            async with client.stream("POST", CHAT, json=asking(f"user {n}", stream=True)) as response:
                return "".join([line async for line in response.aiter_text()])

        from tests.support.server_client import chunks, said

        streams = await asyncio.gather(*(ask(n) for n in range(128)))
        for n, body in enumerate(streams):
            assert said(chunks(body)) == f"<user {n}>(user {n})[user {n}]"
        service = client._transport.app.state.service
        assert (service.admission.running, len(service._active)) == (0, 0)
        assert isinstance(client, httpx.AsyncClient)
