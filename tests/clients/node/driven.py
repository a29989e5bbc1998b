"""Clients in JavaScript as the contract sees them: a process of Node.js that is asked line by line."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

import pytest
import scenario
from contract import FullContract
from network import elsewhere
from running import Server

Tool = Callable[..., Any]


class NodeError(Exception):
    """An error of a client. Its class there has a class here of the same name.

    Attributes:
        status: HTTP status that the client read.
        code: the code of the body, where it has one.
    """

    def __init__(self, message: str, status: int | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


_errors: dict[str, type[NodeError]] = {}


def error(name: str) -> type[NodeError]:
    """The class for errors whose class in JavaScript is called ``name``."""
    return _errors.setdefault(name, type(name, (NodeError,), {}))


class Node:
    """The running driver."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def do(self, request: dict[str, Any], tool: Tool | None = None) -> Any:
        """Have one action of a client done; ``tool`` is called when the client's model calls its tool."""
        self._write(request)
        while "call" in (answer := self._read()):
            assert tool is not None
            self._write({"result": tool(**answer["call"])})
        elsewhere.extend(answer["elsewhere"])
        if "error" in answer:
            told = answer["error"]
            raise error(told["name"])(told["message"], told.get("status"), told.get("code"))
        return answer["value"]

    def _write(self, line: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(line) + "\n")
        self._process.stdin.flush()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the driver ended"
        answer: dict[str, Any] = json.loads(line)
        return answer


class InNode(FullContract):
    """The contract, kept by a module of JavaScript.

    Attributes:
        client: the module, by the driver's name for it.
        refused_as: what the client says of a refusal.
    """

    client: str
    refused_as = "content_filter"

    @pytest.fixture(autouse=True)
    def _driven(self, node: Node) -> None:
        self.node = node

    def do(self, server: Server, action: str, prompt: str, tool: Tool | None = None, **reached: str) -> Any:
        target = {"base_url": server.base_url, "key": server.key, "model": server.model, **reached}
        return self.node.do(
            {"client": self.client, "action": action, "prompt": prompt, "server": target}, tool
        )

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.do(server, "ask", prompt, key=key or server.key)

    def stream(self, server: Server, prompt: str) -> list[str]:
        return self.do(server, "stream", prompt)

    def use_tool(self, server: Server, weather: Any) -> str:
        return self.do(server, "use_tool", scenario.WEATHER, weather)

    def structured(self, server: Server, prompt: str) -> Any:
        return self.do(server, "structured", prompt)

    def refusal(self, server: Server, prompt: str) -> str:
        answer = self.do(server, "refusal", prompt)
        assert answer["reason"] == self.refused_as
        return answer["text"]

    def leave(self, server: Server, prompt: str) -> str:
        return self.do(server, "abort", prompt)

    def test_a_tool_is_called_in_a_stream(self, server: Server) -> None:
        report = self.do(server, "use_tool_streaming", scenario.WEATHER, lambda city: scenario.MEASURED)
        assert report == scenario.REPORT
        self.turns_answered(server)
