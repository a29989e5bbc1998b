"""Calls to an engine that is right, wrong, late, silent and gone."""

from __future__ import annotations

import gc
import itertools
import subprocess
import sys
import threading
import weakref

import pytest
from pydantic import SecretStr

from stars_guard.errors import ConfigurationError, GenerationError, MissingExtraError
from stars_guard.http import client
from stars_guard.http.access import HttpAccess
from stars_guard.http.event_loop import EventLoop
from stars_guard.models.engines.openai import ENGINE_ACCESS, OpenAICompatibleModel, connection
from tests.support.http_engine import Abandoned, TableTokenizer
from tests.support.http_judge import HttpJudge, Reply, drip_body, drip_headers, hang_up, silence

FINE = Reply({"fine": True})
BODY = {"prompt": "a SECRETPROMPT"}


def connected(url, **access):
    return connection(url, HttpAccess(**{"timeout": 30.0, "backoff": 0.0, **access}))


def always():
    return True


def asked(server, *, alive=always, calls=1, **access):
    engine = connected(server.url, **access)
    try:
        return engine.post_all("/v1/completions", [BODY] * calls, alive)
    finally:
        engine.close()


def failure(server, **access):
    """The error of one call; nothing secret is in it, nor in what it was raised from."""
    with pytest.raises(GenerationError) as caught:
        asked(server, **access)
    error = caught.value
    while error is not None:
        assert "SECRET" not in f"{error!r} {vars(error)}"
        error = error.__cause__ or error.__context__
    assert f"{server.url}/v1/completions" in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("end", ["", "/", "/v1", "/v1/"])
def test_answers_come_in_the_order_of_their_calls(end):
    with HttpJudge(lambda handler, body: Reply({"said": body["n"]})) as server:
        engine = connected(server.url + end)
        bodies = [{"n": n} for n in range(20)]
        answers = engine.post_all("/v1/completions", bodies, always)
        engine.close()
        assert [one["said"] for one in answers] == list(range(20))
        assert {one.path for one in server.asked} == {"/v1/completions"}


def test_connections_are_used_again_and_are_bounded():
    with HttpJudge(FINE) as server:
        engine = connected(server.url, max_parallel=2)
        for _ in range(3):
            assert engine.post_all("/x", [BODY] * 6, always) == [{"fine": True}] * 6
        engine.close()
        assert len(server.asked) == 18
        assert server.connections <= 2


WRONG = {
    "400": (Reply({"error": "SECRETPROMPT"}, status=400), "status 400; the engine does not take this call"),
    "401": (Reply(status=401), "status 401; check the API key"),
    "404": (Reply(status=404), "status 404; check the URL"),
    "413": (Reply(status=413), "status 413; the prompt is too long"),
    "500": (Reply({"error": "SECRETPROMPT"}, status=500), "status 500; look into the engine's log"),
    "redirect": (Reply(status=307, headers={"Location": "http://x/"}), "redirects are not followed"),
    "garbage": (Reply(raw=b"SECRETPROMPT {"), "the answer of 14 bytes is not JSON"),
    "deep": (Reply(raw=b"[" * 100_000), "is not JSON"),
    "cut off": (Reply({"fine": True}, promised=1000), "the answer broke off"),
    "too long": (Reply("x" * 200_000), "more than max_answer_bytes=150000 came"),
    "no HTTP": (lambda handler, body: garbled(handler), "what came is no HTTP"),
}


def garbled(handler):
    handler.wfile.write(b"SSH-2.0-SECRETPROMPT\r\n\r\n")
    handler.close_connection = True


@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_helped_is_not_tried_again(name):
    step, message = WRONG[name]
    with HttpJudge(step) as server:
        assert message in failure(server, max_answer_bytes=150_000)
        assert len(server.asked) == 1


@pytest.mark.parametrize("step", [silence, drip_body, drip_headers])
def test_a_call_ends_in_time_and_is_not_repeated(step):
    with HttpJudge(step) as server:
        assert "no whole answer in time" in failure(server, timeout=0.3)
        assert len(server.asked) == 1


PASSING = {
    "hang up": hang_up,
    "429": Reply(status=429),
    "429 with seconds": Reply(status=429, headers={"Retry-After": "0"}),
    "502": Reply(status=502),
    "503": Reply(status=503),
    "504": Reply(status=504),
}


@pytest.mark.parametrize("name", PASSING)
def test_passing_trouble_is_overcome(name):
    with HttpJudge(PASSING[name], PASSING[name], FINE) as server:
        assert asked(server) == [{"fine": True}]
        assert len(server.asked) == 3


@pytest.mark.parametrize("name", PASSING)
def test_retries_are_bounded(name):
    with HttpJudge(PASSING[name]) as server:
        failure(server, retries=1)
        assert len(server.asked) == 2


def test_a_server_that_asks_for_more_time_than_there_is_is_given_up():
    with HttpJudge(Reply(status=503, headers={"Retry-After": "50"})) as server:
        assert "status 503" in failure(server)
        assert len(server.asked) == 1


def test_an_engine_that_is_gone_is_asked_again_before_it_is_given_up():
    with HttpJudge(FINE) as server:
        pass
    assert "cannot connect" in failure(server)


def test_one_failure_abandons_the_other_calls():
    step = Abandoned()

    def failing_later(handler, body):
        assert step.begun.wait(10)
        return Reply(status=500)

    with HttpJudge(step, failing_later) as server:
        assert "status 500" in failure(server, calls=2)
        assert step.noticed.wait(10)


def test_a_call_that_is_not_wanted_is_not_made():
    with HttpJudge(FINE) as server:
        assert asked(server, alive=lambda: False) is None
        assert server.asked == []


def test_a_call_that_is_not_wanted_any_more_is_abandoned_at_once():
    step = Abandoned()
    with HttpJudge(step) as server:
        assert asked(server, alive=lambda: not step.begun.is_set()) is None
        assert step.noticed.wait(10)


def test_waiting_for_another_try_is_abandoned_too():
    with HttpJudge(Reply(status=503, headers={"Retry-After": "20"})) as server:
        assert asked(server, alive=lambda: not server.asked, retries=5) is None
        assert len(server.asked) == 1


def test_closing_abandons_what_is_waited_for():
    step = Abandoned()
    with HttpJudge(step) as server:
        engine = connected(server.url)
        closer = threading.Thread(target=lambda: step.begun.wait(10) and engine.close())
        closer.start()
        with pytest.raises(GenerationError, match="is closed; make a new one"):
            engine.post_all("/x", [BODY], always)
        closer.join(10)
        assert step.noticed.wait(10)
        with pytest.raises(GenerationError, match="is closed; make a new one"):
            engine.get("/x")
        engine.close()


def test_a_forgotten_connection_closes_itself():
    before = set(threading.enumerate())
    with HttpJudge(FINE) as server:
        engine = connected(server.url)
        assert engine.get("/x") == {"fine": True}
        gone = weakref.ref(engine)
        del engine
        gc.collect()
        assert gone() is None
    # Threads of earlier tests may end meanwhile, so new ones are looked for instead of counted.
    assert set(threading.enumerate()) <= before


def test_the_loop_may_be_stopped_from_its_own_thread():
    async def nothing():
        pass

    loop = EventLoop("mine", nothing)

    async def stop():
        loop.stop()

    loop.submit(stop()).result(10)
    loop_thread = loop._thread
    loop_thread.join(10)
    assert not loop_thread.is_alive()
    assert loop_thread.name == "mine"


def test_the_loop_ends_although_its_farewell_fails():
    async def failing():
        raise RuntimeError

    async def nothing():
        return 1

    loop = EventLoop("mine", failing)
    assert loop.run(nothing(), lambda: True) == 1
    loop_thread = loop._thread
    loop.stop()
    assert not loop_thread.is_alive()


def test_the_interpreter_ends_while_a_call_is_waited_for():
    code = (
        "import sys, threading\n"
        "from stars_guard.http.access import HttpAccess\n"
        "from stars_guard.models.engines.openai import connection\n"
        "client = connection(sys.argv[1], HttpAccess(timeout=300.0))\n"
        "ask = lambda: client.post_all('/x', [{}], lambda: True)\n"
        "threading.Thread(target=ask, daemon=True).start()\n"
        "sys.stdin.readline()\n"
    )
    step = Abandoned()
    with HttpJudge(step) as server:
        process = subprocess.Popen([sys.executable, "-c", code, server.url], stdin=subprocess.PIPE)
        assert step.begun.wait(30)
        process.communicate(b"\n", timeout=30)
        assert process.returncode == 0
        assert step.noticed.wait(10)


# Who calls


def test_key_and_user_are_sent_and_not_shown(monkeypatch):
    monkeypatch.setenv("ENGINE_KEY", "SECRETKEY")
    with HttpJudge(Reply(status=500)) as server:
        failure(server, api_key_env="ENGINE_KEY")
        failure(server, api_key=SecretStr("SECRETKEY"), api_key_header="X-Key")
        with_user = connected(server.url.replace("//", "//me:SECRETWORD@"))
        with pytest.raises(GenerationError) as caught:
            with_user.get("/x")
        with_user.close()
        assert "SECRET" not in str(caught.value)
        sent = [{name.lower(): value for name, value in one.headers.items()} for one in server.asked]
        assert sent[0]["authorization"] == "Bearer SECRETKEY"
        assert sent[1]["x-key"] == "SECRETKEY"
        assert sent[2]["authorization"].startswith("Basic ")


@pytest.mark.parametrize(
    ("url", "access", "message"),
    [
        ("localhost:8000", {}, "url must be a whole one, such as http://localhost:8000"),
        ("http://host?key=1", {}, "has no query, but that of http://host has"),
        ("http://me:you@host", {"api_key": SecretStr("k")}, "keep one of them"),
        ("http://host", {"api_key_env": "NOT_SET_ANYWHERE"}, "holds no API key; set it"),
        ("http://host", {"api_key": SecretStr("k\n")}, "characters that a header cannot carry"),
    ],
)
def test_wrong_addresses_and_keys_are_found_at_once(url, access, message):
    with pytest.raises(ConfigurationError, match=message.replace("?", r"\?")):
        connected(url, **access)


def test_certificates_that_are_not_trusted_are_not_tried_again(monkeypatch):
    tries = itertools.count()

    def refused(*arguments, **options):
        next(tries)
        raise client.httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] it is")

    monkeypatch.setattr(client.httpx.AsyncClient, "stream", refused)
    with HttpJudge(FINE) as server:
        assert "cannot connect" in failure(server, retries=5)
    assert next(tries) == 1


def test_the_reason_is_given_for_a_host_of_several_addresses(monkeypatch):
    refusals = ExceptionGroup("several", [OSError(111, "no ::1"), OSError(111, "no 127.0.0.1")])
    trouble = OSError("All connection attempts failed")
    trouble.__cause__ = refusals

    def refused(*arguments, **options):
        raise client.httpx.ConnectError("All connection attempts failed") from trouble

    monkeypatch.setattr(client.httpx.AsyncClient, "stream", refused)
    with HttpJudge(FINE) as server:
        assert "cannot connect ([Errno 111] no 127.0.0.1); check the URL and the engine" in failure(server)


def test_engines_have_time_and_connections():
    assert ENGINE_ACCESS.timeout == 120.0
    assert ENGINE_ACCESS.max_parallel == 256


def test_httpx_is_an_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "stars_guard.http.client", None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[remote\]"):
        OpenAICompatibleModel("http://localhost", "vllm", tokenizer=TableTokenizer("a", 0))
