"""Tool calls: how they are asked for, what comes back, and that malformed ones are never executed."""

from __future__ import annotations

from typing import Any

import pytest
from guards import BAD, add, call_text, guard_of, last_role, last_text, multiply, scripted, tools, user
from llama_index.core.base.llms.types import ChatMessage, ToolCallBlock
from llama_index.core.program import FunctionCallingProgram
from pydantic import BaseModel
from stars_guard import ConfigurationError, Prompt, PromptError
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.testing import KeywordReward, ScriptedModel

from llama_index.llms.stars_guard import StarsGuardedLLM

CALL = [["Let me add."], [call_text("add", a=1, b=2)]]
MALFORMED = [["<tool_call>\n{'name': add}\n</tool_call>"]]


def asked(llm: StarsGuardedLLM) -> Prompt:
    """The prompt that the model was last asked."""
    guard = llm.guard
    assert isinstance(guard, Guard)
    model = guard.model
    assert isinstance(model, ScriptedModel)
    return model.sessions[-1].prompt


async def every_way(llm: StarsGuardedLLM, **kwargs: Any) -> list[Any]:
    """The last response of each way to chat with tools."""
    return [
        llm.chat_with_tools(tools(), **kwargs),
        await llm.achat_with_tools(tools(), **kwargs),
        list(llm.stream_chat_with_tools(tools(), **kwargs))[-1],
        [chunk async for chunk in await llm.astream_chat_with_tools(tools(), **kwargs)][-1],
    ]


async def test_calls_come_as_blocks_and_as_selections() -> None:
    llm = scripted(CALL)
    for response in await every_way(llm, user_msg="1 + 2?"):
        text, call = response.message.blocks
        assert text.text == "Let me add."
        assert isinstance(call, ToolCallBlock)
        assert (call.tool_name, call.tool_kwargs) == ("add", {"a": 1, "b": 2})
        (selection,) = llm.get_tool_calls_from_response(response)
        assert selection.tool_id == call.tool_call_id
        assert (selection.tool_name, selection.tool_kwargs) == ("add", {"a": 1, "b": 2})
        (openai,) = response.message.additional_kwargs["tool_calls"]
        assert openai["function"] == {"name": "add", "arguments": '{"a": 1, "b": 2}'}


def test_a_call_without_text_has_no_text_block() -> None:
    response = scripted([[call_text("add", a=1, b=2)]]).chat_with_tools(tools(), user_msg="1 + 2?")
    assert [block.block_type for block in response.message.blocks] == ["tool_call"]
    assert response.message.content is None


def test_several_calls_in_one_answer() -> None:
    llm = scripted([[call_text("add", a=1, b=2)], [call_text("multiply", a=3, b=4)]])
    given = tools(add, multiply)
    response = llm.chat_with_tools(given, user_msg="Both?", allow_parallel_tool_calls=True)
    assert [selection.tool_name for selection in llm.get_tool_calls_from_response(response)] == [
        "add",
        "multiply",
    ]
    ids = {selection.tool_id for selection in llm.get_tool_calls_from_response(response)}
    assert len(ids) == 2
    only = llm.chat_with_tools(given, user_msg="One?", allow_parallel_tool_calls=False)
    assert [selection.tool_name for selection in llm.get_tool_calls_from_response(only)] == ["add"]


def test_a_streamed_call_comes_whole_and_only_when_accepted() -> None:
    opening = '<tool_call>\n{"name": "add", "arguments": '
    llm = scripted(
        [["Well."], [f'{opening}{{"a": "{BAD}', f'{opening}{{"a": 1'], [', "b": 2}}\n</tool_call>']]
    )
    chunks = list(llm.stream_chat_with_tools(tools(), user_msg="1 + 2?"))
    calls = [llm.get_tool_calls_from_response(chunk, error_on_no_tool_call=False) for chunk in chunks]
    assert [len(call) for call in calls] == [0, 1, 1]
    assert calls[-1][0].tool_kwargs == {"a": 1, "b": 2}
    assert "".join(chunk.delta for chunk in chunks) == "Well."


@pytest.mark.parametrize(
    ("kwargs", "choice", "parallel"),
    [
        ({}, "auto", False),
        ({"tool_required": True}, "any", False),
        ({"tool_choice": "required"}, "any", False),
        ({"tool_choice": "add"}, "add", False),
        ({"tool_choice": {"type": "function", "function": {"name": "add"}}}, "add", False),
        ({"tool_choice": "none"}, "none", False),
        ({"tool_choice": None, "tool_required": True}, "any", False),
        ({"allow_parallel_tool_calls": True}, "auto", True),
    ],
)
async def test_what_the_model_is_told(kwargs: dict[str, Any], choice: str, parallel: bool) -> None:
    llm = scripted(CALL)
    await every_way(llm, user_msg="1 + 2?", **kwargs)
    for session in llm.guard.model.sessions:
        offered = session.prompt.tools
        assert (offered.choice, offered.parallel, offered.names) == (choice, parallel, ["add"])


def test_history_and_question_are_put_together() -> None:
    llm = scripted(CALL)
    llm.chat_with_tools(tools(), user_msg=ChatMessage(content="And 3?"), chat_history=user("1 + 2?"))
    assert asked(llm).messages == ({"role": "user", "content": "1 + 2?\n\nAnd 3?"},)


def test_no_tools_is_a_plain_chat() -> None:
    llm = scripted([["Three."]])
    assert llm.chat_with_tools([], user_msg="1 + 2?", seed=1).message.content == "Three."
    assert asked(llm).tools is None


def test_wrong_choices_are_errors() -> None:
    with pytest.raises(PromptError, match="the tool choice is unknown; use auto"):
        scripted(CALL).chat_with_tools(tools(), user_msg="1 + 2?", tool_choice="subtract")
    with pytest.raises(ConfigurationError, match="no place for tools"):
        scripted(CALL, messages_to_prompt=str).chat_with_tools(tools(), user_msg="1 + 2?")


async def test_malformed_calls_are_reported_and_never_executed() -> None:
    llm = scripted(MALFORMED)
    for response in await every_way(llm, user_msg="1 + 2?"):
        assert not any(isinstance(block, ToolCallBlock) for block in response.message.blocks)
        assert "tool_calls" not in response.message.additional_kwargs
        (invalid,) = response.message.additional_kwargs["invalid_tool_calls"]
        assert invalid["text"] == "{'name': add}"
        assert "not a call" in invalid["error"]
        assert llm.get_tool_calls_from_response(response, error_on_no_tool_call=False) == []
        with pytest.raises(ValueError, match=r"makes none \(malformed: not a call"):
            llm.get_tool_calls_from_response(response)


def test_predict_and_call_refuses_malformed_calls() -> None:
    def never(a: int, b: int) -> int:
        """Add."""
        pytest.fail("a malformed call was executed")

    with pytest.raises(ValueError, match="malformed"):
        scripted(MALFORMED).predict_and_call(tools(never), user_msg="1 + 2?")


async def test_predict_and_call() -> None:
    llm = scripted(CALL)
    assert llm.predict_and_call(tools(), user_msg="1 + 2?").response == "3"
    assert (await llm.apredict_and_call(tools(), user_msg="1 + 2?")).response == "3"
    with pytest.raises(ValueError, match=r"makes none$"):
        scripted([["Three."]]).predict_and_call(tools(), user_msg="1 + 2?")


def test_a_tool_loop_of_two_steps() -> None:
    def script(prompt: Prompt) -> list[list[str]]:
        if last_role(prompt) == "user":
            return [[call_text("add", a=1, b=2)]]
        if prompt.messages[-1]["content"] == "3":
            return [[call_text("multiply", a=3, b=4)]]
        return [[f"It is {last_text(prompt)}."]]

    llm, given = scripted(script), tools(add, multiply)
    history = user("(1 + 2) * 4?")
    for wanted in ("3", "12"):
        response = llm.chat_with_tools(given, chat_history=history)
        (call,) = llm.get_tool_calls_from_response(response)
        result = {tool.metadata.name: tool for tool in given}[call.tool_name](**call.tool_kwargs).content
        assert result == wanted
        history += [
            response.message,
            ChatMessage(role="tool", content=result, additional_kwargs={"tool_call_id": call.tool_id}),
        ]
    assert llm.chat_with_tools(given, chat_history=history).message.content == "It is 12."
    roles = [message["role"] for message in asked(llm).messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]
    for assistant, tool in (asked(llm).messages[1:3], asked(llm).messages[3:5]):
        assert assistant["tool_calls"][0]["id"] == tool["tool_call_id"]


def test_arguments_have_a_reward_of_their_own() -> None:
    from stars_guard import ByChannel

    reward = ByChannel(KeywordReward([]), tool=KeywordReward(["99"]))
    script = [["99 it is."], [call_text("add", a=99, b=2), call_text("add", a=1, b=2)]]
    llm = StarsGuardedLLM(guard=guard_of(script, reward))
    response = llm.chat_with_tools(tools(), user_msg="Add.")
    assert response.message.content == "99 it is."
    assert llm.get_tool_calls_from_response(response)[0].tool_kwargs == {"a": 1, "b": 2}


class Sum(BaseModel):
    """A sum."""

    a: int
    b: int


async def test_a_function_calling_program_works_both_ways() -> None:
    llm = scripted([[call_text("Sum", a=1, b=2)]])
    program = FunctionCallingProgram.from_defaults(Sum, prompt_template_str="Add {n}.", llm=llm)
    assert program(n="1 and 2") == Sum(a=1, b=2)
    assert asked(llm).tools.choice == "any"
    assert await program.acall(n="1 and 2") == Sum(a=1, b=2)
    assert list(program.stream_call(n="1 and 2"))[-1] == Sum(a=1, b=2)
    assert [chunk async for chunk in await program.astream_call(n="1 and 2")][-1] == Sum(a=1, b=2)
