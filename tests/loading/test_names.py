"""A name, a section or an object becomes a description: of which model, of which reward."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

import pytest

from stars_guard import embedded
from stars_guard.errors import ConfigurationError
from stars_guard.loading import names
from stars_guard.loading.names import embedded_config, model_spec, reward_spec, with_parts
from stars_guard.loading.specs import (
    CascadePart,
    CascadeReward,
    EmbeddedJudge,
    EmbeddedModel,
    EmbeddedReward,
    EngineInProcess,
    EngineServer,
    LocalJudge,
    LocalModel,
    LocalProbe,
    LocalReward,
    LocalStreamGuard,
    ReadyModel,
    ReadyReward,
    RewardCallable,
    RewardCode,
    ScoringServer,
)
from stars_guard.rewards.classifiers import probe, stream_guard
from stars_guard.rewards.function import FunctionReward
from stars_guard.testing import KeywordReward, ScriptedModel


def local(path: str) -> LocalModel:
    return LocalModel(kind="transformers", path=path)


def server(url: str, **fields: str) -> EngineServer:
    return EngineServer(kind="openai", url=url, **fields)


@pytest.mark.parametrize(
    ("name", "spec"),
    [
        (None, EmbeddedModel()),
        ("vllm@http://localhost:8000", server("http://localhost:8000", engine="vllm")),
        (
            "llamacpp@https://user:password@host/path#model",
            server("https://user:password@host/path", engine="llamacpp", name="model"),
        ),
        ("nobody@http://localhost", server("http://localhost", engine="nobody")),
        ("vllm:/models/x", EngineInProcess(kind="vllm", path="/models/x")),
        ("vllm:org/name", EngineInProcess(kind="vllm", path="org/name")),
        ("owner/model", local("owner/model")),
        ("owner/vllm@http://localhost", local("owner/vllm@http://localhost")),
        ("/m/vllm:x", local("/m/vllm:x")),
        ("/folder/of/a/model", local("/folder/of/a/model")),
        ("http://localhost:8000", local("http://localhost:8000")),
        ("judge:preset@folder", local("judge:preset@folder")),
        (Path("vllm:x"), local("vllm:x")),
        (local("mine"), local("mine")),
    ],
)
def test_what_names_which_model(name, spec) -> None:
    assert model_spec(name) == spec


CODE = {
    "rewards.py:calm": ("rewards.py", "calm"),
    "a/b c/rewards.py:Shelf.ready": ("a/b c/rewards.py", "Shelf.ready"),
    "C:\\rewards.py:calm": ("C:\\rewards.py", "calm"),
    "package.module:attribute": ("package.module", "attribute"),
    "judge:calm": ("judge", "calm"),
}


@pytest.mark.parametrize(("name", "parts"), CODE.items())
def test_what_names_code(name: str, parts: tuple[str, str]) -> None:
    spec = reward_spec(name)
    assert spec == RewardCode(place=parts[0], attribute=parts[1])
    assert spec.name == name


@pytest.mark.parametrize("path", ["some/model", "C:\\model", "org/model@main"])
def test_what_names_a_judge(path: str) -> None:
    spec = reward_spec(f"judge:llama_guard_3@{path}")
    assert spec == LocalJudge(preset="llama_guard_3", path=path)
    assert spec.name == f"judge:llama_guard_3@{path}"


@pytest.mark.parametrize(
    "name",
    [
        "org/model",
        "org/model:calm",
        "C:\\model",
        "http://localhost:8000",
        "http://localhost:8000/score",
        "rewards.py",
        "rewards.py:",
        ":calm",
        "",
        "rewards.py:calm()",
    ],
)
def test_what_names_a_folder_or_id(name: str) -> None:
    spec = reward_spec(name)
    assert spec == LocalReward(kind="local", path=name)
    assert spec.name == name


def test_a_section_of_settings_may_hold_any_name() -> None:
    options = {"dtype": "float32"}
    assert reward_spec(LocalReward(kind="local", path="a.py:calm", options=options)) == RewardCode(
        place="a.py", attribute="calm", options=options
    )
    assert reward_spec(LocalReward(kind="local", path="org/name", options=options)).options == options
    scorer = ScoringServer(kind="remote", url="http://localhost", format="vllm_pooling")
    assert reward_spec(scorer) is scorer
    assert (scorer.name, scorer.changed(model="m").name) == ("vllm_pooling", "m")


@pytest.mark.skipif(sys.platform == "win32", reason="no colons in folder names there")
def test_a_folder_is_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert isinstance(reward_spec("v1:best"), RewardCode)
    (tmp_path / "v1:best").mkdir()
    assert isinstance(reward_spec("v1:best"), LocalReward)
    assert isinstance(reward_spec(Path("v2:best")), LocalReward)


def test_a_folder_with_a_probe_is_one(tmp_path: Path) -> None:
    assert names.PROBE_FILE == probe.SETTINGS_FILE
    assert isinstance(reward_spec(tmp_path), LocalReward)
    (tmp_path / names.PROBE_FILE).touch()
    spec = reward_spec(str(tmp_path))
    assert spec == LocalProbe(path=str(tmp_path))
    assert spec.name == str(tmp_path)


def test_a_folder_or_id_of_a_stream_guard_is_one(tmp_path: Path) -> None:
    assert names.STREAM_GUARD == stream_guard.ARCHITECTURE
    path, config = str(tmp_path), tmp_path / "config.json"
    for text in ("", "[]", "{}", '{"architectures": null}', '{"architectures": ["Qwen3ForCausalLM"]}'):
        config.write_text(text)
        assert isinstance(reward_spec(path), LocalReward)
    config.write_text('{"architectures": ["Qwen3ForGuardModel"]}')
    assert reward_spec(tmp_path) == LocalStreamGuard(path=path)
    name = "Qwen/Qwen3Guard-Stream-0.6B"
    section = LocalReward(kind="local", path=name, options={"window": 32}, revision="abc")
    assert reward_spec(section) == LocalStreamGuard(path=name, options={"window": 32}, revision="abc")
    assert isinstance(reward_spec("Qwen/Qwen3Guard-Gen-0.6B"), LocalReward)


def test_what_comes_with_the_package() -> None:
    assert reward_spec(None) == reward_spec(embedded.ENCODER_NAME) == EmbeddedReward()
    assert reward_spec(None, model_spec(None)) == reward_spec(embedded.PROBE_NAME)
    assert reward_spec(None, model_spec("own/model")) == EmbeddedReward()
    assert reward_spec("own/reward", model_spec(None)).path == "own/reward"
    assert reward_spec(embedded.PROBE_NAME) == LocalProbe(path=str(embedded.PROBE))
    mine = [LocalProbe(path="mine"), reward_spec("own/reward"), reward_spec(KeywordReward([]))]
    known = [reward_spec(None), reward_spec(embedded.PROBE_NAME)]
    assert [embedded_config(spec) is not None for spec in [*known, *mine]] == [
        True,
        True,
        False,
        False,
        False,
    ]


def test_parts_of_a_cascade_are_among_the_parts() -> None:
    probe = CascadePart(reward=embedded.PROBE_NAME)
    spec = CascadeReward(first=CascadePart(reward="a.py:calm"), second=probe, low=0, high=1)
    code = RewardCode(place="a.py", attribute="calm")
    assert with_parts(reward_spec(spec)) == [spec, code, LocalProbe(path=str(embedded.PROBE))]
    assert spec.name == "cascade of a.py:calm and embedded:probe"
    assert with_parts(code) == [code]
    assert embedded_config(spec) is None


def test_a_band_that_is_none_is_refused() -> None:
    part = CascadePart()
    with pytest.raises(ConfigurationError, match=r"low=2\.0 is over high=1\.0"):
        CascadeReward(first=part, second=part, low=2, high=1)
    with pytest.raises(ConfigurationError, match="unit"):
        CascadePart(unit=0)


def test_the_judge_comes_with_the_package_but_does_not_guide() -> None:
    judge = reward_spec(embedded.JUDGE_NAME)
    assert judge == EmbeddedJudge()
    assert judge.name == "harm judge"
    assert embedded_config(judge) is None
    section = LocalReward(kind="local", path=embedded.JUDGE_NAME, options={"dtype": "float32"})
    assert reward_spec(section) == EmbeddedJudge(options={"dtype": "float32"})


def test_objects_in_hand() -> None:
    model, reward = ScriptedModel([["x"]]), FunctionReward(lambda prompt, response: 1.0, name="calm")
    ready = model_spec(model), reward_spec(reward)
    assert isinstance(ready[0], ReadyModel)
    assert isinstance(ready[1], ReadyReward)
    assert (ready[0].part, ready[1].part, ready[1].name) == (model, reward, "calm")


def calm(prompt: str, response: str, policy: str = "") -> float:
    return 1.0


class Marks:
    def __call__(self, prompt: str, response: str) -> float:
        return 1.0


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (calm, "calm"),
        (partial(calm, policy="x"), "calm"),
        (Marks(), "Marks"),
        (lambda prompt, response: 1.0, "function"),
    ],
)
def test_functions_in_hand(function, name: str) -> None:
    spec = reward_spec(function)
    assert isinstance(spec, RewardCallable)
    assert (spec.part, spec.name) == (function, name)


@pytest.mark.parametrize(
    ("model", "shown"),
    [(3, "int"), (ScriptedModel, "the class ScriptedModel"), (KeywordReward([]), "Keyword")],
)
def test_what_is_no_model(model, shown: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^model is {shown}.*; pass a folder, a hub id, an engine"):
        model_spec(model)


@pytest.mark.parametrize(
    ("reward", "shown"),
    [
        (3, "int"),
        (KeywordReward, "the class KeywordReward"),
        (ScriptedModel([["x"]]), "ScriptedModel"),
        (lambda: 1.0, "function"),
        (lambda prompt, response, policy: 1.0, "function"),
    ],
)
def test_what_is_no_reward(reward, shown: str) -> None:
    with pytest.raises(ConfigurationError, match=rf"^reward is {shown}; pass a folder, .* a function f\("):
        reward_spec(reward)


@pytest.mark.parametrize("place", ["model.gguf", "weights/Model.Q4_K_M.GGUF", Path("model.gguf")])
def test_gguf_weights_say_what_to_do(place):
    with pytest.raises(ConfigurationError, match=r"llama-server -m.*llamacpp@http.*ollama@URL#NAME"):
        model_spec(place)


def test_a_folder_of_gguf_weights_alone_says_it_too(tmp_path):
    (tmp_path / "model.gguf").touch()
    with pytest.raises(ConfigurationError, match="GGUF weights are not run in this process"):
        model_spec(str(tmp_path))
    (tmp_path / "config.json").touch()
    assert model_spec(tmp_path).path == str(tmp_path)
    assert model_spec("vllm:model.gguf").path == "model.gguf"
