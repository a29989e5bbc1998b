"""OpenAI Agents, upon OpenAIChatCompletionsModel."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import openai
import scenario
from agents import Agent, OpenAIChatCompletionsModel, Runner, RunResult, function_tool
from contract import Contract, Facts, guarded, refused
from running import Server

T = TypeVar("T")


def run(server: Server, use: Callable[[Agent[Any]], Awaitable[T]], key: str | None = None, **agent: Any) -> T:
    """Make an agent within an event loop, and use it there."""

    async def go() -> T:
        async with openai.AsyncOpenAI(base_url=server.base_url, api_key=key or server.key) as client:
            model = OpenAIChatCompletionsModel(Server.model, client)
            return await use(Agent("Tester", model=model, **agent))

    return asyncio.run(go())


def asks(prompt: str) -> Callable[[Agent[Any]], Awaitable[RunResult]]:
    return lambda agent: Runner.run(agent, prompt)


def streams(prompt: str) -> Callable[[Agent[Any]], Awaitable[tuple[list[str], Any]]]:
    async def use(agent: Agent[Any]) -> tuple[list[str], Any]:
        running = Runner.run_streamed(agent, prompt)
        pieces = [
            event.data.delta
            async for event in running.stream_events()
            if event.type == "raw_response_event" and event.data.type == "response.output_text.delta"
        ]
        return pieces, running.final_output

    return use


class TestOpenAIAgents(Contract):
    wrong_key = openai.AuthenticationError

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return run(server, asks(prompt), key).final_output

    def stream(self, server: Server, prompt: str) -> list[str]:
        return run(server, streams(prompt))[0]

    def use_tool(self, server: Server, weather: Any) -> str:
        return run(server, asks(scenario.WEATHER), tools=[function_tool(weather)]).final_output

    def test_a_streamed_run_uses_its_tool(self, server: Server) -> None:
        @function_tool
        def weather(city: str) -> str:
            """Measures the weather."""
            return scenario.MEASURED

        pieces, answer = run(server, streams(scenario.WEATHER), tools=[weather])
        assert "".join(pieces) == answer == scenario.REPORT
        guarded(server, 2)

    def test_a_structured_answer_is_parsed(self, server: Server) -> None:
        done = run(server, asks(scenario.FACTS), output_type=Facts)
        assert done.final_output == Facts(**scenario.FOUND)
        guarded(server, 1)

    def test_a_refusal_is_the_final_output(self, server: Server) -> None:
        assert run(server, asks(scenario.HARM)).final_output == scenario.REFUSAL
        refused(server)

    def test_a_streamed_refusal_is_the_final_output(self, server: Server) -> None:
        pieces, answer = run(server, streams(scenario.HARM))
        assert "".join(pieces) == answer == scenario.REFUSAL
        refused(server)
