"""Anthropic's SDK, against the door that speaks its protocol."""

from __future__ import annotations

from typing import Any

import anthropic
import pytest
import scenario
from anthropic import beta_tool
from contract import Facts, FullContract, guarded, guarded_unthreaded, refused
from running import Server


class TestAnthropic(FullContract):
    wrong_key = anthropic.AuthenticationError
    too_long = anthropic.BadRequestError

    def client(self, server: Server, key: str | None = None) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=server.base_url.removesuffix("/v1"), api_key=key or server.key)

    def said(self, prompt: str) -> dict[str, Any]:
        turn = {"role": "user", "content": prompt}
        return {"model": Server.model, "max_tokens": 20_000, "messages": [turn]}

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        message = self.client(server, key).messages.create(**self.said(prompt))
        assert message.stop_reason == "end_turn"
        assert message.usage.output_tokens > 0
        [block] = message.content
        return block.text

    def stream(self, server: Server, prompt: str) -> list[str]:
        with self.client(server).messages.stream(**self.said(prompt)) as stream:
            return list(stream.text_stream)

    def use_tool(self, server: Server, weather: Any) -> str:
        runner = self.client(server).beta.messages.tool_runner(
            **self.said(scenario.WEATHER), tools=[beta_tool(weather)]
        )
        return runner.until_done().content[-1].text

    def turns_answered(self, server: Server) -> None:
        guarded_unthreaded(server, self.turns)

    def structured(self, server: Server, prompt: str) -> Any:
        message = self.client(server).messages.parse(**self.said(prompt), output_format=Facts)
        return message.parsed_output.model_dump()

    def refusal(self, server: Server, prompt: str) -> str:
        message = self.client(server).messages.create(**self.said(prompt))
        assert message.stop_reason == "refusal"
        return message.content[0].text

    def leave(self, server: Server, prompt: str) -> str:
        with self.client(server).messages.stream(**self.said(prompt)) as stream:
            return next(stream.text_stream)

    def test_a_tool_call_is_streamed(self, server: Server) -> None:
        tools = [beta_tool(weather).to_dict()]
        with self.client(server).messages.stream(**self.said(scenario.WEATHER), tools=tools) as stream:
            message = stream.get_final_message()
        assert message.stop_reason == "tool_use"
        [call] = [block for block in message.content if block.type == "tool_use"]
        assert (call.name, call.input) == (scenario.TOOL, {"city": scenario.CITY})
        guarded(server, 1)

    def test_a_refusal_after_a_beginning(self, server: Server) -> None:
        with self.client(server).messages.stream(**self.said(scenario.HALF)) as stream:
            shown = "".join(stream.text_stream)
            message = stream.get_final_message()
        assert shown.startswith(scenario.OPENING)
        assert shown.endswith(scenario.REFUSAL)
        assert message.stop_reason == "refusal"
        refused(server)

    def test_an_outage_in_midstream_is_an_error(self, server: Server) -> None:
        shown: list[str] = []
        with (
            pytest.raises(anthropic.APIError),
            self.client(server).messages.stream(**self.said(scenario.OUTAGE)) as stream,
        ):
            shown.extend(stream.text_stream)
        assert [one["outcome"] for one in server.served(1)] == ["scoring_error"]

    def test_an_unknown_model_is_not_found(self, server: Server) -> None:
        with pytest.raises(anthropic.NotFoundError):
            self.client(server).messages.create(**{**self.said(scenario.GARDEN), "model": "another"})
        assert server.served(1)[0]["status"] == 404


def weather(city: str) -> str:
    """Measures the weather.

    Args:
        city: where to measure.
    """
    return scenario.MEASURED
