"""What every client must be able to do with the server. A client's test class says how it is done there."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
import scenario
from pydantic import BaseModel
from running import Server

TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": scenario.TOOL,
            "parameters": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
    }
]
"""The tool as the protocol describes it."""


class Facts(BaseModel):
    """What a structured answer is read into."""

    name: str
    population: int


class Contract:
    """The tests.

    Attributes:
        wrong_key: the client's own error for a key that the server does not know.
        turns: requests until the last answer where a tool is called once.
    """

    wrong_key: type[Exception]
    turns = 2

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        """The whole answer."""
        raise NotImplementedError

    def stream(self, server: Server, prompt: str) -> list[str]:
        """The pieces of a streamed answer."""
        raise NotImplementedError

    def use_tool(self, server: Server, weather: Any) -> str:
        """The last answer of the client's own agent, or of its loop, that may call ``weather``."""
        raise NotImplementedError

    def turns_answered(self, server: Server) -> None:
        """Each request of a tool loop was; a client that first asks for more than is served says so here."""
        guarded(server, self.turns)

    def test_a_whole_answer(self, server: Server) -> None:
        assert self.ask(server, scenario.GARDEN) == scenario.ANSWER
        guarded(server, 1)

    def test_a_streamed_answer_comes_in_pieces(self, server: Server) -> None:
        pieces = [piece for piece in self.stream(server, scenario.GARDEN) if piece]
        assert "".join(pieces) == scenario.ANSWER
        assert len(pieces) >= len(scenario.PIECES)
        guarded(server, 1)

    def test_a_tool_is_called_and_its_result_read(self, server: Server) -> None:
        cities: list[str] = []

        def weather(city: str) -> str:
            """Measures the weather.

            Args:
                city: where to measure.
            """
            cities.append(city)
            return scenario.MEASURED

        assert self.use_tool(server, weather) == scenario.REPORT
        assert cities == [scenario.CITY]
        self.turns_answered(server)

    def test_a_wrong_key_is_the_clients_own_error(self, server: Server) -> None:
        with pytest.raises(self.wrong_key):
            self.ask(server, scenario.GARDEN, key="sk-wrong")
        assert [one["status"] for one in server.served(1)] == [401]

    def test_a_full_server_is_asked_again(self, server: Server) -> None:
        with server.full():
            assert self.ask(server, scenario.GARDEN) == scenario.ANSWER
        assert sorted(one["status"] for one in server.served(3)) == [200, 200, 429]


class FullContract(Contract):
    """What else is asked of a client that can be told to do it in one call each.

    Attributes:
        too_long: the client's own error for a prompt that is longer than the server takes.
    """

    too_long: type[Exception]

    def structured(self, server: Server, prompt: str) -> Any:
        """The answer as an object in the form of :class:`Facts`."""
        raise NotImplementedError

    def refusal(self, server: Server, prompt: str) -> str:
        """The whole answer of a request that is refused; fails where the client does not see that it was."""
        raise NotImplementedError

    def leave(self, server: Server, prompt: str) -> str:
        """The first piece of a stream, which is given up then."""
        raise NotImplementedError

    def test_a_structured_answer(self, server: Server) -> None:
        assert self.structured(server, scenario.FACTS) == scenario.FOUND
        guarded(server, 1)

    def test_a_refusal_is_shown(self, server: Server) -> None:
        assert self.refusal(server, scenario.HARM) == scenario.REFUSAL
        refused(server)

    def test_a_prompt_that_is_too_long_is_the_clients_own_error(self, server: Server) -> None:
        with pytest.raises(self.too_long):
            self.ask(server, scenario.TOO_LONG)
        assert [one["status"] for one in server.served(1)] == [400]

    def test_a_client_that_leaves_in_midstream_frees_the_server(self, server: Server) -> None:
        assert scenario.VERSE.startswith(self.leave(server, scenario.TALE))
        assert [one["outcome"] for one in server.served(1)] == ["cancelled"]
        assert self.ask(server, scenario.GARDEN) == scenario.ANSWER
        guarded(server, 1)


def guarded_unthreaded(server: Server, requests: int) -> None:
    """The same, after one that wanted the server to keep the conversation and was told to send all of it."""
    first, *others = server.served(1 + requests)
    assert (first["status"], first["outcome"]) == (400, "rejected"), first
    assert {(one["status"], one["outcome"]) for one in others} == {(200, "answered")}, others


def guarded(server: Server, requests: int) -> None:
    """Each of the requests since the last look was answered, after a candidate of it was rejected."""
    for one in server.served(requests):
        assert (one["status"], one["outcome"]) == (200, "answered"), one
        assert one["rejected"], one


def refused(server: Server) -> None:
    """The one request since the last look was refused, which is not an error."""
    [one] = server.served(1)
    assert (one["status"], one["outcome"]) == (200, "refused"), one


def tool_loop(create: Callable[..., Any], request: dict[str, Any], weather: Callable[..., str]) -> str:
    """What an application does that has no agent: ask, call, and ask again with the results."""
    while True:
        choice = create(**request, tools=TOOLS).choices[0]
        if choice.finish_reason == "stop":
            return choice.message.content
        assert choice.finish_reason == "tool_calls"
        request["messages"].append(choice.message)
        for call in choice.message.tool_calls:
            result = weather(**json.loads(call.function.arguments))
            request["messages"].append({"role": "tool", "tool_call_id": call.id, "content": result})
