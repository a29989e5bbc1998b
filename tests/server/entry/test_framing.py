"""Requests that two readers could cut in two different ways are refused, on a real socket."""

from __future__ import annotations

import json
import socket

import pytest

from tests.support.server_client import CHAT, asking, guard, quiet
from tests.support.server_socket import listening

BODY = json.dumps(asking()).encode()
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY)


def request(*headers, line=f"POST {CHAT} HTTP/1.1", end=b"\r\n", body=b""):
    """A request as bytes.

    Args:
        headers: its header lines, beside Host and Content-Type.
        line: its first line.
        end: what every line ends with.
        body: what comes after the empty line.
    """
    lines = [line, "Host: x", "Content-Type: application/json", *headers, "", ""]
    return end.join(each.encode() for each in lines) + body


def answer(sent, **limits):
    """All that the server says to these bytes, until it closes the connection."""
    with (
        listening(guard(), quiet(limits=limits)) as (address, _, _),
        socket.create_connection(address, timeout=30) as connection,
    ):
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65536), b""))


LENGTH = f"Content-Length: {len(BODY)}"
CONTRADICTORY = {
    "a length and a coding": request(LENGTH, "Transfer-Encoding: chunked", body=CHUNKED),
    "a coding and a length": request("Transfer-Encoding: chunked", LENGTH, body=BODY),
    "a coding with another name": request("transfer-encoding:chunked", LENGTH, body=CHUNKED),
    "two lengths": request(LENGTH, "Content-Length: 1", body=BODY),
    "two lengths in one header": request(f"{LENGTH}, 1", body=BODY),
    "a length with a sign": request(f"Content-Length: +{len(BODY)}", body=BODY),
    "a length in another base": request("Content-Length: 0x10", body=BODY),
    "a coding of HTTP/1.0": request("Transfer-Encoding: chunked", line=f"POST {CHAT} HTTP/1.0", body=CHUNKED),
    "a folded header": request("X-A: b\r\n Transfer-Encoding: chunked", LENGTH, body=BODY),
    "a header folded by a tab": request("X-A: b\r\n\tc", LENGTH, body=BODY),
    "lines that end in LF": request(LENGTH, end=b"\n", body=BODY),
    "one line that ends in LF": request("X-A: b\nX-B: c", LENGTH, body=BODY),
    "an LF before the body": request(LENGTH)[:-2] + b"\n" + BODY,
    "a CR in a value": request("X-A: b\rX-B: c", LENGTH, body=BODY),
    "a space before the colon": request(f"Content-Length : {len(BODY)}", body=BODY),
    "two hosts": request("Host: y", LENGTH, body=BODY),
    "trailers that end in LF": request("Transfer-Encoding: chunked", body=CHUNKED[:-2] + b"\n"),
    "trailers with a folded line": request(
        "Transfer-Encoding: chunked", body=CHUNKED[:-2] + b"X-A: b\r\n c\r\n\r\n"
    ),
    "a chunk without an end": request("Transfer-Encoding: chunked", body=b"1\r\nxx\r\n0\r\n\r\n"),
    "what is no HTTP": b"\x16\x03\x01 hello\r\n\r\n",
}


@pytest.mark.parametrize("name", CONTRADICTORY)
def test_what_can_be_read_in_two_ways_is_refused_and_the_connection_closed(name):
    head, _, body = answer(CONTRADICTORY[name]).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert b"\r\nConnection: close" in head
    assert json.loads(body)["error"]["code"] == "malformed_http"


def test_no_second_request_is_taken_out_of_the_first():
    smuggled = request("Connection: close", line="GET /v1/models HTTP/1.1")
    both = answer(request("Transfer-Encoding: chunked", LENGTH, body=b"0\r\n\r\n" + smuggled))
    assert both.count(b"HTTP/1.1 ") == 1
    assert b"list" not in both


def test_other_codings_are_not_spoken():
    said = answer(request("Transfer-Encoding: gzip, chunked", body=CHUNKED))
    assert said.startswith(b"HTTP/1.1 501 ")
    assert b"malformed_http" in said


@pytest.mark.parametrize(
    "head",
    [
        request(*(f"X-{n}: a" for n in range(200))),
        request("X-A: " + "a" * 40_000),
        request("X-A: " + "a" * 40_000)[:-2],  # and not yet at its end
        request(line="GET /" + "a" * 40_000 + " HTTP/1.1"),
    ],
    ids=["many headers", "a long header", "a head without end", "a long path"],
)
def test_headers_are_bounded_in_size_and_number(head):
    said = answer(head)
    assert said.startswith(b"HTTP/1.1 431 ")
    assert b"malformed_http" in said


def test_the_bounds_are_settings():
    assert answer(request(*("X: a",) * 9), max_headers=10).startswith(b"HTTP/1.1 431 ")
    assert answer(request("X: " + "a" * 300), max_head_bytes=256).startswith(b"HTTP/1.1 431 ")


def test_a_body_in_chunks_of_a_byte_is_refused_before_it_costs_much():
    dribbled = b"".join(b"1\r\n%c\r\n" % byte for byte in BODY.ljust(5000)) + b"0\r\n\r\n"
    said = answer(request("Transfer-Encoding: chunked", body=dribbled))
    assert said.startswith(b"HTTP/1.1 400 ")


def test_what_is_right_is_answered_in_pieces_of_any_size():
    chunked = b"".join(b"%x;ext=1\r\n%s\r\n" % (1, BODY[at : at + 1]) for at in range(len(BODY)))
    right = [
        request(LENGTH, body=BODY),
        request("Transfer-Encoding: chunked", body=chunked + b"0\r\nX-Trailer: a\r\n\r\n"),
        request("Connection: close", LENGTH, body=BODY),
    ]
    with (
        listening(guard(), quiet()) as (address, _, _),
        socket.create_connection(address, timeout=30) as connection,
    ):
        for byte in b"".join(right):  # pipelined, too
            connection.sendall(bytes([byte]))
        said = b"".join(iter(lambda: connection.recv(65536), b""))
    assert said.count(b"HTTP/1.1 200 OK") == 3


def test_another_protocol_is_not_switched_to():
    said = answer(
        request("Connection: Upgrade, close", "Upgrade: websocket", line="GET /health/live HTTP/1.1")
    )
    assert said.startswith(b"HTTP/1.1 200 ")
