"""Readiness: the server draws and scores by itself, says what hangs or fails, and when that is over."""

from __future__ import annotations

import asyncio
import logging
import threading

import pytest

from stars_guard.errors import PromptError
from stars_guard.loop.events import Judged
from stars_guard.server import choices as choices_module
from stars_guard.server.readiness import NOT_DRAWN, NOT_SCORED, HealthSettings, Readiness
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.guards import guarded, hard
from tests.support.server_client import CHAT, asking, guard, quiet, served
from tests.support.server_socket import listening, wait_until

OFTEN = {"interval_seconds": 0.01, "patience_seconds": 0.05}


class Part:
    """Hangs or fails when it is told to."""

    def __init__(self):
        self.free = threading.Event()
        self.free.set()
        self.error = None
        self.calls = 0

    def pass_through(self):
        self.calls += 1
        assert self.free.wait(60)
        if self.error is not None:
            raise self.error


class Model(ScriptedModel):
    def __init__(self, part, script=(("fine",),)):
        super().__init__(script)
        self.part = part

    def propose(self, orders):
        self.part.pass_through()
        return super().propose(orders)


class Judge(KeywordReward):
    def __init__(self, part):
        super().__init__(["never"])
        self.part = part

    def score(self, requests):
        self.part.pass_through()
        return super().score(requests)


def parts():
    """A part that draws, one that scores, and the guard made of them."""
    drawing, scoring = Part(), Part()
    llm = guarded([["fine"]], Judge(scoring), hard())
    return drawing, scoring, type(llm)(Model(drawing), Judge(scoring), llm.config)


def checked(llm, scoring=lambda: 0, **settings):
    return Readiness(llm, llm.sampling, HealthSettings(**{**OFTEN, **settings}), scoring)


async def until(condition):
    while not await condition():
        await asyncio.sleep(0.01)


async def test_one_token_is_drawn_and_scored():
    drawing, scoring, llm = parts()
    readiness = checked(llm, interval_seconds=60)
    assert [await readiness.problem() for _ in range(3)] == [None] * 3
    assert (drawing.calls, scoring.calls) == (1, 1)
    (session,) = llm.model.sessions
    assert (session.sampling.max_tokens, session.closed) == (1, True)


@pytest.mark.parametrize(("which", "problem"), [("drawing", NOT_DRAWN), ("scoring", NOT_SCORED)])
async def test_a_call_that_does_not_come_back_is_said_once_and_so_is_its_return(which, problem, caplog):
    drawing, scoring, llm = parts()
    hangs = {"drawing": drawing, "scoring": scoring}[which]
    hangs.free.clear()
    readiness = checked(llm, lambda: which == "scoring")
    with caplog.at_level(logging.WARNING, logger="stars_guard.server"):
        assert await readiness.problem() == problem
        for _ in range(5):
            await asyncio.sleep(0.02)
            assert await readiness.problem() == problem
        # The request that hangs is the only one: none is sent after it.
        assert hangs.calls == 1
        assert len(llm.model.sessions) == 1
        hangs.free.set()

        async def ready():
            return await readiness.problem() is None

        await until(ready)
    said = [record.message for record in caplog.records if record.name == "stars_guard.server"]
    assert said == [f"not ready: {problem}", "ready again"]
    await readiness.aclose()


@pytest.mark.parametrize(("which", "problem"), [("drawing", NOT_DRAWN), ("scoring", NOT_SCORED)])
async def test_a_call_that_fails_is_said_without_its_words(which, problem, caplog):
    drawing, scoring, llm = parts()
    fails = {"drawing": drawing, "scoring": scoring}[which]
    fails.error = OSError("secret")
    readiness = checked(llm)
    with caplog.at_level(logging.WARNING, logger="stars_guard.server"):
        assert await readiness.problem() == problem
        await asyncio.sleep(0.02)
        assert await readiness.problem() == problem
        fails.error = None
        await asyncio.sleep(0.02)
        assert await readiness.problem() is None
    said = [record.message for record in caplog.records if record.name == "stars_guard.server"]
    assert said == [f"not ready: {problem}", "ready again"]
    assert "secret" not in caplog.text


class Loading(ScriptedModel):
    """An engine with weights to load, which begins anew after a request that was given up."""

    def __init__(self):
        super().__init__([["fine"]])
        self.loaded = threading.Event()
        self.given_up = 0

    def propose(self, orders):
        while not self.loaded.wait(0.005):
            if not any(order.alive() for order in orders):
                self.given_up += 1
                break
        return super().propose(orders)


async def test_the_first_request_goes_on_while_an_engine_loads():
    model, llm = Loading(), guard()
    readiness = checked(type(llm)(model, llm.reward, llm.config))

    async def ready():
        return await readiness.problem() is None

    for _ in range(5):
        assert await readiness.problem() == NOT_DRAWN
        await asyncio.sleep(0.02)
    assert (model.given_up, len(model.sessions)) == (0, 1)
    model.loaded.set()
    await until(ready)
    model.loaded.clear()

    async def given_up():
        await readiness.problem()
        return model.given_up > 0

    # Once it has answered, one that takes too long is given up.
    await until(given_up)
    model.loaded.set()
    await until(ready)


async def test_a_request_that_waits_behind_others_says_nothing_of_them():
    drawing, _, llm = parts()
    readiness = checked(llm, patience_seconds=0.5)
    drawing.free.clear()
    judged = [event async for event in guard().astream("Hi").events() if isinstance(event, Judged)]

    async def others():
        while True:
            readiness.noted(judged[0])
            await asyncio.sleep(0.01)

    judging = asyncio.create_task(others())
    assert await readiness.problem() is None
    judging.cancel()

    async def late():
        return await readiness.problem() == NOT_DRAWN

    await until(late)
    drawing.free.set()
    await readiness.aclose()


async def test_a_model_without_a_chat_template_goes_on_with_a_text():
    class Raw(ScriptedModel):
        def start(self, prompt, sampling):
            if prompt.messages:
                raise PromptError("messages need a chat template")
            return super().start(prompt, sampling)

    llm = guard()
    readiness = checked(type(llm)(Raw([["fine"]]), llm.reward, llm.config))
    assert await readiness.problem() is None


async def test_it_asks_whatever_the_operator_does_about_outages():
    _, scoring, llm = parts()
    scoring.error = OSError("down")
    stopping = type(llm)(llm.model, llm.reward, llm.config.changed(on_error="stop"))
    assert await checked(stopping).problem() == NOT_SCORED


async def test_a_candidate_that_the_rule_rejects_is_no_problem_and_nothing_is_logged_of_it(caplog):
    llm = guard([["poison"]])
    with caplog.at_level(logging.INFO):
        assert await checked(llm).problem() is None
    assert not [record for record in caplog.records if record.name.startswith("stars_guard")]


async def test_closing_gives_up_a_request_that_hangs():
    drawing, _, llm = parts()
    drawing.free.clear()
    readiness = checked(llm)
    assert await readiness.problem() == NOT_DRAWN
    await readiness.aclose()
    await checked(llm).aclose()
    drawing.free.set()


def test_a_server_finds_out_by_itself():
    drawing, scoring, llm = parts()
    with listening(llm, quiet(health=OFTEN)) as (_, service, _watcher):
        gauge = service.telemetry.metrics.registry.get_sample_value
        wait_until(lambda: drawing.calls > 2 and scoring.calls > 2)
        wait_until(lambda: gauge("stars_guard_ready") == 1)
        drawing.free.clear()
        wait_until(lambda: gauge("stars_guard_ready") == 0)
        drawing.free.set()
        wait_until(lambda: gauge("stars_guard_ready") == 1)


async def test_an_engine_that_hangs_holds_nobody_longer_than_a_deadline(monkeypatch):
    monkeypatch.setattr(choices_module, "GRACE", 0.05)
    drawing, _, llm = parts()
    config = quiet(limits={"max_seconds": 0.05, "running": 2}, health=OFTEN)
    async with served(llm, config) as client:
        admission = client._transport.app.state.service.admission
        drawing.free.clear()
        for _ in range(3):
            answers = await asyncio.gather(*(client.post(CHAT, json=asking()) for _ in range(4)))
            assert [answer.status_code for answer in answers] == [504] * 4
            assert (admission.running, admission.queued) == (0, 0)
        ready = await client.get("/health/ready")
        assert (ready.status_code, ready.json()["status"]) == (503, NOT_DRAWN)
        assert (await client.get("/health/live")).status_code == 200
        drawing.free.set()

        async def answered():
            return (await client.post(CHAT, json=asking())).status_code == 200

        await until(answered)
        assert (admission.running, admission.queued) == (0, 0)
