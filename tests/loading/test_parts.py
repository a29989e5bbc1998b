"""From names to parts, without loading anything big."""

from __future__ import annotations

import gc
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from stars_guard import StarsGuardedLLM, embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.rules import Constant, Hard
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.loading import parts
from stars_guard.loading.specs import (
    CascadePart,
    CascadeReward,
    EngineInProcess,
    LocalModel,
    LocalReward,
    ScoringServer,
)
from stars_guard.models.local import int8
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.rewards.cascade import Cascade
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings
from stars_guard.rewards.classifiers.stream_reward import StreamGuardReward
from stars_guard.rewards.function import FunctionReward
from stars_guard.rewards.servers.remote import HttpOptions
from stars_guard.testing import KeywordReward, ScriptedModel
from tests.support.stream_guards import stream_guard_folder
from tests.support.tiny import tiny_bert_tokenizer


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict:
    """What the loaders are asked for, in place of loading it."""
    found: dict = {}
    monkeypatch.setattr(TransformersModel, "load", lambda path, **options: found.update(path=path, **options))
    monkeypatch.setattr(ClassifierReward, "load", lambda path, **options: found.update(path=path, **options))
    monkeypatch.setattr(embedded, "chat_model", lambda: "chat")
    monkeypatch.setattr(embedded, "harmlessness_reward", lambda: "harmless")
    monkeypatch.setattr(embedded, "harm_judge", lambda: "judge")
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


def test_the_judge_reads_as_the_embedded_reward_does_and_has_no_settings(asked: dict) -> None:
    described = LocalReward(kind="local", path=embedded.JUDGE_NAME, options={"dtype": "float32"})
    parts.load_reward(described, {"device": "cpu"})
    read = asked.pop("format")
    assert asked == {"path": "judge", "name": "harm judge", "dtype": "float32", "device": "cpu"}
    long = ScoreRequest(Prompt.of("word " * 100), "fine", finished=True)
    assert read(tiny_bert_tokenizer(max_length=512), long, 512).dropped == 4 * 100 - embedded.PROMPT_TOKENS
    with pytest.raises(ConfigurationError, match="no config for the reward model 'harm judge'"):
        parts.load_config(None, embedded.JUDGE_NAME)


def test_a_stream_guard_is_loaded_from_its_folder(tmp_path: Path) -> None:
    folder = str(stream_guard_folder(tmp_path / "guard"))
    described = LocalReward(kind="local", path=folder, options={"window": 1, "controversial": 0.5})
    first, other = parts.load_reward(folder, {"device": "cpu"}), parts.load_reward(described)
    assert (type(first), first.name) == (StreamGuardReward, "guard")
    asked = [ScoreRequest(Prompt.of("How do I bake?"), "Mix the flour", finished=False)]
    assert first.score(asked)[0].value < other.score(asked)[0].value


def test_only_the_embedded_reward_has_settings_of_its_own(tmp_path: Path) -> None:
    mine = GuardConfig(threshold=Constant(target=1.0))
    assert parts.load_config(mine, "reward") is mine
    file = tmp_path / "guard.toml"
    file.write_text('threshold = {kind = "constant", target = 1.0}')
    assert parts.load_config(file, "reward").threshold == mine.threshold
    assert parts.load_config(None, None) is embedded.ENCODER_CONFIG
    with pytest.raises(ConfigurationError, match="rewards differ in scale"):
        parts.load_config(None, "reward")


def test_a_reward_in_hand_has_no_settings_either() -> None:
    mine = GuardConfig(threshold=Constant(target=1.0))
    for reward, name in (
        (FunctionReward(calm), "calm"),
        (calm, "calm"),
        ("judge:calm@folder", "judge:calm@"),
    ):
        assert parts.load_config(mine, reward) is mine
        with pytest.raises(ConfigurationError, match=f"no config for the reward model '{name}.*in scale"):
            parts.load_config(None, reward)


def test_objects_are_taken_as_they_are() -> None:
    model, reward = ScriptedModel([["x"]]), KeywordReward([])
    assert parts.load_model(model) is model
    assert parts.load_reward(reward, {}) is reward
    with pytest.raises(
        ConfigurationError, match="scripted is ready made and takes no options, but got dtype"
    ):
        parts.load_model(model, {"dtype": "float32"})
    with pytest.raises(
        ConfigurationError, match="calm is ready made and takes no options, but got bad, good"
    ):
        parts.load_reward(calm, {"good": "safe", "bad": "toxic"})


def test_options_win_over_those_of_a_description(asked: dict) -> None:
    spec = LocalModel(kind="transformers", path="mine", dtype="float16", device="cpu")
    parts.load_model(spec, {"dtype": "float32"})
    assert asked == {"path": "mine", "dtype": "float32", "device": "cpu"}
    asked.clear()
    parts.load_reward(LocalReward(kind="local", path="mine", options={"good": "a", "bad": "b"}), {"bad": "c"})
    assert asked == {"path": "mine", "good": "a", "bad": "c"}


# Guards of objects in hand

SETTINGS = GuardConfig(threshold=Constant(target=0.0), acceptance=Hard())


def calm(prompt: str, response: str) -> float:
    return -float(response.count("!"))


def quiet() -> ScriptedModel:
    return ScriptedModel([["Go!", "Go."]])


@pytest.mark.parametrize("load", [StarsGuardedLLM.load, StarsGuardedLLM.shared])
@pytest.mark.parametrize(
    ("reward", "name"),
    [
        (FunctionReward(calm, "mine"), "mine"),
        (calm, "calm"),
        (lambda prompt, response: calm(prompt, response), "function"),
    ],
)
def test_guards_of_objects(load, reward, name: str) -> None:
    llm = load(model=quiet(), reward=reward, config=SETTINGS)
    assert llm.generate("Where?").text == "Go."
    assert llm.reward.name == name
    with pytest.raises(ConfigurationError, match=f"no config for the reward model '{name}'"):
        load(model=quiet(), reward=reward)


@pytest.mark.parametrize("load", [StarsGuardedLLM.load, StarsGuardedLLM.shared])
def test_what_is_no_part_is_said_before_anything_is_loaded(load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "load_reward", lambda *_: pytest.fail("loaded in vain"))
    with pytest.raises(ConfigurationError, match="model is int; pass a folder, a hub id, an engine"):
        load(model=3)
    with pytest.raises(ConfigurationError, match="reward is the class KeywordReward; pass a folder"):
        load(reward=KeywordReward, config=SETTINGS)


def test_guards_of_the_same_objects_share_one_loop() -> None:
    model, other = quiet(), quiet()
    first = StarsGuardedLLM.shared(model, calm, SETTINGS)
    assert first.loop is StarsGuardedLLM.shared(model, calm, SETTINGS.changed(max_attempts=2)).loop
    # Alike, and yet another: it may hold other weights.
    assert first.loop is not StarsGuardedLLM.shared(other, calm, SETTINGS).loop
    assert first.loop is not StarsGuardedLLM.shared(model, FunctionReward(calm), SETTINGS).loop
    assert StarsGuardedLLM.load(model, calm, SETTINGS).loop is not first.loop


def test_scoring_servers_with_other_keys_are_others() -> None:
    model, url = quiet(), "http://127.0.0.1:9/score"

    def scored(key: str) -> StarsGuardedLLM:
        http = HttpOptions(api_key=SecretStr(key))
        reward = ScoringServer(kind="remote", url=url, format="vllm_pooling", http=http)
        return StarsGuardedLLM.shared(model, reward, SETTINGS)

    first, again, other = scored("mine"), scored("mine"), scored("yours")
    assert first.loop is again.loop
    assert first.loop is not other.loop
    for guard in (first, other):
        guard.reward.close()


def in_cascade(first: object, second: object, low: float = 0.0, **options: object) -> CascadeReward:
    return CascadeReward(
        first=CascadePart(reward=first, offset=1.0, unit=2.0),
        second=CascadePart(reward=second),
        low=low,
        high=1.0,
        options=options,
    )


def test_a_cascade_is_made_of_its_parts(tmp_path: Path) -> None:
    code = tmp_path / "mine.py"
    code.write_text("first = lambda prompt, response: 3.0\nsecond = lambda prompt, response: 0.5\n")
    # On one scale the first is 1, at the upper end of the band.
    reward = parts.load_reward(in_cascade(f"{code}:first", f"{code}:second"), {"dtype": "float32"})
    (scored,) = reward.score([ScoreRequest(Prompt.of("Where?"), "Go.", finished=False)])
    assert (scored.value, scored.components) == (0.75, {"first": 3.0, "second": 0.5})
    with pytest.raises(ConfigurationError, match="takes no options, but got labels"):
        parts.load_reward(in_cascade(f"{code}:first", f"{code}:second"), {"labels": 2})
    with pytest.raises(ConfigurationError, match="no config for the reward model 'cascade of "):
        parts.load_config(None, in_cascade(f"{code}:first", f"{code}:second"))


def test_options_of_a_cascade_reach_the_parts_that_they_are_about(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded: dict = {}

    def keep(place: str, **options: object) -> KeywordReward:
        loaded[place] = options
        return KeywordReward([])

    monkeypatch.setattr(ProbeReward, "load", keep)
    monkeypatch.setattr(ClassifierReward, "load", keep)
    inner = CascadePart(reward=embedded.PROBE_NAME)
    server = ScoringServer(kind="remote", url="http://127.0.0.1:9/score", format="vllm_pooling")
    spec = CascadeReward(first=inner, second=CascadePart(reward="mine"), low=0, high=1, options={"bad": "x"})
    reward = parts.load_reward(spec, {"dtype": "float32", "read": "reader"})
    assert isinstance(reward, Cascade)
    assert loaded == {str(embedded.PROBE): {"read": "reader"}, "mine": {"bad": "x", "dtype": "float32"}}
    cascade = parts.load_reward(in_cascade(embedded.PROBE_NAME, server), {"read": "other", "dtype": "x"})
    assert loaded[str(embedded.PROBE)] == {"read": "other"}
    cascade.parts[1].close()


def test_cascades_over_servers_with_other_keys_are_others() -> None:
    def key_of(key: str) -> object:
        http = HttpOptions(api_key=SecretStr(key))
        server = ScoringServer(kind="remote", url="http://a/score", format="vllm_pooling", http=http)
        return parts.loading_key(
            LocalModel(kind="transformers", path="m"), in_cascade("mine", server), {}, {}
        )

    assert key_of("mine") == key_of("mine") != key_of("yours")
    hash(key_of("mine"))


def test_a_loop_around_objects_lives_as_long_as_its_guards() -> None:
    model = quiet()
    loop = weakref.ref(StarsGuardedLLM.shared(model, calm, SETTINGS).loop)
    gc.collect()
    assert loop() is None


def test_a_folder_with_a_probe_is_loaded_as_one(tmp_path) -> None:
    settings = ProbeSettings(layers=(1,), model_name="m", model_layers=2, hidden_size=4, signature=(0.5,))
    ProbeReward(settings, ProbeHead(settings.features, 1)).save(tmp_path)
    loaded = parts.load_reward(str(tmp_path), {"dtype": "bfloat16", "device": "cpu"})
    assert isinstance(loaded, ProbeReward)
    with pytest.raises(ConfigurationError, match=r"takes no bad, scale; leave out options of classifiers"):
        parts.load_reward(str(tmp_path), {"scale": "logit", "bad": ("toxic",), "dtype": "float32"})


def test_the_embedded_probe_has_a_name() -> None:
    loaded = parts.load_reward(embedded.PROBE_NAME, {})
    assert isinstance(loaded, ProbeReward)
    assert loaded.settings.model_name == "smollm2-135m-instruct-1"
    assert parts.load_config(None, embedded.PROBE_NAME) is embedded.CONFIG


@pytest.mark.parametrize(
    ("model", "reward", "layers"),
    [
        ("vllm:mine", "probe", (1, 2)),
        (EngineInProcess(kind="vllm", path="mine", hidden_layers=(3,)), "probe", (3,)),
        ("vllm:mine", KeywordReward(["bad"]), None),
    ],
)
def test_an_engine_in_this_process_hands_out_what_the_reward_reads(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, model: Any, reward: Any, layers: Any
) -> None:
    settings = ProbeSettings(layers=(1, 2), model_name="m", model_layers=2, hidden_size=4, signature=(0.0,))
    ProbeReward(settings, ProbeHead(settings.features, 2)).save(tmp_path / "probe")
    made: list[Any] = []
    plain = ScriptedModel([["a"]])
    monkeypatch.setattr(parts, "VLLMModel", lambda path, **given: made.append((path, None)) or plain)
    monkeypatch.setattr(
        parts, "ObservableVLLM", lambda path, hidden_layers: made.append((path, hidden_layers)) or plain
    )
    parts.load_parts(model, str(tmp_path / "probe") if reward == "probe" else reward)
    assert made == [("mine", layers)]
