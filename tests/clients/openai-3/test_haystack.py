"""Haystack: OpenAIChatGenerator, and its Agent upon it."""

from __future__ import annotations

import json
from typing import Any

import openai
import scenario
from contract import Contract, Facts, guarded, refused
from haystack.components.agents import Agent
from haystack.components.generators.chat import OpenAIChatGenerator
from haystack.dataclasses import ChatMessage
from haystack.tools import tool
from haystack.utils import Secret
from running import Server


class TestHaystack(Contract):
    wrong_key = openai.AuthenticationError

    def generator(self, server: Server, key: str | None = None, **more: Any) -> OpenAIChatGenerator:
        return OpenAIChatGenerator(
            Secret.from_token(key or server.key), Server.model, api_base_url=server.base_url, **more
        )

    def reply(self, generator: OpenAIChatGenerator, prompt: str) -> ChatMessage:
        [reply] = generator.run([ChatMessage.from_user(prompt)])["replies"]
        return reply

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return self.reply(self.generator(server, key), prompt).text

    def stream(self, server: Server, prompt: str) -> list[str]:
        pieces: list[str] = []
        generator = self.generator(server, streaming_callback=lambda chunk: pieces.append(chunk.content))
        assert self.reply(generator, prompt).text == "".join(pieces)
        return pieces

    def use_tool(self, server: Server, weather: Any) -> str:
        agent = Agent(chat_generator=self.generator(server), tools=[tool(weather)])
        return agent.run(messages=[ChatMessage.from_user(scenario.WEATHER)])["last_message"].text

    def test_a_structured_answer(self, server: Server) -> None:
        generator = self.generator(server, generation_kwargs={"response_format": Facts})
        assert json.loads(self.reply(generator, scenario.FACTS).text) == scenario.FOUND
        guarded(server, 1)

    def test_a_refusal_has_a_finish_reason(self, server: Server) -> None:
        reply = self.reply(self.generator(server), scenario.HARM)
        assert reply.text == scenario.REFUSAL
        assert reply.meta["finish_reason"] == "content_filter"
        refused(server)
