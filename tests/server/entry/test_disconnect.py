"""Clients that go away, or do not come back, on a real socket: nothing is computed for nobody."""

from __future__ import annotations

import json
import socket
import threading
import time

import httpx
import pytest

from stars_guard.testing import ScriptedModel
from tests.support.server_client import CHAT, asking, guard, quiet
from tests.support.server_socket import listening, sent, wait_until


def body(**fields):
    return json.dumps(asking(**fields)).encode()


class Held:
    """A script that waits, and counts who asked."""

    def __init__(self, script):
        self.script = script
        self.go = threading.Event()
        self.asked = []

    def __call__(self, prompt):
        self.asked.append(prompt.as_text())
        assert self.go.wait(30)
        return self.script


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_the_queue_is_never_served(stream):
    held = Held([["one"]])
    with listening(guard(held), quiet(limits={"running": 1})) as (address, service, watcher):
        first = sent(address, body(text="first"))
        wait_until(lambda: held.asked)
        second = sent(address, body(text="second", stream=stream))
        wait_until(lambda: service.admission.queued == 1)
        second.close()
        wait_until(lambda: service.admission.queued == 0)
        wait_until(lambda: watcher.ended_)
        held.go.set()
        assert b" 200 OK" in first.recv(65536)
        first.close()
        wait_until(lambda: len(watcher.ended_) == 2)
    assert held.asked == ["first"]
    gone = watcher.ended_[0]
    assert (gone.outcome, gone.status, gone.admitted) == ("cancelled", 499, None)


class Endless(ScriptedModel):
    """Draws its first segment for as long as anybody wants it."""

    def __init__(self):
        super().__init__([["one"]])
        self.drawing, self.stopped = threading.Event(), threading.Event()

    def propose(self, orders):
        self.drawing.set()
        while any(order.alive() for order in orders):
            time.sleep(0.001)
        self.stopped.set()
        return super().propose(orders)


def with_model(model):
    llm = guard()
    return type(llm)(model, llm.reward, llm.config)


@pytest.mark.parametrize("stream", [False, True])
def test_who_leaves_before_the_first_text_stops_the_model(stream):
    model = Endless()
    with listening(with_model(model)) as (address, service, watcher):
        connection = sent(address, body(stream=stream))
        assert model.drawing.wait(30)
        connection.close()
        assert model.stopped.wait(30)
        wait_until(lambda: watcher.ended_)
        wait_until(lambda: service.admission.running == 0)
    assert (watcher.ended_[0].outcome, watcher.ended_[0].status) == ("cancelled", 499)


def test_who_reads_nothing_and_leaves_frees_his_place():
    long = "x" * 100_000
    llm = guard([[long]] * 400)
    with listening(llm) as (address, service, watcher):
        connection = sent(address, body(stream=True))
        assert b" 200 OK" in connection.recv(100)
        wait_until(lambda: watcher.decided_)
        connection.close()
        wait_until(lambda: watcher.ended_)
        assert service.admission.running == 0
    assert watcher.ended_[0].outcome == "cancelled"
    assert watcher.ended_[0].status == 200


def test_a_client_that_is_slow_gets_everything():
    pieces = [[f"<{n:04d}>" + "x" * 20_000] for n in range(20)]
    with listening(guard(pieces)) as (address, _, watcher):
        connection = sent(address, body(stream=True))
        received = b""
        while not received.endswith(b"0\r\n\r\n"):
            received += connection.recv(20_000)
            time.sleep(0.0005)
        connection.close()
        wait_until(lambda: watcher.ended_)
    places = [received.index(f"<{n:04d}>".encode()) for n in range(20)]
    assert places == sorted(places)
    assert [received.count(f"<{n:04d}>".encode()) for n in range(20)] == [1] * 20
    assert b"data: [DONE]" in received
    assert watcher.ended_[0].outcome == "answered"


def taken(connection, chunk):
    """How much of it the server took before it closed the connection."""
    try:
        connection.sendall(chunk)
    except OSError:
        return 0
    return len(chunk)


def test_a_body_without_end_is_not_read_to_its_end():
    with listening(guard(), quiet(limits={"max_body_bytes": 100_000})) as (address, _, watcher):
        with socket.create_connection(address, timeout=30) as connection:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            connection.sendall(f"{head}Transfer-Encoding: chunked\r\n\r\n".encode())
            chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
            accepted = sum(taken(connection, chunk) for _ in range(1000))
        wait_until(lambda: watcher.ended_)
        assert watcher.ended_[0].status == 413
        assert accepted < 40 * 2**20
        url = f"http://{address[0]}:{address[1]}"
        assert httpx.post(url + CHAT, json=asking(), trust_env=False, timeout=30).status_code == 200


def refused(head, content):
    """What a client reads that first sends all it has."""
    with listening(guard(), quiet(limits={"max_body_bytes": 100_000})) as (address, _, _):
        connection = socket.create_connection(address, timeout=30)
        start = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        connection.sendall(f"{start}{head}\r\n\r\n".encode() + content)
        answer = b"".join(iter(lambda: connection.recv(4096), b""))
        connection.close()
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b"body_too_large" in answer


def test_who_sends_all_of_a_long_body_learns_that_it_is_too_long():
    long = b"x" * (10 * 2**20)
    refused(f"Content-Length: {len(long)}", long)
    refused("Transfer-Encoding: chunked", f"{len(long):x}\r\n".encode() + long + b"\r\n0\r\n\r\n")


def test_a_long_body_that_is_only_announced_is_refused_at_once():
    refused("Expect: 100-continue\r\nContent-Length: 100001", b"")  # and 100 is not the answer


def test_a_body_that_does_not_come_is_not_waited_for_for_ever():
    with listening(guard(), quiet(limits={"body_seconds": 0.1})) as (address, _, watcher):
        with socket.create_connection(address, timeout=30) as connection:
            head = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9"
            connection.sendall(f"{head}\r\n\r\n{{".encode())
            answer = b"".join(iter(lambda: connection.recv(4096), b""))  # the server closes the connection
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"body_too_slow" in answer
        wait_until(lambda: watcher.ended_)
    assert watcher.ended_[0].outcome == "rejected"


def test_who_stays_and_reads_nothing_is_left_in_the_end(monkeypatch):
    monkeypatch.setattr("stars_guard.server.generation.READING", -99.0)  # a second in all
    config = quiet(limits={"queue_seconds": 10, "max_seconds": 90, "running": 1})
    with listening(guard([["x" * 100_000]] * 400), config) as (address, service, watcher):
        connection = sent(address, body(stream=True))
        wait_until(lambda: watcher.ended_)
        assert service.admission.running == 0
        connection.close()
    assert watcher.ended_[0].outcome == "cancelled"
