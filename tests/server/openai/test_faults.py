"""What goes wrong, and what the client gets then: no text that was not judged, and a server that lives on."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace

import httpx
import pytest

from stars_guard import Raise
from stars_guard.errors import GenerationError
from stars_guard.testing import KeywordReward, ScriptedModel
from stars_guard.types import StopReason
from tests.support.server_client import CHAT, Watcher, asking, chunks, guard, said, served
from tests.support.server_socket import listening, sent, wait_until

UNJUDGED = "never judged"


class Breaks(KeywordReward):
    """Cannot judge one text."""

    def __init__(self, how):
        super().__init__(["poison"])
        self.how = how

    def score(self, requests):
        if any(UNJUDGED in request.response for request in requests):
            return self.how(requests)
        return super().score(requests)


def raises(requests):
    raise OSError(f"secret: {requests[0].response}")


WRONG = {"raises": raises, "too few": lambda _: [], "no rewards": lambda requests: ["x" for _ in requests]}


@pytest.mark.parametrize("how", WRONG)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_reward_outage_before_any_text_is_a_status(how, stream):
    llm = guard([[UNJUDGED]], Breaks(WRONG[how]))
    async with served(llm) as client:
        response = await client.post(CHAT, json=asking(stream=stream))
        assert (response.status_code, response.json()["error"]["code"]) == (503, "scoring_error")
        assert response.headers["retry-after"]
        assert UNJUDGED not in response.text


@pytest.mark.parametrize("how", WRONG)
async def test_a_reward_outage_on_the_way_ends_the_stream_with_an_error(how):
    watcher = Watcher()
    llm = guard([["Fine. "], [UNJUDGED]], Breaks(WRONG[how]))
    async with served(llm, observers=[watcher]) as client:
        response = await client.post(CHAT, json=asking(stream=True))
        stream = chunks(response.text)
        assert said(stream) == "Fine. "
        assert stream[-1]["error"]["code"] == "scoring_error"
        assert "finish_reason" not in json.dumps(stream[-1])
        assert UNJUDGED not in response.text
        assert [exchange.outcome for exchange in watcher.ended_] == ["scoring_error"]
        assert (await client.post(CHAT, json=asking())).status_code == 503  # and it lives


class Dies(ScriptedModel):
    """An engine that is gone after the first segment."""

    def propose(self, orders):
        if any(order.segment == 1 for order in orders):
            raise GenerationError("secret words")
        return super().propose(orders)


async def test_an_engine_that_dies_on_the_way():
    llm = guard()
    llm.loop.rounds.proposers = replace(llm.loop.rounds.proposers, model=Dies([["one "], ["two"]]))
    async with served(llm) as client:
        whole = await client.post(CHAT, json=asking())
        assert (whole.status_code, whole.json()["error"]["code"]) == (502, "generation_error")
        response = await client.post(CHAT, json=asking(stream=True))
        assert said(chunks(response.text)) == "one "
        assert chunks(response.text)[-1]["error"]["code"] == "generation_error"
        assert "secret" not in whole.text + response.text


async def test_exhaustion_is_neither_refusal_nor_outage():
    watcher = Watcher()
    async with served(guard([["poison"]], exhaustion=Raise(), max_attempts=2), observers=[watcher]) as client:
        response = await client.post(CHAT, json=asking())
        assert (response.status_code, response.json()["error"]["code"]) == (422, "no_acceptable_segment")
    assert watcher.ended_[0].outcome == "exhausted"


@pytest.mark.parametrize("stop_on_error", ["stop", "raise"])
async def test_readiness_asks_the_reward_model(stop_on_error):
    class Dead(KeywordReward):
        def score(self, requests):
            raise OSError("down")

    async with served(guard(None, Dead([]), on_error=stop_on_error)) as client:
        response = await client.get("/health/ready")
        assert (response.status_code, response.json()["status"]) == (503, "the reward model does not score")
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.post(CHAT, json=asking())).status_code == 503
        score = await client.post("/v1/guard/score", json={"prompt": "a", "response": "b"})
        assert score.status_code == 503


async def test_an_unforeseen_failure_is_an_error_without_its_words():
    watcher = Watcher()

    def script(prompt):
        raise RuntimeError("secret words")

    async with served(guard(script), observers=[watcher]) as client:
        response = await client.post(CHAT, json=asking())
        assert response.status_code == 502
        assert "secret" not in response.text


class Slow(ScriptedModel):
    """Draws its second segment for as long as anybody wants it."""

    def __init__(self):
        super().__init__([["one "], ["two"]])
        self.drawing, self.stopped = threading.Event(), threading.Event()

    def propose(self, orders):
        if any(order.segment == 1 for order in orders):
            self.drawing.set()
            while any(order.alive() for order in orders):
                time.sleep(0.002)
            self.stopped.set()
        return super().propose(orders)


def slow_guard():
    llm = guard()
    model = Slow()
    llm.loop.rounds.proposers = replace(llm.loop.rounds.proposers, model=model)
    return llm, model


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_goes_away_stops_the_model(stream):
    llm, model = slow_guard()
    with listening(llm) as (address, service, watcher):
        # A bare socket: httpx hangs up by itself where its stream is not read on.
        with sent(address, json.dumps(asking(stream=stream)).encode()) as connection:
            assert model.drawing.wait(30)
            with connection.makefile("rb") as lines:
                assert not stream or any(b'"one "' in line for line in lines)
        assert model.stopped.wait(30)
        wait_until(lambda: watcher.ended_)
        assert service.admission.running == 0
    assert watcher.ended_[0].outcome == "cancelled"


def test_what_still_runs_after_the_drain_is_cancelled():
    llm, model = slow_guard()

    async def drained():
        async with served(llm) as client:
            service = client._transport.app.state.service
            running = asyncio.create_task(client.post(CHAT, json=asking()))
            while not model.drawing.is_set():
                await asyncio.sleep(0.002)
            await service.cancel_all()
            answer = (await running).json()
            assert answer["choices"][0]["message"]["content"] == "one "
            assert answer["stars"][0]["stop_reason"] == StopReason.CANCELLED

    asyncio.run(drained())


SERVER = """
import pathlib, sys, time
from stars_guard.server.app import create_app
from stars_guard.server.process import bound, serve
from tests.support.server_client import guard, quiet

def script(prompt):
    while not pathlib.Path(sys.argv[1]).exists():
        time.sleep(0.01)
    return [["poison", "one "], ["two"]]

listener = bound("127.0.0.1", 0)
listener.listen()
print(listener.getsockname()[1], flush=True)
serve(create_app(guard(script), quiet(limits={"drain_seconds": 30})), listener)
"""
"""A server whose answers wait until a file exists."""


def test_sigterm_under_load_finishes_what_runs_and_ends_well(tmp_path):
    goes_on = tmp_path / "goes on"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, goes_on], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        url = f"http://127.0.0.1:{int(process.stdout.readline())}"
        with httpx.Client(base_url=url, trust_env=False, timeout=30) as client:
            answers = []
            threads = [
                threading.Thread(
                    target=lambda: answers.append(httpx.post(url + CHAT, json=asking(), timeout=60))
                )
                for _ in range(6)
            ]
            for thread in threads:
                thread.start()
            wait_until(lambda: "stars_guard_running_choices 6.0" in client.get("/metrics").text)
            process.send_signal(signal.SIGTERM)
            wait_until(lambda: client.get("/health/ready").json()["status"] == "draining")
            goes_on.touch()
            for thread in threads:
                thread.join(60)
        texts = [answer.json()["choices"][0]["message"]["content"] for answer in answers]
        assert texts == ["one two"] * 6
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.communicate()
