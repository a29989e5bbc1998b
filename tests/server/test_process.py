"""The process that serves: signals, the files that it may open, and who may reach it."""

from __future__ import annotations

import json
import os
import signal
import socket
from contextlib import ExitStack, contextmanager

import httpx
import pytest

from stars_guard.errors import ConfigurationError
from stars_guard.server.entry.keys import hash_key
from stars_guard.server.process import bound, check_reach, room_for_connections
from tests.server.entry.test_connections import LIVE, live, opened
from tests.support.server_client import CHAT, asking, quiet
from tests.support.server_process import serving as running

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs POSIX signals")

PROGRAM = """
import resource, signal, sys, threading
from stars_guard.cli.app import main
from stars_guard.loading import parts
from stars_guard.testing import KeywordReward, ScriptedModel

BEFORE
parts.load_model = lambda path, options: MODEL
parts.load_reward = lambda path, options: KeywordReward(["poison"], good=9.0, bad=-9.0)
sys.exit(main(["serve", "--port", "0"]))
"""


HANGS = """
class Hangs(ScriptedModel):
    def propose(self, orders):
        print("drawing", file=sys.stderr, flush=True)
        threading.Event().wait()
"""


@contextmanager
def serving(before="", model='ScriptedModel([["Hello."]])'):
    """A process that serves, its address, and the lines it writes from then on.

    Args:
        before: what its program does first.
        model: expression for the language model.
    """
    with running(PROGRAM.replace("BEFORE", before).replace("MODEL", model)) as served:
        yield served


def ask(address):
    """A connection on which a question was asked that hangs."""
    body = json.dumps(asking()).encode()
    head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    return opened(address, f"{head}\r\n\r\n".encode() + body)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_the_first_signal_drains(name):
    with serving() as (process, address):
        url = f"http://{address[0]}:{address[1]}"
        assert httpx.post(url + CHAT, json=asking(), trust_env=False, timeout=60).status_code == 200
        process.send_signal(getattr(signal, name))
        assert process.wait(60) == 0
        (line,) = [json.loads(line) for line in process.stderr]
        assert line["outcome"] == "answered"


@pytest.mark.parametrize("second", ["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("first", ["SIGHUP", "SIGTERM"])
def test_the_second_ends_it_at_once_whatever_hangs(first, second):
    with serving(HANGS, "Hangs([['x']])") as (process, address), ask(address):
        assert next(process.stderr) == "drawing\n"
        process.send_signal(getattr(signal, first))
        while status(address) != 503:  # it drains
            pass
        process.send_signal(getattr(signal, second))
        assert process.wait(60) == 128 + getattr(signal, second)
        assert {json.loads(line)["message"] for line in process.stderr} <= {"request"}  # no traceback


def status(address):
    """Status of a question to a server that drains or does not."""
    url = f"http://{address[0]}:{address[1]}"
    answer = httpx.post(
        f"{url}/v1/guard/score", json={"prompt": "a", "response": "b"}, trust_env=False, timeout=60
    )
    return answer.status_code


def test_a_second_hangup_is_not_the_end():
    with serving(HANGS, "Hangs([['x']])") as (process, address), ask(address):
        assert next(process.stderr) == "drawing\n"
        for _ in range(3):
            process.send_signal(signal.SIGHUP)
            while status(address) != 503:
                pass
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 143


def test_a_hangup_that_nohup_keeps_away_does_nothing():
    with serving("signal.signal(signal.SIGHUP, signal.SIG_IGN)") as (process, address):
        process.send_signal(signal.SIGHUP)
        assert live(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0


def test_connections_that_send_nothing_do_not_use_up_the_files():
    few = "resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))"
    with serving(few) as (process, address), ExitStack() as held:
        for _ in range(400):
            held.enter_context(opened(address, LIVE))
        assert all(live(address) for _ in range(5))
        held.close()
        assert live(address)
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert "out of system resource" not in process.stderr.read()


def test_as_many_files_as_are_needed_are_allowed(monkeypatch):
    resource = pytest.importorskip("resource")
    limits = [(256, 4096)]
    monkeypatch.setattr(resource, "getrlimit", lambda which: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda which, values: limits.append(values))
    assert room_for_connections(1000) == 1000
    assert limits[-1] == (1256, 4096)
    assert room_for_connections(1000) == 1000
    assert len(limits) == 2
    assert room_for_connections(5000) == 4096 - 256
    limits.append((128, 128))
    assert room_for_connections(1000) == 64
    limits.append((128, resource.RLIM_INFINITY))
    assert room_for_connections(1000) == 1000


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_a_keyless_server_that_others_reach_is_refused_unless_it_is_meant(host):
    with ExitStack() as held:
        try:
            listener = held.enter_context(bound(host, 0))
        except ConfigurationError:
            pytest.skip(f"there is no {host} here")
        with pytest.raises(ConfigurationError, match="--allow-anonymous if that is meant") as refused:
            check_reach(listener, quiet(), anonymous=False)
        assert host in str(refused.value)
        check_reach(listener, quiet(), anonymous=True)
        keys = [{"name": "a", "sha256": hash_key("sk-0123456789abcdef")}]
        check_reach(listener, quiet(keys=keys), anonymous=False)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_on_this_machine_it_needs_no_key(host):
    try:
        listener = bound(host, 0)
    except ConfigurationError:
        pytest.skip(f"there is no {host} here")
    with listener:
        check_reach(listener, quiet(), anonymous=False)


def test_an_address_of_the_network_is_reached_by_others():
    addresses = {each[4][0] for each in socket.getaddrinfo(socket.gethostname(), 0, socket.AF_INET)}
    others = [address for address in addresses if not address.startswith("127.")]
    if not others:
        pytest.skip("this machine has no other address")
    with bound(others[0], 0) as listener, pytest.raises(ConfigurationError, match="allow-anonymous"):
        check_reach(listener, quiet(), anonymous=False)
