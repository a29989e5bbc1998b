"""In the framework's own engines and agents, each on a script."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from guards import BAD, add, call_text, last_role, last_text, multiply, recorded, scripted
from llama_index.core import Document, MockEmbedding, Settings, SummaryIndex, VectorStoreIndex
from llama_index.core.agent.workflow import (
    AgentStream,
    AgentWorkflow,
    FunctionAgent,
    ReActAgent,
    ToolCallResult,
)
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.chat_engine import SimpleChatEngine
from pydantic import BaseModel
from stars_guard import Prompt

from llama_index.llms.stars_guard import SegmentJudgedEvent

FACT = "The lighthouse was built in 1871."


def _index() -> VectorStoreIndex:
    return VectorStoreIndex.from_documents([Document(text=FACT)], embed_model=MockEmbedding(embed_dim=4))


def _answer(prompt: Prompt) -> list[list[str]]:
    seen = FACT in prompt.as_text()
    return [[f"In 1871 {BAD}", f"In 1871, says the document: {seen}."]]


def test_query_engine_with_the_global_llm() -> None:
    Settings.llm = scripted(_answer)
    response = _index().as_query_engine().query("When was the lighthouse built?")
    assert str(response) == "In 1871, says the document: True."
    assert response.source_nodes[0].text == FACT


@pytest.mark.parametrize("mode", ["compact", "refine", "tree_summarize", "simple_summarize", "accumulate"])
async def test_query_engine_modes(mode: str) -> None:
    engine = _index().as_query_engine(llm=scripted(_answer), response_mode=mode)
    assert "In 1871, says the document: True." in str(engine.query("When?"))
    assert "In 1871, says the document: True." in str(await engine.aquery("When?"))


def test_streaming_query_engine() -> None:
    engine = _index().as_query_engine(llm=scripted([["In 1871"], [f" {BAD}", " it was."]]), streaming=True)
    assert list(engine.query("When?").response_gen) == ["In 1871", " it was.", ""]


def test_structured_query_engine() -> None:
    class Year(BaseModel):
        year: int

    llm = scripted([['{"year": 1871}']]).as_structured_llm(Year)
    assert _index().as_query_engine(llm=llm).query("When?").response == Year(year=1871)


def test_long_contexts_are_packed_by_the_context_window() -> None:
    llm = scripted([["Done."]], context_window=400, max_tokens=50)
    documents = [Document(text=f"{FACT} " * 60) for _ in range(3)]
    counter = TokenCountingHandler()
    llm.callback_manager = CallbackManager([counter])
    engine = SummaryIndex.from_documents(documents).as_query_engine(llm=llm, response_mode="tree_summarize")
    assert str(engine.query("When?")) == "Done."
    assert len(llm.guard.model.sessions) > 3, "one prompt would not have fitted"


def _chat(prompt: Prompt) -> list[list[str]]:
    if "Standalone question" in last_text(prompt):
        return [["When was the lighthouse built?"]]
    return [[f"{last_text(prompt).splitlines()[-1]} {FACT in prompt.as_text()}"]]


# LlamaIndex's memory is in SQLite, whose thread may still answer a loop that LlamaIndex has closed.
@pytest.mark.filterwarnings(
    r"ignore:Exception in thread .*_connection_worker_thread:pytest.PytestUnhandledThreadExceptionWarning"
)
@pytest.mark.parametrize("mode", ["context", "condense_plus_context", "condense_question", "simple", "best"])
async def test_chat_engines(mode: str) -> None:
    llm = scripted(_chat)
    engine = _index().as_chat_engine(chat_mode=mode, llm=llm)
    first = engine.chat("When?")
    second = await engine.achat("And the light?")
    streamed = engine.stream_chat("And the stairs?")
    assert "".join(streamed.response_gen) == streamed.response
    made = await engine.astream_chat("And the door?")
    assert "".join([chunk async for chunk in made.async_response_gen()]) == engine.chat_history[-1].content
    assert len(engine.chat_history) == 8
    answers = [str(first), str(second), streamed.response]
    if mode not in ("condense_question", "simple"):
        assert all(answer.endswith("True") for answer in answers)
    roles = [[message["role"] for message in session.prompt.messages] for session in llm.guard.model.sessions]
    assert all(here != there for turns in roles for here, there in pairwise(turns))


def test_simple_chat_engine_remembers() -> None:
    llm = scripted(lambda prompt: [[f"{len(prompt.messages)} messages."]])
    engine = SimpleChatEngine.from_defaults(llm=llm, system_prompt="Be brief.")
    assert [str(engine.chat("Hi")), str(engine.chat("Hi"))] == ["2 messages.", "4 messages."]


def _calculate(prompt: Prompt) -> list[list[str]]:
    """(1 + 2) * 4, one tool at a time."""
    if last_role(prompt) == "user":
        return [["I add."], [call_text("add", a=1, b=99) + BAD, call_text("add", a=1, b=2)]]
    if last_text(prompt) == "3":
        return [[call_text("multiply", a=3, b=4)]]
    return [[f"It is {BAD}", f"It is {last_text(prompt)}."]]


@pytest.mark.parametrize("streaming", [True, False])
async def test_function_agent(streaming: bool) -> None:
    agent = FunctionAgent(tools=[add, multiply], llm=scripted(_calculate), streaming=streaming)
    with recorded() as seen:
        handler = agent.run("(1 + 2) * 4?")
        events = [event async for event in handler.stream_events()]
        response = await handler
    assert str(response) == "It is 12."
    results = [event for event in events if isinstance(event, ToolCallResult)]
    assert [(result.tool_name, result.tool_output.raw_output) for result in results] == [
        ("add", 3),
        ("multiply", 12),
    ]
    shown = "".join(event.delta for event in events if isinstance(event, AgentStream))
    assert shown == ("I add.It is 12." if streaming else "")
    assert BAD not in str(events)
    assert any(not decision.accepted for decision in seen.of(SegmentJudgedEvent))
    assert response.raw["stars"]["refused"] is False


async def test_function_agent_with_parallel_calls_and_a_forced_first_tool() -> None:
    def script(prompt: Prompt) -> list[list[str]]:
        if last_role(prompt) == "user":
            return [[call_text("add", a=1, b=2)], [call_text("multiply", a=3, b=4)]]
        results = [message["content"] for message in prompt.messages if message["role"] == "tool"]
        return [[" and ".join(sorted(results))]]

    llm = scripted(script)
    agent = FunctionAgent(tools=[add, multiply], llm=llm, initial_tool_choice="add")
    assert str(await agent.run("Both?")) == "12 and 3"
    assert [session.prompt.tools.choice for session in llm.guard.model.sessions] == ["add", "auto"]
    assert llm.guard.model.sessions[0].prompt.tools.parallel


async def test_function_agent_ends_at_a_malformed_call_and_says_so() -> None:
    agent = FunctionAgent(tools=[add], llm=scripted([["Hm."], ["<tool_call>\n{add\n</tool_call>"]]))
    response = await agent.run("1 + 2?")
    assert str(response) == "Hm.<tool_call>\n{add\n</tool_call>"
    assert response.tool_calls == []
    (invalid,) = response.response.additional_kwargs["invalid_tool_calls"]
    assert invalid["text"] == "{add"


async def test_function_agent_with_structured_output() -> None:
    class Sum(BaseModel):
        value: int

    def script(prompt: Prompt) -> list[list[str]]:
        return [['{"value": 3}']] if "<current_conversation>" in prompt.as_text() else [["It is 3."]]

    agent = FunctionAgent(tools=[add], llm=scripted(script), output_cls=Sum)
    response = await agent.run("1 + 2?")
    assert response.get_pydantic_model(Sum) == Sum(value=3)


def _react(prompt: Prompt) -> list[list[str]]:
    if "Observation: 3" in prompt.as_text():
        return [[f"Thought: {BAD}", "Thought: I can answer.\n"], ["Answer: It is 3."]]
    return [["Thought: I must add.\n"], ['Action: add\nAction Input: {"a": 1, "b": 2}']]


@pytest.mark.parametrize("streaming", [True, False])
async def test_react_agent(streaming: bool) -> None:
    agent = ReActAgent(tools=[add], llm=scripted(_react), streaming=streaming)
    handler = agent.run("1 + 2?")
    events = [event async for event in handler.stream_events()]
    assert str(await handler) == "It is 3."
    assert [event.tool_output.raw_output for event in events if isinstance(event, ToolCallResult)] == [3]
    assert BAD not in str(events)


async def test_agent_workflow_hands_over() -> None:
    def script(prompt: Prompt) -> list[list[str]]:
        names = prompt.tools.names if prompt.tools else []
        if "add" in names and last_role(prompt) == "tool" and last_text(prompt) == "3":
            return [["It is 3."]]
        if "add" in names:
            return [[call_text("add", a=1, b=2)]]
        return [[call_text("handoff", to_agent="adder", reason="It is about numbers.")]]

    llm = scripted(script)
    receiver = FunctionAgent(
        name="receiver", description="Takes questions.", llm=llm, can_handoff_to=["adder"]
    )
    adder = FunctionAgent(name="adder", description="Adds.", tools=[add], llm=llm)
    workflow = AgentWorkflow(agents=[receiver, adder], root_agent="receiver")
    response = await workflow.run("1 + 2?")
    assert str(response) == "It is 3."
    assert response.current_agent_name == "adder"


@pytest.mark.parametrize(("able", "kind"), [(True, FunctionAgent), (False, ReActAgent)])
async def test_agent_workflow_picks_the_agent_that_fits(able: bool, kind: type[Any]) -> None:
    llm = scripted(_calculate if able else _react, is_function_calling_model=able)
    workflow = AgentWorkflow.from_tools_or_functions([add, multiply], llm=llm)
    assert all(isinstance(agent, kind) for agent in workflow.agents.values())
    assert str(await workflow.run("Go.")) == ("It is 12." if able else "It is 3.")
