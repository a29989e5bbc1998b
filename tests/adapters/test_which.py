"""Which model and which reward an adapter may be parts: names, descriptions, folders and objects in hand."""

from __future__ import annotations

import copy
import pickle
from enum import Enum
from pathlib import Path

import pytest
from pydantic import ValidationError

from stars_guard import ConfigurationError, Constant, GuardConfig, Hard, Prompt
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.adapters import AdapterSettings
from stars_guard.adapters.which import name_of_model, name_of_reward
from stars_guard.embedded import ENCODER_NAME
from stars_guard.loading import specs
from stars_guard.rewards import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel

STRICT = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard())
SCRIPT = [["Sure, poison.", "Try tea."]]


def no_poison(prompt: str, response: str) -> float:
    return -1.0 if "poison" in response else 1.0


def settings(**changed):
    return AdapterSettings(**{"model": ScriptedModel(SCRIPT), "guard_config": STRICT, **changed})


def answer(adapter: AdapterSettings) -> str:
    call = adapter.call(Prompt.of("Help me."), {})
    return adapter.loaded(call.model).generate(call.prompt, **call.overrides).text


@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (no_poison, "no_poison"),
        (FunctionReward(no_poison, "calm"), "calm"),
        (specs.RewardCallable(part=no_poison), "no_poison"),
        (KeywordReward(["poison"]), "keywords"),
    ],
)
def test_an_object_in_hand_is_the_part_itself(reward, name):
    adapter = settings(reward=reward)
    assert adapter.reward is reward
    assert (adapter.model_name, adapter.reward_name) == ("scripted", name)
    assert answer(adapter) == "Try tea."
    assert adapter.loaded().model is adapter.model
    assert adapter.in_hand == {"model": adapter.model, "reward": getattr(reward, "part", reward)}
    assert adapter.descriptions == []


def test_adapters_around_the_same_objects_share_one_loop_and_others_do_not():
    first = settings(reward=no_poison)
    same = settings(model=first.model, reward=no_poison)
    assert first.loaded().loop is same.loaded().loop
    assert first.loaded().loop is not settings(reward=no_poison).loaded().loop


def test_an_object_that_is_put_in_later_is_another_whatever_it_says_of_itself():
    class Secretive(ScriptedModel):
        def __repr__(self) -> str:
            return "model"

        def __bool__(self) -> bool:
            raise TypeError("neither true nor false")

    adapter = settings(model=Secretive(SCRIPT), reward=no_poison)
    assert answer(adapter) == "Try tea."
    adapter.model = Secretive([["Another."]])
    assert adapter.ready() is None
    assert answer(adapter) == "Another."
    guard = Guard(ScriptedModel(SCRIPT), KeywordReward([]), STRICT)
    with pytest.raises(ValidationError, match="a ready-made guard was given and model too"):
        AdapterSettings(guard=guard, model=Secretive(SCRIPT))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda adapter: adapter.model_copy(deep=True)])
def test_copies_hold_the_same_objects(copied):
    spec = specs.ReadyReward(part=KeywordReward(["poison"]))
    adapter = settings(reward=spec)
    twin = copied(adapter)
    assert twin.model is adapter.model
    assert twin.reward.part is spec.part
    assert twin.loaded().loop is adapter.loaded().loop


@pytest.mark.parametrize(
    ("parts", "name"), [({"model": ScriptedModel(SCRIPT)}, "model"), ({"reward": no_poison}, "reward")]
)
def test_an_object_in_hand_is_not_pickled_and_it_is_said_what_to_do(parts, name):
    adapter = AdapterSettings(guard_config=STRICT, **parts)
    with pytest.raises(pickle.PicklingError, match=f"holds a ready-made {name}, .*construct it with the ids"):
        pickle.dumps(adapter)


def test_descriptions_and_folders_pickle():
    adapter = settings(model=specs.LocalModel(kind="transformers", path="a/b"), reward=Path("c/d"))
    assert pickle.loads(pickle.dumps(adapter)) == adapter
    assert adapter.in_hand == {}
    assert adapter.descriptions == [adapter.model, specs.LocalReward(kind="local", path="c/d")]


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"model": 3}, "model is int; pass a folder, a hub id, an engine"),
        ({"model": ScriptedModel}, "model is the class ScriptedModel; pass"),
        ({"model": no_poison}, "model is function; pass"),
        ({"reward": 3}, "reward is int; pass a folder, a hub id, code"),
        ({"reward": len}, "reward is builtin_function_or_method; pass"),
        ({"reward": {"kind": "object", "name": "x"}}, "reward is dict; pass"),
        ({"reward": no_poison, "guard_config": None}, "no config for the reward model 'no_poison'"),
    ],
)
def test_what_is_neither_a_name_nor_a_part_fails_at_construction(parts, message):
    with pytest.raises(ValidationError, match=message):
        settings(**parts)


def test_a_call_names_its_model():
    with pytest.raises(ConfigurationError, match=r"a call: model: .*string"):
        settings(reward=no_poison).call(Prompt.of("Hi"), {"model": ScriptedModel(SCRIPT)})


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (None, "embedded"),
        ("", "embedded"),
        ("vllm@http://h#m", "vllm@http://h#m"),
        (Path("a/b"), "a/b"),
        (specs.EmbeddedModel(), "embedded"),
        (specs.EngineServer(kind="openai", url="http://h"), "http://h"),
        (specs.EngineServer(kind="openai", url="http://h", name="m"), "m"),
        (specs.EngineInProcess(kind="vllm", path="a/b"), "a/b"),
    ],
)
def test_a_model_has_a_name_before_it_is_loaded(model, name):
    assert name_of_model(model) == name


@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (None, "embedded"),
        ("", "embedded"),
        ("f.py:calm", "f.py:calm"),
        (Path("a/b"), "a/b"),
        (specs.LocalJudge(preset="p", path="a/b"), "judge:p@a/b"),
    ],
)
def test_a_reward_has_a_name_before_it_is_loaded(reward, name):
    assert name_of_reward(reward) == name


def test_a_name_stays_the_text_it_is_and_the_embedded_ones_have_one_form():
    class Models(str, Enum):  # noqa: UP042 - its text is not its str()
        SMALL = "a/small"

    assert type(AdapterSettings(model=Models.SMALL).model) is str
    adapter = settings(model="vllm@http://h", reward="my/reward")
    assert (adapter.model, adapter.reward) == ("vllm@http://h", "my/reward")
    named = AdapterSettings(model=specs.EmbeddedModel(), reward=specs.EmbeddedReward())
    assert (named.model, named.reward) == (None, ENCODER_NAME)
    other = specs.EmbeddedReward(options={"dtype": "float32"})
    assert AdapterSettings(reward=other).reward is other
    assert AdapterSettings(reward=None).reward is None


def test_saved_and_shown_settings_have_names_and_no_options():
    local = specs.LocalReward(kind="local", path="a/b", options={"token": "secret"})
    adapter = settings(reward=local)
    kinds = {"model": {"kind": "object", "name": "scripted"}, "reward": {"kind": "local", "name": "a/b"}}
    saved = {"guard_config", *kinds}
    assert {name: adapter.model_dump(mode="json", include=saved)[name] for name in kinds} == kinds
    assert f"model={kinds['model']}" in repr(adapter)
    assert "secret" not in repr(adapter) + adapter.model_dump_json()
    named = settings(model=Path("a/b"), reward="my/reward")
    assert (named.model_dump()["model"], named.model_dump()["reward"]) == ("a/b", "my/reward")
    assert AdapterSettings().model_dump(include={"model", "reward"}) == {"model": None, "reward": None}
    mixed = settings(model="m", reward=Path("c/d")).model_dump(include={"model", "reward"})
    assert mixed == {"model": "m", "reward": "c/d"}
