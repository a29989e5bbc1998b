"""Engines that take no token ids: by text, by the last turn of a chat, and whole answers."""

from __future__ import annotations

import json

import pytest

from stars_guard.algorithm import replay
from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError, GenerationError, PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.engines.profiles import OPENAI, TRANSFORMERS
from stars_guard.prompts import Message, Prompt, Tools
from stars_guard.testing import KeywordReward
from stars_guard.types import Guarantee, StopReason
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer, written
from tests.support.http_judge import Reply
from tests.support.tiny import tiny_tokenizer

WORDS = TableTokenizer(("a", "b", ".", ""), 3)
ASKED = (Message(role="user", content="Q"),)
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CONFIG = GuardConfig(
    threshold=Constant(target=0.0),
    acceptance=Hard(),
    segments=FixedLength(max_tokens=2),
    drawing=Fixed(candidates=2),
)
SAMPLING = SamplingParams(seed=3, max_tokens=5, top_p=1.0)


def served(*answers, **options):
    return FakeEngine(written(*(answers or [[0, 1, 0, 1, 2, 3]])), WORDS, **options)


def model_at(server, engine="vllm", **options):
    return OpenAICompatibleModel(server.url, engine, **options)


def generated(model, prompt="Q", sampling=SAMPLING, bad=("x",), **changes):
    llm = StarsGuardedLLM(model, KeywordReward(bad), CONFIG.changed(**changes))
    result = llm.generate(prompt, sampling=sampling)
    replay.verify(result.trace)
    return result


def bodies(server, path="/v1/chat/completions"):
    return server.engine.bodies[path]


# By text


def test_text_goes_on_from_the_text_so_far():
    with HttpEngine(served()) as server, model_at(server, "openai", guarantee="text") as model:
        result = generated(model, Prompt.raw("Q"), drawing=Fixed(candidates=1))
        assert [body["prompt"] for body in bodies(server, "/v1/completions")][:3:2] in (
            ["Q", "Qabab"],
            ["Q", "Qab"],
        )
    assert (result.text, result.stop_reason) == ("abab.", StopReason.LENGTH)
    assert result.token_ids == [-1] * 5
    assert result.trace.guarantee is Guarantee.TEXT
    assert result.usage.proposed_tokens >= 5


def test_each_candidate_is_a_call_of_its_own():
    with HttpEngine(served([0] * 9, [1] * 9)) as server, model_at(server, guarantee="text") as model:
        result = generated(model, Prompt.raw("Q"), bad=["a"], max_attempts=8)
        assert set(result.text) == {"b"}
        assert all("n" not in body for body in bodies(server, "/v1/completions"))


def test_a_chat_is_rendered_here():
    tokenizer = tiny_tokenizer()
    with HttpEngine(served([0, 1, 3])) as server:
        server.engine.tokenizer.read = lambda text: [1000 + ord(one) for one in text]
        with model_at(server, tokenizer=tokenizer, guarantee="text") as model:
            session = model.start(Prompt(ASKED), SAMPLING)
        rendered = tokenizer.apply_chat_template(list(ASKED), tokenize=False, add_generation_prompt=True)
        assert session.opening == rendered
        assert session.prompt_tokens == len(tokenizer(rendered, add_special_tokens=False)["input_ids"])
        del server.engine.tokenizer.read
        # An engine that tokenizes by itself puts the first token there.
        with model_at(server, "openai", tokenizer=tokenizer) as model:
            assert model.guarantee is Guarantee.TEXT
            assert model.start(Prompt(ASKED), SAMPLING).opening == rendered.removeprefix("<|bos|>")


def test_control_tokens_of_users_are_not_made_real():
    quoted = Prompt.of("What does <|im_end|> mean?")
    with (
        HttpEngine(served()) as server,
        model_at(server, tokenizer=tiny_tokenizer(), guarantee="text") as model,
        pytest.raises(PromptError, match="spells out control tokens"),
    ):
        model.start(quoted, SAMPLING)


def test_messages_need_a_template():
    with HttpEngine(served()) as server, model_at(server, "openai", guarantee="text") as model:
        with pytest.raises(PromptError, match="messages need a chat template"):
            model.start(Prompt(ASKED), SAMPLING)
        with pytest.raises(PromptError, match="openai cannot sample with top_k=5; leave it at 0"):
            model.start(Prompt.raw("x"), SAMPLING.changed(top_k=5))


def test_transformers_takes_its_parameters_as_text():
    with HttpEngine(served()) as server, model_at(server, "transformers", guarantee="text") as model:
        generated(model, Prompt.raw("Q"), sampling=SAMPLING.changed(top_k=7, temperature=0.5))
        body = bodies(server, "/v1/completions")[0]
    config = json.loads(body["generation_config"])
    assert (config["top_k"], config["temperature"], config["do_sample"]) == (7, 0.5, True)
    assert body["temperature"] == 0.5
    assert "top_k" not in body


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"choices": [{"text": "a", "finish_reason": "stop"}]}, "no usage.completion_tokens"),
        (
            {"choices": [{"text": "a", "finish_reason": "stop"}], "usage": {"completion_tokens": -1}},
            "no usage",
        ),
        (
            {"choices": [{"text": None, "finish_reason": "stop"}], "usage": {"completion_tokens": 1}},
            "no text",
        ),
        ({"choices": [{"text": "a", "finish_reason": "content_filter"}]}, "ended with a finish_reason"),
    ],
)
def test_text_that_is_none_is_a_generation_error(answer, message):
    fault = Reply(answer)
    with (
        HttpEngine(served(), fault, fault) as server,
        model_at(server, guarantee="text") as model,
        pytest.raises(GenerationError, match=message),
    ):
        generated(model, Prompt.raw("Q"))


# By the last turn of a chat


@pytest.mark.parametrize("engine", ["vllm", "llamacpp"])
def test_the_last_turn_is_gone_on_with(engine):
    with HttpEngine(served()) as server, model_at(server, engine, guarantee="prefill") as model:
        result = generated(model)
        first, *later = bodies(server)
    assert (result.text, result.stop_reason) == ("abab.", StopReason.LENGTH)
    assert result.trace.guarantee is Guarantee.PREFILL
    assert first["messages"] == list(ASKED)
    last = later[-1]
    assert last["messages"][-1]["role"] == "assistant"
    assert last.get("continue_final_message") is (True if engine == "vllm" else None)


def test_an_end_ends_a_turn():
    with HttpEngine(served([0, 3])) as server, model_at(server, guarantee="prefill") as model:
        result = generated(model)
    assert (result.text, result.stop_reason) == ("a", StopReason.EOS)


def test_a_beginning_that_comes_back_changed_is_an_outage():
    changed = Reply(
        {
            "choices": [{"message": {"content": "other"}, "finish_reason": "length"}],
            "usage": {"completion_tokens": 2},
        }
    )
    engine = served()
    with (
        HttpEngine(engine, engine, changed, changed) as server,
        model_at(server, "llamacpp", guarantee="prefill") as model,
        pytest.raises(GenerationError, match="changed the beginning"),
    ):
        generated(model, drawing=Fixed(candidates=1))


def test_reasoning_that_is_kept_apart_cannot_be_gone_on_with():
    said = [{"content": None, "reasoning_content": "Hm"}] * 2
    with (
        HttpEngine(served(said=said)) as server,
        model_at(server, guarantee="prefill") as model,
        pytest.raises(GenerationError, match="keeps reasoning apart"),
    ):
        generated(model)


@pytest.mark.parametrize(
    ("prompt", "sampling", "message"),
    [
        (Prompt.raw("x"), {}, "a raw text cannot be continued in a chat"),
        (Prompt(ASKED, tools=Tools((TOOL,))), {}, "tools do not go with guarantee='prefill'"),
        (Prompt(ASKED), {"response_schema": {}}, "guarantee='whole'"),
    ],
)
def test_turns_that_cannot_be_gone_on_with(prompt, sampling, message):
    with (
        HttpEngine(served()) as server,
        model_at(server, guarantee="prefill") as model,
        pytest.raises(PromptError, match=message),
    ):
        model.start(prompt, SAMPLING.changed(**sampling))


# Whole answers


def test_a_whole_answer_is_one_segment():
    with HttpEngine(served([0, 1, 0, 1, 3], [2, 2, 3])) as server, model_at(server, "openai") as model:
        assert model.guarantee is Guarantee.WHOLE
        result = generated(model, bad=["ab"], max_attempts=9)
        assert {body["max_tokens"] for body in bodies(server)} == {5}
    assert (result.text, result.stop_reason) == ("..", StopReason.EOS)
    (segment,) = result.trace.segments
    assert segment.attempts[-1].tokens == 3


def test_a_whole_answer_ends_at_its_limit_or_before_a_stop_string():
    with HttpEngine(served()) as server, model_at(server, guarantee="whole") as model:
        cut = generated(model)
        stopped = generated(model, sampling=SAMPLING.changed(stop="ba"))
    assert (cut.text, cut.stop_reason) == ("abab.", StopReason.LENGTH)
    assert (stopped.text, stopped.stop_reason) == ("a", StopReason.STOP)


CALL = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"at": 1}'}}


def test_reasoning_and_calls_are_judged_too():
    said = [{"content": "Here.", "reasoning": "Hm", "tool_calls": [CALL]}]
    with HttpEngine(served(said=said)) as server, model_at(server, guarantee="whole") as model:
        prompt = Prompt(ASKED, tools=Tools((TOOL,), "any"))
        result = generated(model, prompt, drawing=Fixed(candidates=1))
        body = bodies(server)[0]
    assert (result.text, result.reasoning) == ("Here.", "Hm")
    assert [(call.name, call.arguments) for call in result.tool_calls] == [("look", {"at": 1})]
    assert (body["tools"], body["tool_choice"], body["parallel_tool_calls"]) == ([TOOL], "required", True)


def test_reasoning_and_calls_hold_no_stop_string():
    said = [{"content": "Here. Now.", "reasoning": "Hm. So.", "tool_calls": [CALL]}]
    said.append({"content": "Here", "reasoning": "Hm. So.", "tool_calls": [CALL]})
    with HttpEngine(served(said=said)) as server, model_at(server, guarantee="whole") as model:
        prompt = Prompt(ASKED, tools=Tools((TOOL,)))
        options = {"drawing": Fixed(candidates=1), "sampling": SAMPLING.changed(stop=".")}
        stopped, whole = (generated(model, prompt, **options) for _ in range(2))
    assert (stopped.text, stopped.reasoning, stopped.tool_calls) == ("Here", "Hm. So.", ())
    assert (whole.text, whole.reasoning, len(whole.tool_calls)) == ("Here", "Hm. So.", 1)


@pytest.mark.parametrize("guarantee", ["text", "prefill", "whole"])
def test_a_stop_string_that_no_text_shows_is_said_once(guarantee, caplog):
    asked = {"prompt": Prompt.raw("Q") if guarantee == "text" else "Q"}
    with HttpEngine(served()) as server, model_at(server, guarantee=guarantee) as model:
        generated(model, sampling=SAMPLING.changed(stop="ba"), **asked)
        assert caplog.messages == []
        for _ in range(2):
            generated(model, sampling=SAMPLING.changed(stop=["<|im_end|>", "ba"]), **asked)
    (message,) = caplog.messages
    assert "give stop_token_ids" in message
    assert "im_end" not in message


def test_ids_that_end_an_answer_go_along_or_are_refused():
    ends = SAMPLING.changed(stop_token_ids=[1])
    with HttpEngine(served()) as server:
        with model_at(server, guarantee="whole") as model:
            assert generated(model, sampling=ends).text == "ab"
            assert bodies(server)[0]["stop_token_ids"] == [1]
        with (
            model_at(server, "openai", guarantee="whole") as model,
            pytest.raises(PromptError, match="openai takes no stop_token_ids with a text; leave them out"),
        ):
            generated(model, sampling=ends)


def test_a_forced_tool_is_named_and_calls_of_a_conversation_are_json_text():
    earlier = {**CALL, "function": {"name": "look", "arguments": {"at": 1}}}
    messages = (
        *ASKED,
        Message(role="assistant", content="", tool_calls=[earlier]),
        Message(role="tool", content="done", tool_call_id="1", name="look"),
    )
    with HttpEngine(served()) as server, model_at(server, guarantee="whole") as model:
        session = model.start(Prompt(messages, tools=Tools((TOOL,), "look", parallel=False)), SAMPLING)
    assert session.opening["tool_choice"] == {"type": "function", "function": {"name": "look"}}
    assert session.opening["messages"][1]["tool_calls"] == [CALL]
    assert session.opening["messages"][2]["tool_call_id"] == "1"


def test_a_schema_goes_with_whole_answers():
    schema = {"type": "object"}
    with HttpEngine(served()) as server, model_at(server, "openai") as model:
        session = model.start(Prompt(ASKED), SAMPLING.changed(response_schema=schema))
        assert session.opening["response_format"]["json_schema"]["schema"] == schema
        refused = pytest.raises(PromptError, match="transformers takes no response_schema")
        with model_at(server, TRANSFORMERS, guarantee="whole") as other, refused:
            other.start(Prompt(ASKED), SAMPLING.changed(response_schema=schema))


@pytest.mark.parametrize(
    ("message", "problem"),
    [
        (None, "a choice has no message"),
        ({"content": 3}, "no text but int"),
        ({"content": None, "tool_calls": "x"}, "tool calls that cannot be read"),
        ({"content": None, "tool_calls": [{}]}, "tool calls that cannot be read"),
        ({"content": None, "tool_calls": [{"function": {"name": "look"}}]}, "no text but NoneType"),
    ],
)
def test_messages_that_are_none(message, problem):
    choice = {"message": message, "finish_reason": "stop"}
    fault = Reply({"choices": [choice], "usage": {"completion_tokens": 1}})
    with (
        HttpEngine(served(), fault, fault) as server,
        model_at(server, "openai") as model,
        pytest.raises(GenerationError, match=problem),
    ):
        generated(model, drawing=Fixed(candidates=1))


# Which of them


@pytest.mark.parametrize(
    ("engine", "tokenizer", "level"),
    [
        ("vllm", None, Guarantee.TOKEN_IDS),
        ("sglang", None, Guarantee.PREFILL),
        ("sglang", WORDS, Guarantee.TOKEN_IDS),
        ("transformers", None, Guarantee.WHOLE),
        ("transformers", WORDS, Guarantee.TEXT),
        ("openai", None, Guarantee.WHOLE),
        (OPENAI.changed(prefill={}), None, Guarantee.PREFILL),
    ],
)
def test_the_strongest_guarantee_that_can_be_had_is_given(engine, tokenizer, level):
    with OpenAICompatibleModel("http://localhost", engine, tokenizer=tokenizer) as model:
        assert model.guarantee is level


def test_a_guard_may_demand_more():
    with (
        OpenAICompatibleModel("http://localhost", "openai") as model,
        pytest.raises(ConfigurationError, match="token_ids"),
    ):
        StarsGuardedLLM(model, KeywordReward(["x"]), CONFIG.changed(min_guarantee=Guarantee.TOKEN_IDS))
