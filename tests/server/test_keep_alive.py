"""Streams that have nothing to show yet, and are kept from being cut."""

from __future__ import annotations

import json
import threading

import httpx
import pytest

from stars_guard.testing import KeywordReward
from tests.support.server_client import BAD, CHAT, asking, guard, quiet
from tests.support.server_socket import listening

LINE, PING = b": keep-alive\n\n", b'event: ping\ndata: {"type": "ping"}\n\n'
DOORS = {
    CHAT: (asking(), LINE),
    "/v1/completions": ({"prompt": "Hi"}, LINE),
    "/v1/responses": ({"input": "Hi"}, LINE),
    "/v1/messages": (asking(max_tokens=9), PING),
}


class Waits(KeywordReward):
    """Does not judge certain texts until it is told to."""

    def __init__(self, *words):
        super().__init__([BAD])
        self.words = words
        self.told = threading.Event()

    def score(self, requests):
        if any(word in request.response for request in requests for word in self.words):
            assert self.told.wait(60)
        return super().score(requests)


def streamed(reward, path, body, script=None):
    """The bytes of a stream, whose reward model waits until a second line came that says nothing."""
    nothing = DOORS[path][1]
    config = quiet(limits={"keep_alive_seconds": 0.01})
    with (
        listening(guard(script, reward), config) as ((host, port), _, _),
        httpx.Client(base_url=f"http://{host}:{port}", trust_env=False, timeout=60) as client,
        client.stream("POST", path, json={**body, "stream": True}) as response,
    ):
        seen = b""
        for piece in response.iter_raw():
            seen += piece
            if seen.count(nothing) > 1:
                reward.told.set()
        return response.status_code, seen


@pytest.mark.parametrize("path", DOORS)
def test_a_stream_is_not_silent_before_its_first_piece(path):
    body, nothing = DOORS[path]
    status, seen = streamed(Waits("one"), path, body)
    assert status == 200
    first = next(event for event in seen.split(b"\n\n") if event != nothing.strip())
    assert seen.startswith(nothing)
    assert b"one" in seen[seen.index(first) :]


@pytest.mark.parametrize("path", DOORS)
def test_nor_while_a_segment_is_drawn_again(path):
    body, nothing = DOORS[path]
    script = [["one "], [f"{BAD} ", "two "], ["three"]]
    _, seen = streamed(Waits(BAD), path, body, script)
    after = seen[seen.index(b"one ") :]
    assert nothing in after[: after.index(b"two ")]
    assert BAD.encode() not in seen


def test_what_says_nothing_does_not_count():
    _, seen = streamed(Waits("one"), CHAT, asking())
    said = [event for event in seen.decode().split("\n\n") if event.startswith("data: {")]
    text = "".join(json.loads(event[6:])["choices"][0]["delta"].get("content") or "" for event in said)
    assert text == "one two three"


class Fails(Waits):
    def score(self, requests):
        super().score(requests)
        raise OSError("away")


@pytest.mark.parametrize(
    ("path", "last"),
    [
        (CHAT, b'data: {"error"'),
        ("/v1/responses", b"event: response.failed"),
        ("/v1/messages", b"event: error"),
    ],
)
def test_a_failure_after_that_is_an_event(path, last):
    status, seen = streamed(Fails("one"), path, DOORS[path][0])
    assert status == 200
    assert seen.strip().split(b"\n\n")[-1].startswith(last)
    assert b"scoring_error" in seen
