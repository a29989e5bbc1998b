"""The server, in a process and an environment of its own, and the clients' view of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from queue import Empty, Queue

import pytest
import scenario

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PYTHON = os.environ.get("STARS_GUARD_PYTHON", str(ROOT / ".venv" / "bin" / "python"))

# The clients are unmodified; what they would report to elsewhere is off by their own switches.
os.environ |= {
    "OPENAI_API_KEY": "sk-not-for-this-server",
    "OPENAI_AGENTS_DISABLE_TRACING": "1",
    "HAYSTACK_TELEMETRY_ENABLED": "False",
    "LANGSMITH_TRACING": "false",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    "DO_NOT_TRACK": "1",
}

if find_spec("stars_guard"):
    raise pytest.UsageError("stars_guard can be imported here; the clients must have nothing but HTTP")


def _stay_here(event: str, arguments: tuple[object, ...]) -> None:
    if event in ("socket.connect", "socket.getaddrinfo"):
        host = arguments[1][0] if event == "socket.connect" else arguments[0]  # type: ignore[index]
        if host not in ("127.0.0.1", b"127.0.0.1"):
            elsewhere.append(str(host))
            raise ConnectionRefusedError(f"a client wanted to reach {host}")


elsewhere: list[str] = []
sys.addaudithook(_stay_here)


class Server:
    """The running server.

    Attributes:
        base_url: what a client is given in place of OpenAI's.
        key: a key that the server knows.
    """

    model = "scripted"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        hello = json.loads(process.stdout.readline())
        self.base_url = f"http://127.0.0.1:{hello['port']}/v1"
        self.key: str = hello["key"]
        self._said: Queue[dict[str, object]] = Queue()
        threading.Thread(target=self._listen, args=[process.stdout], daemon=True).start()

    def _listen(self, lines: Iterator[str]) -> None:
        for line in lines:
            self._said.put(json.loads(line))

    def served(self, count: int) -> list[dict[str, object]]:
        """What became of the ``count`` requests since the last call; fails when there were fewer or more."""
        found = [self._said.get(timeout=10) for _ in range(count)]
        assert not self.forget(), "there were more requests"
        return found

    def forget(self) -> list[dict[str, object]]:
        """What a test did not ask for."""
        left = []
        with suppress(Empty):
            while True:
                left.append(self._said.get_nowait())
        return left

    @contextmanager
    def full(self) -> Iterator[None]:
        """While this lasts, there is no room, until a request was turned away."""
        waiting = threading.Thread(target=self._wait)
        waiting.start()
        assert self._said.get(timeout=10) == {"waiting": True}
        yield
        waiting.join(timeout=10)

    def _wait(self) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": scenario.WAIT}]}
        request = urllib.request.Request(
            f"{self.base_url}/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()


@pytest.fixture
def server(running: Server) -> Server:
    running.forget()
    return running


@pytest.fixture(scope="session")
def running() -> Iterator[Server]:
    command = [PYTHON, os.environ.get("CLIENTS_STUB") or str(HERE / "serve_scripted.py")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
    ) as process:
        yield Server(process)
        process.terminate()
    assert process.returncode in (0, -15)


@pytest.fixture(autouse=True)
def _nobody_leaves() -> Iterator[None]:
    yield
    assert not elsewhere, f"a client wanted to reach {elsewhere}"
