"""Fine-tuning on a tiny random model: the losses run, what comes out is an ordinary model, seeds repeat."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("trl")

import torch
from datasets import load_from_disk
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from trl import DPOConfig, DPOTrainer

from stars_guard import StarsGuardedLLM
from stars_guard.algorithm.config import SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.models import TransformersModel
from stars_guard.testing import KeywordReward
from stars_guard.training.finetune import FinetuneConfig, FinetuneSummary, OpenEndCollator, finetune
from stars_guard.training.preference_data import write_preferences
from stars_guard.training.preferences import PreferenceRow
from tests.support.cli_runner import Run, loaded, run
from tests.support.guards import hard
from tests.support.tiny import tiny_llama, tiny_tokenizer

__all__ = ["loaded", "run"]  # pytest finds fixtures by name


def rows(count: int = 6, *, ends: bool = True) -> list[PreferenceRow]:
    return [
        PreferenceRow(
            prompt=[{"role": "user", "content": f"How do I bake {number} loaves?"}],
            chosen=[{"role": "assistant", "content": "Mix the flour."}],
            rejected=[{"role": "assistant", "content": "I cannot help with that."}],
            chosen_ends=ends,
            rejected_ends=False,
        )
        for number in range(count)
    ]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    tiny_llama().to(torch.bfloat16).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder


def tuned(base: Path, name: str, preferences: list[PreferenceRow], **changes: Any) -> FinetuneSummary:
    file = base.parent / f"{name}.jsonl"
    write_preferences(preferences, file)
    options: dict[str, Any] = {"method": "dpo", "steps": 3, "batch": 2, "learning_rate": 1e-2}
    places = {"data": str(file), "output": base.parent / name, "model": base}
    return finetune(FinetuneConfig(**{**options, **places, "max_tokens": 64, **changes}))


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("method", ["sft", "dpo"])
def test_what_comes_out_is_an_ordinary_model_that_the_guard_takes(base, method):
    summary = tuned(base, method, rows(), method=method)
    assert (summary.rows, summary.left_out, summary.steps) == (6, 0, 3)
    folder = Path(summary.folder)
    before, after = weights(base), weights(folder)
    assert before.keys() == after.keys()
    assert {value.dtype for value in after.values()} == {torch.bfloat16}
    assert any(not torch.equal(before[name], after[name]) for name in before)
    llm = StarsGuardedLLM(TransformersModel.load(str(folder)), KeywordReward(["poison"]), hard())
    assert llm.generate("Hi", max_tokens=4, seed=1).usage.kept_tokens > 0


def test_the_loss_of_dpo_begins_at_that_of_a_coin_and_falls(base):
    summary = tuned(base, "dpo", rows(2), steps=6)
    assert summary.first_loss == pytest.approx(0.6931, abs=1e-3)
    assert summary.last_loss < summary.first_loss


def preference(folder: Path, row: PreferenceRow) -> float:
    """How much likelier the chosen answer is than the other, in nats."""
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder, dtype="auto"), tiny_tokenizer()
    prompt = tokenizer.apply_chat_template(row.prompt, tokenize=False, add_generation_prompt=True)

    def likelihood(text: str) -> float:
        ids = tokenizer(prompt + text, add_special_tokens=False, return_tensors="pt")["input_ids"]
        with torch.inference_mode():
            return -model(ids, labels=ids).loss.item() * (ids.shape[1] - 1)

    return likelihood(row.chosen[0]["content"]) - likelihood(row.rejected[0]["content"])


def test_what_was_learnt_is_in_the_folder_after_merging_and_rounding(base):
    preferences = rows(2)
    folder = Path(tuned(base, "dpo", preferences, steps=6).folder)
    for row in preferences:
        assert preference(folder, row) > preference(base, row) + 1.0


def test_a_seed_repeats_a_training_and_another_does_not(base):
    seeds = {"a": 3, "b": 3, "c": 4}
    same = [weights(Path(tuned(base, name, rows(), seed=seed).folder)) for name, seed in seeds.items()]
    assert all(torch.equal(same[0][name], same[1][name]) for name in same[0])
    assert any(not torch.equal(same[0][name], same[2][name]) for name in same[0])


def test_rows_that_teach_a_wrong_end_or_have_no_room_are_left_out(base):
    long = rows(1)[0].model_copy(update={"prompt": [{"role": "user", "content": "bake " * 80}]})
    assert tuned(base, "long", [*rows(4), long]).left_out == 1
    assert tuned(base, "cut", [*rows(4), *rows(2, ends=False)], method="sft").left_out == 2
    with pytest.raises(ConfigurationError, match="no chosen answer that ends; use dpo"):
        tuned(base, "none", rows(2, ends=False), method="sft")


def test_texts_train_a_model_without_a_chat_template(base):
    tiny_tokenizer(chat_template=False).save_pretrained(base)
    (base / "chat_template.jinja").unlink()
    texts = [PreferenceRow(prompt=f"Bake {n}:", chosen=" mix", rejected=" burn") for n in range(4)]
    assert tuned(base, "plain", texts).rows == 4
    with pytest.raises(ConfigurationError, match="has no chat template"):
        tuned(base, "chat", rows())


def test_what_is_exported_passes_the_checks_of_trl_itself(base, tmp_path):
    exported = [row.model_copy(update={"margin": 1.0, "run_id": "r", "segment": 0}) for row in rows()]
    write_preferences(exported, tmp_path / "folder")
    arguments = {"output_dir": str(tmp_path), "bf16": False, "activation_checkpointing": False}
    trainer = DPOTrainer(
        model=str(base),
        args=DPOConfig(**arguments, report_to="none"),
        train_dataset=load_from_disk(tmp_path / "folder"),
    )
    prepared = trainer.train_dataset
    tokenizer = tiny_tokenizer()
    assert len(prepared) == len(exported)
    assert tokenizer.decode(prepared[0]["chosen_ids"]) == "Mix the flour.<|im_end|>\n"
    assert tokenizer.decode(prepared[0]["rejected_ids"]) == "I cannot help with that.<|im_end|>\n"


def test_a_base_that_is_none_is_refused(base):
    with pytest.raises(ConfigurationError, match=r"no language model in .*config\.json"):
        tuned(base, "away", rows(), model=base.parent)


def test_answers_that_go_on_have_no_end_in_a_batch():
    collator = OpenEndCollator(pad_token_id=0, max_length=8, end_ids=frozenset({9}))
    example = {"prompt_ids": [1], "chosen_ids": [2, 9, 3, 9, 4], "rejected_ids": [5, 9]}
    batch = collator([{**example, "chosen_ends": False, "rejected_ends": True}])
    assert batch["input_ids"].tolist() == [[1, 2, 9, 3], [1, 5, 9, 0]]
    assert batch["completion_mask"].tolist() == [[0, 1, 1, 1], [0, 1, 1, 0]]
    without = collator([{**example, "rejected_ids": [5], "chosen_ends": True, "rejected_ends": False}])
    assert without["input_ids"].tolist() == [[1, 2, 9, 3, 9, 4], [1, 5, 0, 0, 0, 0]]


def test_the_command_trains_and_sums_up(run: Run, base: Path, tmp_path: Path) -> None:
    write_preferences(rows(), tmp_path / "rows.jsonl")
    flags = ["--data", str(tmp_path / "rows.jsonl"), "--model", str(base), "--steps", "2", "--batch", "2"]
    done = run("finetune", "--method", "dpo", *flags, "--output", str(tmp_path / "dpo"), "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["rows"] == 6
    assert "step 2 of 2: loss" in done.err
    done = run("finetune", "--method", "sft", *flags, "--output", str(tmp_path / "sft"), "--seed", "1")
    assert done.out.startswith(f"sft of 6 rows in {tmp_path / 'sft'}: loss ")
    model = TransformersModel.load(str(tmp_path / "sft"))
    assert StarsGuardedLLM(model, KeywordReward(["x"]), hard(), sampling=SamplingParams(max_tokens=2))


def test_the_command_refuses_what_is_wrong(run: Run, tmp_path: Path) -> None:
    done = run("finetune", "--method", "dpo", "--data", "nowhere", "--output", str(tmp_path), "--beta", "0")
    assert done.code == 2
    assert "beta=0.0: Input should be greater than 0" in done.err
    done = run("finetune", "--method", "dpo", "--data", "nowhere", "--output", str(tmp_path))
    assert done.code == 2
    assert "nowhere cannot be read" in done.err
