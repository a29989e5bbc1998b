"""From the sections of a configuration to the models that are loaded."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError, embedded
from stars_guard.loading import parts
from stars_guard.loading.names import reward_spec
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.rewards.servers.remote import RemoteReward
from stars_guard.server.app import served_guard
from stars_guard.server.config import ServerConfig
from stars_guard.testing import KeywordReward, ScriptedModel

GUARD = {"threshold": {"kind": "constant", "target": 1.0}}


@pytest.fixture
def loads(monkeypatch):
    """What the loaders of parts are called with, in place of loading."""
    calls = {}

    def loader(name, part):
        def load(*place, **options):
            calls[name] = (*place, options)
            return part

        return load

    model, reward = ScriptedModel([["x"]]), KeywordReward([])
    monkeypatch.setattr(TransformersModel, "load", loader("transformers", model))
    monkeypatch.setattr(parts, "VLLMModel", loader("vllm", model))
    monkeypatch.setattr(parts, "load_engine_server", loader("engine", model))
    monkeypatch.setattr(parts, "load_code", loader("code", reward))
    return calls


def test_the_embedded_models_with_their_settings(monkeypatch):
    specs = []
    monkeypatch.setattr(parts, "load_model", lambda *spec: specs.append(spec) or ScriptedModel([["x"]]))
    monkeypatch.setattr(parts, "load_reward", lambda *spec: specs.append(spec) or KeywordReward([]))
    config = ServerConfig(limits={"running": 100})
    assert served_guard(config).config == embedded.CONFIG
    assert specs == [(reward_spec(embedded.PROBE_NAME), {}), (config.model, {})]


def test_models_of_the_operators_own(loads):
    config = ServerConfig(
        model={"kind": "transformers", "path": "/models/chat", "dtype": "bfloat16"},
        reward={"kind": "local", "path": "mine.py:calm", "options": {"good": "safe"}},
        guard=GUARD,
        sampling={"temperature": 0.5},
        budget={"max_reward_calls": 7},
    )
    llm = served_guard(config)
    assert loads["transformers"] == ("/models/chat", {"dtype": "bfloat16"})
    (code, _) = loads["code"]
    assert (code.name, code.options) == ("mine.py:calm", {"good": "safe"})
    assert (llm.config.threshold.target, llm.sampling.temperature) == (1.0, 0.5)
    assert llm.budget.max_reward_calls == 7


@pytest.mark.parametrize("tokenizer", [None, "t"])
def test_vllm_in_this_process(loads, tokenizer):
    model = {"kind": "vllm", "path": "org/name", "tokenizer": tokenizer, "options": {"dtype": "bfloat16"}}
    reward = {"kind": "local", "path": "mine.py:calm"}
    served_guard(ServerConfig(model=model, reward=reward, guard=GUARD))
    given = {"tokenizer": "t"} if tokenizer else {}
    assert loads["vllm"] == ("org/name", {"dtype": "bfloat16", **given})


@pytest.mark.parametrize("name", [None, "m"])
def test_an_engine_and_a_scoring_server(loads, name):
    model = {
        "kind": "openai",
        "url": "http://127.0.0.1:1",
        "name": name,
        "tokenizer": "t",
        "api_key_env": "KEY",
    }
    reward = {"kind": "remote", "url": "http://127.0.0.1:1/score", "format": "vllm_pooling", "inputs": "chat"}
    config = ServerConfig(model=model, reward=reward, guard=GUARD)
    llm = served_guard(config)
    assert loads["engine"] == (config.model, {})
    assert isinstance(llm.reward, RemoteReward)
    llm.reward.close()


@pytest.mark.parametrize("kind", ["object", "function", "code", "judge", "probe"])
def test_a_file_names_no_other_kinds(kind):
    for section in ("model", "reward"):
        with pytest.raises(ConfigurationError, match=f"{kind}.*does not match any of the expected tags"):
            ServerConfig(**{section: {"kind": kind, "path": "x"}}, guard=GUARD)


@pytest.mark.parametrize("name", [embedded.PROBE_NAME, embedded.ENCODER_NAME])
def test_a_reward_that_comes_with_settings_needs_none(name):
    assert ServerConfig(reward=name).guard is None
    with pytest.raises(ConfigurationError, match="needs a section guard"):
        ServerConfig(reward=embedded.JUDGE_NAME)
