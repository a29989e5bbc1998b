"""What the judge of harm is trained on, and how far its scores are its own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("peft")
pytest.importorskip("sklearn")

import torch
from safetensors.torch import load_file, save_file

from stars_guard.errors import ConfigurationError
from stars_guard.training import judge
from stars_guard.training.card import write_judge_card
from stars_guard.training.data import load
from stars_guard.training.evaluate import Evaluation, Measure
from stars_guard.training.independence import ComparedScores, compare_scores, independence_table
from stars_guard.training.judge import pyrit_answers, write_judge_data
from stars_guard.training.truncation import truncate_adapter
from tests.training.test_train import ROWS, write_rows

HARM = "# dataset_version=1.0,,\nharm_category,objective,assistant_response,human_score_1,human_score_2\n"
REFUSAL = "# a\n# b\nobjective,assistant_response,human_score\n"
OBJECTIVE = "# dataset_version=1.0\nobjective,assistant_response,human_score\n"
FILES = {
    "harm/violence.csv": HARM + "violence,burn,sure,1,0\nviolence,burn,no,0,\nviolence,bake,,1,1\n",
    "harm/mini_violence.csv": HARM + "violence,mini,sure,1,1\n",
    "objective/violence.csv": OBJECTIVE + "burn,sure,1\ncook,first,1\ncook,never,0\n",
    "objective/metrics.jsonl": "{}\n",
    "refusal_scorer/refusal.csv": REFUSAL + "do,sorry,1\nbake,sure,0\n",
}
UNSAFE = {
    ("burn", "sure"): 0.75,
    ("burn", "no"): 0.0,
    ("cook", "first"): 0.9,
    ("cook", "never"): 0.25,
    ("do", "sorry"): 0.0,
}


@pytest.fixture
def pyrit(tmp_path: Path) -> Path:
    wheel = tmp_path / "pyrit.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in FILES.items():
            archive.writestr(f"pyrit/datasets/scorer_evals/{name}", text)
    return wheel


@pytest.fixture
def data(tmp_path: Path) -> Path:
    for name, rows in ROWS.items():
        write_rows(tmp_path / "data" / "train" / f"{name}.jsonl", rows)
    more = [{"text": f"cake {number}"} for number in range(450)]
    write_rows(tmp_path / "data" / "train" / "sentence_polarity.jsonl", more)
    write_rows(tmp_path / "data" / "eval" / "beavertails.jsonl", [labelled("cook", "x", unsafe=True)])
    write_rows(tmp_path / "data" / "eval" / "texts.jsonl", [{"text": "burn"}])
    return tmp_path / "data"


def labelled(prompt: str, response: str, *, unsafe: bool) -> dict[str, Any]:
    return {"prompt": prompt, "response": response, "unsafe": unsafe}


def read(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_scores_of_people_become_probabilities(pyrit: Path, tmp_path: Path) -> None:
    answers = list(pyrit_answers(pyrit))
    assert {(a.prompt, a.response): round(1 - a.safe, 4) for a in answers} == UNSAFE
    zipfile.ZipFile(pyrit).extractall(tmp_path / "unpacked")
    assert list(pyrit_answers(tmp_path / "unpacked")) == answers


def test_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="pass a wheel of pyrit"):
        list(pyrit_answers(tmp_path))


def test_the_judge_sees_what_the_guides_did_not(pyrit: Path, data: Path, tmp_path: Path) -> None:
    counts = write_judge_data(data, pyrit, tmp_path / "rows")
    written = {file.stem: read(file) for file in (tmp_path / "rows" / "train").iterdir()}
    assert counts == {name: len(rows) for name, rows in written.items()}
    assert counts["sentence_polarity_unseen"] == 50
    assert counts["diasafety_unseen"] == 0
    guides = {answer.response for answer in load(data, contrast=None, seed=judge.GUIDES_SEED).answers}
    assert not guides & {row["response"] for row in written["sentence_polarity_unseen"]}
    held_out = read(tmp_path / "rows" / "eval" / "pyrit.jsonl")
    assert {"cook"} <= {row["prompt"] for row in held_out}
    assert not {row["prompt"] for row in held_out} & {row["prompt"] for row in written["pyrit"]}
    assert len(held_out) + counts["pyrit"] == len(UNSAFE)


def test_halves_keep_answers_to_one_request_together(pyrit: Path, data: Path, tmp_path: Path) -> None:
    prompts = [f"burn {number}" for number in range(40) for _ in range(2)]
    rows = [ROWS["xstest_completions"][0] | {"prompt": prompt} for prompt in prompts]
    write_rows(data / "train" / "xstest_completions.jsonl", rows)
    write_judge_data(data, pyrit, tmp_path / "rows")
    kept = [row["prompt"] for row in read(tmp_path / "rows" / "train" / "xstest_completions_half.jsonl")]
    assert 0 < len(kept) < len(prompts)
    assert {kept.count(prompt) for prompt in kept} == {2}


def comparison(**scores: tuple[float, ...]) -> ComparedScores:
    return ComparedScores("set", (True, True, False, False), scores)


def test_errors_are_compared_without_what_the_labels_explain() -> None:
    compared = comparison(
        judge=(4.0, 2.0, -4.0, 2.0),
        same=(9.0, 7.0, 1.0, 7.0),
        other=(-2.0, 2.0, 0.0, 0.0),
        sure=(1.0, 2.0, -2.0, -1.0),
    )
    assert compared.auc("judge") == 0.875
    assert compared.error_correlation("judge", "same") == pytest.approx(1)
    assert compared.error_correlation("judge", "other") < 0
    assert compared.missed("judge", "same") == 0.5
    assert str(compared.missed("judge", "sure")) == "nan"


@pytest.mark.parametrize("rank", [0, 3, 4])
def test_no_adapter_is_truncated_to_a_rank_that_is_not_lower(tmp_path: Path, rank: int) -> None:
    write_adapter(tmp_path, torch.eye(3, 5), torch.eye(4, 3))
    with pytest.raises(ConfigurationError, match=f"rank {rank} is not in 1 to 2"):
        truncate_adapter(tmp_path, rank)


def test_a_truncated_adapter_keeps_what_changes_the_weights_most(tmp_path: Path) -> None:
    up, down = torch.eye(4, 3), torch.diag(torch.tensor([3.0, 2.0, 1.0]))
    write_adapter(tmp_path, down, up)
    assert truncate_adapter(tmp_path, 2) == pytest.approx(13 / 14)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    settings = json.loads((tmp_path / "adapter_config.json").read_text())
    assert (settings["r"], settings["lora_alpha"]) == (2, 4)
    change = weights["layer.lora_B.weight"] @ weights["layer.lora_A.weight"]
    assert torch.allclose(change, up @ torch.diag(torch.tensor([3.0, 2.0, 0.0])), atol=1e-5)
    assert weights["head"].tolist() == [1.0]


def write_adapter(folder: Path, down: torch.Tensor, up: torch.Tensor) -> None:
    weights = {"layer.lora_A.weight": down, "layer.lora_B.weight": up, "head": torch.ones(1)}
    save_file(weights, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"r": 3, "lora_alpha": 6}), encoding="utf-8")


class ByLength:
    """Scores a response by its length, at most ``tokens`` of it."""

    def score(self, texts: list[tuple[str, str]], tokens: int | None = None) -> list[float]:
        return [float(len(response[:tokens])) for _, response in texts]


def test_the_table_and_the_card_of_the_judge(tmp_path: Path) -> None:
    rows = [labelled("a", "x" * length, unsafe=length % 2 == 0) for length in range(1, 9)]
    write_rows(tmp_path / "rows" / "eval" / "pyrit.jsonl", rows)
    write_rows(tmp_path / "data" / "eval" / "beavertails.jsonl", rows)
    scorers = {"judge": ByLength(), "guide": ByLength()}
    compared = compare_scores(scorers, tmp_path / "data", tmp_path / "rows", limit=6)
    assert [(one.dataset, len(one.safe)) for one in compared] == [("beavertails", 6), ("pyrit", 6)]
    table = independence_table(compared)
    assert table.splitlines()[0].count("|") == table.splitlines()[2].count("|") == 7
    run = {"config": {"seed": 1}, "answers": {"pyrit": 3}, "pairs": 2, "seconds": 60}
    (tmp_path / "run.json").write_text(json.dumps(run), encoding="utf-8")
    write_judge_card(tmp_path, Evaluation((Measure("pyrit", "AUC", None, 0.75, 8),)), table)
    card = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert table in card
    assert "| PyRIT 1.1.0 scorer evaluations (Microsoft) | 3 | MIT |" in card
    assert json.loads((tmp_path / "metrics.json").read_text())["measures"][0]["value"] == 0.75
