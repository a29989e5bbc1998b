"""OpenAI's own SDK over its Responses API, in whichever major version the environment has."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
import scenario
from contract import TOOLS, Facts, FullContract, guarded, refused
from running import Server

FUNCTIONS: list[Any] = [{"type": "function", "strict": False, **tool["function"]} for tool in TOOLS]


class TestResponses(FullContract):
    wrong_key = openai.AuthenticationError
    too_long = openai.BadRequestError

    def responses(self, server: Server, key: str | None = None) -> Any:
        return openai.OpenAI(base_url=server.base_url, api_key=key or server.key).responses

    def said(self, prompt: str) -> dict[str, Any]:
        return {"model": Server.model, "input": [{"role": "user", "content": prompt}], "store": False}

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        response = self.responses(server, key).create(**self.said(prompt))
        assert response.status == "completed"
        assert response.usage.total_tokens == response.usage.input_tokens + response.usage.output_tokens
        return response.output_text

    def stream(self, server: Server, prompt: str) -> list[str]:
        with self.responses(server).stream(**self.said(prompt)) as stream:
            pieces = [event.delta for event in stream if event.type == "response.output_text.delta"]
            assert stream.get_final_response().output_text == "".join(pieces)
        return pieces

    def use_tool(self, server: Server, weather: Any) -> str:
        request = self.said(scenario.WEATHER)
        while True:
            response = self.responses(server).create(**request, tools=FUNCTIONS)
            calls = [item for item in response.output if item.type == "function_call"]
            if not calls:
                return response.output_text
            request["input"] += response.output
            for call in calls:
                output = weather(**json.loads(call.arguments))
                request["input"].append(
                    {"type": "function_call_output", "call_id": call.call_id, "output": output}
                )

    def structured(self, server: Server, prompt: str) -> Any:
        return self.responses(server).parse(**self.said(prompt), text_format=Facts).output_parsed.model_dump()

    def refusal(self, server: Server, prompt: str) -> str:
        [message] = self.responses(server).create(**self.said(prompt)).output
        [part] = message.content
        assert part.type == "refusal"
        return part.refusal

    def leave(self, server: Server, prompt: str) -> str:
        with self.responses(server).create(**self.said(prompt), stream=True) as stream:
            return next(event.delta for event in stream if event.type == "response.output_text.delta")

    def test_a_streamed_call_adds_up(self, server: Server) -> None:
        with self.responses(server).stream(**self.said(scenario.WEATHER), tools=FUNCTIONS) as stream:
            [call] = stream.get_final_response().output
        assert (call.name, json.loads(call.arguments)) == (scenario.TOOL, {"city": scenario.CITY})
        guarded(server, 1)

    def test_a_refusal_after_a_beginning(self, server: Server) -> None:
        events = list(self.responses(server).create(**self.said(scenario.HALF), stream=True))
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        refusal = "".join(event.delta for event in events if event.type == "response.refusal.delta")
        assert (text, refusal) == (scenario.OPENING, scenario.REFUSAL)
        refused(server)

    def test_an_outage_in_midstream_is_an_error(self, server: Server) -> None:
        shown: list[str] = []
        failed: list[Any] = []
        try:
            for event in self.responses(server).create(**self.said(scenario.OUTAGE), stream=True):
                shown += [event.delta] if event.type == "response.output_text.delta" else []
                failed += [event] if event.type in ("response.failed", "error") else []
        except openai.APIError as error:
            failed.append(error)
        assert "".join(shown) == scenario.OPENING
        assert failed
        assert [one["outcome"] for one in server.served(1)] == ["scoring_error"]

    def test_what_is_not_stored_cannot_be_continued(self, server: Server) -> None:
        with pytest.raises(openai.BadRequestError, match="previous_response_id"):
            self.responses(server).create(**self.said(scenario.GARDEN), previous_response_id="resp_1")
        assert server.served(1)[0]["status"] == 400
