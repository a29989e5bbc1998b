"""One file of settings for the commands: found, said, and overridden field by field."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from stars_guard.algorithm.rules import Hard, Soft
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.wanted import WantedGuard, wanted_guard
from stars_guard.errors import ConfigurationError
from stars_guard.loading import specs
from stars_guard.loading.configuration import CONFIG_ENV, CONFIG_NAME
from tests.support.cli_runner import ANSWER, Run, loaded, run

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

FILE = """
model = "vllm@http://127.0.0.1:1#base"
reward = "org/reward"
guard = {threshold = 1.0, acceptance = {kind = "soft", beta = 0.25}}
sampling = {temperature = 0.3, stop = ["END"], max_tokens = 64}
budget = {max_reward_calls = 50}
limits = {running = 2}
"""
EMBEDDED = "guard = {threshold = 1.0}\nsampling = {max_tokens = 64}\n"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(CONFIG_ENV, raising=False)
    return tmp_path


def wanted(config: str | None = "c.toml", **options: Any) -> WantedGuard:
    groups = (ModelOptions, GuardOptions, SamplingOptions, LimitOptions)
    named = {"config": Path(config) if config else None, **options}
    parts: list[Any] = [
        group(**{name: value for name, value in named.items() if name in group.__dataclass_fields__})
        for group in groups
    ]
    return wanted_guard(*parts)


def test_options_win_over_the_file_field_by_field(here: Path) -> None:
    (here / "c.toml").write_text(FILE)
    plain = wanted()
    assert plain.models.model == specs.EngineServer(
        kind="openai", url="http://127.0.0.1:1", name="base", engine="vllm"
    )
    assert (plain.config.threshold.target, plain.config.acceptance) == (1.0, Soft(beta=0.25))
    assert (plain.sampling.temperature, plain.sampling.stop, plain.budget.max_reward_calls) == (
        0.3,
        ("END",),
        50,
    )
    assert plain.named["model"]["name"] == "base"
    assert plain.named["reward"] == {"kind": "local", "path": "org/reward"}
    changed = wanted(engine_model="tuned", temperature=0.9, rule="hard", max_seconds=3.0, tokenizer="t")
    assert changed.models.model == plain.models.model.changed(name="tuned")
    assert changed.models.model_options == {"tokenizer": "t"}
    assert (changed.sampling.temperature, changed.sampling.max_tokens) == (0.9, 64)
    assert (changed.config.threshold.target, changed.config.acceptance) == (1.0, Hard())
    assert (changed.budget.max_reward_calls, changed.budget.max_seconds) == (50, 3.0)


def test_the_guard_of_the_file_does_not_go_with_another_reward(here: Path) -> None:
    (here / "c.toml").write_text(FILE)
    with pytest.raises(ConfigurationError, match=r"needs --target.*the guard of the file belongs to another"):
        wanted(reward="org/other")
    assert wanted(reward="org/other", target=4.0).config.threshold.target == 4.0
    (here / "c.toml").write_text('reward = "org/reward"\nsampling = {max_tokens = 4}')
    with pytest.raises(ConfigurationError, match="the reward org/reward needs --target or --config"):
        wanted()
    assert wanted(reward="embedded:probe").sampling.max_tokens == 4


def test_an_engine_model_needs_an_engine(here: Path) -> None:
    with pytest.raises(ConfigurationError, match="--engine-model m has no effect with a --model that is not"):
        wanted(None, engine_model="m")


def test_a_file_that_lies_here_is_read_and_said(
    run: Run, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (here / CONFIG_NAME).write_text(EMBEDDED)
    done = run("generate", "Bake?", "--json")
    assert done.code == 0, done.err
    assert f"settings from {here / CONFIG_NAME}, found in the working directory" in done.err
    result = json.loads(done.out)
    assert (result["text"], result["trace"]["sampling"]["max_tokens"]) == (ANSWER, 64)
    assert result["trace"]["config"]["threshold"]["target"] == 1.0
    again = run("generate", "Bake?", "--json", "--config", CONFIG_NAME, "--max-tokens", "32")
    assert "settings from" not in again.err
    assert json.loads(again.out)["trace"]["sampling"]["max_tokens"] == 32
    monkeypatch.setenv(CONFIG_ENV, "")
    assert "settings from" not in run("generate", "Bake?", "--schedule", "constant", "--target", "1").err


def test_a_file_that_lies_here_runs_no_code(run: Run, here: Path) -> None:
    (here / CONFIG_NAME).write_text("reward = 'mine.py:calm'\nguard = {threshold = 1.0}\n")
    done = run("generate", "Bake?")
    assert (done.code, done.out) == (2, "")
    assert "names code that would be run; if you trust it, say so: --config" in done.err


def test_a_chat_and_a_batch_read_it_too(run: Run, here: Path) -> None:
    (here / CONFIG_NAME).write_text(EMBEDDED)
    assert "found in the working directory" in run("chat", stdin="/quit\n").err
    (here / "in.jsonl").write_text('{"id": "a", "prompt": "Bake?"}\n')
    done = run("batch", "--input", "in.jsonl", "--output", "out.jsonl")
    assert done.code == 0, done.err
    manifest = json.loads((here / "out.jsonl.manifest.json").read_text())
    assert manifest["sampling"]["max_tokens"] == 64
    assert manifest["config"]["threshold"]["target"] == 1.0
