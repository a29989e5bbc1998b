"""Whatever goes wrong while something loads is a ConfigurationError that says what to do."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from stars_guard import embedded
from stars_guard.errors import ConfigurationError
from stars_guard.http.load_faults import check_complete, load_failures
from stars_guard.loading.parts import load_model, load_reward
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from tests.support.tiny import tiny_bert_classifier, tiny_bert_tokenizer, tiny_llama, tiny_tokenizer

POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a214614ab2935c943\nsize 12345\n"


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A tiny language model and a tiny classifier, as folders."""
    places = {kind: tmp_path_factory.mktemp("saved") / kind for kind in ("model", "reward", "judge")}
    for kind in ("model", "judge"):
        tiny_llama().save_pretrained(places[kind])
        tiny_tokenizer().save_pretrained(places[kind])
    tiny_bert_classifier(("score",)).save_pretrained(places["reward"])
    tiny_bert_tokenizer().save_pretrained(places["reward"])
    return places


LOADS = {
    "model": lambda folder, **options: load_model(str(folder), options),
    "reward": lambda folder, **options: load_reward(str(folder), options),
    "judge": lambda folder, **options: load_reward(f"judge:question@{folder}", options),
}


def cut(file: Path) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])


def shards(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weights}))


def broken_index(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors.index.json").write_text("[]")


def less(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    weights.pop(next(name for name in sorted(weights) if "norm" in name.lower()))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


def no_tokenizer(folder: Path) -> None:
    for file in [*folder.glob("tok*"), *folder.glob("vocab*"), *folder.glob("special*")]:
        file.unlink()


def own_code(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    places = dict.fromkeys(
        ("AutoConfig", "AutoModelForCausalLM", "AutoModelForSequenceClassification"), "code.Own"
    )
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "own", "auto_map": places}))


DAMAGES = {
    "pointer for weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(POINTER),
        r"model.safetensors is a pointer of Git LFS.*run `git lfs pull`",
    ),
    "pointer for the tokenizer": (
        lambda folder: (folder / "tokenizer.json").write_bytes(POINTER),
        r"tokenizer.json is a pointer of Git LFS",
    ),
    "pointer for the config": (
        lambda folder: (folder / "config.json").write_bytes(POINTER),
        r"config.json is a pointer of Git LFS",
    ),
    "cut download": (lambda folder: cut(folder / "model.safetensors"), r"cut or damaged: download"),
    "empty weights": (
        lambda folder: (folder / "model.safetensors").write_bytes(b""),
        r"cut or damaged: download",
    ),
    "missing shards": (shards, r"files of weights are missing \(2\), such as model-00001-of-00002"),
    "broken index": (broken_index, r"such as model.safetensors.index.json"),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), r"give a folder with config.json"),
    "a weight less": (less, r"is not a trained .*: it has no weights for \['.*'\]; their values would be"),
    "no tokenizer": (no_tokenizer, r"the files of its tokenizer are missing, such as tokenizer.json"),
    "code of its own": (own_code, r"comes with code of its own.*pass trust_remote_code=True"),
}


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_folder(damage, message, kind, saved, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(saved[kind], folder)
    damage(folder)
    with pytest.raises(ConfigurationError, match=message):
        LOADS[kind](folder)


OPTIONS = {
    "no such kind of device": ({"device": "gpu"}, r"device='gpu' is not there.*say device='cpu'"),
    "a dtype that is misspelled": ({"dtype": "flaot16"}, r"dtype='flaot16' is none of torch: take auto"),
    "a dtype that is something else": ({"dtype": "Linear"}, r"dtype='Linear' is none of torch"),
    "an unknown option": ({"foo": 1}, r"unexpected keyword argument 'foo'"),
}


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize(("options", "message"), OPTIONS.values(), ids=OPTIONS)
def test_options_that_cannot_be_kept(options, message, kind, saved):
    with pytest.raises(ConfigurationError, match=message):
        LOADS[kind](saved[kind], **options)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
@pytest.mark.parametrize("kind", LOADS)
def test_no_cuda_though_it_is_asked_for(kind, saved):
    with pytest.raises(ConfigurationError, match=r"device='cuda' is not there for this torch: leave it out"):
        LOADS[kind](saved[kind], device="cuda")


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("error", [MemoryError(), torch.OutOfMemoryError("CUDA out of memory. Tried")])
def test_a_memory_that_is_too_small(error, kind, saved, monkeypatch):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch.nn.Module, "to", fail)
    with pytest.raises(
        ConfigurationError, match="the memory does not hold it: take a smaller model"
    ) as caught:
        LOADS[kind](saved[kind])
    assert caught.value.__cause__ is error


@pytest.mark.parametrize("kind", LOADS)
@pytest.mark.parametrize("name", ["nobody/nothing-here", "a b/c"])
def test_a_name_that_is_nowhere(name, kind, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(ConfigurationError):
        LOADS[kind](name, local_files_only=True)


def test_a_hub_that_cannot_be_reached_is_said():
    with pytest.raises(ConfigurationError, match="cannot be reached: check the name, or download the model"):
        load_model("nobody/nothing-here", {"local_files_only": True})


def test_a_tokenizer_alone(saved, tmp_path):
    folder = tmp_path / "damaged"
    shutil.copytree(saved["reward"], folder)
    (folder / "tokenizer.json").write_bytes(POINTER)
    with pytest.raises(ConfigurationError, match=r"cannot load a tokenizer from .* pointer of Git LFS"):
        LocalTokenizer.load(str(folder), "m")
    no_tokenizer(folder)
    with pytest.raises(ConfigurationError, match="the files of its tokenizer are missing"):
        LocalTokenizer.load(str(folder), "m")


def test_an_error_without_words_and_one_in_a_process_without_torch(monkeypatch):
    with (
        pytest.raises(ConfigurationError, match=r"^loading: RuntimeError \(give a folder with config.json"),
        load_failures("loading", "nobody/nothing", {"dtype": "bfloat16"}),
    ):
        raise RuntimeError
    monkeypatch.delitem(__import__("sys").modules, "torch")
    with (
        pytest.raises(ConfigurationError, match="the device is not there"),
        load_failures("loading", "nobody/nothing", {"dtype": "flaot16"}),
    ):
        raise RuntimeError("Invalid device id")


def test_many_missing_weights_are_not_listed_in_full():
    report = {"missing_keys": [f"layer.{number}" for number in range(9)]}
    with pytest.raises(ConfigurationError, match=r"\['layer.0', 'layer.1', 'layer.2'\] and 6 others;"):
        check_complete(report, "m", "language model")


def test_an_embedded_model_that_cannot_be_prepared(monkeypatch, tmp_path):
    full = OSError(28, "No space left on device")

    def convert(*folders):
        raise full

    monkeypatch.setenv("STARS_GUARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(embedded, "_convert", convert)
    monkeypatch.setattr(embedded, "_merge", convert)
    with pytest.raises(
        ConfigurationError, match=r"preparing it in .*STARS_GUARD_CACHE,.* No space"
    ) as caught:
        load_model(None)
    assert caught.value.__cause__ is full
    with pytest.raises(ConfigurationError, match=r"preparing it in .*STARS_GUARD_CACHE,.* No space"):
        load_reward(None)
    with pytest.raises(ConfigurationError, match=r"preparing it in .*STARS_GUARD_CACHE,.* No space"):
        load_reward(embedded.JUDGE_NAME)
    assert list((tmp_path / "cache").iterdir()) == []
