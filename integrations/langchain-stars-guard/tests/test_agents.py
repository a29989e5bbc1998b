"""Agents: create_agent, LangGraph streaming, response formats, and the middleware."""

from __future__ import annotations

import sys
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.structured_output import ProviderStrategy, ToolStrategy
from langchain_core.language_models import FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from pydantic import BaseModel
from stars_guard import ConfigurationError, StarsGuardedLLM
from stars_guard.testing import KeywordReward

from langchain_stars_guard import DECISION_EVENT, TRACE_EVENT, ChatStarsGuardedLLM, StarsGuardMiddleware

from .handlers import Recorder
from .scripted import STRICT, Obedient, call, guard


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def two_steps(prompt):
    """1 + 2, then + 10, then the answer; every step is first tried in a rejected way."""
    results = [message["content"] for message in prompt.messages if message["role"] == "tool"]
    if not results:
        return [["bad ", "First: "], [call("add", a=1, b=2)]]
    if len(results) == 1:
        return [[call("add", a=666, b=10), call("add", a=int(results[0]), b=10)]]
    return [["bad", "It is "], [f"{results[-1]}"], ["."]]


QUESTION: Any = {"messages": [HumanMessage("1 + 2 + 10?")]}


def agent(**options: Any) -> Any:
    return create_agent(ChatStarsGuardedLLM(guard=guard(two_steps, "bad", "666")), tools=[add], **options)


def check(messages: list[Any]) -> None:
    assert [message.type for message in messages] == ["human", "ai", "tool", "ai", "tool", "ai"]
    assert [message.content for message in messages if message.type == "tool"] == ["3", "13"]
    assert messages[-1].text == "It is 13."


async def test_a_tool_loop_of_two_steps():
    check(agent().invoke(QUESTION)["messages"])
    check((await agent().ainvoke(QUESTION))["messages"])


def _shown(parts: list[Any]) -> list[str]:
    return [chunk.text for chunk, _ in parts if isinstance(chunk, AIMessageChunk) and chunk.text]


async def test_langgraph_streams_accepted_text_only_piece_by_piece():
    expected = ["First: ", "It is", " 13", "."]
    shown = _shown(list(agent().stream(QUESTION, stream_mode="messages")))
    assert "".join(shown) == "".join(expected)
    assert len(shown) >= len(expected)
    assert _shown([part async for part in agent().astream(QUESTION, stream_mode="messages")]) == shown


def test_streamed_calls_are_those_that_ran():
    parts = list(agent().stream(QUESTION, stream_mode="messages"))
    calls = [
        call["args"] for chunk, _ in parts if isinstance(chunk, AIMessageChunk) for call in chunk.tool_calls
    ]
    assert calls == [{"a": 1, "b": 2}, {"a": 3, "b": 10}]


def test_decisions_of_a_streaming_agent_reach_the_handlers():
    recorder = Recorder()
    for _ in agent().stream(QUESTION, {"callbacks": [recorder]}, stream_mode="messages"):
        pass
    traces = [(data["trace"], run_id) for name, data, run_id in recorder.events if name == TRACE_EVENT]
    assert [len(trace["segments"]) for trace, _ in traces] == [2, 1, 3]
    assert [run_id for _, run_id in traces] == recorder.runs


class Sum(BaseModel):
    """The sum."""

    a: int


@pytest.mark.parametrize("response_format", [Sum, ToolStrategy(Sum), ProviderStrategy(Sum)])
def test_response_formats(response_format):
    model = ChatStarsGuardedLLM(guard=StarsGuardedLLM(Obedient(), KeywordReward([]), STRICT))
    answer = create_agent(model, tools=[], response_format=response_format).invoke(
        {"messages": [HumanMessage("Say 7.")]}
    )
    assert isinstance(answer["structured_response"], Sum)


def test_constrained_text_and_tools_exclude_each_other():
    with pytest.raises(ConfigurationError, match="leave one of them out"):
        agent(response_format=ProviderStrategy(Sum)).invoke(QUESTION)


async def test_the_middleware_answers_every_call_with_the_guarded_model():
    core = guard(two_steps, "bad", "666")
    plain = FakeListChatModel(responses=["bad"])
    guarded = create_agent(
        plain, tools=[add], middleware=[StarsGuardMiddleware(ChatStarsGuardedLLM(guard=core))]
    )
    check(guarded.invoke(QUESTION)["messages"])
    check((await guarded.ainvoke(QUESTION))["messages"])
    assert plain.i == 0


def test_the_middleware_may_be_told_when():
    middleware = StarsGuardMiddleware(
        ChatStarsGuardedLLM(guard=guard([["guarded"]])),
        when=lambda request: "secret" in request.messages[-1].text,
    )
    both = create_agent(FakeListChatModel(responses=["plain"]), tools=[], middleware=[middleware])
    texts = [
        both.invoke({"messages": [HumanMessage(text)]})["messages"][-1].text for text in ("hi", "a secret")
    ]
    assert texts == ["plain", "guarded"]


def test_the_middleware_is_the_embedded_default_unless_told():
    assert StarsGuardMiddleware().model == ChatStarsGuardedLLM()


def test_without_langchain_the_middleware_says_what_to_install(monkeypatch):
    import langchain_stars_guard

    monkeypatch.setitem(sys.modules, "langchain.agents.middleware", None)
    monkeypatch.delitem(sys.modules, "langchain_stars_guard.middleware")
    with pytest.raises(ImportError, match=r"pip install 'langchain-stars-guard\[agents\]'"):
        langchain_stars_guard.StarsGuardMiddleware  # noqa: B018
    with pytest.raises(AttributeError, match="no attribute 'Other'"):
        langchain_stars_guard.Other  # noqa: B018


@pytest.mark.embedded
def test_an_agent_on_the_real_model():
    model = ChatStarsGuardedLLM(max_tokens=64, seed=3, temperature=0.7)
    answer = create_agent(model, tools=[], system_prompt="You are kind.").invoke(
        {"messages": [HumanMessage("Say hello.")]}
    )["messages"][-1]
    assert isinstance(answer, AIMessage)
    assert answer.text
    assert answer.response_metadata["stars"]["attempts"] >= 1


@pytest.mark.embedded
def test_a_forced_call_of_the_real_model_runs():
    model = ChatStarsGuardedLLM(max_tokens=64, seed=3, temperature=0.7)
    answer = model.bind_tools([add], tool_choice="add").invoke("What is 2 + 3?")
    (made,) = answer.tool_calls
    assert isinstance(add.invoke(made["args"]), int)


def test_decisions_are_in_the_custom_stream_of_a_graph():
    written = list(agent().stream(QUESTION, stream_mode="custom"))
    recorder = Recorder()
    agent().invoke(QUESTION, {"callbacks": [recorder]})
    assert {event["name"] for event in written} == {DECISION_EVENT}
    assert [event["data"]["verdict"] for event in written] == [
        decision["verdict"] for decision in recorder.named(DECISION_EVENT)
    ]
    assert not any("text" in event["data"]["attempt"] for event in written)


async def test_decisions_are_in_the_custom_stream_of_a_graph_that_runs_in_a_task():
    modes = ["custom", "messages"]
    parts = [part async for part in agent().astream(QUESTION, stream_mode=modes)]
    written = [part for mode, part in parts if mode == "custom"]
    assert len(written) == len(list(agent().stream(QUESTION, stream_mode="custom")))
    # Each is there before the text that it lets through.
    assert [mode for mode, _ in parts][:3] == ["custom", "custom", "messages"]


def test_outside_of_a_graph_nothing_is_written(monkeypatch):
    assert agent().invoke(QUESTION)["messages"][-1].text == "It is 13."
    monkeypatch.delitem(sys.modules, "langgraph.config")
    model = ChatStarsGuardedLLM(guard=guard())
    assert RunnableLambda(lambda text: model.invoke(text)).invoke("hi").text == "Hello there."


def test_an_agent_leaves_it_to_the_model_whether_to_call():
    core = guard(two_steps, "bad", "666")
    create_agent(ChatStarsGuardedLLM(guard=core), tools=[add]).invoke(QUESTION)
    assert [session.prompt.tools.choice for session in core.model.sessions] == ["auto"] * 3
