"""Forced calls and JSON answers from models that know nothing: every token fits, whatever is drawn."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llguidance import LLMatcher

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, Hard, Soft
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import PromptError
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.local import grammar
from stars_guard.prompts import Prompt, Tools
from stars_guard.rewards.function import FunctionReward
from stars_guard.text.dialects import DEEPSEEK, DEEPSEEK_V31, DIALECTS, HARMONY, HERMES
from stars_guard.types import StopReason
from tests.models.test_chat import CHATML, END, HERMES_TEMPLATE, LLAMA_TEMPLATE, MISTRAL_TEMPLATE, model

COLOURS = {"type": "string", "enum": ["red", "green"]}
PAINT = {
    "type": "function",
    "function": {
        "name": "paint",
        "parameters": {
            "type": "object",
            "properties": {"colour": COLOURS, "coats": {"enum": [1, 2]}},
            "required": ["colour", "coats"],
        },
    },
}
STOP = {"type": "function", "function": {"name": "stop"}}
CONFIG = GuardConfig(
    threshold=Constant(target=1.0),
    acceptance=Soft(beta=1.0),
    segments=FixedLength(max_tokens=8),
    drawing=Fixed(candidates=3),
)
FAMILIES = {
    "hermes": (HERMES_TEMPLATE, ()),
    "llama3": (LLAMA_TEMPLATE, ("<|python_tag|>",)),
    "mistral": (MISTRAL_TEMPLATE, ("[TOOL_CALLS]",)),
    "qwen_coder": (HERMES_TEMPLATE + "{# <function= #}", ("<think>", "</think>")),
    "deepseek": (CHATML + f"{{# {DEEPSEEK.call('x', {})} #}}", DEEPSEEK.inside),
    "deepseek_v31": (CHATML + f"{{# {DEEPSEEK_V31.call('x', {})} #}}", ()),
    "harmony": (CHATML + f"{{# {HARMONY.call('x', {})} #}}", HARMONY.inside),
    "granite": (CHATML + "{# <|tool_call|> #}", ("<|tool_call|>",)),
    "phi4": (CHATML + "{# <|tool_call|><|/tool_call|> #}", ("<|tool_call|>", "<|/tool_call|>")),
    "gemma": (CHATML + "{# <start_of_turn> #}", ()),
    "function_gemma": (CHATML + "{# <start_function_call> #}", ("<start_function_call>", "<escape>")),
}


def guarded(local, reward=lambda prompt, text: 1.0, config=CONFIG):
    return StarsGuardedLLM(local, FunctionReward(reward), config)


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    template, special = FAMILIES[request.param]
    local = model(template, special=special)
    local.model.config.max_position_embeddings = 1024  # some marks are many tokens to this tokenizer
    return guarded(local, lambda prompt, text: float("green" not in text))


def written_in(family, result):
    """The answer as the model wrote it, marks included."""
    written = family.model.tokenizer.decode(result.token_ids, skip_special_tokens=False)
    return written.removesuffix(END)


@pytest.mark.parametrize("seed", range(2))
def test_a_named_tool_is_called_whatever_the_model_would_say(family, seed):
    prompt = Prompt.of("Hello!", Tools((PAINT, STOP), choice="paint", parallel=False))
    result = family.generate(prompt, sampling=SamplingParams(seed=seed, max_tokens=200))
    (call,) = result.tool_calls
    assert call.name == "paint"
    assert call.arguments["colour"] in ("red", "green")
    assert call.arguments["coats"] in (1, 2)
    assert result.stop_reason is StopReason.EOS
    assert result.text == ""
    assert family.model.dialect.call("paint", call.arguments) == written_in(family, result)


def test_any_tool_may_be_one_without_arguments(family):
    prompt = Prompt.of("Hello!", Tools((STOP,), choice="any", parallel=False))
    result = family.generate(prompt, sampling=SamplingParams(seed=1, max_tokens=200))
    assert [(call.name, call.arguments) for call in result.tool_calls] == [("stop", {})]


def test_the_guard_resamples_within_the_constraint():
    llm = guarded(
        model(HERMES_TEMPLATE),
        lambda prompt, text: float("green" not in text),
        CONFIG.model_copy(update={"acceptance": Hard(), "segments": FixedLength(max_tokens=200)}),
    )
    prompt = Prompt.of("Hello!", Tools((PAINT,), choice="paint", parallel=False))
    sampling = [SamplingParams(seed=seed, max_tokens=200, temperature=5.0) for seed in range(8)]
    results = llm.batch([prompt] * 8, sampling=sampling)
    assert {result.tool_calls[0].arguments["colour"] for result in results} == {"red"}
    assert any(result.trace.attempts > 1 for result in results)


@settings(max_examples=15)
@given(st.integers(0, 10**6), st.integers(1, 40))
def test_every_beginning_of_an_answer_fits_the_schema(seed, max_tokens):
    schema = {
        "type": "object",
        "properties": {"paint": COLOURS, "n": {"enum": [1, 22]}},
        "required": ["paint", "n"],
    }
    valid = [json.dumps({"paint": colour, "n": n}) for colour in ("red", "green") for n in (1, 22)]
    sampling = SamplingParams(seed=seed, max_tokens=max_tokens, response_schema=schema)
    result = guarded(JSON_MODEL).generate("Hello!", sampling=sampling)
    assert any(whole.startswith(result.text) for whole in valid)
    assert result.stop_reason is (StopReason.EOS if result.text in valid else StopReason.LENGTH)


JSON_MODEL = model()
# A mark of several tokens that a random model has a chance to write.
SHORT = replace(HERMES, think=("<think>", "e"))


def test_greedy_answers_fit_too_and_a_penalty_does_not_break_the_constraint():
    sampling = SamplingParams(temperature=0, repetition_penalty=1.3, response_schema={"enum": ["a b", "c"]})
    assert guarded(JSON_MODEL).generate("Hello!", sampling=sampling).text in ('"a b"', '"c"')


def test_constrained_and_free_answers_share_a_batch():
    free, bound = SamplingParams(seed=1, max_tokens=12), SamplingParams(seed=1, response_schema=COLOURS)
    llm = guarded(JSON_MODEL)
    alone = [llm.generate("Hello!", sampling=one).token_ids for one in (free, bound)]
    assert [one.token_ids for one in llm.batch(["Hello!"] * 2, sampling=[free, bound])] == alone


def test_with_a_schema_a_call_stays_possible_unless_the_choice_is_none():
    texts = set()
    for choice in ("auto", "none"):
        for seed in range(12):
            prompt = Prompt.of("Hello!", Tools((STOP,), choice=choice, parallel=False))
            sampling = SamplingParams(seed=seed, response_schema={"enum": [1]}, temperature=3.0)
            result = guarded(JSON_MODEL).generate(prompt, sampling=sampling)
            said = "call" if result.tool_calls else result.text
            texts.add((choice, said))
    assert texts == {("auto", "call"), ("auto", "1"), ("none", "1")}


@pytest.mark.slow
def test_several_calls_are_possible_when_any_may_be_made():
    prompt = Prompt.of("Hello!", Tools((STOP, PAINT), choice="any"))
    sampling = [SamplingParams(seed=seed, max_tokens=200, temperature=2.0) for seed in range(10)]
    results = guarded(model(HERMES_TEMPLATE)).batch([prompt] * 10, sampling=sampling)
    counts = {min(2, len(result.tool_calls)) for result in results}
    assert counts == {1, 2}


@pytest.mark.parametrize("mark_is_a_token", [True, False])
def test_open_reasoning_comes_first(mark_is_a_token):
    template = CHATML.replace("assistant\n' }}", "assistant\n' }}<think>\n")
    marks = ("<think>", "</think>") if mark_is_a_token else ()
    local = model(template, added=marks, dialect=HERMES if mark_is_a_token else SHORT)
    results = guarded(local).batch(
        ["Hello!"] * 8,
        sampling=[
            SamplingParams(seed=n, max_tokens=400, temperature=10.0, response_schema=COLOURS)
            for n in range(8)
        ],
    )
    assert {result.text for result in results} <= {"", '"red"', '"green"'}
    assert all(result.reasoning for result in results)
    done = [result for result in results if result.stop_reason is StopReason.EOS]
    assert done
    assert all(result.text for result in done)


def test_nested_objects_are_limited_to_what_they_name():
    schema = {
        "type": "object",
        "properties": {"in": {"type": "object", "properties": {}}, "list": {"enum": [[]]}},
        "required": ["in", "list"],
    }
    result = guarded(JSON_MODEL).generate("Hi", sampling=SamplingParams(seed=1, response_schema=schema))
    assert result.text == '{"in": {}, "list": []}'


def test_a_schema_that_cannot_be_served_is_a_prompt_error():
    sampling = SamplingParams(response_schema={"type": "object", "properties": {"a": {"type": "nonsense"}}})
    with pytest.raises(PromptError, match="cannot be used for constrained decoding"):
        guarded(JSON_MODEL).generate("Hi", sampling=sampling)


def test_every_family_is_what_is_tested():
    detected = {
        name: model(template, special=special).dialect.name for name, (template, special) in FAMILIES.items()
    }
    assert detected == {**{name: name for name in FAMILIES}, "hermes": "plain"}
    assert {*detected.values(), "hermes"} == {*DIALECTS}


OF_ALL_KINDS = {
    "type": "object",
    "properties": {
        "colour": COLOURS,
        "note": {"anyOf": [{"type": "string", "const": "new"}, {"type": "null"}]},
        "count": {"anyOf": [{"type": "integer", "minimum": 1, "maximum": 9}, {"type": "null"}]},
        "deep": {"$ref": "#/$defs/Deep"},
        "any": {"const": True},
        "never": False,
    },
    "required": ["colour", "deep"],
    "$defs": {"Deep": {"type": "object", "properties": {"k": {"enum": [1, "x"]}}, "required": ["k"]}},
}


@pytest.mark.parametrize(
    "parameters",
    [
        OF_ALL_KINDS,
        {
            "type": "object",
            "properties": {"code": {"type": "string", "pattern": "^a{1,2}$"}},
            "required": ["code"],
        },
        {"type": "object", "propertyNames": {"pattern": "^a$"}, "additionalProperties": {"const": 1}},
        {"type": "object", "properties": {"word": {"type": "string"}}, "required": ["word"]},
    ],
    ids=["all kinds", "pattern", "map", "free text"],
)
@pytest.mark.parametrize("name", ["qwen_coder", "function_gemma", "gemma", "harmony"])
def test_arguments_of_any_kind_are_written_in_the_familys_way(name, parameters):
    jsonschema = pytest.importorskip("jsonschema")
    template, special = FAMILIES[name]
    tool = {"type": "function", "function": {"name": "f", "parameters": parameters}}
    local = model(template, special=special)
    local.model.config.max_position_embeddings = 4096
    prompt = Prompt.of("Hi", Tools((tool,), choice="f", parallel=False))
    results = guarded(local).batch(
        [prompt] * 3, sampling=[SamplingParams(seed=seed, max_tokens=300) for seed in range(3)]
    )
    calls = [call for result in results for call in result.tool_calls]
    assert calls or "word" in parameters.get("properties", ())
    for call in calls:
        jsonschema.validate(call.arguments, parameters)


def test_a_value_of_any_kind_is_written_as_json():
    template, special = FAMILIES["function_gemma"]
    parameters = {"type": "object", "properties": {"any": True}, "required": ["any"]}
    tools = Tools(({"type": "function", "function": {"name": "f", "parameters": parameters}},), choice="f")
    session = model(template, special=special).start(
        Prompt.of("Hi", tools), SamplingParams(seed=1, max_tokens=9)
    )
    assert session.grammar.allowed().any()


def test_a_grammar_that_is_too_large_is_an_error_without_the_schemas_words(monkeypatch):
    class Refusing:
        grammar_from_lark = LLMatcher.grammar_from_lark

        def __init__(self, *_arguments, **_options):
            self.is_error, self.get_error = lambda: True, lambda: "too large: secret\nsecret"

    monkeypatch.setattr(grammar, "LLMatcher", Refusing)
    with pytest.raises(PromptError, match="together they are more than a grammar takes") as caught:
        guarded(JSON_MODEL).generate("Hi", sampling=SamplingParams(response_schema={"enum": [1]}))
    assert "secret" not in str(caught.value)


def test_an_answer_by_a_schema_stands_where_the_family_says_answers():
    template, special = FAMILIES["harmony"]
    result = guarded(model(template, special=special)).generate(
        "Hi", sampling=SamplingParams(seed=1, response_schema={"enum": ["a", 2]})
    )
    assert result.text in ('"a"', "2")


@pytest.mark.parametrize("schema", [True, "true", {}])
def test_a_schema_that_bounds_nothing_is_served(schema):
    sampling = SamplingParams(seed=1, max_tokens=8, response_schema=schema)
    assert sampling.response_schema == "{}"
    assert guarded(JSON_MODEL).generate("Hi", sampling=sampling).token_ids


def test_a_schema_that_nothing_fits_is_refused_at_once():
    with pytest.raises(ValueError, match="false has no answer"):
        SamplingParams(response_schema=False)


def test_the_error_of_a_tools_schema_names_the_tool_and_the_place():
    broken = {"type": "object", "properties": {"a": {"type": "array", "contains": {}}}}
    tool = {"type": "function", "function": {"name": "f", "parameters": broken}}
    with pytest.raises(
        PromptError, match=r"schema of tool 'f' .* the keyword 'contains' at /properties/a is"
    ):
        guarded(JSON_MODEL).generate(Prompt.of("Hi", Tools((tool,), choice="any")))
