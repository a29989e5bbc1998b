"""LangChain: ChatOpenAI, and create_agent upon it."""

from __future__ import annotations

from typing import Any

import openai
import pytest
import scenario
from contract import Contract, Facts, guarded, refused
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI
from running import Server

ASKED = {"messages": [{"role": "user", "content": scenario.WEATHER}]}


class TestLangChain(Contract):
    wrong_key = openai.AuthenticationError

    def model(self, server: Server, key: str | None = None) -> ChatOpenAI:
        return ChatOpenAI(model=Server.model, base_url=server.base_url, api_key=key or server.key)

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.model(server, key).invoke(prompt).text

    def stream(self, server: Server, prompt: str) -> list[str]:
        return [chunk.text for chunk in self.model(server).stream(prompt)]

    def use_tool(self, server: Server, weather: Any) -> str:
        agent = create_agent(self.model(server), tools=[weather])
        return agent.invoke(ASKED)["messages"][-1].text

    def test_an_agent_streams_its_tokens(self, server: Server) -> None:
        agent = create_agent(self.model(server), tools=[weather])
        pieces = [
            chunk.text
            for chunk, metadata in agent.stream(ASKED, stream_mode="messages")
            if metadata["langgraph_node"] == "model"
        ]
        assert "".join(pieces) == scenario.REPORT
        guarded(server, 2)

    def test_a_refusal_is_a_message_that_says_so(self, server: Server) -> None:
        message = self.model(server).invoke(scenario.HARM)
        assert message.text == scenario.REFUSAL
        assert message.response_metadata["finish_reason"] == "content_filter"
        refused(server)

    def test_a_structured_answer_is_parsed(self, server: Server) -> None:
        model = self.model(server).with_structured_output(Facts)
        assert model.invoke(scenario.FACTS) == Facts(**scenario.FOUND)
        guarded(server, 1)

    def test_a_structured_answer_by_a_forced_call(self, server: Server) -> None:
        model = self.model(server).with_structured_output(Facts, method="function_calling")
        assert model.invoke(scenario.FACTS) == Facts(**scenario.FOUND)
        guarded(server, 1)

    def test_a_refused_structured_answer_is_an_error(self, server: Server) -> None:
        with pytest.raises(openai.ContentFilterFinishReasonError):
            self.model(server).with_structured_output(Facts).invoke(scenario.HARM)
        refused(server)


def weather(city: str) -> str:
    """Measures the weather."""
    return scenario.MEASURED
