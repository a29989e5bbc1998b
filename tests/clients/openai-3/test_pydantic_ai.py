"""Pydantic AI, upon OpenAIChatModel."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import scenario
from contract import Contract, Facts, guarded, refused
from pydantic_ai import Agent, ModelHTTPError, NativeOutput
from pydantic_ai.capabilities import RaiseContentFilterError
from pydantic_ai.exceptions import ContentFilterError
from pydantic_ai.messages import ModelResponse
from pydantic_ai.models.openai import OpenAIChatModel
from pydantic_ai.providers.openai import OpenAIProvider
from running import Server


class TestPydanticAI(Contract):
    wrong_key = ModelHTTPError

    def agent(self, server: Server, key: str | None = None, **agent: Any) -> Agent[None, Any]:
        provider = OpenAIProvider(base_url=server.base_url, api_key=key or server.key)
        return Agent(OpenAIChatModel(Server.model, provider=provider), **agent)

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.agent(server, key).run_sync(prompt).output

    def stream(self, server: Server, prompt: str) -> list[str]:
        async def go() -> list[str]:
            async with self.agent(server).run_stream(prompt) as running:
                return [piece async for piece in running.stream_text(delta=True, debounce_by=None)]

        return asyncio.run(go())

    def use_tool(self, server: Server, weather: Any) -> str:
        return self.agent(server, tools=[weather]).run_sync(scenario.WEATHER).output

    def test_a_streamed_run_uses_its_tool(self, server: Server) -> None:
        def weather(city: str) -> str:
            """Measures the weather."""
            return scenario.MEASURED

        async def go() -> str:
            async with self.agent(server, tools=[weather]).run_stream(scenario.WEATHER) as running:
                return await running.get_output()

        assert asyncio.run(go()) == scenario.REPORT
        guarded(server, 2)

    @pytest.mark.parametrize("output_type", [Facts, NativeOutput(Facts)], ids=["by a call", "by a schema"])
    def test_a_structured_answer_is_parsed(self, server: Server, output_type: Any) -> None:
        done = self.agent(server, output_type=output_type).run_sync(scenario.FACTS)
        assert done.output == Facts(**scenario.FOUND)
        guarded(server, 1)

    def test_a_refusal_has_a_finish_reason(self, server: Server) -> None:
        done = self.agent(server).run_sync(scenario.HARM)
        assert done.output == scenario.REFUSAL
        last = done.all_messages()[-1]
        assert isinstance(last, ModelResponse)
        assert last.finish_reason == "content_filter"
        refused(server)

    def test_a_refusal_is_its_own_error_where_an_agent_asks_for_that(self, server: Server) -> None:
        agent = self.agent(server, output_type=NativeOutput(Facts), capabilities=[RaiseContentFilterError()])
        with pytest.raises(ContentFilterError):
            agent.run_sync(scenario.HARM)
        refused(server)
