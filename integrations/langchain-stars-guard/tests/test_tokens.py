"""Lengths in tokens are those of the model: its tokenizer, its chat template, and its limits."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.language_models import ModelProfile
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage, trim_messages
from stars_guard import (
    ConfigurationError,
    ContextLengthError,
    Prompt,
    PromptError,
    StarsGuardedLLM,
    Tools,
    adapters,
    embedded,
)
from stars_guard.testing import KeywordReward, ScriptedModel

from langchain_stars_guard import ChatStarsGuardedLLM
from langchain_stars_guard import StarsGuardedLLM as TextModel
from langchain_stars_guard.errors import PromptOverflowError

from .scripted import STRICT, guard

TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


class Words:
    """A tokenizer with a token a word."""

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        assert options["add_special_tokens"] is False
        return {"input_ids": [len(word) for word in text.split()]}


class Small(ScriptedModel):
    """A model of 20 positions, whose template adds a token a turn and wants the user to begin."""

    context_window = 20

    def __init__(self) -> None:
        super().__init__([["Hello ", "Hello "], ["there."]])
        self.tokenizer = Words()

    def prompt_tokens(self, prompt: Prompt) -> int:
        if prompt.messages and prompt.messages[0]["role"] == "assistant":
            raise PromptError("the template wants the user to begin")
        return len(prompt.as_text().split()) + len(prompt.messages) + 5 * bool(prompt.tools)


def small() -> StarsGuardedLLM:
    return StarsGuardedLLM(Small(), KeywordReward([]), STRICT)


MODELS = {"chat": ChatStarsGuardedLLM(guard=small()), "text": TextModel(guard=small())}
models = pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)


@models
def test_texts_are_counted_by_the_models_tokenizer(model):
    assert model.get_token_ids("one three") == [3, 5]
    assert model.get_num_tokens("one three") == 2
    assert model.get_num_tokens("") == 0


@models
def test_conversations_are_counted_with_the_template(model):
    turns = [SystemMessage("be kind"), HumanMessage("hi there you")]
    assert model.get_num_tokens_from_messages(turns) == 5 + 2
    assert model.get_num_tokens_from_messages([]) == 0
    assert model.get_num_tokens_from_messages(turns, tools=[TOOL]) == 5 + 2 + 5


@models
def test_parts_that_the_template_refuses_count_by_their_texts(model):
    turns = [
        AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1}, "id": "c"}]),
        ToolMessage("3", tool_call_id="c"),
    ]
    assert model.get_num_tokens_from_messages(turns) == len(["add", "{'a':", "1}", "3"]) + 2 * 4


@models
def test_a_counter_of_the_users_own_wins(model):
    own = model.model_copy(update={"custom_get_token_ids": lambda text: list(text.encode())})
    assert own.get_token_ids("ab") == [97, 98]
    assert own.get_num_tokens("ab") == own.get_num_tokens_from_messages([HumanMessage("ab")]) == 2


def test_messages_are_trimmed_to_what_the_model_counts():
    history = [turn for n in range(9) for turn in (HumanMessage(f"question {n}"), AIMessage("yes"))]
    kept = trim_messages(
        [*history, HumanMessage("and now")],
        max_tokens=10,
        token_counter=MODELS["chat"],
        start_on="human",
    )
    assert [message.text for message in kept] == ["question 8", "yes", "and now"]
    assert MODELS["chat"].get_num_tokens_from_messages(kept) == 8
    assert MODELS["chat"].bind(max_tokens=5).invoke(kept).text == "Hello there."


def test_without_a_tokenizer_lengths_are_estimates(caplog):
    model = ChatStarsGuardedLLM(guard=guard())
    assert model.get_num_tokens("twelve bytes") == 3
    assert model.get_num_tokens_from_messages([HumanMessage("twelve bytes")]) == 3 + 4
    with pytest.raises(ConfigurationError, match=r"scripted has no tokenizer here.*pass tokenizer="):
        model.get_token_ids("x")


@pytest.mark.embedded
class TestOverflow:
    """On the embedded model, which takes 8192 tokens."""

    LONG = "word " * 9000
    MODELS = pytest.mark.parametrize("kind", [ChatStarsGuardedLLM, TextModel])

    @MODELS
    async def test_a_prompt_that_is_too_long_is_langchains_overflow_on_every_path(self, kind):
        model = kind(max_tokens=4)
        calls = [
            lambda: model.invoke(self.LONG),
            lambda: list(model.stream(self.LONG)),
            lambda: model.batch([self.LONG]),
        ]
        for call in calls:
            with pytest.raises(ContextOverflowError, match="exceed the 8192 positions of smollm2") as caught:
                call()
            assert isinstance(caught.value, PromptOverflowError)
            assert isinstance(caught.value, ContextLengthError)
            assert caught.value.context_window == 8192
            assert type(caught.value.__cause__) is ContextLengthError
        with pytest.raises(PromptOverflowError):
            await model.ainvoke(self.LONG)
        with pytest.raises(PromptOverflowError):
            [chunk async for chunk in model.astream(self.LONG)]

    @pytest.mark.parametrize(
        "way", [copy.copy, copy.deepcopy, lambda error: pickle.loads(pickle.dumps(error))]
    )
    def test_an_overflow_travels(self, way):
        with pytest.raises(PromptOverflowError) as caught:
            ChatStarsGuardedLLM(max_tokens=4).invoke(self.LONG)
        other = way(caught.value)
        assert (type(other), str(other)) == (PromptOverflowError, str(caught.value))
        assert other.context_window == 8192
        assert type(other.__cause__) is ContextLengthError

    @MODELS
    def test_other_faults_of_a_prompt_are_none(self, kind):
        with pytest.raises(PromptError) as caught:
            kind().invoke("")
        assert not isinstance(caught.value, ContextOverflowError)

    @MODELS
    def test_the_embedded_model_counts_as_it_reads(self, kind):
        model = kind()
        tokenizer = model.loaded().model.tokenizer
        text = "Hello world, how are you?"
        assert model.get_token_ids(text) == tokenizer(text)["input_ids"]
        read = len(model.loaded().model.encode(Prompt.of(text)))
        assert model.get_num_tokens_from_messages([HumanMessage(text)]) == read
        answer = ChatStarsGuardedLLM(max_tokens=2).invoke(text)
        assert answer.usage_metadata["input_tokens"] == read


def test_the_profile_says_what_the_model_can_do():
    profile = ChatStarsGuardedLLM(guard=small(), max_tokens=7).profile
    assert profile["max_input_tokens"] == 20
    assert profile["max_output_tokens"] == 7
    assert profile["tool_calling"]
    assert profile["tool_choice"]
    assert not profile["image_inputs"]
    assert profile.keys() <= ModelProfile.__annotations__.keys()
    assert ChatStarsGuardedLLM().profile["max_input_tokens"] == embedded.CONTEXT_WINDOW
    assert "max_input_tokens" not in ChatStarsGuardedLLM(guard=guard()).profile
    own = {"max_input_tokens": 5}
    assert ChatStarsGuardedLLM(guard=small(), profile=own).profile == own


def test_tools_may_be_counted_in_the_guards_own_form():
    prompt = Prompt.of("hi", Tools((TOOL,)))
    assert adapters.count_prompt(Small(), prompt) == 1 + 1 + 5
