"""From names to parts, without loading anything big."""

from __future__ import annotations

import sys

import pytest

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.loading import parts
from stars_guard.models.local import int8
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.probe import Head, ProbeReward, ProbeSettings
from tests.support.tiny import tiny_bert_tokenizer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the loaders are asked for, in place of loading it."""
    found: dict = {}
    monkeypatch.setattr(TransformersModel, "load", lambda path, **options: found.update(path=path, **options))
    monkeypatch.setattr(ClassifierReward, "load", lambda path, **options: found.update(path=path, **options))
    monkeypatch.setattr(embedded, "chat_model", lambda: "chat")
    monkeypatch.setattr(embedded, "harmlessness_reward", lambda: "harmless")
    return found


def test_a_path_is_loaded_with_its_options(asked: dict) -> None:
    parts.load_model("mine", {"dtype": "float32"})
    assert asked == {"path": "mine", "dtype": "float32"}


@pytest.mark.parametrize(
    ("available", "device"), [(True, None), (True, "cpu"), (False, None), (True, "cuda")]
)
def test_the_embedded_model_is_quantised_on_a_cpu_only(
    asked: dict, monkeypatch: pytest.MonkeyPatch, available: bool, device: str | None
) -> None:
    monkeypatch.setattr(int8, "is_available", lambda: available)
    parts.load_model(None, {} if device is None else {"device": device})
    assert asked["path"] == "chat"
    assert ("prepare" in asked) == (available and device != "cuda")


def test_the_embedded_model_has_the_precision_that_is_asked_for(
    asked: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8, "is_available", lambda: True)
    parts.load_model(None, {"dtype": "float32"})
    assert asked == {"path": "chat", "dtype": "float32"}


def test_rewards_likewise(asked: dict) -> None:
    parts.load_reward(None, {})
    read = asked.pop("format")
    assert asked == {"path": "harmless", "name": "harmlessness"}
    long = ScoreRequest(Prompt.of("word " * 100), "fine", finished=False)
    assert read(tiny_bert_tokenizer(max_length=512), long, 512).dropped == 4 * 100 - embedded.PROMPT_TOKENS
    parts.load_reward("mine", {"name": "other"})
    assert asked == {"path": "mine", "name": "other"}


@pytest.mark.parametrize(
    ("load", "module"),
    [
        (parts.load_model, "stars_guard.models.local.transformers"),
        (parts.load_reward, "stars_guard.rewards.classifiers.classifier"),
    ],
)
def test_a_missing_extra_is_named(load, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtraError, match=r"stars-guard\[transformers\]"):
        load("mine", {})


def test_only_the_embedded_reward_has_settings_of_its_own() -> None:
    mine = GuardConfig(threshold=Constant(target=1.0))
    assert parts.load_config(mine, "reward") is mine
    assert parts.load_config(None, None) is embedded.CONFIG
    with pytest.raises(ConfigurationError, match="rewards differ in scale"):
        parts.load_config(None, "reward")


def test_a_folder_with_a_probe_is_loaded_as_one(tmp_path) -> None:
    settings = ProbeSettings(layers=(1,), model_name="m", model_layers=2, hidden_size=4, signature=(0.5,))
    ProbeReward(settings, Head(settings.features, 1)).save(tmp_path)
    loaded = parts.load_reward(str(tmp_path), {"dtype": "bfloat16", "device": "cpu"})
    assert isinstance(loaded, ProbeReward)
    with pytest.raises(ConfigurationError, match=r"takes no bad, scale; leave out options of classifiers"):
        parts.load_reward(str(tmp_path), {"scale": "logit", "bad": ("toxic",), "dtype": "float32"})


def test_the_embedded_probe_has_a_name() -> None:
    loaded = parts.load_reward(embedded.PROBE_NAME, {})
    assert isinstance(loaded, ProbeReward)
    assert loaded.settings.model_name == "smollm2-135m-instruct-1"
    assert parts.load_config(None, embedded.PROBE_NAME) is embedded.CONFIG
