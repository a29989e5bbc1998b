"""Lengths in tokens for adapters, by the guard's own model, and what is known of its context."""

from __future__ import annotations

import json
import logging
import sys

import pytest

from stars_guard import embedded
from stars_guard.adapters import AdapterSettings, context_window, count_prompt, count_text, token_ids
from stars_guard.errors import ConfigurationError
from stars_guard.models.engines.openai import OpenAICompatibleModel
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt, Tools
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.guards import guarded, hard
from tests.support.tiny import tiny_llama, tiny_tokenizer

TOOL = {"type": "function", "function": {"name": "add", "description": "Ä"}}
TALK = Prompt.of([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "ho"}])


@pytest.fixture(scope="module")
def local():
    return TransformersModel(tiny_llama(), tiny_tokenizer(), name="tiny")


def test_a_local_model_counts_as_it_reads(local):
    text = "def main(): return 7"
    ids = local.tokenizer(text, add_special_tokens=False)["input_ids"]
    assert token_ids(local, text) == ids
    assert count_text(local, text) == len(ids)
    assert count_text(local, "") == 0
    for prompt in (TALK, Prompt.raw(text), Prompt.of("x", Tools((TOOL,)))):
        assert count_prompt(local, prompt) == len(local.encode(prompt))


def test_where_the_template_refuses_the_texts_are_counted(caplog):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = "{{ raise_exception('users first') }}"
    local = TransformersModel(tiny_llama(), tokenizer, name="strict")
    caplog.set_level(logging.DEBUG)
    assert count_prompt(local, TALK) == count_text(local, "hi\nho") + 2 * 4
    assert "the template of strict refuses these messages" in caplog.text
    assert count_prompt(local, Prompt()) == 0


def test_an_engine_with_a_tokenizer_here_counts_with_it():
    with OpenAICompatibleModel("http://127.0.0.1:9", "vllm", model="m", tokenizer=tiny_tokenizer()) as engine:
        assert token_ids(engine, "seven") == tiny_tokenizer()("seven", add_special_tokens=False)["input_ids"]
        assert count_prompt(engine, TALK) == engine.prompt_tokens(TALK)


class Counting(ScriptedModel):
    """A model that counts prompts, and has no tokenizer."""

    context_window = 50

    def prompt_tokens(self, prompt):
        return len(prompt.text.split()) if prompt.text else None


def test_a_model_that_counts_prompts_alone_counts_texts_as_raw_ones():
    assert count_text(Counting([["x"]]), "one two three") == 3


def test_where_nobody_counts_lengths_are_estimates_and_a_warning_says_so_once(caplog):
    model = ScriptedModel([["x"]])
    model.name = "nobody counts here"
    assert count_text(model, "twelve bytes") == 3
    assert count_text(model, "äöü") == 2
    tools = json.dumps(TOOL, ensure_ascii=False)
    prompt = Prompt.of("twelve bytes", Tools((TOOL,)))
    assert count_prompt(model, prompt) == 3 + count_text(model, tools) + 4
    assert caplog.text.count("nobody counts here has no tokenizer here: lengths") == 1
    with pytest.raises(ConfigurationError, match="nobody counts here has no tokenizer here, so the ids"):
        token_ids(model, "x")


def test_the_context_of_what_is_in_hand(local):
    reward, config = KeywordReward([]), hard()
    assert context_window(AdapterSettings(guard=guarded([["x"]]))) is None
    assert (
        context_window(AdapterSettings(model=local, reward=reward, guard_config=config))
        == local.context_window
        == 512
    )
    assert context_window(AdapterSettings(model=Counting([["x"]]), reward=reward, guard_config=config)) == 50


def test_the_context_of_the_embedded_model():
    assert context_window(AdapterSettings()) == embedded.CONTEXT_WINDOW


@pytest.mark.parametrize(
    ("config", "window"),
    [
        ({"max_position_embeddings": 77}, 77),
        ({"text_config": {"max_position_embeddings": 78}}, 78),
        ({"text_config": None}, None),
        ({"max_position_embeddings": "many"}, None),
        (None, None),
    ],
)
def test_the_context_of_a_folder_is_read_from_its_config(config, window, tmp_path):
    place = tmp_path / "config.json"
    place.write_text("{" if config is None else json.dumps(config))
    assert context_window(AdapterSettings(model=str(tmp_path))) == window


def test_a_config_that_changes_is_read_anew(tmp_path):
    place = tmp_path / "config.json"
    for window in (10, 200):
        place.write_text(json.dumps({"max_position_embeddings": window}))
        assert context_window(AdapterSettings(model=str(tmp_path))) == window


def test_the_context_of_a_hub_id_is_that_of_its_cached_config(tmp_path, monkeypatch):
    place = tmp_path / "config.json"
    place.write_text(json.dumps({"max_position_embeddings": 79}))
    asked = []

    def look_up(name, file, revision=None):
        asked.append((name, file, revision))
        return str(place) if name == "someone/something" else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", look_up)
    options = {"revision": "abc"}
    assert context_window(AdapterSettings(model="someone/something", model_options=options)) == 79
    assert asked == [("someone/something", "config.json", "abc")]
    assert context_window(AdapterSettings(model="someone/else")) is None


def test_the_context_of_other_names_is_not_known(monkeypatch):
    assert context_window(AdapterSettings(model="vllm@http://127.0.0.1:9")) is None
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert context_window(AdapterSettings(model="someone/something")) is None
