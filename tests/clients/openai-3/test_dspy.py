"""DSPy: LM("openai/...") under Predict and ReAct."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import dspy
import pytest
import scenario
from contract import Contract
from dspy.utils.exceptions import AdapterParseError
from running import Server


class TestDSPy(Contract):
    wrong_key = dspy.LMAuthError
    turns = 3  # the call, the call of "finish", and the answer drawn from both

    def model(self, server: Server, key: str | None = None) -> dspy.LM:
        return dspy.LM(
            f"openai/{Server.model}", api_base=server.base_url, api_key=key or server.key, cache=False
        )

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        with dspy.context(lm=self.model(server, key)):
            return dspy.Predict("question -> answer")(question=prompt).answer

    def stream(self, server: Server, prompt: str) -> list[str]:
        program = dspy.streamify(
            dspy.Predict("question -> answer"),
            stream_listeners=[dspy.streaming.StreamListener("answer")],
        )

        async def go() -> list[str]:
            with dspy.context(lm=self.model(server)):
                return [
                    piece.chunk
                    async for piece in program(question=prompt)
                    if isinstance(piece, dspy.streaming.StreamResponse)
                ]

        return asyncio.run(go())

    def use_tool(self, server: Server, weather: Any) -> str:
        with dspy.context(lm=self.model(server)):
            return dspy.ReAct("question -> answer", tools=[weather])(question=scenario.WEATHER).answer

    def test_a_refusal_is_an_answer_without_the_fields(self, server: Server) -> None:
        with dspy.context(lm=self.model(server)):
            program = dspy.Predict("question -> answer")
            with pytest.raises(AdapterParseError, match=re.escape(scenario.REFUSAL)):
                program(question=scenario.HARM)
        assert [one["outcome"] for one in server.served(2)] == ["refused"] * 2  # DSPy asks again, for JSON
