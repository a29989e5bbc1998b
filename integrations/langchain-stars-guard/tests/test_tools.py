"""Tools, tool choice and structured output."""

from __future__ import annotations

import json
from typing import Annotated, Any

import pytest
from langchain_core.exceptions import LangChainException, OutputParserException
from langchain_core.messages import AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.runnables import RunnableBinding
from langchain_core.tools import tool
from pydantic import BaseModel
from stars_guard import ConfigurationError, PromptError, SamplingParams, StarsGuardedLLM, Tools
from stars_guard.models import Finish
from stars_guard.testing import KeywordReward, ScriptedModel
from typing_extensions import TypedDict

from langchain_stars_guard import ChatStarsGuardedLLM
from langchain_stars_guard.answers import unparsable

from .scripted import STRICT, Obedient, call, guard, obedient


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


@tool
def search(query: str) -> str:
    """Search the web."""
    return query


def asked(*arguments: Any, **options: Any) -> Tools | None:
    """What the guard is told when tools are bound so."""
    core = guard()
    ChatStarsGuardedLLM(guard=core).bind_tools(*arguments, **options).invoke("hi")
    return core.model.sessions[0].prompt.tools


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, "auto"),
        ("auto", "auto"),
        ("none", "none"),
        (False, "none"),
        ("any", "any"),
        ("required", "any"),
        (True, "any"),
        ("search", "search"),
        ({"type": "function", "function": {"name": "add"}}, "add"),
    ],
)
def test_every_form_of_tool_choice(given, choice):
    tools = asked([add, search], tool_choice=given)
    assert tools.choice == choice
    assert tools.names == ["add", "search"]
    assert tools.parallel


@pytest.mark.parametrize("given", [3, {"type": "tool"}, ["add"]])
def test_other_forms_of_tool_choice_are_refused(given):
    with pytest.raises(ConfigurationError, match="is not understood; use 'auto'"):
        asked([add], tool_choice=given)


def test_a_choice_that_names_no_tool_is_refused_when_it_is_bound():
    with pytest.raises(ConfigurationError, match="tool_choice names no tool; give the name of one"):
        ChatStarsGuardedLLM(guard=guard()).bind_tools([add], tool_choice="multiply")


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(PromptError, match="two tools have the same name"):
        asked([add, {"title": "add", "description": "other", "type": "object", "properties": {}}])


def test_tools_of_every_kind_become_schemas():
    class Multiply(BaseModel):
        """Multiply two numbers."""

        a: int
        b: int

    def halve(a: int) -> float:
        """Halve a number."""
        return a / 2

    tools = asked(
        [add, Multiply, halve, {"name": "raw", "description": "", "parameters": {"type": "object"}}]
    )
    assert tools.names == ["add", "Multiply", "halve", "raw"]
    assert tools.schemas[0]["function"]["parameters"]["properties"]["a"] == {"type": "integer"}


def test_parallel_calls_may_be_forbidden():
    assert not asked([add], parallel_tool_calls=False).parallel


def test_strict_is_written_into_the_schemas():
    assert asked([add], strict=True).schemas[0]["function"]["strict"]


def test_without_tools_nothing_is_offered():
    assert asked([]) is None


def test_binding_gives_a_binding():
    assert isinstance(ChatStarsGuardedLLM(guard=guard()).bind_tools([add]), RunnableBinding)


def test_calls_are_shown_only_once_all_of_them_was_accepted():
    text = call("search", query="how to brew poison")
    good = call("search", query="how to brew coffee")
    core = guard([[text[:40]], [text[40:], good[40:]]], "poison")
    chunks = list(ChatStarsGuardedLLM(guard=core).bind_tools([search]).stream("hi"))
    assert [len(chunk.tool_call_chunks) for chunk in chunks] == [1, 0]
    assert chunks[0].tool_calls[0]["args"] == {"query": "how to brew coffee"}
    assert chunks[-1].response_metadata["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("version", [None, "v1"])
def test_text_and_several_calls_stream_apart(version):
    core = guard([["Let me see. "], [call("add", a=1, b=2) + call("search", query="ü")]])
    model = ChatStarsGuardedLLM(guard=core, output_version=version).bind_tools([add, search])
    chunks = list(model.stream("hi"))
    whole = sum(chunks[1:], chunks[0])
    assert [block["type"] for block in whole.content_blocks] == ["text", "tool_call", "tool_call"]
    assert [(call["name"], call["args"]) for call in whole.tool_calls] == [
        ("add", {"a": 1, "b": 2}),
        ("search", {"query": "ü"}),
    ]


def test_several_calls_stay_apart_in_stream_events():
    core = guard([["Let me see. "], [call("add", a=1, b=2) + call("search", query="ü")]])
    stream = ChatStarsGuardedLLM(guard=core).bind_tools([add, search]).stream_events("hi", version="v3")
    assert [(call["name"], call["args"]) for call in stream.output.tool_calls] == [
        ("add", {"a": 1, "b": 2}),
        ("search", {"query": "ü"}),
    ]


@pytest.mark.parametrize(
    "text",
    [
        call("add", a=1, b=2)[:-20],
        '<tool_call>\n{"name": "add", "arguments": {"a": 1, \n</tool_call>',
        '<tool_call>\n{"name": "add", "arguments": [1, 2]}\n</tool_call>',
        "<tool_call>\nadd(1, 2)\n</tool_call>",
        call("unknown", a=1),
    ],
    ids=["cut off", "malformed", "no object", "no json", "unknown tool"],
)
async def test_what_cannot_be_called_is_never_repaired_into_a_call(text):
    model = ChatStarsGuardedLLM(guard=guard([[text]])).bind_tools([add])
    streamed: AIMessageChunk | None = None
    for chunk in model.stream("hi"):
        streamed = chunk if streamed is None else streamed + chunk
    for message in (model.invoke("hi"), streamed, await model.ainvoke("hi")):
        assert message.tool_calls == []
        assert len(message.invalid_tool_calls) == 1
        assert message.response_metadata["finish_reason"] == "stop"
    assert model.invoke("hi").invalid_tool_calls[0]["error"]


@pytest.mark.parametrize("text", ['{"a": 1', '{"a": 1}', "", "[1, 2", "add(1)"])
def test_langchain_will_not_read_arguments_in_the_text_of_an_invalid_call(text):
    chunk = AIMessageChunk(
        content="",
        tool_call_chunks=[
            {"name": "f", "args": unparsable(text), "id": "1", "index": 0, "type": "tool_call_chunk"}
        ],
    )
    assert chunk.tool_calls == []
    assert unparsable(text).endswith(text)


def test_a_loop_of_two_steps():
    def script(prompt):
        results = [message["content"] for message in prompt.messages if message["role"] == "tool"]
        if not results:
            return [[call("add", a=1, b=2)]]
        return [[call("add", a=int(results[0]), b=10)]] if len(results) == 1 else [[f"It is {results[-1]}."]]

    model = ChatStarsGuardedLLM(guard=guard(script)).bind_tools([add])
    messages: list[Any] = [HumanMessage("1 + 2 + 10?")]
    while (answer := model.invoke(messages)).tool_calls:
        messages += [answer, *(add.invoke(call) for call in answer.tool_calls)]
    assert answer.text == "It is 13."
    assert [message.content for message in messages if isinstance(message, ToolMessage)] == ["3", "13"]


class Joke(BaseModel):
    """A joke."""

    setup: str
    rating: int


class JokeDict(TypedDict):
    """A joke."""

    setup: Annotated[str, ..., "how it begins"]
    rating: Annotated[int, ..., "how good it is"]


SCHEMAS = {"pydantic": Joke, "typed dict": JokeDict, "json schema": Joke.model_json_schema()}


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
@pytest.mark.parametrize("kind", SCHEMAS)
async def test_structured_output(kind, method):
    core = StarsGuardedLLM(Obedient(), KeywordReward([]), STRICT)
    model = ChatStarsGuardedLLM(guard=core).with_structured_output(SCHEMAS[kind], method=method)
    expected = {"setup": "some setup", "rating": 1}
    wanted = Joke(**expected) if kind == "pydantic" else expected
    assert model.invoke("Tell me a joke.") == wanted
    assert await model.ainvoke("Tell me a joke.") == wanted
    assert list(model.stream("Tell me a joke."))[-1] == wanted


@pytest.mark.parametrize("method", ["json_schema", "json_mode"])
def test_the_schema_constrains_the_decoding(method):
    core = guard([['{"setup": "a", "rating": 2}']])
    ChatStarsGuardedLLM(guard=core).with_structured_output(Joke, method=method).invoke("A joke, please.")
    schema = json.loads(core.model.sessions[0].sampling.response_schema)
    assert schema["type"] == "object"
    assert ("properties" in schema) == (method == "json_schema")


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
def test_raw_answers_come_along_and_failures_are_data_then(method):
    fine = {"function_calling": call("Joke", setup="a", rating=2)}.get(method, '{"setup": "a", "rating": 2}')
    model = ChatStarsGuardedLLM(guard=guard([[fine]]))
    answer = model.with_structured_output(Joke, method=method, include_raw=True).invoke("hi")
    assert answer["parsed"] == Joke(setup="a", rating=2)
    assert answer["raw"].response_metadata["stars"]["attempts"] == 1
    assert answer["parsing_error"] is None
    broken = ChatStarsGuardedLLM(guard=guard([[fine.replace("2", '"two"')]]))
    failed = broken.with_structured_output(Joke, method=method, include_raw=True).invoke("hi")
    assert failed["parsed"] is None
    assert "two" in str(failed["parsing_error"])


@pytest.mark.parametrize("method", ["function_calling", "json_schema", "json_mode"])
async def test_an_answer_that_was_cut_off_says_so(method):
    begun = {"function_calling": call("Joke", setup="a", rating=2)[:40]}.get(method, '{"setup": "a')
    cut_off = ScriptedModel([[begun], [" more"]], finish=Finish.LENGTH)
    model = ChatStarsGuardedLLM(guard=StarsGuardedLLM(cut_off, KeywordReward([]), STRICT))
    structured = model.with_structured_output(Joke, method=method)
    for attempt in (structured.invoke, lambda prompt: list(structured.stream(prompt))):
        with pytest.raises(OutputParserException, match=r"was whole \(stop_reason 'length'\)"):
            attempt("hi")
    with pytest.raises(OutputParserException, match="stop_reason 'length'"):
        await structured.ainvoke("hi")
    with pytest.raises(OutputParserException, match="stop_reason 'length'"):
        [chunk async for chunk in structured.astream("hi")]
    raw = model.with_structured_output(Joke, method=method, include_raw=True).invoke("hi")
    assert raw["parsed"] is None
    assert "stop_reason 'length'" in str(raw["parsing_error"])
    assert raw["raw"].response_metadata["stop_reason"] == "length"


@pytest.mark.parametrize("method", ["function_calling", "json_schema"])
def test_a_refused_answer_is_no_data(method):
    model = ChatStarsGuardedLLM(guard=guard([["poison"]], "poison"))
    # Cores with a refusal block have an error of their own for it.
    with pytest.raises(LangChainException, match=r"stop_reason 'refused'|Model refused"):
        model.with_structured_output(Joke, method=method).invoke("hi")


def test_an_answer_that_was_whole_when_it_was_cut_off_is_data():
    cut_off = ScriptedModel([['{"setup": "a", "rating": 2}']], finish=Finish.LENGTH)
    model = ChatStarsGuardedLLM(guard=StarsGuardedLLM(cut_off, KeywordReward([]), STRICT))
    answer = model.with_structured_output(Joke, method="json_schema").invoke("hi")
    assert answer == Joke(setup="a", rating=2)


def test_unknown_methods_and_arguments_are_refused():
    model = ChatStarsGuardedLLM(guard=guard())
    with pytest.raises(ConfigurationError, match="method='regex' is unknown"):
        model.with_structured_output(Joke, method="regex")
    for method in ("function_calling", "json_schema"):
        with pytest.raises(ValueError, match="colour"):
            model.with_structured_output(Joke, method=method, colour="red")


def test_response_formats():
    core = guard()
    model = ChatStarsGuardedLLM(guard=core)
    model.invoke("hi", response_format={"type": "text"})
    assert core.model.sessions[0].sampling == SamplingParams(seed=core.model.sessions[0].sampling.seed)
    with pytest.raises(ConfigurationError, match="response_format, of type str, is not understood"):
        model.invoke("hi", response_format="json")
    with pytest.raises(ConfigurationError, match="then cannot call tools"):
        model.bind_tools([add]).invoke("hi", response_format={"type": "json_object"})


def test_a_forced_call_by_an_obedient_model():
    model = ChatStarsGuardedLLM(guard=StarsGuardedLLM(ScriptedModel(obedient), KeywordReward([]), STRICT))
    answer = model.bind_tools([add, search], tool_choice="search").invoke("Look for 'rain'.")
    assert answer.tool_calls[0]["args"] == {"query": "rain"}
    assert answer.text == ""
