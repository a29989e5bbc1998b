"""LiteLLM, with its provider for servers that speak OpenAI's protocol."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import litellm
import scenario
from contract import Contract, Facts, guarded, refused, tool_loop
from running import Server


def said(server: Server, prompt: str, key: str | None = None) -> dict[str, Any]:
    return {
        "model": f"openai/{Server.model}",
        "api_base": server.base_url,
        "api_key": key or server.key,
        "messages": [{"role": "user", "content": prompt}],
    }


class TestLiteLLM(Contract):
    wrong_key = litellm.AuthenticationError

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return litellm.completion(**said(server, prompt, key)).choices[0].message.content

    def stream(self, server: Server, prompt: str) -> list[str]:
        return [
            chunk.choices[0].delta.content or ""
            for chunk in litellm.completion(**said(server, prompt), stream=True)
        ]

    def use_tool(self, server: Server, weather: Any) -> str:
        return tool_loop(litellm.completion, said(server, scenario.WEATHER), weather)

    def test_an_asynchronous_answer(self, server: Server) -> None:
        done = asyncio.run(litellm.acompletion(**said(server, scenario.GARDEN)))
        assert done.choices[0].message.content == scenario.ANSWER
        guarded(server, 1)

    def test_a_structured_answer(self, server: Server) -> None:
        done = litellm.completion(**said(server, scenario.FACTS), response_format=Facts)
        assert json.loads(done.choices[0].message.content) == scenario.FOUND
        guarded(server, 1)

    def test_a_refusal_is_a_finish_reason(self, server: Server) -> None:
        choice = litellm.completion(**said(server, scenario.HARM)).choices[0]
        assert choice.message.content == scenario.REFUSAL
        assert choice.finish_reason == "content_filter"
        refused(server)
