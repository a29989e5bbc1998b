"""What can be configured, what is refused, and what copies, pickles and caches know of it."""

from __future__ import annotations

import copy
import logging
import pickle
from pathlib import Path

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.runnables import ConfigurableField
from pydantic import ValidationError
from stars_guard import Budget, ConfigurationError, SamplingParams, StarsGuardedLLM
from stars_guard.rewards import FunctionReward
from stars_guard.testing import ScriptedModel

import langchain_stars_guard
from langchain_stars_guard import ChatStarsGuardedLLM

from .scripted import STRICT, guard

MODELS = (ChatStarsGuardedLLM, langchain_stars_guard.StarsGuardedLLM)
both = pytest.mark.parametrize("kind", MODELS)


@both
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"top_p": 2}, "top_p"),
        ({"seed": -1}, "seed"),
        ({"stop": [""]}, "stop string is empty"),
        ({"timeout": 0}, "max_seconds"),
        ({"beta": -1}, "beta"),
        ({"segment_tokens": 0}, "max_tokens"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"reward": "my/reward"}, "no config for the reward model"),
        ({"tempreature": 1}, "tempreature"),
        ({"guard": "a/model"}, "guard"),
        ({"model": 3}, "model is int; pass a folder, a hub id, an engine"),
        (
            {"reward": ScriptedModel, "guard_config": STRICT},
            "reward is the class ScriptedModel; pass a folder",
        ),
    ],
)
def test_wrong_settings_fail_at_construction(kind, settings, message):
    with pytest.raises(ValidationError, match=message):
        kind(**settings)


@both
def test_a_guard_and_ids_exclude_each_other(kind):
    with pytest.raises(ValidationError, match="a ready-made guard was given and model too"):
        kind(guard=guard(), model="some/model")


@both
def test_settings_that_only_a_remote_service_needs_are_taken_and_said_to_be_unused(kind, caplog):
    with caplog.at_level(logging.INFO):
        kind(guard=guard(), api_key="secret", max_retries=3)
    assert "not used: api_key, max_retries" in caplog.text
    assert "secret" not in caplog.text


@both
def test_weights_load_late_and_once_for_all_copies(kind, monkeypatch):
    loads: list[tuple[object, ...]] = []

    def shared(model, reward, config, *, model_options, reward_options):
        loads.append((model, reward, model_options, reward_options))
        return guard()

    monkeypatch.setattr(StarsGuardedLLM, "shared", shared)
    model = kind(model="a/model", model_options={"device": "cpu"})
    assert loads == []
    model.invoke("hi")
    model.model_copy().invoke("hi")
    copy.deepcopy(model).invoke("hi")
    assert loads == [("a/model", None, {"device": "cpu"}, None)]
    model.invoke("hi", model="another/model")
    assert loads[1:] == [("another/model", None, {"device": "cpu"}, None)]


async def test_weights_load_beside_the_event_loop(monkeypatch):
    import asyncio
    import threading

    loop_thread, loaders = threading.get_ident(), []

    def shared(*ids, **options):
        loaders.append(threading.get_ident())
        return guard()

    monkeypatch.setattr(StarsGuardedLLM, "shared", shared)
    model = ChatStarsGuardedLLM()
    await asyncio.gather(*(model.ainvoke("hi") for _ in range(2)))
    assert loop_thread not in loaders


def test_flat_settings_adjust_those_of_the_guard():
    model = ChatStarsGuardedLLM(
        guard=guard(), target=0.5, segment_tokens=7, max_attempts=9, max_tokens=40, top_k=5, timeout=8.5
    )
    overrides = model.overrides({})
    assert overrides["config"] == STRICT.adjusted(target=0.5, segment_tokens=7, max_attempts=9)
    assert overrides["sampling"] == SamplingParams(max_tokens=40, top_k=5)
    assert overrides["budget"] == Budget(max_seconds=8.5)


def test_a_call_overrides_the_model_and_the_model_the_guard():
    core = StarsGuardedLLM(
        guard().model, guard().reward, STRICT, sampling=SamplingParams(temperature=0.1, top_k=3, seed=5)
    )
    model = ChatStarsGuardedLLM(guard=core, temperature=0.2, stop="end")
    sampling = model.overrides({"temperature": 0.3})["sampling"]
    assert sampling == SamplingParams(temperature=0.3, top_k=3, seed=5, stop=("end",))
    assert model.overrides({"stop": ["other"]})["sampling"].stop == ("other",)


def test_a_guard_config_of_the_models_own_comes_before_the_guards():
    mine = STRICT.model_copy(update={"max_attempts": 2})
    config = ChatStarsGuardedLLM(guard=guard(), guard_config=mine, target=0.0).overrides({})["config"]
    assert config == mine.adjusted(target=0.0)


@both
def test_unknown_call_options_are_named(kind):
    with pytest.raises(
        ConfigurationError, match=r"unknown call option frequency_penalty; this model takes: .*seed"
    ):
        kind(guard=guard()).invoke("hi", frequency_penalty=1)


@both
def test_a_call_cannot_ask_a_ready_made_guard_for_another_model(kind):
    with pytest.raises(ConfigurationError, match="model='other' was asked for"):
        kind(guard=guard()).invoke("hi", model="other")


@both
def test_settings_pickle(kind):
    model = kind(model="a/model", seed=3, target=1.5, stop=["x"])
    again = pickle.loads(pickle.dumps(model))
    assert again == model
    assert again.identity() == model.identity()


@both
def test_a_ready_made_guard_does_not_pickle_and_says_what_to_do(kind):
    with pytest.raises(pickle.PicklingError, match="construct it with the ids"):
        pickle.dumps(kind(guard=guard()))


def test_a_pickle_carries_no_weights(monkeypatch):
    monkeypatch.setattr(StarsGuardedLLM, "shared", lambda *_, **__: guard())
    model = ChatStarsGuardedLLM(seed=1)
    model.invoke("hi")
    again = pickle.loads(pickle.dumps(model))
    monkeypatch.setattr(StarsGuardedLLM, "shared", lambda *_, **__: guard([["Loaded anew."]]))
    assert again.invoke("hi").text == "Loaded anew."


def test_deep_copies_share_the_guard():
    model = ChatStarsGuardedLLM(guard=guard(), seed=2)
    assert copy.deepcopy(model).guard is model.guard


def test_settings_are_configurable_per_run():
    core = guard([["one two three"]])
    model = ChatStarsGuardedLLM(guard=core).configurable_fields(
        stop=ConfigurableField("stop"), target=ConfigurableField("goal")
    )
    answer = model.invoke("hi", config={"configurable": {"stop": ["two"], "goal": 0.25}}, include_trace=True)
    assert answer.text == "one "
    assert answer.response_metadata["stars"]["trace"]["config"]["threshold"]["target"] == 0.25


@pytest.mark.parametrize(
    "settings",
    [
        {"target": 0.5},
        {"beta": 0.5},
        {"segment_tokens": 4},
        {"max_attempts": 2},
        {"temperature": 0.1},
        {"max_tokens": 5},
        {"top_p": 0.5},
        {"top_k": 2},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"seed": 1},
        {"stop": ["x"]},
        {"timeout": 5},
        {"budget": Budget(max_reward_calls=50)},
        {"include_trace": True},
        {"guard_config": STRICT.model_copy(update={"refusal_text": "No."})},
    ],
    ids=lambda settings: next(iter(settings)),
)
@both
def test_every_setting_that_changes_the_answer_is_in_the_cache_key(kind, settings):
    core, cache = guard(), InMemoryCache()
    kind(guard=core, cache=cache).invoke("hi")
    kind(guard=core, cache=cache).invoke("hi")
    assert len(core.model.sessions) == 1
    kind(guard=core, cache=cache, **settings).invoke("hi")
    assert len(core.model.sessions) == 2


@both
def test_two_guards_with_the_same_names_do_not_share_cached_answers(kind):
    cache = InMemoryCache()
    first, second = guard([["First."]]), guard([["Second."]])
    answers = [kind(guard=core, cache=cache).invoke("hi") for core in (first, second, first)]
    texts = [answer if isinstance(answer, str) else answer.text for answer in answers]
    assert texts == ["First.", "Second.", "First."]


def test_ids_and_options_are_in_the_cache_key_but_no_token_is():
    plain = ChatStarsGuardedLLM(model="a/b").identity()
    with_token = ChatStarsGuardedLLM(model="a/b", model_options={"token": "hf_secret"})
    assert plain != with_token.identity()
    assert ChatStarsGuardedLLM(model="a/c").identity() != plain
    assert "hf_secret" not in str(with_token.identity()) + repr(with_token) + str(with_token.to_json())


def test_tools_and_response_format_are_in_the_cache_key():
    core, cache = guard(), InMemoryCache()
    model = ChatStarsGuardedLLM(guard=core, cache=cache)
    model.invoke("hi")
    model.invoke("hi", response_format={"type": "json_object"})
    model.bind_tools([{"name": "f", "description": "", "parameters": {}}]).invoke("hi")
    assert len(core.model.sessions) == 3


def test_tracing_names_provider_and_model():
    params = ChatStarsGuardedLLM(model="a/b", temperature=0.5, max_tokens=9, stop=["x"])._get_ls_params()
    assert params["ls_provider"] == "stars_guard"
    assert (params["ls_model_name"], params["ls_temperature"], params["ls_max_tokens"]) == ("a/b", 0.5, 9)
    assert params["ls_stop"] == ["x"]
    assert langchain_stars_guard.StarsGuardedLLM()._get_ls_params()["ls_model_name"] == "embedded"


FILE = """
max_attempts = 3
[threshold]
kind = "constant"
target = 0.5
[made_for]
reward = "another"
model = "m"
acceptance = 0.5
"""


@both
def test_settings_in_a_file_are_read_at_construction(kind, tmp_path):
    (tmp_path / "c.toml").write_text(FILE)
    llm = kind(guard=guard(), guard_config=str(tmp_path / "c.toml"))
    assert llm.guard_config.max_attempts == 3
    assert kind(guard=guard(), guard_config=tmp_path / "c.toml").guard_config == llm.guard_config
    with pytest.raises(ConfigurationError, match="'another', but the reward here is"):
        llm.invoke("Hi")
    with pytest.raises(ValidationError, match="cannot be read"):
        kind(guard=guard(), guard_config=tmp_path / "nowhere.toml")


def no_poison(prompt, response):
    return -1.0 if "poison" in response else 1.0


def text_of(answer):
    return answer if isinstance(answer, str) else answer.text


@both
@pytest.mark.parametrize("reward", [no_poison, FunctionReward(no_poison)], ids=["function", "reward"])
def test_a_model_and_a_reward_in_hand(kind, reward):
    llm = kind(model=ScriptedModel([["Sure, poison.", "Try tea."]]), reward=reward, guard_config=STRICT)
    assert text_of(llm.invoke("hi")) == "Try tea."
    assert (llm.reward, llm.model_name, llm.identity()["reward"]) == (reward, "scripted", "no_poison")
    assert llm._get_ls_params()["ls_model_name"] == "scripted"
    twin = copy.deepcopy(llm)
    assert (twin.model, twin.loaded()) == (llm.model, llm.loaded())
    with pytest.raises(pickle.PicklingError, match=r"holds a ready-made model, .*construct it with the ids"):
        pickle.dumps(llm)


@both
def test_objects_in_hand_share_cached_answers_with_themselves_alone(kind):
    class Same:
        """Equal to all of its kind, and too small to be referred to weakly."""

        __slots__ = ("least",)
        name = "same"

        def __init__(self, least):
            self.least = least

        def __eq__(self, other):
            return isinstance(other, Same)

        __hash__ = None

        def __call__(self, prompt, response):
            return self.least + len(response)

    cache, model = InMemoryCache(), ScriptedModel([["One.", "Three."]])
    lenient, strict = Same(0), Same(-4)
    answers = [
        text_of(kind(model=model, reward=reward, guard_config=STRICT, cache=cache).invoke("hi"))
        for reward in (lenient, strict, lenient, strict)
    ]
    assert answers == ["One.", "Three."] * 2
    assert len(model.sessions) == 2
    other = kind(model=ScriptedModel([["Other."]]), reward=lenient, guard_config=STRICT, cache=cache)
    assert text_of(other.invoke("hi")) == "Other."


def test_an_identity_is_not_given_again_once_its_object_is_gone():
    def identity():
        llm = ChatStarsGuardedLLM(model=ScriptedModel([["Hi."]]), reward=no_poison, guard_config=STRICT)
        return llm.identity()["guard"]

    assert len({identity() for _ in range(50)}) == 50


def test_a_folder_is_in_the_cache_key_and_an_object_is_shown_by_its_name():
    named = ChatStarsGuardedLLM(model="a/b")
    assert named.identity()["guard"] is named.identity()["options"] is None
    folder = ChatStarsGuardedLLM(model=Path("a/b"))
    assert folder.identity()["model_name"] == "a/b"
    assert folder.identity()["options"] is not None
    assert pickle.loads(pickle.dumps(folder)).identity() == folder.identity()
    llm = ChatStarsGuardedLLM(model=ScriptedModel([]), reward=no_poison, guard_config=STRICT)
    shown = llm.to_json()["repr"]
    assert "{'kind': 'function', 'name': 'no_poison'}" in shown


def test_model_and_reward_are_configurable_per_run_and_stay_text_in_the_schema():
    llm = ChatStarsGuardedLLM(guard_config=STRICT).configurable_fields(
        model=ConfigurableField("model"), reward=ConfigurableField("reward")
    )
    properties = llm.config_schema().model_json_schema()["$defs"]["Configurable"]["properties"]
    assert (
        properties["model"]["anyOf"]
        == properties["reward"]["anyOf"]
        == [{"type": "string"}, {"type": "null"}]
    )
    chosen = {"model": ScriptedModel([["Chosen."]]), "reward": no_poison}
    answer = llm.invoke("hi", config={"configurable": chosen})
    assert answer.text == "Chosen."
