"""LlamaIndex: OpenAILike, and FunctionAgent upon it."""

from __future__ import annotations

import asyncio
from typing import Any

import openai
import scenario
from contract import Contract, Facts, guarded, refused
from llama_index.core.agent.workflow import AgentStream, FunctionAgent
from llama_index.core.llms import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.llms.openai_like import OpenAILike
from running import Server


class TestLlamaIndex(Contract):
    wrong_key = openai.AuthenticationError

    def model(self, server: Server, key: str | None = None) -> OpenAILike:
        return OpenAILike(
            Server.model,
            api_base=server.base_url,
            api_key=key or server.key,
            is_chat_model=True,
            is_function_calling_model=True,
        )

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.model(server, key).chat([ChatMessage(prompt)]).message.content

    def stream(self, server: Server, prompt: str) -> list[str]:
        return [part.delta or "" for part in self.model(server).stream_chat([ChatMessage(prompt)])]

    def use_tool(self, server: Server, weather: Any) -> str:
        async def go() -> str:
            running = FunctionAgent(tools=[weather], llm=self.model(server)).run(scenario.WEATHER)
            events = [event async for event in running.stream_events()]
            answer = (await running).response.content
            assert "".join(event.delta for event in events if isinstance(event, AgentStream)) == answer
            return answer

        return asyncio.run(go())

    def test_an_agent_that_does_not_stream(self, server: Server) -> None:
        async def weather(city: str) -> str:
            """Measures the weather."""
            return scenario.MEASURED

        async def go() -> str:
            agent = FunctionAgent(tools=[weather], llm=self.model(server), streaming=False)
            return (await agent.run(scenario.WEATHER)).response.content

        assert asyncio.run(go()) == scenario.REPORT
        guarded(server, 2)

    def test_a_completion_of_a_text(self, server: Server) -> None:
        model = OpenAILike(Server.model, api_base=server.base_url, api_key=server.key)
        assert model.complete(scenario.GARDEN).text == scenario.ANSWER
        guarded(server, 1)

    def test_a_structured_answer_by_a_forced_call(self, server: Server) -> None:
        found = self.model(server).structured_predict(Facts, PromptTemplate(scenario.FACTS))
        assert found == Facts(**scenario.FOUND)
        guarded(server, 1)

    def test_a_refusal_is_read_like_an_answer(self, server: Server) -> None:
        response = self.model(server).chat([ChatMessage(scenario.HARM)])
        assert response.message.content == scenario.REFUSAL
        assert response.raw.choices[0].finish_reason == "content_filter"
        refused(server)
