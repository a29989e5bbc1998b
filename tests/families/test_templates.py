"""Real chat templates: every turn reaches the model and the rewards, whatever roles the template knows."""

from __future__ import annotations

import logging
import os
from functools import cache
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from stars_guard.models.chat import ChatTemplate, detect_dialect, raw_ids
from stars_guard.prompts import Prompt, Tools
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.formats import chat_template

FOLDER = Path(os.environ.get("STARS_GUARD_TOKENIZERS", Path(__file__).parents[2] / ".cache" / "tokenizers"))
ENDS = {
    "qwen3": "<|im_end|>",
    "gemma3": "<end_of_turn>",
    "gemini": "<end_of_turn>",  # whose end of text is another token
    "llama3": "<|eot_id|>",  # likewise
    "llama3_1": "<|eot_id|>",
    "deepseek_v3": "<\uff5cend\u2581of\u2581sentence\uff5c>",
}
"""What ends a turn, of the families whose files have a template."""
WITHOUT_TEMPLATE = ("llama2", "gptoss", "gpt4o", "gpt35turbo", "claude")

PARAMETERS = {"type": "object", "properties": {"town": {"type": "string"}}, "required": ["town"]}
WEATHER = {
    "type": "function",
    "function": {"name": "weather_of", "description": "W.", "parameters": PARAMETERS},
}
SYSTEM, ASK, TELL = (
    {"role": "system", "content": "Speak kindly."},
    {"role": "user", "content": "How warm is it?"},
    {"role": "assistant", "content": "Let me look."},
)


def calling(*towns):
    calls = [
        {
            "id": f"call_{town}",
            "type": "function",
            "function": {"name": "weather_of", "arguments": {"town": town}},
        }
        for town in towns
    ]
    answers = [
        {"role": "tool", "content": f"{town}: mild", "tool_call_id": f"call_{town}", "name": "weather_of"}
        for town in towns
    ]
    return [{"role": "assistant", "content": "", "tool_calls": calls}, *answers]


SHAPES = {
    "user": [ASK],
    "system": [SYSTEM, ASK],
    "system alone": [SYSTEM],
    "system late": [ASK, TELL, SYSTEM, ASK],
    "developer": [{**SYSTEM, "role": "developer"}, ASK],
    "two users": [ASK, {**ASK, "content": "And tomorrow?"}],
    "two assistants": [ASK, TELL, {**TELL, "content": "One moment."}, ASK],
    "assistant first": [TELL, ASK],
    "assistant last": [ASK, TELL],
    "tool": [ASK, *calling("Oslo")],
    "tools at once": [SYSTEM, ASK, *calling("Oslo", "Rome")],
    "after tools": [ASK, *calling("Oslo"), TELL, ASK],
}


@cache
def tokenizer_of(name):
    if not (FOLDER / name / "tokenizer.json").is_file():
        pytest.skip("the files of real tokenizers are not here; make test-families fetches them")
    logging.getLogger("transformers").setLevel(logging.ERROR)
    return AutoTokenizer.from_pretrained(str(FOLDER / name))


@cache
def template_of(name):
    tokenizer = tokenizer_of(name)
    return ChatTemplate(tokenizer, name, detect_dialect(tokenizer), {}, sanitize_control_tokens=True)


def said_in(messages):
    return [message["content"] for message in messages if message["content"]]


@pytest.mark.parametrize("tools", [None, Tools((WEATHER,))], ids=["no tools", "tools"])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ENDS)
def test_all_of_a_conversation_reaches_the_model(name, shape, tools):
    tokenizer, messages = tokenizer_of(name), SHAPES[shape]
    ids = template_of(name).encode(Prompt.of(messages, tools))
    text = tokenizer.decode(ids)
    towns = [town for town in ("Oslo", "Rome") if f"{town}: mild" in said_in(messages)]
    for words in [*said_in(messages), *towns, *(["weather_of"] if tools or towns else [])]:
        assert words in text
    if tokenizer.bos_token_id is not None:
        assert ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize("finished", [False, True])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("name", ENDS)
def test_all_of_a_conversation_reaches_a_reward(name, shape, finished):
    tokenizer = tokenizer_of(name)
    request = ScoreRequest(Prompt.of(SHAPES[shape]), "Quite warm.", finished)
    encoded = chat_template(tokenizer, request, 10_000)
    text = tokenizer.decode(encoded.ids)
    for words in [*said_in(SHAPES[shape]), "Quite warm."]:
        assert words in text
    if tokenizer.bos_token_id is not None:
        assert encoded.ids.count(tokenizer.bos_token_id) == 1


@pytest.mark.parametrize(("name", "end"), ENDS.items())
def test_the_end_of_a_turn_is_found(name, end):
    tokenizer = tokenizer_of(name)
    assert template_of(name).turn_ends() == {tokenizer.convert_tokens_to_ids(end)}


@pytest.mark.parametrize("name", [*ENDS, *WITHOUT_TEMPLATE])
def test_a_raw_prompt_begins_with_no_two_beginnings_of_text(name):
    tokenizer = tokenizer_of(name)
    bos = tokenizer.bos_token_id
    for text in ("Hi", (tokenizer.bos_token or "") + "Hi"):
        assert bos is None or raw_ids(tokenizer, text).count(bos) <= 1
