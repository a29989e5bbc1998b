"""The class as LlamaIndex sees it: its place in the hierarchy, its settings, its serialised forms."""

from __future__ import annotations

import copy
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
from guards import HARD, guard_of, scripted, user
from llama_index.core import Settings
from llama_index.core.base.llms.base import BaseLLM
from llama_index.core.llms.function_calling import FunctionCallingLLM
from llama_index.core.llms.structured_llm import StructuredLLM
from pydantic import BaseModel
from stars_guard import Budget, ConfigurationError, Constant, FixedLength, GuardConfig, Hard, Soft
from stars_guard import StarsGuardedLLM as Guard
from stars_guard.embedded import CONFIG
from stars_guard.rewards import FunctionReward
from stars_guard.testing import ScriptedModel

from llama_index.llms import stars_guard as package
from llama_index.llms.stars_guard import StarsGuardedLLM

NEEDS_PAYLOAD = pytest.mark.skipif(
    not hasattr(BaseLLM, "to_payload"), reason="llama-index-core gave observers no payload before 0.14.22"
)


def test_is_an_llm_of_the_framework() -> None:
    names = [base.__name__ for base in StarsGuardedLLM.__mro__]
    assert BaseLLM.__name__ in names
    assert FunctionCallingLLM.__name__ in names
    assert StarsGuardedLLM.class_name() == "StarsGuardedLLM"


def test_public_names_and_type_marker() -> None:
    assert package.__all__ == [
        "EvaluatorReward",
        "GuardedAnswerEvent",
        "SegmentJudgedEvent",
        "StarsGuardedLLM",
    ]
    folder = Path(package.__file__).parent
    assert (folder / "py.typed").is_file()
    assert not (folder.parent / "__init__.py").exists(), "llama_index.llms is a namespace"
    assert not (folder.parent.parent / "__init__.py").exists(), "llama_index is a namespace"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": -1}, "temperature=-1"),
        ({"max_tokens": 0}, "max_tokens=0"),
        ({"max_tokens": "many"}, "max_tokens='many'"),
        ({"stop": [""]}, "stop string is empty"),
        ({"top_p": 2.0}, "top_p=2.0"),
        ({"max_attempts": 0}, "max_attempts=0"),
        ({"segment_tokens": 0}, "max_tokens=0"),
        ({"beta": -0.5}, "beta=-0.5"),
        ({"temprature": 0.5}, "unknown setting 'temprature'"),
        ({"context_window": 0}, "context_window=0"),
        ({"reward": "some/reward"}, "config"),
        ({"guard": "scripted"}, "guard='scripted'"),
        ({"model": 3}, "model=3: model is int; pass a folder, a hub id, an engine"),
        ({"reward": ScriptedModel, "guard_config": HARD}, "reward is the class ScriptedModel; pass a folder"),
        ({"guard": guard_of([["Yes."]]), "reward": len}, "guard and reward"),
        ({"guard_config": {"threshold": {}}}, "guard_config"),
        ({"guard": guard_of([["Yes."]]), "model": "some/model"}, "guard and model"),
    ],
)
def test_a_wrong_setting_fails_at_construction(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message.replace("(", r"\(")):
        StarsGuardedLLM(**settings)


def test_construction_and_metadata_load_no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(Guard, "shared", lambda *_, **__: pytest.fail("weights were loaded"))
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1234}))
    llm = StarsGuardedLLM(model=str(tmp_path), max_tokens=77)
    assert llm.metadata.context_window == 1234
    assert llm.metadata.num_output == 77
    assert llm.metadata.model_name == tmp_path.name
    assert llm.metadata.is_chat_model
    assert llm.metadata.is_function_calling_model


@pytest.mark.parametrize(
    ("config", "window"),
    [('{"text_config": {"max_position_embeddings": 99}}', 99), ("{}", 3900), (None, 3900)],
)
def test_context_window_of_other_configs(tmp_path: Path, config: str | None, window: int) -> None:
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert StarsGuardedLLM(model=str(tmp_path)).metadata.context_window == window


def test_metadata_can_be_set() -> None:
    llm = StarsGuardedLLM(model="org/model", context_window=512, is_function_calling_model=False)
    assert llm.metadata.context_window == 512
    assert llm.metadata.model_name == "org/model"
    assert not llm.metadata.is_function_calling_model


def test_weights_are_loaded_once_on_first_use(monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[tuple[Any, ...]] = []

    def shared(*args: Any, **options: Any) -> Guard:
        loads.append((*args, options))
        return guard_of([["Yes."]])

    monkeypatch.setattr(Guard, "shared", shared)
    llm = StarsGuardedLLM(
        model="m",
        reward="r",
        guard_config=HARD,
        model_options={"device": "cpu"},
        reward_options={"name": "n"},
    )
    assert loads == []
    assert [llm.complete("Hi").text for _ in range(2)] == ["Yes.", "Yes."]
    options = {"model_options": {"device": "cpu"}, "reward_options": {"name": "n"}}
    assert loads == [("m", "r", HARD, options)]
    assert llm.metadata.model_name == "scripted"


async def test_loading_does_not_run_on_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    import threading

    threads: list[threading.Thread] = []

    def shared(*args: Any, **options: Any) -> Guard:
        threads.append(threading.current_thread())
        return guard_of([["Yes."]])

    monkeypatch.setattr(Guard, "shared", shared)
    assert (await StarsGuardedLLM().acomplete("Hi")).text == "Yes."
    assert threads != [threading.current_thread()]
    assert len(threads) == 1


def test_settings_reach_the_guard() -> None:
    llm = scripted(
        [["Yes."]],
        max_tokens=9,
        temperature=0.5,
        top_p=0.8,
        top_k=7,
        min_p=0.1,
        repetition_penalty=1.2,
        seed=3,
        stop="END",
        target=0.5,
        beta=0.25,
        segment_tokens=8,
        max_attempts=3,
        include_trace=True,
    )
    trace = llm.complete("Hi").raw["trace"]
    sampling, config = trace["sampling"], trace["config"]
    wanted = {"max_tokens": 9, "temperature": 0.5, "top_p": 0.8, "top_k": 7, "min_p": 0.1, "seed": 3}
    assert {name: sampling[name] for name in wanted} == wanted
    assert sampling["repetition_penalty"] == 1.2
    assert sampling["stop"] == ["END"]
    assert GuardConfig.model_validate(config) == GuardConfig(
        threshold=Constant(target=0.5),
        acceptance=Soft(beta=0.25),
        segments=FixedLength(max_tokens=8),
        max_attempts=3,
    )


def test_a_call_overrides_settings_and_none_means_unset() -> None:
    llm = scripted([["One two three."]], seed=1, stop=["three"], include_trace=True)
    assert llm.complete("Hi").text == "One two "
    changed = llm.complete("Hi", seed=2, stop=["two"], max_attempts=5, temperature=None)
    assert changed.text == "One "
    assert changed.raw["trace"]["sampling"]["seed"] == 2
    assert changed.raw["trace"]["config"]["max_attempts"] == 5
    other = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard())
    assert llm.complete("Hi", guard_config=other).raw["trace"]["config"]["threshold"]["target"] == 0.0
    assert "trace" not in llm.complete("Hi", include_trace=False).raw


def test_assigned_settings_hold_from_then_on() -> None:
    llm = scripted([["One two three."]])
    llm.stop = ["two"]
    assert llm.complete("Hi").text == "One "


def test_a_call_refuses_what_it_does_not_know() -> None:
    llm = scripted([["Yes."]])
    with pytest.raises(ConfigurationError, match=r"no setting 'max_new_tokens'; it takes: .*max_tokens"):
        llm.complete("Hi", max_new_tokens=5)
    with pytest.raises(ConfigurationError, match="max_tokens=0"):
        llm.chat(user("Hi"), max_tokens=0)


def test_headers_that_llama_index_sends_have_no_meaning() -> None:
    assert scripted([["Yes."]]).chat(user("Hi"), extra_headers={"x": "y"}).message.content == "Yes."


def test_embedded_settings_are_the_default() -> None:
    assert StarsGuardedLLM().overrides({})["config"] == CONFIG
    assert StarsGuardedLLM(target=1.0).overrides({})["config"].threshold.target == 1.0


def test_settings_survive_json() -> None:
    llm = StarsGuardedLLM(
        model="m",
        reward="r",
        guard_config=HARD,
        stop=["END"],
        temperature=0.3,
        budget=Budget(max_seconds=5),
        model_options={"device": "cpu"},
    )
    again = StarsGuardedLLM.from_json(llm.to_json())
    assert again.to_dict() == llm.to_dict()
    assert again.guard_config == HARD
    assert again.budget == Budget(max_seconds=5)


def test_a_ready_made_guard_is_not_lost_in_json() -> None:
    llm = scripted([["Yes."]], max_tokens=5)
    saved = llm.to_dict()
    assert saved["guard"] == "scripted"
    with pytest.raises(ConfigurationError, match=r"from_dict\(data, guard="):
        StarsGuardedLLM.from_dict(saved)
    again = StarsGuardedLLM.from_dict(saved, guard=guard_of([["No."]]))
    assert (again.max_tokens, again.complete("Hi").text) == (5, "No.")


def test_json_schema_can_be_made() -> None:
    assert StarsGuardedLLM.model_json_schema()["properties"]["guard"]["type"] == "string"


def test_pickling_keeps_the_settings_and_drops_the_weights(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Guard, "shared", lambda *_, **__: guard_of([["Yes."]]))
    llm = StarsGuardedLLM(model="m", reward="r", guard_config=HARD, stop=["END"])
    llm.complete("Hi")
    with caplog.at_level(logging.WARNING):
        again = pickle.loads(pickle.dumps(llm))
    assert "Removing unpickleable" not in caplog.text
    assert again.to_dict() == llm.to_dict()
    assert again.ready() is None
    assert llm.ready() is not None
    assert again.complete("Hi").text == "Yes."


def test_a_ready_made_guard_refuses_pickling() -> None:
    with pytest.raises(TypeError, match="construct it from model and reward"):
        pickle.dumps(scripted([["Yes."]]))


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda llm: llm.model_copy(deep=True)])
def test_copies_share_the_weights(copied: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    llm = scripted([["Yes."]])
    assert copied(llm).guard is llm.guard
    monkeypatch.setattr(Guard, "shared", lambda *_, **__: guard_of([["Yes."]]))
    loaded = StarsGuardedLLM()
    loaded.complete("Hi")
    assert copied(loaded).ready() is loaded.ready() is not None


def test_works_as_the_global_llm() -> None:
    Settings.llm = scripted([["Yes."]])
    assert Settings.llm.complete("Hi").text == "Yes."
    assert Settings.llm.metadata.model_name == "scripted"


@NEEDS_PAYLOAD
def test_payload_for_observers_is_plain_and_small() -> None:
    payload = scripted([["Yes."]], model_options=None).to_payload()
    assert json.loads(json.dumps(payload))["class_name"] == "StarsGuardedLLM"
    assert "model_options" not in payload


def test_structured_wrapper_serialises_the_settings() -> None:
    class Answer(BaseModel):
        word: str

    wrapped = StarsGuardedLLM(model="m", seed=4).as_structured_llm(Answer)
    assert isinstance(wrapped, StructuredLLM)
    assert wrapped.to_dict()["llm"]["seed"] == 4


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


def test_settings_in_a_file_are_read_at_construction_and_per_call(tmp_path):
    file = tmp_path / "c.toml"
    file.write_text(FILE)
    llm = scripted([["Hi."]], guard_config=str(file))
    assert llm.guard_config.max_attempts == 3
    for call in (lambda: llm.complete("Hi"), lambda: scripted([["Hi."]]).complete("Hi", guard_config=file)):
        with pytest.raises(ConfigurationError, match="'another', but the reward here is"):
            call()
    with pytest.raises(ConfigurationError, match="cannot be read"):
        scripted([["Hi."]], guard_config=tmp_path / "nowhere.toml")


def no_poison(prompt: str, response: str) -> float:
    return -1.0 if "poison" in response else 1.0


def in_hand(**settings: Any) -> StarsGuardedLLM:
    model = ScriptedModel([["Sure, poison.", "Try tea."]])
    return StarsGuardedLLM(**{"model": model, "reward": no_poison, "guard_config": HARD, **settings})


@pytest.mark.parametrize("reward", [no_poison, FunctionReward(no_poison)])
def test_a_model_and_a_reward_in_hand(reward: Any) -> None:
    llm = in_hand(reward=reward, max_tokens=7)
    assert (llm.metadata.model_name, llm.metadata.num_output) == ("scripted", 7)
    assert llm.complete("Hi").text == "Try tea."
    assert llm.reward is reward
    twin = copy.deepcopy(llm)
    assert twin.model is llm.model
    assert twin.ready() is llm.ready() is not None


def test_the_context_window_of_a_model_in_hand_is_its_own() -> None:
    model = ScriptedModel([])
    model.context_window = 321
    assert in_hand(model=model).metadata.context_window == 321


def test_a_folder_as_a_path_is_that_folder(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"max_position_embeddings": 1234}))
    llm = StarsGuardedLLM(model=tmp_path)
    assert (llm.metadata.model_name, llm.metadata.context_window) == (tmp_path.name, 1234)
    assert StarsGuardedLLM.from_json(llm.to_json()).model == str(tmp_path)


def test_objects_in_hand_refuse_pickling() -> None:
    with pytest.raises(pickle.PicklingError, match=r"holds a ready-made model, .*construct it with the ids"):
        pickle.dumps(in_hand())


def test_objects_in_hand_are_not_lost_in_json() -> None:
    saved = json.loads(in_hand(seed=3).to_json())
    assert saved["model"] == {"kind": "object", "name": "scripted"}
    assert saved["reward"] == {"kind": "function", "name": "no_poison"}
    with pytest.raises(ConfigurationError, match="model is dict; pass a folder"):
        StarsGuardedLLM.from_dict(saved)
    again = StarsGuardedLLM.from_dict(saved, model=ScriptedModel([["No."]]), reward=no_poison)
    assert (again.seed, again.complete("Hi").text) == (3, "No.")


@NEEDS_PAYLOAD
def test_objects_in_hand_do_not_keep_observers_from_their_payload() -> None:
    assert json.loads(json.dumps(in_hand().to_payload()))["class_name"] == "StarsGuardedLLM"


def test_model_and_reward_stay_text_in_the_schema() -> None:
    properties = StarsGuardedLLM.model_json_schema()["properties"]
    for name in ("model", "reward"):
        assert properties[name]["anyOf"] == [{"type": "string"}, {"type": "null"}]
