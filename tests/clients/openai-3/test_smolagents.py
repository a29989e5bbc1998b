"""smolagents: OpenAIModel, and ToolCallingAgent upon it."""

from __future__ import annotations

from typing import Any

import openai
import scenario
from contract import Contract, refused
from running import Server
from smolagents import ChatMessage, OpenAIModel, ToolCallingAgent, tool


def said(prompt: str) -> list[ChatMessage]:
    # Its messages have a list of parts as content, as its agents write them.
    return [ChatMessage(role="user", content=[{"type": "text", "text": prompt}])]


class TestSmolagents(Contract):
    wrong_key = openai.AuthenticationError

    def model(self, server: Server, key: str | None = None) -> OpenAIModel:
        return OpenAIModel(Server.model, api_base=server.base_url, api_key=key or server.key)

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.model(server, key).generate(said(prompt)).content

    def stream(self, server: Server, prompt: str) -> list[str]:
        return [delta.content or "" for delta in self.model(server).generate_stream(said(prompt))]

    def use_tool(self, server: Server, weather: Any) -> str:
        return ToolCallingAgent([tool(weather)], self.model(server), verbosity_level=0).run(scenario.WEATHER)

    def test_a_streaming_agent_uses_its_tool(self, server: Server) -> None:
        class Streaming(TestSmolagents):
            def use_tool(self, server: Server, weather: Any) -> str:
                agent = ToolCallingAgent(
                    [tool(weather)], self.model(server), stream_outputs=True, verbosity_level=0
                )
                return agent.run(scenario.WEATHER)

        Streaming().test_a_tool_is_called_and_its_result_read(server)

    def test_a_refusal_is_read_like_an_answer(self, server: Server) -> None:
        message = self.model(server).generate(said(scenario.HARM))
        assert message.content == scenario.REFUSAL
        assert message.raw.choices[0].finish_reason == "content_filter"
        refused(server)
