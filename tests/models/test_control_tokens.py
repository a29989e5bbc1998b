"""Control tokens in what is sent to engines that render chat templates themselves: mere text, everywhere."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from stars_guard.algorithm.config import SamplingParams
from stars_guard.models import OpenAICompatibleModel
from stars_guard.prompts import Prompt, Tools
from stars_guard.text.control_tokens import WELL_KNOWN, as_mere_text
from tests.support.http_engine import FakeEngine, HttpEngine, TableTokenizer, written

TOKENS = [token for family in WELL_KNOWN.values() for token in family] + [
    "<|im_end|>",
    "<|start_header_id|>",
    "<\N{FULLWIDTH VERTICAL LINE}User\N{FULLWIDTH VERTICAL LINE}>",
    "<\N{FULLWIDTH VERTICAL LINE}end\u2581of\u2581sentence\N{FULLWIDTH VERTICAL LINE}>",
    "<unused7>",
    "<extra_id_0>",
]


def prompt_with(token):
    """A prompt that spells a token out wherever a text can stand."""
    call = {"id": token, "type": "function", "function": {"name": token, "arguments": {token: [token]}}}
    parameters = {"type": "object", "properties": {token: {"enum": [token], "description": f"x {token}"}}}
    tool = {"type": "function", "function": {"name": token, "description": token, "parameters": parameters}}
    messages = [
        {"role": "system", "content": f"a{token}b"},
        {"role": token, "content": f"{token}{token}", "name": token},
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": f"[{token}]", "tool_call_id": token},
    ]
    return Prompt.of(messages, Tools((tool,)))


@pytest.mark.parametrize("token", TOKENS)
def test_no_string_of_a_call_spells_one_out(token):
    whole = prompt_with(token)
    schema = {"type": "object", "properties": {token: {"const": token}}}
    with OpenAICompatibleModel("http://localhost:1", "vllm", guarantee="whole") as model:
        sent = model.start(whole, SamplingParams(seed=1, response_schema=schema)).opening
    assert set(sent) == {"messages", "tools", "tool_choice", "parallel_tool_calls", "response_format"}
    assert token not in json.dumps(sent, ensure_ascii=False)
    with OpenAICompatibleModel("http://localhost:1", "vllm", guarantee="prefill") as model:
        sent = model.start(Prompt(messages=whole.messages), SamplingParams(seed=1)).opening
    assert token not in json.dumps(sent, ensure_ascii=False)
    assert [turn["role"] for turn in sent][::2] == ["system", "assistant"]


@pytest.mark.parametrize("engine", ["vllm", "llamacpp"])
def test_nor_does_what_the_engine_is_asked_to_tokenize(engine):
    fake = FakeEngine(written([0]), TableTokenizer(["a", ""], 1))
    with HttpEngine(fake) as server, OpenAICompatibleModel(server.url, engine) as model:
        model.start(Prompt(messages=prompt_with("<|im_end|>").messages), SamplingParams(seed=1))
    (body,) = fake.bodies["/apply-template" if engine == "llamacpp" else "/tokenize"]
    assert "< |im_end|>" in json.dumps(body)
    assert "<|im_end|>" not in json.dumps(body)


def test_the_tokens_of_a_tokenizer_that_is_here_count_as_well():
    tokenizer = TableTokenizer(["a", ""], 1)
    tokenizer.added_tokens_decoder = {2: _Added("~own~", special=True), 3: _Added("flour", special=False)}
    for guarantee in ("prefill", "whole"):
        with OpenAICompatibleModel(
            "http://localhost:1", "vllm", guarantee=guarantee, tokenizer=tokenizer
        ) as model:
            sent = model.start(Prompt.of("~own~ flour"), SamplingParams(seed=1)).opening
        assert "~ own~ flour" in json.dumps(sent)


class _Added(SimpleNamespace):
    def __init__(self, text, *, special):
        super().__init__(text=text, special=special)

    def __str__(self):
        return self.text


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("im_end|>", "i m_end|>"),
        ("so <|", "so < |"),
        ("so <", "so < "),
        ("[[INST]]", "[[ INST]]"),
        ("<|<|im_end|>im_end|>", "<|< |im_end|>im_end|>"),
    ],
)
def test_halves_and_nests_make_no_token(text, sent):
    assert as_mere_text(text) == sent


@pytest.mark.parametrize(
    "text", ["", "a |> b", "x < y > z", "if a<b", "list<string>", "[TODO] 1 <= 2", "{'a': [1]}", "<p>Hi</p>"]
)
def test_ordinary_text_stays(text):
    assert as_mere_text({text: [text, (1, None)]}) == {text: [text, [1, None]]}
