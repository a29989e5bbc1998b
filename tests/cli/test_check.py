"""``stars-guard check-reward``, on fakes, on a file of one's own and on a probe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from stars_guard.loading import parts
from stars_guard.loading.names import model_spec
from stars_guard.models.local.transformers import TransformersModel
from stars_guard.rewards.classifiers.probe import ProbeHead, ProbeReward, ProbeSettings
from stars_guard.testing import KeywordReward
from tests.support.cli_runner import Run, loaded, run
from tests.support.tiny import tiny_llama, tiny_tokenizer

__all__ = ["loaded", "run"]  # pytest finds fixtures by name

HARSH = ["hurt", "steal", "stupid", "idiot"]


def test_the_table_has_a_row_for_every_check(run: Run, loaded: dict[str, Any]) -> None:
    loaded["reward"] = KeywordReward(HARSH)
    done = run("check-reward", "--reward", "embedded:encoder")
    assert done.code == 0
    lines = done.out.splitlines()
    assert lines[0].split() == ["check", "result", "found"]
    assert any(line.startswith("batch_invariance") and "passed" in line for line in lines)
    assert "use log-odds" in " ".join(done.out.split())
    assert lines[-1].startswith("keywords: ")


def test_a_failed_check_is_exit_code_1(run: Run) -> None:
    done = run(
        "check-reward", "--reward", "embedded:encoder"
    )  # the keyword is in none of the pairs: a constant reward
    assert done.code == 1
    assert "1 failed" in done.out


def test_json_is_one_object(run: Run, loaded: dict[str, Any]) -> None:
    loaded["reward"] = KeywordReward(HARSH)
    done = run("check-reward", "--reward", "embedded:encoder", "--json", "--only", "order", "--only", "cost")
    summary = json.loads(done.out)
    assert done.code == 0
    assert summary["ok"] is True
    assert summary["reward"] == "keywords"
    assert [one["name"] for one in summary["results"]] == ["order", "cost"]
    assert summary["results"][1]["values"]["ms_at_8"] > 0


def test_json_says_what_failed(run: Run) -> None:
    done = run("check-reward", "--reward", "embedded:encoder", "--json")
    summary = json.loads(done.out)
    assert (done.code, summary["ok"]) == (1, False)
    assert [one["name"] for one in summary["results"] if one["status"] == "failed"] == ["scale"]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--only", "speed"], "there is no such check; use one of answers, order"),
        (["--model", "org/chat"], "--model org/chat has no effect with a reward model that is no probe"),
        (["--good", "safe"], "add --reward"),
        (["--reward", "./nowhere"], "--reward ./nowhere is not a folder"),
    ],
)
def test_wrong_flags_are_named(run: Run, flags: list[str], said: str) -> None:
    done = run("check-reward", "--reward", "embedded:encoder", *flags)
    assert (done.code, done.out) == (2, "")
    assert said in done.err


def test_a_reward_of_ones_own(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.undo()
    file = tmp_path / "mine.py"
    file.write_text(
        "from stars_guard import FunctionReward\n"
        "calm = FunctionReward(lambda prompt, text: -text.count('stupid'), name='calm')\n"
    )
    done = run("check-reward", "--reward", "embedded:encoder", "--reward", f"{file}:calm", "--only", "order")
    assert done.code == 0
    assert "calm: 1 passed" in done.out


def test_a_probe_reads_texts_with_its_model(
    run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = TransformersModel(tiny_llama(), tiny_tokenizer())
    identity = model.identity
    settings = ProbeSettings(
        layers=(1, 2),
        model_name=identity.name,
        model_layers=identity.layers,
        hidden_size=identity.hidden_size,
        signature=identity.signature,
    )
    torch.manual_seed(0)
    ProbeReward(settings, ProbeHead(settings.features, 3)).save(tmp_path)
    asked: list[Any] = []
    monkeypatch.undo()
    monkeypatch.setattr(parts, "load_model", lambda *arguments: asked.append(arguments) or model)
    flags = ["--reward", str(tmp_path), "--model", "org/chat", "--dtype", "float32"]
    done = run(
        "check-reward",
        "--reward",
        "embedded:encoder",
        *flags,
        "--only",
        "batch_invariance",
        "--only",
        "order",
    )
    assert asked == [(model_spec("org/chat"), {"dtype": "float32"})]
    assert done.code == 0, done.out + done.err
    assert "probe: 2 passed" in done.out
