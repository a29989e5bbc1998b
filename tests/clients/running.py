"""The clients' view of the running server: where it is, and what became of their requests."""

from __future__ import annotations

import json
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
        self._root = f"http://127.0.0.1:{hello['port']}"
        self.base_url = f"{self._root}/v1"
        self.key: str = hello["key"]

    def served(self, count: int) -> list[dict[str, object]]:
        """What became of the ``count`` requests since the last call; fails when there were fewer or more."""
        ended = self.forget()
        assert len(ended) == count, ended
        return ended

    def forget(self) -> list[dict[str, object]]:
        """What became of all requests since the last call; waits until none runs."""
        return self._get("/served")

    @contextmanager
    def full(self) -> Iterator[None]:
        """While this lasts, there is no room, until a request was turned away."""
        waiting = threading.Thread(target=self._wait)
        waiting.start()
        assert self._get("/full") is True
        yield
        waiting.join(timeout=30)

    def _get(self, page: str) -> Any:
        with urllib.request.urlopen(self._root + page, timeout=40) as response:
            return json.load(response)

    def _wait(self) -> None:
        body = {"model": self.model, "messages": [{"role": "user", "content": scenario.WAIT}]}
        request = urllib.request.Request(
            f"{self.base_url}/chat/completions",
            json.dumps(body).encode(),
            {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"},
        )
        urllib.request.urlopen(request).close()
