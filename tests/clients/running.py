"""The clients' view of the running server: where it is, and what became of their requests."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from queue import Empty, Queue

import scenario


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
