"""The evaluation of fine-tuned models: which models answer, and who may not judge."""

from __future__ import annotations

from pathlib import Path

from stars_guard import evaluation
from stars_guard.evaluation import EvalPlan

CONFIG = Path(evaluation.__file__).parent / "configs" / "finetuning.yaml"
MAKEFILE = Path(__file__).parents[2] / "Makefile"


def test_every_model_answers_plainly_and_the_guard_before_and_after_distilling():
    plan = EvalPlan.of_file(CONFIG)
    answering = {(method.kind, method.model or "base") for method in plan.methods.values()}
    plainly = {("plain", name) for name in plan.models}
    assert answering == plainly | {("guarded", "base"), ("guarded", "distilled")}


def test_what_judges_did_not_guide():
    plan = EvalPlan.of_file(CONFIG)
    guiding = {reward.name for reward in plan.rewards.values()}
    assert not guiding & {judge.reward for judge in plan.judges.values()}


def test_the_folders_are_those_that_make_makes():
    folders = {name for name in EvalPlan.of_file(CONFIG).models.values() if name}
    target = MAKEFILE.read_text(encoding="utf-8").split("FINETUNED := ")[1].split("\n", 1)
    made = {f"{target[0]}/{name}" for name in ("sft", "dpo", "distilled")}
    assert folders == made
    assert all(f"{name}.done" in target[1] for name in ("sft", "dpo", "distilled"))
