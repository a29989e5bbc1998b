"""A refusal is text that every parser reads, and a block beside it where langchain-core knows one."""

from __future__ import annotations

import pytest
from langchain_core.messages import AIMessageChunk, HumanMessage
from langchain_core.output_parsers import StrOutputParser
from pydantic import BaseModel
from stars_guard import Refuse, WriteRefusal

from langchain_stars_guard import ChatStarsGuardedLLM, answers

from .scripted import STRICT, guard

CONFIG = STRICT.model_copy(update={"exhaustion": Refuse(), "refusal_text": "No."})
BLOCK = {"type": "refusal", "refusal": "No."}


def both_ways(model: ChatStarsGuardedLLM) -> list[AIMessageChunk]:
    whole: AIMessageChunk | None = None
    for chunk in model.stream("hi"):
        whole = chunk if whole is None else whole + chunk
    assert whole is not None
    return [model.invoke("hi"), whole]


@pytest.mark.parametrize(
    ("script", "text"),
    [([["bad"]], "No."), ([["Well, "], ["bad"]], "Well, \n\nNo.")],
    ids=["at once", "later"],
)
def test_as_a_block(monkeypatch, script, text):
    monkeypatch.setattr(answers, "HAS_REFUSAL_BLOCK", True)
    for answer in both_ways(ChatStarsGuardedLLM(guard=guard(script, "bad", config=CONFIG))):
        assert answer.content == [text, BLOCK]
        assert answer.text == text
        assert "refusal" not in answer.additional_kwargs
        assert answer.response_metadata["stars"]["refused"]


@pytest.mark.parametrize(
    ("script", "content"),
    [([["bad"]], "No."), ([["Well, "], ["bad"]], "Well, \n\nNo.")],
    ids=["at once", "later"],
)
def test_as_text(monkeypatch, script, content):
    monkeypatch.setattr(answers, "HAS_REFUSAL_BLOCK", False)
    for answer in both_ways(ChatStarsGuardedLLM(guard=guard(script, "bad", config=CONFIG))):
        assert answer.content == content
        assert answer.additional_kwargs == {"refusal": "No."}
        assert answer.response_metadata["stars"]["refused"]


@pytest.mark.parametrize("has_block", [True, False])
@pytest.mark.parametrize("output_version", ["v0", "v1"])
async def test_parsers_of_text_read_it_whatever_the_version(monkeypatch, has_block, output_version):
    monkeypatch.setattr(answers, "HAS_REFUSAL_BLOCK", has_block)
    core = guard([["Well, "], ["bad"]], "bad", config=CONFIG)
    chain = ChatStarsGuardedLLM(guard=core, output_version=output_version) | StrOutputParser()
    said = "Well, \n\nNo."
    assert chain.invoke("hi") == await chain.ainvoke("hi") == said
    assert "".join(chain.stream("hi")) == "".join([text async for text in chain.astream("hi")]) == said


def test_a_refusal_in_the_history_is_said_once(monkeypatch):
    monkeypatch.setattr(answers, "HAS_REFUSAL_BLOCK", True)
    core = guard([["Well, "], ["bad"]], "bad", config=CONFIG)
    model = ChatStarsGuardedLLM(guard=core)
    model.invoke([HumanMessage("hi"), model.invoke("hi"), HumanMessage("and now?")])
    assert [turn["content"] for turn in core.model.sessions[-1].prompt.messages] == [
        "hi",
        "Well, \n\nNo.",
        "and now?",
    ]


def test_the_installed_version_decides():
    import langchain_core.messages

    assert hasattr(langchain_core.messages, "RefusalContentBlock") == answers.HAS_REFUSAL_BLOCK


@pytest.mark.skipif(not answers.HAS_REFUSAL_BLOCK, reason="this langchain-core has no refusal block")
def test_structured_output_says_that_it_was_refused():
    from langchain_core.exceptions import ModelRefusalError

    class Joke(BaseModel):
        """A joke."""

        setup: str

    model = ChatStarsGuardedLLM(guard=guard([["bad"]], "bad", config=CONFIG))
    for method in ("function_calling", "json_schema"):
        with pytest.raises(ModelRefusalError, match=r"No\."):
            model.with_structured_output(Joke, method=method).invoke("hi")


@pytest.mark.parametrize("has_block", [True, False])
def test_a_refusal_that_the_model_wrote_is_said_in_its_words(monkeypatch, has_block):
    monkeypatch.setattr(answers, "HAS_REFUSAL_BLOCK", has_block)
    config = CONFIG.model_copy(
        update={"exhaustion": WriteRefusal(openings=("No, since",)), "max_attempts": 1}
    )
    core = guard([["Well, "], ["bad"], [" it hurts."]], "bad", config=config)
    text = "Well, \n\nNo, since it hurts."
    block = {"type": "refusal", "refusal": "No, since it hurts."}
    for answer in both_ways(ChatStarsGuardedLLM(guard=core)):
        assert answer.text == text
        if has_block:
            assert answer.content == [text, block]
        else:
            assert answer.additional_kwargs == {"refusal": "No, since it hurts."}
        assert answer.response_metadata["stars"]["refused"]
        assert answer.response_metadata["finish_reason"] == "content_filter"
