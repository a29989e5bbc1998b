"""Connections that send nothing, or too slowly, or do not read: each is ended, and others are served."""

from __future__ import annotations

import io
import json
import logging
import socket
from contextlib import ExitStack

import httpx
import pytest
from starlette.responses import Response
from uvicorn.protocols.http.h11_impl import H11Protocol

from stars_guard.server.entry.connections import ConnectionLimits as Limits
from stars_guard.server.entry.connections import Connections, network_of
from stars_guard.server.entry.protocol import BoundedProtocol
from stars_guard.server.generation import Generation
from stars_guard.server.telemetry.closing import Closing, ClosingLog
from stars_guard.server.telemetry.logs import write_logs
from stars_guard.server.telemetry.observers import ObservabilitySettings
from tests.server.entry.test_disconnect import Endless, body, with_model
from tests.support.server_client import CHAT, guard, quiet
from tests.support.server_socket import listening, sent, wait_until

BODYLESS = f"POST {CHAT} HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n".encode()
LIVE = b"GET /health/live HTTP/1.1\r\nHost: x\r\n"


def opened(address, data=b""):
    """A connection on which this was sent."""
    connection = socket.create_connection(address, timeout=30)
    connection.sendall(data)
    return connection


def rest(connection):
    """All that comes until the server closes the connection."""
    try:
        return b"".join(iter(lambda: connection.recv(65536), b""))
    except ConnectionResetError:
        return b""


def live(address):
    """Whether a new client is answered."""
    with opened(address, LIVE + b"Connection: close\r\n\r\n") as connection:
        return rest(connection).startswith(b"HTTP/1.1 200 ")


def ended(service):
    """Number of connections that the server ended, by the reason."""
    text = service.telemetry.metrics.exposition("")[0].decode()
    name = "stars_guard_connections_closed_total"
    return {
        reason: int(count)
        for reason in Closing
        if (count := float(text.partition(f'{name}{{reason="{reason}"}} ')[2].partition("\n")[0]))
    }


@pytest.mark.parametrize("begun", [b"", LIVE, LIVE + b"X-Half: "])
def test_a_head_that_does_not_come_ends_the_connection(begun):
    with listening(guard(), quiet(limits={"head_seconds": 0.1})) as (address, service, _):
        with opened(address, begun) as connection:
            said = rest(connection)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"head_too_slow" in said
        assert ended(service) == {"head_too_slow": 1}
        assert live(address)


def test_the_head_of_a_later_request_has_no_more_time():
    with (
        listening(guard(), quiet(limits={"head_seconds": 0.1})) as (address, _, _),
        opened(address, LIVE + b"\r\n") as connection,
    ):
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        connection.sendall(LIVE)
        assert b"HTTP/1.1 408 Request Timeout\r\n" in rest(connection)


def test_a_head_that_comes_byte_by_byte_has_no_more_time():
    with listening(guard(), quiet(limits={"head_seconds": 0.1})) as (address, service, _):
        connection = opened(address, LIVE + b"X: ")
        while not ended(service):  # each byte is progress, and none of them helps
            try:
                connection.sendall(b"a")
            except OSError:
                break
        wait_until(lambda: ended(service) == {"head_too_slow": 1})
        connection.close()


def test_an_idle_connection_is_closed():
    with listening(guard(), quiet(limits={"idle_seconds": 0.1})) as (address, service, _):
        with opened(address, LIVE + b"\r\n") as connection:
            said = rest(connection)
        assert said.count(b"HTTP/1.1 ") == 1
        assert ended(service) == {}


def test_a_body_that_does_not_begin_is_waited_for_for_less_than_one_that_does():
    limits = {"body_start_seconds": 0.1, "body_seconds": 30}
    with listening(guard(), quiet(limits=limits)) as (address, _, watcher):
        with opened(address, BODYLESS) as connection:
            said = rest(connection)
        assert said.startswith(b"HTTP/1.1 408 ")
        assert b"did not begin within 0.1 seconds" in said
        wait_until(lambda: watcher.ended_)


def test_a_body_that_nobody_reads_ends_the_connection():
    with listening(guard(), quiet(limits={"body_seconds": 0.1})) as (address, service, _):
        with opened(address, LIVE + b"Content-Length: 9\r\n\r\n{") as connection:
            said = rest(connection)  # answered at once, and then nothing more comes
        assert said.startswith(b"HTTP/1.1 200 ")
        assert ended(service) == {"body_too_slow": 1}


def test_a_client_that_reads_nothing_frees_its_place():
    config = quiet(limits={"write_seconds": 0.2, "running": 1})
    with listening(guard([["x" * 100_000]] * 400), config) as (address, service, watcher):
        connection = sent(address, body(stream=True))
        wait_until(lambda: watcher.ended_)
        assert service.admission.running == 0
        assert ended(service) == {"read_too_slowly": 1}
        assert live(address)
        connection.close()
    assert watcher.ended_[0].outcome == "cancelled"


class GivenUp(Response):
    """Begins to send an answer, and ends it in the middle."""

    async def __call__(self, scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"x" * 16_000_000, "more_body": True})


def test_what_the_application_gave_up_is_not_waited_for_either(monkeypatch):
    monkeypatch.setattr(Generation, "answer", lambda *request: GivenUp())
    monkeypatch.setattr(BoundedProtocol, "pause_writing", H11Protocol.pause_writing)  # whatever was written
    with listening(guard(), quiet(limits={"write_seconds": 0.2})) as (address, service, _):
        connection = sent(address, body(stream=True))
        wait_until(lambda: ended(service) == {"read_too_slowly": 1})
        connection.close()


def test_a_whole_answer_that_is_not_read_ends_the_connection():
    config = quiet(limits={"write_seconds": 0.2, "idle_seconds": 0.1})
    with listening(guard([["x" * 5_000_000]]), config) as (address, service, watcher):
        connection = sent(address, body(), holds=65_536)
        wait_until(lambda: watcher.ended_)
        wait_until(lambda: ended(service) == {"read_too_slowly": 1})
        connection.close()
    assert watcher.ended_[0].outcome == "answered"


def test_many_half_heads_do_not_keep_others_out():
    limits = {"connections": 8, "connections_per_address": 8, "head_seconds": 60}
    with listening(guard(), quiet(limits=limits)) as (address, service, _), ExitStack() as held:
        slow = [held.enter_context(opened(address, LIVE)) for _ in range(40)]
        wait_until(lambda: ended(service) == {"crowded_out": 32})
        assert all(rest(connection) == b"" for connection in slow[:32])  # who waited longest went first
        assert all(live(address) for _ in range(10))


def test_many_half_bodies_do_not_keep_others_out():
    limits = {"connections": 8, "connections_per_address": 8, "body_seconds": 60, "body_start_seconds": 60}
    with listening(guard(), quiet(limits=limits)) as (address, service, watcher), ExitStack() as held:
        for _ in range(20):
            held.enter_context(opened(address, BODYLESS))
        wait_until(lambda: ended(service) == {"crowded_out": 12})
        assert live(address)
        wait_until(lambda: len(watcher.began_) - len(watcher.ended_) <= 8)


@pytest.mark.parametrize(
    ("limits", "reason"),
    [
        ({"connections": 2}, "too_many"),
        ({"connections": 9, "connections_per_address": 2}, "too_many_from_address"),
    ],
)
def test_no_answer_is_given_up_for_a_newcomer(limits, reason):
    model = Endless()
    with listening(with_model(model), quiet(limits=limits)) as (address, service, watcher):
        asking = [sent(address, body(stream=True)) for _ in range(2)]
        wait_until(lambda: len(watcher.began_) == 2)
        assert model.drawing.wait(30)
        with opened(address) as newcomer:
            said = rest(newcomer)
        assert said.startswith(b"HTTP/1.1 503 ")
        assert b"too_many_connections" in said
        assert ended(service) == {reason: 1}
        for connection in asking:
            connection.close()
        wait_until(lambda: len(watcher.ended_) == 2)
        wait_until(lambda: live(address))
    assert model.stopped.wait(30)


def test_a_connection_is_kept_and_used_again():
    with listening(guard(), quiet(limits={"connections": 1})) as (address, service, _):
        with httpx.Client(base_url=f"http://{address[0]}:{address[1]}", trust_env=False) as client:
            answers = [client.get("/health/live") for _ in range(5)]
            text = client.get("/metrics").text
        assert {answer.status_code for answer in answers} == {200}
        assert "stars_guard_connections 1.0" in text
        assert "stars_guard_connections_limit 1.0" in text
        assert ended(service) == {}


class Aborted:
    """A connection from an address."""

    def __init__(self, address):
        self.address, self.aborted = address, False

    def abort(self):
        self.aborted = True


def test_who_has_the_most_connections_of_an_address_makes_room_for_himself():
    reasons = []
    connections = Connections(Limits(connections=4, connections_per_address=2), 3, reasons.append)
    first, second, third, other = map(Aborted, ["a", "a", "a", "b"])
    for each in (other, first, second):
        assert connections.enter(each) is None
        connections.waits(each, True)
    connections.waits(first, True)  # another wait begins, so it is no longer the one that waits longest
    assert connections.enter(third) is None
    assert [each.aborted for each in (first, second, other)] == [False, True, False]
    connections.leave(second)  # as the event loop says in the end
    assert (len(connections), reasons) == (3, [Closing.CROWDED_OUT])
    for each in (first, third, other):
        connections.waits(each, False)
    assert connections.enter(Aborted("a")) is Closing.TOO_MANY_FROM_ADDRESS
    assert connections.enter(Aborted("c")) is Closing.TOO_MANY


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("", ""),
    ],
)
def test_an_ipv6_client_is_its_network(address, network):
    assert network_of(address) == network


def test_what_was_ended_is_one_line():
    stream = io.StringIO()
    handler = write_logs(ObservabilitySettings(), stream)
    try:
        config = quiet(limits={"connections": 4, "head_seconds": 60})
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("stars_guard.server.process.ClosingLog", lambda: ClosingLog(0.2))
            with listening(guard(), config) as (address, service, _), ExitStack() as held:
                for _ in range(20):
                    held.enter_context(opened(address, LIVE))
                wait_until(lambda: ended(service) == {"crowded_out": 16})
                wait_until(lambda: "connections closed" in stream.getvalue())
    finally:
        logging.getLogger().removeHandler(handler)
    lines = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert {line["message"] for line in lines} == {"connections closed"}
    assert sum(line["crowded_out"] for line in lines) == 16
    assert {line["level"] for line in lines} == {"warning"}
