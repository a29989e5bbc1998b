"""Inspect, with its provider for services that speak OpenAI's protocol."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import openai
import scenario
from contract import Contract, Facts, guarded, refused
from inspect_ai import Task, eval
from inspect_ai.dataset import Sample
from inspect_ai.model import ChatMessageUser, GenerateConfig, Model, ModelOutput, ResponseSchema, get_model
from inspect_ai.scorer import includes
from inspect_ai.solver import generate, use_tools
from inspect_ai.tool import Tool, tool
from inspect_ai.util import json_schema
from running import Server


def model(server: Server, key: str | None = None, **arguments: Any) -> Model:
    return get_model(
        f"openai-api/stars/{Server.model}",
        base_url=server.base_url,
        api_key=key or server.key,
        memoize=False,
        **arguments,
    )


def generated(model: Model, prompt: str, **config: Any) -> ModelOutput:
    async def go() -> ModelOutput:
        async with model:
            return await model.generate(prompt, config=GenerateConfig(**config))

    return asyncio.run(go())


def measuring(weather: Any) -> Tool:
    @tool(name=scenario.TOOL)
    def measure() -> Tool:
        async def execute(city: str) -> str:
            """Measures the weather.

            Args:
                city: where to measure.
            """
            return weather(city)

        return execute

    return measure()


class TestInspect(Contract):
    wrong_key = openai.AuthenticationError

    def ask(self, server: Server, prompt: str, key: str | None = None) -> str:
        return generated(model(server, key), prompt, max_retries=2).completion

    def use_tool(self, server: Server, weather: Any) -> str:
        async def go() -> str:
            async with model(server) as asked:
                turns = [ChatMessageUser(content=scenario.WEATHER)]
                _, output = await asked.generate_loop(turns, tools=[measuring(weather)])
                return output.completion

        return asyncio.run(go())

    def test_a_streamed_answer_comes_in_pieces(self, server: Server) -> None:
        # The pieces are put together by the client, which shows nobody any of them.
        assert generated(model(server, stream=True), scenario.GARDEN).completion == scenario.ANSWER
        guarded(server, 1)

    def test_a_structured_answer(self, server: Server) -> None:
        schema = ResponseSchema(name="facts", json_schema=json_schema(Facts), strict=True)
        answer = generated(model(server), scenario.FACTS, response_schema=schema).completion
        assert json.loads(answer) == scenario.FOUND
        guarded(server, 1)

    def test_a_refusal_is_a_stop_reason(self, server: Server) -> None:
        output = generated(model(server), scenario.HARM)
        assert (output.completion, output.stop_reason) == (scenario.REFUSAL, "content_filter")
        refused(server)

    def test_a_prompt_that_is_too_long_is_a_stop_reason(self, server: Server) -> None:
        assert generated(model(server), scenario.TOO_LONG).stop_reason == "model_length"
        assert [one["status"] for one in server.served(1)] == [400]

    def test_an_evaluation(self, server: Server, tmp_path: Path) -> None:
        samples = [
            Sample(scenario.GARDEN, target="Moss"),
            Sample(scenario.WEATHER, target="21 degrees"),
            Sample(scenario.HARM, target=scenario.REFUSAL),
        ]
        solver = [use_tools(measuring(lambda city: scenario.MEASURED)), generate()]
        task = Task(dataset=samples, solver=solver, scorer=includes())
        [log] = eval(
            task,
            model=model(server),
            display="none",
            log_dir=str(tmp_path),
            max_samples=1,
            log_realtime=False,
        )
        assert log.status == "success", log.error
        assert log.results.scores[0].metrics["accuracy"].value == 1.0
        assert sorted(one["outcome"] for one in server.served(4)) == ["answered"] * 3 + ["refused"]
