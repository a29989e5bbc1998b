"""How answers end before they are complete: deadlines, budgets, models that hang, and the end of a drain."""

from __future__ import annotations

import asyncio
import signal
import threading

import httpx
import pytest

from stars_guard.server import choices as choices_module
from stars_guard.server.app import create_app
from stars_guard.server.process import DrainingServer
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.server_client import CHAT, CannotJudge, Watcher, asking, chunks, guard, quiet, said, served
from tests.support.server_socket import wait_until


class Hangs(KeywordReward):
    """Does not come back from some texts."""

    def __init__(self):
        super().__init__([])
        self.free = threading.Event()

    def score(self, requests):
        if any("hang" in request.response for request in requests):
            assert self.free.wait(60)
        return super().score(requests)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(choices_module, "GRACE", 0.05)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_reward_model_that_hangs_holds_nobody_for_ever(stream, impatient):
    reward, watcher = Hangs(), Watcher()
    config = quiet(limits={"max_seconds": 0.05, "running": 1})
    async with served(guard([["hang"]], reward), config, [watcher]) as client:
        try:
            response = await client.post(CHAT, json=asking(stream=stream))
            assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
            assert client._transport.app.state.service.admission.running == 0
        finally:
            reward.free.set()
    assert watcher.ended_[0].outcome == "timed_out"


async def test_a_stream_whose_reward_model_hangs_on_the_way_ends_with_an_error(impatient):
    reward = Hangs()
    config = quiet(limits={"max_seconds": 3.0})  # long enough for the first text, however busy the machine is
    async with served(guard([["one "], ["hang"]], reward), config) as client:
        try:
            stream = chunks((await client.post(CHAT, json=asking(stream=True))).text)
        finally:
            reward.free.set()
    assert said(stream) == "one "
    assert stream[-1]["error"]["code"] == "deadline_exceeded"


async def test_a_reward_model_that_hangs_is_not_ready():
    reward = Hangs()
    llm = guard([["hang"]], reward)
    config = quiet(limits={"max_seconds": 0.05}, health={"patience_seconds": 0.05})
    async with served(llm, config) as client:
        try:
            late = await client.post("/v1/guard/score", json={"prompt": "a", "response": "hang"})
            assert (late.status_code, late.json()["error"]["code"]) == (503, "scoring_error")
            ready = await client.get("/health/ready")
            assert (ready.status_code, ready.json()["status"]) == (503, "the reward model does not score")
        finally:
            reward.free.set()


async def test_readiness_is_asked_once_by_many_at_the_same_time():
    reward = KeywordReward([])
    async with served(guard([["one"]], reward)) as client:
        answers = await asyncio.gather(*(client.get("/health/ready") for _ in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(reward.seen) == 1
        about = answers[0].json()
        assert (about["model"], about["reward"], about["guarantee"]) == ("scripted", "keywords", "token_ids")


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("budget", "reason"),
    [({"max_reward_calls": 2}, "reward_budget"), ({"max_proposed_tokens": 300}, "token_budget")],
)
async def test_a_budget_that_runs_out_after_some_text_is_a_length(budget, reason, stream):
    watcher = Watcher()
    llm = guard([["x" * 200], ["y" * 200], ["z" * 200]])
    async with served(llm, observers=[watcher]) as client:
        response = await client.post(CHAT, json=asking(stream=stream, stars=budget))
        last = chunks(response.text)[-2] if stream else response.json()
        assert response.status_code == 200
        assert last["choices"][0]["finish_reason"] == "length"
        assert last["stars"][0]["stop_reason"] == reason
    assert watcher.ended_[0].outcome == "timed_out"


async def test_an_outage_that_stops_an_answer_is_neither_an_error_nor_a_stop():
    async with served(guard([["one "], ["two"]], CannotJudge("two"), on_error="stop")) as client:
        answer = (await client.post(CHAT, json=asking())).json()
        assert answer["choices"][0]["message"]["content"] == "one "
        assert answer["choices"][0]["finish_reason"] == "length"
        assert answer["stars"][0]["stop_reason"] == "scoring_error"


class Endless(ScriptedModel):
    """Draws its second segment for as long as anybody wants it."""

    def __init__(self):
        super().__init__([["one "], ["two"]])
        self.drawing = threading.Event()

    def propose(self, orders):
        if any(order.segment == 1 for order in orders):
            self.drawing.set()
            while any(order.alive() for order in orders):
                threading.Event().wait(0.001)
        return super().propose(orders)


def test_the_end_of_a_drain_ends_streams_and_turns_away_who_waits():
    llm = guard()
    model = Endless()
    llm = type(llm)(model, llm.reward, llm.config)
    watcher = Watcher()
    app = create_app(llm, quiet(limits={"running": 1, "drain_seconds": 0.3}), [watcher])
    import uvicorn

    server = DrainingServer(
        uvicorn.Config(app, port=0, log_level="critical", timeout_graceful_shutdown=10), app.state.service
    )
    thread = threading.Thread(target=server.run)
    thread.start()
    wait_until(lambda: server.started)
    url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    answers = {}

    def ask(name):
        answers[name] = httpx.post(url + CHAT, json=asking(stream=True), trust_env=False, timeout=30)

    runs, waits = threading.Thread(target=ask, args=["runs"]), threading.Thread(target=ask, args=["waits"])
    runs.start()
    assert model.drawing.wait(30)
    waits.start()
    wait_until(lambda: app.state.service.admission.queued == 1)
    server.handle_exit(signal.SIGTERM, None)
    for started in (runs, waits, thread):
        started.join(30)
    stream = chunks(answers["runs"].text)
    assert said(stream) == "one "
    assert stream[-2]["choices"][0]["finish_reason"] == "length"
    assert stream[-2]["stars"][0]["stop_reason"] == "cancelled"
    assert (answers["waits"].status_code, answers["waits"].json()["error"]["code"]) == (503, "draining")
    assert answers["waits"].headers["retry-after"]
    assert [exchange.outcome for exchange in watcher.ended_].count("cancelled") == 1
    assert len(model.sessions) == 1


@pytest.mark.parametrize("stream", [False, True])
async def test_a_choice_without_text_beside_one_with_text_is_a_length(stream):
    scripts = iter([[["poison"], ["x"]], [["fine"]]])
    llm = guard(lambda prompt: next(scripts), max_attempts=9)
    async with served(llm) as client:
        response = await client.post(CHAT, json=asking(n=2, stream=stream, stars={"max_reward_calls": 2}))
        assert response.status_code == 200
        if stream:
            events = chunks(response.text)
            texts = [said(events, choice) for choice in (0, 1)]
            ends = {
                choice["index"]: choice["finish_reason"]
                for chunk in events[:-1]
                for choice in chunk["choices"]
            }
            assert events[-1] == "data: [DONE]"
        else:
            choices = response.json()["choices"]
            texts = [choice["message"]["content"] for choice in choices]
            ends = {choice["index"]: choice["finish_reason"] for choice in choices}
        assert texts == ["", "fine"]
        assert ends == {0: "length", 1: "stop"}


@pytest.mark.parametrize("n", [1, 2])
async def test_a_stream_of_which_nothing_was_accepted_in_its_budget_has_a_status(n):
    async with served(guard([["poison"]], max_attempts=9)) as client:
        body = asking(stream=True, n=n, stars={"max_reward_calls": 2})
        response = await client.post(CHAT, json=body)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline_exceeded")
