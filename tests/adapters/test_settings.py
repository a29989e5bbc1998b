"""What an adapter is told, and how the settings of a call, the adapter and the guard lie over one another."""

from __future__ import annotations

import copy
import pickle

import pytest
from pydantic import ValidationError

from stars_guard import Budget, ConfigurationError, Constant, GuardConfig, Hard, Prompt, SamplingParams
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.adapters import AdapterSettings, CallSettings
from stars_guard.adapters.shared import SharedGuards
from stars_guard.embedded import CONFIG, ENCODER_CONFIG
from stars_guard.testing import KeywordReward, ScriptedModel

STRICT = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard())
PROMPT = Prompt.of("Hi")


def guard(**parts):
    return Guard(ScriptedModel([["Hello."]]), KeywordReward([]), STRICT, **parts)


def test_every_sampling_parameter_may_be_set_for_a_call():
    assert SamplingParams.model_fields.keys() < CallSettings.model_fields.keys()


def test_every_setting_says_what_it_is():
    assert all(field.description for field in AdapterSettings.model_fields.values())


def test_without_settings_the_embedded_ones_hold():
    parts = {"sampling": SamplingParams(), "config": CONFIG, "budget": Budget()}
    assert AdapterSettings().overrides({}) == parts


def test_a_call_lies_over_the_adapter_and_the_adapter_over_the_guard():
    settings = AdapterSettings(
        guard=guard(sampling=SamplingParams(top_k=3, seed=5), budget=Budget(max_reward_calls=9)),
        seed=6,
        target=0.5,
        include_trace=True,
    )
    call = settings.call(PROMPT, {"seed": 7, "max_attempts": 2, "timeout": 4, "stop": "x", "top_p": None})
    assert call.overrides == {
        "sampling": SamplingParams(top_k=3, seed=7, stop=("x",)),
        "config": STRICT.adjusted(target=0.5, max_attempts=2),
        "budget": Budget(max_reward_calls=9, max_seconds=4),
    }
    assert (call.prompt, call.model, call.model_name, call.include_trace) == (PROMPT, None, "scripted", True)
    assert not settings.call(PROMPT, {"include_trace": False}).include_trace


def test_settings_and_budget_of_a_call_replace_the_guards():
    config, budget = STRICT.adjusted(target=0.25), Budget(max_proposed_tokens=5)
    overrides = AdapterSettings(guard=guard()).overrides({"guard_config": config, "budget": budget})
    assert (overrides["config"], overrides["budget"]) == (config, budget)


def test_options_that_the_adapter_reads_itself_are_passed_over():
    settings = CallSettings.of({"tools": [1], "seed": 2}, also={"tools"})
    assert (settings.seed, settings.model_fields_set) == (2, {"seed"})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sead": 1}, "unknown call option sead; this model takes: .*seed"),
        ({"max_tokens": "many"}, "a call: max_tokens=a text of 4 characters"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"timeout": -1}, "max_seconds=-1"),
        ({"model": "other"}, "model='other' was asked for in a call"),
    ],
)
def test_a_wrong_option_of_a_call_is_named(options, message):
    with pytest.raises(ConfigurationError, match=message):
        AdapterSettings(guard=guard()).call(PROMPT, options)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"reward": "my/reward"}, "no config for the reward model"),
        ({"guard": "a/model"}, "guard"),
        ({"guard": guard(), "model": "m"}, "a ready-made guard was given and model too"),
    ],
)
def test_a_wrong_setting_fails_at_construction(settings, message):
    with pytest.raises(ValidationError, match=message):
        AdapterSettings(**settings)


def test_a_call_may_name_another_model(monkeypatch):
    loads = []

    def shared(model, reward, config, **options):
        loads.append((model, reward, config, options))
        return guard()

    monkeypatch.setattr(Guard, "shared", shared)
    settings = AdapterSettings(model="m", model_options={"device": "cpu"})
    call = settings.call(PROMPT, {"model": "n"})
    assert (call.model, call.model_name, settings.model_name) == ("n", "n", "m")
    assert settings.ready("n") is None
    other, configured = settings.loaded("n"), settings.loaded()
    assert (settings.loaded("n"), settings.ready("n"), settings.ready()) == (other, other, configured)
    options = {"model_options": {"device": "cpu"}, "reward_options": None}
    assert loads == [("n", None, ENCODER_CONFIG, options), ("m", None, ENCODER_CONFIG, options)]


def test_another_model_than_the_embedded_one_has_other_settings():
    settings = AdapterSettings()
    assert settings.overrides({})["config"] == settings.call(PROMPT, {}).overrides["config"] == CONFIG
    assert settings.overrides({"model": "n"})["config"] == ENCODER_CONFIG
    assert settings.call(PROMPT, {"model": "n"}).overrides["config"] == ENCODER_CONFIG


async def test_a_ready_made_guard_is_not_loaded():
    made = guard()
    settings = AdapterSettings(guard=made)
    assert settings.ready() is settings.loaded() is made
    assert await settings.aloaded() is made
    assert copy.deepcopy(settings).guard is made
    with pytest.raises(pickle.PicklingError, match="construct it with the ids"):
        pickle.dumps(settings)


def test_copies_share_what_is_loaded_and_a_pickle_carries_no_weights(monkeypatch):
    monkeypatch.setattr(Guard, "shared", lambda *_, **__: guard())
    settings = AdapterSettings(model="m", seed=1)
    made = settings.loaded()
    for twin in (copy.copy(settings), copy.deepcopy(settings), settings.model_copy(deep=True)):
        assert twin.ready() is made
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again.ready() is None


def test_guards_that_are_shared_are_never_copied():
    guards = SharedGuards()
    assert copy.copy(guards) is copy.deepcopy(guards) is guards
    assert guards != {}
