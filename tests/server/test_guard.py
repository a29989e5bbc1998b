"""From the sections of a configuration to the models that are loaded."""

from __future__ import annotations

import pytest

from stars_guard import embedded
from stars_guard.loading import engine_servers, parts
from stars_guard.rewards.servers.remote import RemoteReward
from stars_guard.server.config import ServerConfig
from stars_guard.server.guard import load_guard
from stars_guard.testing import KeywordReward, ScriptedModel

GUARD = {"threshold": {"kind": "constant", "target": 1.0}}


@pytest.fixture
def asked(monkeypatch):
    """What the loaders were asked for."""
    found = {}

    def model(*place, **options):
        found["model"] = (*place, options) if options else place
        return ScriptedModel([["x"]])

    def reward(*place):
        found["reward"] = place
        return KeywordReward([])

    monkeypatch.setattr(parts, "load_model", model)
    monkeypatch.setattr(parts, "load_reward", reward)
    monkeypatch.setattr(engine_servers, "load_remote", model)
    return found


def test_the_embedded_models_with_their_settings(asked):
    llm = load_guard(ServerConfig(limits={"running": 100}))
    assert asked == {"model": (None, {}), "reward": (None, {})}
    assert llm.config == embedded.CONFIG


def test_models_of_the_operators_own(asked):
    config = ServerConfig(
        model={"kind": "transformers", "path": "/models/chat", "dtype": "bfloat16"},
        reward={"kind": "local", "path": "mine.py:calm", "options": {"good": "safe"}},
        guard=GUARD,
        sampling={"temperature": 0.5},
        budget={"max_reward_calls": 7},
    )
    llm = load_guard(config)
    assert asked["model"] == ("/models/chat", {"dtype": "bfloat16"})
    assert asked["reward"] == ("mine.py:calm", {"good": "safe"})
    assert (llm.config.threshold.target, llm.sampling.temperature) == (1.0, 0.5)
    assert llm.budget.max_reward_calls == 7


@pytest.mark.parametrize("tokenizer", [None, "t"])
def test_vllm_in_this_process(asked, tokenizer):
    model = {"kind": "vllm", "path": "org/name", "tokenizer": tokenizer, "options": {"dtype": "bfloat16"}}
    load_guard(ServerConfig(model=model))
    given = {"tokenizer": "t"} if tokenizer else {}
    assert asked["model"] == ("vllm:org/name", {"dtype": "bfloat16", **given})


@pytest.mark.parametrize(
    ("name", "place"), [(None, "vllm@http://127.0.0.1:1"), ("m", "vllm@http://127.0.0.1:1#m")]
)
def test_an_engine_and_a_scoring_server(asked, name, place):
    model = {
        "kind": "openai",
        "url": "http://127.0.0.1:1",
        "name": name,
        "tokenizer": "t",
        "api_key_env": "KEY",
    }
    reward = {"kind": "remote", "url": "http://127.0.0.1:1/score", "format": "vllm_pooling", "inputs": "chat"}
    llm = load_guard(ServerConfig(model=model, reward=reward, guard=GUARD))
    assert asked["model"] == (place, {"api_key_env": "KEY", "tokenizer": "t"})
    assert isinstance(llm.reward, RemoteReward)
    llm.reward.close()
