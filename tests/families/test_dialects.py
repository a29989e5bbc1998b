"""Dialects on real templates and vocabularies: found, read as the template writes, forced token by token.

``make test-families`` fetches the files of the tokenizers; without them these tests are skipped.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from jinja2.sandbox import ImmutableSandboxedEnvironment
from transformers import AutoTokenizer

from stars_guard.models.chat import ChatTemplate, decoder, detect_dialect
from stars_guard.models.local.grammar import GrammarCompiler
from stars_guard.prompts import Prompt, Tools
from stars_guard.text.dialects import read_calls, split
from stars_guard.types import Channel

pytestmark = pytest.mark.slow

FOLDER = Path(os.environ.get("STARS_GUARD_TOKENIZERS", Path(__file__).parents[2] / ".cache" / "tokenizers"))
FAMILIES = {
    "qwen3": "hermes",
    "gemma3": "gemma",
    "llama3_1": "llama3",
    "llama3": "llama3",
    "llama2": "plain",
    "deepseek_v3": "deepseek",
    "gptoss": "harmony",
}
PARAMETERS = {
    "type": "object",
    "properties": {"colour": {"type": "string"}, "coats": {"type": "integer"}},
    "required": ["colour", "coats"],
}
PAINT = {"type": "function", "function": {"name": "paint", "description": "", "parameters": PARAMETERS}}
ARGUMENTS = {"colour": 'dark "red"', "coats": 2}
TOOLS = Tools((PAINT,), choice="paint", parallel=False)
HARMONY_ANSWER = (
    "<|channel|>analysis<|message|>Hm.<|end|><|start|>assistant<|channel|>final<|message|>Fine.<|return|>"
)


@cache
def loaded(name: str) -> Any:
    if not (FOLDER / name / "tokenizer.json").is_file():
        pytest.skip("the files of real tokenizers are not here; make test-families fetches them")
    return AutoTokenizer.from_pretrained(FOLDER / name)


def calls_in(text: str, name: str) -> list[Any]:
    dialect = detect_dialect(loaded(name))
    parts = [part for part in split(text, dialect, tools=True) if part.channel is Channel.TOOL]
    return [call for part in parts for call in read_calls(dialect, part.text, TOOLS, partial=False)]


@pytest.mark.parametrize("name", FAMILIES)
def test_the_dialect_is_found_without_a_warning(name, caplog):
    assert detect_dialect(loaded(name)).name == FAMILIES[name]
    assert not [record for record in caplog.records if record.name.startswith("stars_guard")]


@pytest.mark.parametrize("name", FAMILIES)
def test_a_call_survives_the_vocabulary(name):
    tokenizer = loaded(name)
    dialect = detect_dialect(tokenizer)
    ids = tokenizer(dialect.call("paint", ARGUMENTS), add_special_tokens=False)["input_ids"]
    assert calls_in(decoder(tokenizer, dialect)(ids), name) == [("paint", ARGUMENTS)]


# Llama 2's vocabulary puts a blank before every text, which an answer does not begin with.
@pytest.mark.parametrize("name", [name for name in FAMILIES if name != "llama2"])
def test_a_forced_call_is_written_in_the_familys_way(name):
    tokenizer = loaded(name)
    dialect = detect_dialect(tokenizer)
    ends = [tokenizer.eos_token_id]
    grammar = GrammarCompiler(tokenizer, len(tokenizer), ends).compile(TOOLS, None, dialect)
    ids = tokenizer(dialect.call("paint", ARGUMENTS), add_special_tokens=False)["input_ids"]
    for place, token in enumerate(ids):
        assert grammar.allowed()[token], (place, tokenizer.convert_ids_to_tokens(ids))
        grammar.advance([token])
    assert grammar.allowed()[tokenizer.eos_token_id]


@pytest.mark.parametrize("name", ["qwen3", "deepseek_v3"])
def test_a_call_is_read_as_the_template_writes_it(name):
    tokenizer = loaded(name)
    # DeepSeek's takes arguments as text, and closes the list of them after the second call.
    count, arguments = (1, ARGUMENTS) if name == "qwen3" else (2, json.dumps(ARGUMENTS))
    calls = [{"type": "function", "function": {"name": "paint", "arguments": arguments}}] * count
    answer = {"role": "assistant", "content": "" if name == "qwen3" else None, "tool_calls": calls}
    messages = [{"role": "user", "content": "Paint."}, answer]
    template = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True).from_string(
        tokenizer.chat_template
    )
    text = template.render(messages=messages, tools=[PAINT], bos_token="")
    written = text[text.index(detect_dialect(tokenizer).call_open, text.index("Paint.")) :]
    assert calls_in(written, name) == [("paint", ARGUMENTS)] * count


@pytest.mark.parametrize("name", ["gemma3", "llama3_1", "deepseek_v3"])
def test_a_template_without_tools_is_told_the_familys_form(name):
    tokenizer = loaded(name)
    dialect = detect_dialect(tokenizer)
    template = ChatTemplate(tokenizer, name, dialect, {}, sanitize_control_tokens=False)
    text = tokenizer.decode(template.encode(Prompt.of("Paint.", TOOLS)))
    assert dialect.call("the name of the function", {"argument": "value"}).strip() in text


def test_the_channels_of_gpt_oss_are_told_apart_by_its_tokens():
    tokenizer = loaded("gptoss")
    dialect = detect_dialect(tokenizer)
    ids = tokenizer(HARMONY_ANSWER, add_special_tokens=False)["input_ids"]
    parts = split(decoder(tokenizer, dialect)(ids), dialect, tools=False)
    assert [(part.channel, part.text) for part in parts if part.text] == [
        (Channel.REASONING, "Hm."),
        (Channel.ANSWER, "Fine."),
    ]
