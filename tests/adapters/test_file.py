"""The file of settings, as adapters read it: over nothing that is given, and never in silence."""

from __future__ import annotations

import logging

import pytest

from stars_guard.adapters import AdapterSettings
from stars_guard.algorithm.config import Budget, GuardConfig
from stars_guard.algorithm.rules import Constant
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import specs
from stars_guard.loading.configuration import CONFIG_ENV, CONFIG_NAME
from stars_guard.testing import KeywordReward, ScriptedModel

WHOLE = """
model = "org/model"
reward = "org/reward"
guard = {threshold = 1.5}
sampling = {temperature = 0.3, stop = ["END"], max_tokens = 9}
budget = {max_reward_calls = 7}
limits = {running = 2}
"""


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_ENV, raising=False)
    (tmp_path / "named.toml").write_text(WHOLE)
    return tmp_path


def test_what_is_not_given_is_taken_from_the_file_that_lies_here_and_that_is_said(here, caplog):
    (here / CONFIG_NAME).write_text(WHOLE)
    settings = AdapterSettings(temperature=0.9, model="org/mine", max_tokens=None)
    assert caplog.messages == [f"settings from {here / CONFIG_NAME}, found in the working directory"]
    assert (settings.model, settings.reward) == ("org/mine", "org/reward")
    overrides = settings.overrides({"top_k": 4})
    sampling = overrides["sampling"]
    assert (sampling.temperature, sampling.stop, sampling.max_tokens, sampling.top_k) == (0.9, ("END",), 9, 4)
    assert overrides["config"].threshold == Constant(target=1.5)
    assert overrides["budget"] == Budget(max_reward_calls=7)


def test_a_named_file_is_no_surprise(here, caplog, monkeypatch):
    assert AdapterSettings(config_file="named.toml").model == "org/model"
    monkeypatch.setenv(CONFIG_ENV, "named.toml")
    caplog.set_level(logging.INFO)
    assert AdapterSettings().reward == "org/reward"
    assert {record.levelno for record in caplog.records} == {logging.INFO}
    assert AdapterSettings(config_file="").reward is None
    with pytest.raises(ValueError, match=r"nowhere\.toml cannot be read"):
        AdapterSettings(config_file="nowhere.toml")


def test_settings_of_a_guard_do_not_go_with_another_reward():
    with pytest.raises(ValueError, match="no config for the reward model 'org/other'"):
        AdapterSettings(config_file="named.toml", reward="org/other")
    strict = GuardConfig(threshold=3)
    settings = AdapterSettings(config_file="named.toml", reward="org/other", guard_config=strict)
    assert settings.guard_config == strict
    assert settings.temperature == 0.3


def test_a_section_that_says_more_than_a_name_stays_whole(here):
    (here / "engine.toml").write_text(
        "model = {kind = 'transformers', path = 'a/b', dtype = 'float32'}\nreward = 'embedded:probe'"
    )
    settings = AdapterSettings(config_file="engine.toml")
    assert settings.model == specs.LocalModel(kind="transformers", path="a/b", dtype="float32")
    assert settings.reward == "embedded:probe"
    (here / "engine.toml").write_text("model = 'vllm@http://a:1#m'")
    assert AdapterSettings(config_file="engine.toml").model.name == "m"


def test_a_ready_made_guard_needs_no_file(here):
    (here / CONFIG_NAME).write_text("nonsense")
    llm = StarsGuardedLLM(ScriptedModel([["x"]]), KeywordReward([]), GuardConfig(threshold=0))
    settings = AdapterSettings(guard=llm)
    assert settings.model is None
    assert AdapterSettings.model_validate(settings).guard is llm


def test_a_file_may_say_a_part_alone(here):
    (here / "sampling.toml").write_text("sampling = {top_k = 3}")
    settings = AdapterSettings(config_file="sampling.toml")
    assert (settings.top_k, settings.model, settings.reward, settings.budget) == (3, None, None, None)
    (here / "budget.toml").write_text("budget = {max_reward_calls = 3}\nmodel = 'a/b'")
    assert AdapterSettings(config_file="budget.toml").budget == Budget(max_reward_calls=3)
