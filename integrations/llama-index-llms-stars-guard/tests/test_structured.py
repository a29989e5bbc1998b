"""Structured prediction: pydantic objects, by a schema that the answer itself is decoded under."""

from __future__ import annotations

import json
from typing import Any

import pytest
import stars_guard
from guards import BAD, HARD, call_text, recorded, scripted, user
from llama_index.core.instrumentation.events.llm import (
    LLMStructuredPredictEndEvent,
    LLMStructuredPredictInProgressEvent,
    LLMStructuredPredictStartEvent,
)
from llama_index.core.llms import ChatMessage
from llama_index.core.program.utils import FlexibleModel
from llama_index.core.prompts import ChatPromptTemplate, PromptTemplate
from llama_index.core.types import PydanticProgramMode
from pydantic import BaseModel, field_validator
from stars_guard import Refuse
from stars_guard.models import Finish
from stars_guard.testing import KeywordReward, ScriptedModel

from llama_index.llms.stars_guard import StarsGuardedLLM


class City(BaseModel):
    """A city."""

    name: str
    people: int

    @field_validator("people")
    @classmethod
    def _some(cls, people: int) -> int:
        if people < 0:
            raise ValueError("nobody has fewer than no people")
        return people


PARIS = City(name="Paris", people=2)
SCRIPT = [['{"name": "Par', f'{{"name": "{BAD}'], [f'is {BAD}"', 'is", "people"'], [": 2}"]]
PROMPT = PromptTemplate("Describe {where}.")


async def every_way(llm: StarsGuardedLLM, **kwargs: Any) -> list[City]:
    streamed = list(llm.stream_structured_predict(City, PROMPT, where="Paris", **kwargs))
    made = await llm.astream_structured_predict(City, PROMPT, where="Paris", **kwargs)
    return [
        llm.structured_predict(City, PROMPT, where="Paris", **kwargs),
        await llm.astructured_predict(City, PROMPT, where="Paris", **kwargs),
        streamed[-1],
        [chunk async for chunk in made][-1],
    ]


async def test_an_object_comes_of_every_way() -> None:
    assert await every_way(scripted(SCRIPT)) == [PARIS] * 4


async def test_the_model_is_bound_to_the_schema_and_told_of_it() -> None:
    llm = scripted(SCRIPT)
    await every_way(llm, llm_kwargs={"seed": 7, "tool_required": True})
    sessions = llm.guard.model.sessions
    assert len(sessions) == 4
    for session in sessions:
        assert json.loads(session.sampling.response_schema) == City.model_json_schema()
        assert session.sampling.seed == 7
        assert session.prompt.tools is None
        (message,) = session.prompt.messages
        assert message["content"].startswith("Describe Paris.\n")
        assert json.dumps(City.model_json_schema(), ensure_ascii=False) in message["content"]


def test_a_stream_grows_the_object() -> None:
    grown = list(scripted(SCRIPT).stream_structured_predict(City, PROMPT, where="Paris"))
    first, last = grown
    assert isinstance(first, FlexibleModel)
    assert (first.name, first.people) == ("Par", None)
    assert last == PARIS


async def test_events_of_the_framework() -> None:
    with recorded() as seen:
        await every_way(scripted(SCRIPT))
    assert len(seen.of(LLMStructuredPredictStartEvent)) == 4
    assert [event.output for event in seen.of(LLMStructuredPredictEndEvent)] == [PARIS] * 4
    assert BAD not in str(seen.of(LLMStructuredPredictInProgressEvent))


# StructuredLLM of llama-index-core still calls pydantic's old method on what it streams.
@pytest.mark.filterwarnings(
    "ignore:The `json` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20"
)
async def test_as_a_structured_llm() -> None:
    llm = scripted(SCRIPT).as_structured_llm(City)
    response = llm.chat(user("Describe Paris."))
    assert response.raw == PARIS
    assert (await llm.achat(user("Describe Paris."))).raw == PARIS
    assert llm.complete("Describe Paris.").raw == PARIS
    assert list(llm.stream_chat(user("Describe Paris.")))[-1].raw == PARIS
    made = await llm.astream_chat(user("Describe Paris."))
    assert [chunk async for chunk in made][-1].raw == PARIS


def test_the_system_prompt_goes_first_and_the_schema_last() -> None:
    llm = scripted(SCRIPT, system_prompt="Be brief.")
    prompt = ChatPromptTemplate(
        message_templates=[
            ChatMessage(role="user", content="Describe {where}."),
            ChatMessage(role="assistant", content="As JSON?"),
        ]
    )
    llm.structured_predict(City, prompt, where="Paris")
    messages = llm.guard.model.sessions[-1].prompt.messages
    assert [message["role"] for message in messages] == ["system", "user", "assistant", "user"]
    assert messages[0]["content"] == "Be brief."


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ([[BAD]], "the guard refused this answer, so there is no City"),
        ([['{"name": "Par']], r"ended with 'eos', is no valid City .json_invalid.; raise max_tokens"),
        ([['{"name": "Paris", "people": -1}']], r"is no valid City \(value_error\)"),
        ([[""]], "is no valid City"),
    ],
)
async def test_what_is_no_object_is_an_error(script: Any, problem: str) -> None:
    refusing = HARD.model_copy(update={"exhaustion": Refuse()})
    llm = scripted(script, guard_config=refusing)
    with pytest.raises(ValueError, match=f"(?s){problem}"):
        llm.structured_predict(City, PROMPT, where="Paris")
    with pytest.raises(ValueError, match=f"(?s){problem}"):
        await llm.astructured_predict(City, PROMPT, where="Paris")
    with pytest.raises(ValueError, match=f"(?s){problem}"):
        list(llm.stream_structured_predict(City, PROMPT, where="Paris"))
    with pytest.raises(ValueError, match=f"(?s){problem}"):
        [chunk async for chunk in await llm.astream_structured_predict(City, PROMPT, where="Paris")]


async def test_an_answer_that_was_cut_off_says_so() -> None:
    cut_off = ScriptedModel([['{"name": "Par']], finish=Finish.LENGTH)
    llm = StarsGuardedLLM(guard=stars_guard.StarsGuardedLLM(cut_off, KeywordReward([]), HARD))
    problem = r"ended before it was a whole City \(stop_reason 'length'\)"
    with pytest.raises(ValueError, match=problem):
        llm.structured_predict(City, PROMPT, where="Paris")
    with pytest.raises(ValueError, match=problem):
        await llm.astructured_predict(City, PROMPT, where="Paris")
    with pytest.raises(ValueError, match=problem):
        llm.as_structured_llm(City).chat([ChatMessage("Paris?")])
    with pytest.raises(ValueError, match=problem):
        list(llm.stream_structured_predict(City, PROMPT, where="Paris"))


async def test_the_function_mode_of_the_framework_stays() -> None:
    llm = scripted(
        [[call_text("City", name="Paris", people=2)]], pydantic_program_mode=PydanticProgramMode.FUNCTION
    )
    assert await every_way(llm) == [PARIS] * 4
    llm.structured_predict(City, PROMPT, where="Paris")
    session = llm.guard.model.sessions[-1]
    assert session.sampling.response_schema is None
    assert session.prompt.tools.choice == "any"


def test_the_text_mode_of_the_framework_stays() -> None:
    llm = scripted([['Here: {"name": "Paris", "people": 2}']], pydantic_program_mode=PydanticProgramMode.LLM)
    assert llm.structured_predict(City, PromptTemplate("Describe {where}."), where="Paris") == PARIS
    assert llm.guard.model.sessions[0].sampling.response_schema is None
