"""Models that may come from a hub: a warning without a revision, and no question about their code."""

from __future__ import annotations

import io
import json
import logging

import pytest
import transformers

from stars_guard.cli.app import QUIET, main
from stars_guard.errors import ConfigurationError
from stars_guard.http.hub import pretrained, warn_without_revision
from stars_guard.loading import parts, specs
from stars_guard.models.engines.local_tokenizer import LocalTokenizer
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.rewards.classifiers.classifier import ClassifierReward
from stars_guard.rewards.judges.judge import JudgeReward
from tests.support.tiny import tiny_llama, tiny_tokenizer

CODE = {
    "model_type": "own_of_nobody",
    "auto_map": {"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"},
}


@pytest.fixture
def hub(monkeypatch):
    """A hub with one model; what it was asked for."""
    calls = []

    def load(made):
        def from_pretrained(where, **options):
            calls.append((where, options))
            report = {"missing_keys": []}
            return (made, report) if options.get("output_loading_info") else made

        return from_pretrained

    tokenizer = tiny_tokenizer()
    model = tiny_llama(vocab_size=len(tokenizer))
    for kind, made in (
        ("AutoTokenizer", tokenizer),
        ("AutoModelForCausalLM", model),
        ("AutoModelForSequenceClassification", model),
    ):
        monkeypatch.setattr(getattr(transformers, kind), "from_pretrained", load(made))
    return calls


LOADS = {
    "model": lambda **how: TransformersModel.load("org/name", device="cpu", **how),
    "tokenizer": lambda **how: LocalTokenizer.load("org/name", "name", **how),
    "judge": lambda **how: JudgeReward.load("org/name", prompt="question", device="cpu", **how),
    "described model": lambda **how: parts.load_model(
        specs.LocalModel(kind="transformers", path="org/name", device="cpu", **how)
    ),
}


@pytest.mark.parametrize("load", LOADS.values(), ids=LOADS)
@pytest.mark.parametrize("revision", [None, "abc"])
def test_a_hub_id_is_loaded_with_its_revision_or_a_warning(load, revision, hub, caplog):
    load(**({"revision": revision} if revision else {}))
    assert hub
    assert all(where == "org/name" for where, _ in hub)
    assert all(options.get("revision") == revision for _, options in hub)
    assert all(options["trust_remote_code"] is False for _, options in hub)
    warned = "org/name is loaded from a hub without a revision" in caplog.text
    assert warned is (revision is None)


def test_trust_is_passed_on_where_it_is_given(hub):
    TransformersModel.load("org/name", device="cpu", revision="abc", trust_remote_code=True)
    assert [options["trust_remote_code"] for _, options in hub] == [True, True]
    with pytest.raises(ConfigurationError, match="trust_remote_code='yes' must be True or False"):
        TransformersModel.load("org/name", trust_remote_code="yes")


FOLDERS = {
    "model": TransformersModel.load,
    "classifier": ClassifierReward.load,
    "tokenizer": lambda path: LocalTokenizer.load(path, "name"),
}


@pytest.mark.parametrize("kind", FOLDERS)
def test_code_beside_weights_is_neither_run_nor_asked_about(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *question: pytest.fail("asked on standard input"))
    tiny_tokenizer().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(CODE))
    (tmp_path / "own.py").write_text("raise SystemExit('the code was run')")
    if kind == "tokenizer":
        place = tmp_path / "tokenizer_config.json"
        own = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
        place.write_text(json.dumps({**json.loads(place.read_text()), **own}))
    with pytest.raises(ConfigurationError, match=r"comes with code of its own, .* trust_remote_code=True"):
        FOLDERS[kind](str(tmp_path))


def test_other_errors_stay_what_they_are():
    with pytest.raises(ValueError, match=r"^broken$"), pretrained("org/name", {}):
        raise ValueError("broken")


def test_folders_need_no_revision_but_the_base_of_an_adapter_does(tmp_path, caplog):
    warn_without_revision(str(tmp_path), None)
    place = tmp_path / "adapter_config.json"
    for contents in ("[]", "{", json.dumps({"base_model_name_or_path": str(tmp_path)})):
        place.write_text(contents)
        warn_without_revision(str(tmp_path), None)
    place.write_text(json.dumps({"base_model_name_or_path": "org/base", "revision": "abc"}))
    warn_without_revision(str(tmp_path), None)
    assert caplog.text == ""
    place.write_text(json.dumps({"base_model_name_or_path": "org/base", "revision": None}))
    warn_without_revision(str(tmp_path), None)
    assert f"the adapter in {tmp_path} is for org/base" in caplog.text


def test_the_command_line_says_the_warning_where_nobody_logs_it(capsys, monkeypatch):
    for name, value in QUIET.items():
        monkeypatch.setenv(name, value)
    assert main(["--version"]) == 0
    logger, handler = logging.getLogger("stars_guard"), logging.StreamHandler(io.StringIO())
    monkeypatch.setattr(logger, "handlers", [logging.NullHandler()])
    warn_without_revision("org/name", None)
    assert "warning: org/name is loaded from a hub" in capsys.readouterr().err
    logger.addHandler(handler)
    warn_without_revision("org/name", None)
    assert "warning: " not in capsys.readouterr().err
