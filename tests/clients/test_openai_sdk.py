"""OpenAI's own SDK, in whichever major version the environment has."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
import scenario
from contract import TOOLS, Facts, FullContract, guarded, refused, tool_loop
from running import Server


class TestOpenAI(FullContract):
    wrong_key = openai.AuthenticationError
    too_long = openai.BadRequestError

    def client(self, server: Server, key: str | None = None) -> openai.OpenAI:
        return openai.OpenAI(base_url=server.base_url, api_key=key or server.key)

    def said(self, prompt: str) -> dict[str, Any]:
        return {"model": Server.model, "messages": [{"role": "user", "content": prompt}]}

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        done = self.client(server, key).chat.completions.create(**self.said(prompt))
        assert done.choices[0].finish_reason == "stop"
        assert done.usage
        assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
        return done.choices[0].message.content

    def stream(self, server: Server, prompt: str) -> list[str]:
        chunks = self.client(server).chat.completions.create(**self.said(prompt), stream=True)
        return [chunk.choices[0].delta.content or "" for chunk in chunks]

    def use_tool(self, server: Server, weather: Any) -> str:
        return tool_loop(self.client(server).chat.completions.create, self.said(scenario.WEATHER), weather)

    def structured(self, server: Server, prompt: str) -> Any:
        done = self.client(server).chat.completions.parse(**self.said(prompt), response_format=Facts)
        return done.choices[0].message.parsed.model_dump()

    def refusal(self, server: Server, prompt: str) -> str:
        [choice] = self.client(server).chat.completions.create(**self.said(prompt)).choices
        assert choice.finish_reason == "content_filter"
        return choice.message.content

    def leave(self, server: Server, prompt: str) -> str:
        with self.client(server).chat.completions.create(**self.said(prompt), stream=True) as chunks:
            return next(text for chunk in chunks if (text := chunk.choices[0].delta.content))

    def test_a_streamed_tool_call_adds_up(self, server: Server) -> None:
        said = self.said(scenario.WEATHER)
        with self.client(server).chat.completions.stream(**said, tools=TOOLS) as stream:
            choice = stream.get_final_completion().choices[0]
        [call] = choice.message.tool_calls
        assert (call.function.name, json.loads(call.function.arguments)) == ("weather", {"city": "Vienna"})
        assert choice.finish_reason == "tool_calls"
        guarded(server, 1)

    def test_the_usage_of_a_stream_comes_last_where_it_is_asked_for(self, server: Server) -> None:
        chunks = list(
            self.client(server).chat.completions.create(
                **self.said(scenario.GARDEN), stream=True, stream_options={"include_usage": True}
            )
        )
        assert [len(chunk.choices) for chunk in chunks].count(0) == 1
        assert chunks[-1].usage.completion_tokens > 0
        assert {chunk.usage for chunk in chunks[:-1]} == {None}
        assert len({chunk.id for chunk in chunks}) == 1
        guarded(server, 1)

    def test_a_refusal_after_a_beginning(self, server: Server) -> None:
        chunks = list(self.client(server).chat.completions.create(**self.said(scenario.HALF), stream=True))
        shown = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        assert shown.startswith(scenario.OPENING)
        assert shown.endswith(scenario.REFUSAL)
        assert [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices[0].finish_reason] == [
            "content_filter"
        ]
        refused(server)

    def test_an_outage_in_midstream_is_an_error(self, server: Server) -> None:
        stream = self.client(server).chat.completions.create(**self.said(scenario.OUTAGE), stream=True)
        shown: list[str] = []
        with pytest.raises(openai.APIError):  # noqa: PT012 - what was shown until then counts
            for chunk in stream:
                shown.append(chunk.choices[0].delta.content or "")
        assert "".join(shown) == scenario.OPENING
        assert [one["outcome"] for one in server.served(1)] == ["scoring_error"]

    def test_an_outage_before_anything_is_shown_is_tried_again(self, server: Server) -> None:
        with pytest.raises(openai.InternalServerError):
            self.client(server).chat.completions.create(**self.said(scenario.OUTAGE))
        assert [one["outcome"] for one in server.served(3)] == ["scoring_error"] * 3

    def test_a_refused_structured_answer_is_the_sdks_own_error(self, server: Server) -> None:
        with pytest.raises(openai.ContentFilterFinishReasonError):
            self.client(server).chat.completions.parse(**self.said(scenario.HARM), response_format=Facts)
        refused(server)

    def test_an_unknown_model_is_refused_and_the_one_there_is_named(self, server: Server) -> None:
        said = {**self.said(scenario.GARDEN), "model": "another"}
        with pytest.raises(openai.NotFoundError, match="there is no such model; this server has") as raised:
            self.client(server).chat.completions.create(**said)
        assert raised.value.code == "model_not_found"
        assert server.served(1)[0]["status"] == 404

    def test_the_models_are_listed(self, server: Server) -> None:
        assert [model.id for model in self.client(server).models.list()] == [Server.model]
        assert [request["outcome"] for request in server.served(1)] == ["answered"]

    def test_several_choices(self, server: Server) -> None:
        done = self.client(server).chat.completions.create(**self.said(scenario.GARDEN), n=2)
        assert [choice.index for choice in done.choices] == [0, 1]
        assert {choice.message.content for choice in done.choices} == {scenario.ANSWER}
        guarded(server, 1)

    def test_a_raw_completion(self, server: Server) -> None:
        done = self.client(server).completions.create(model=Server.model, prompt=scenario.GARDEN)
        assert done.choices[0].text == scenario.ANSWER
        guarded(server, 1)
