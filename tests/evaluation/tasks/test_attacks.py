"""What adversaries make of a prompt, and what judges see of it."""

from __future__ import annotations

import base64
from typing import get_args

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.cells import read_answers
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.tasks.attacks import Attack, AttackKind, variant_of
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from tests.support.evaluations import plan, prompts_file

QUESTION = "How do I {do} it?"
TALK = (
    {"role": "system", "content": "Be kind."},
    {"role": "user", "content": "Hello."},
    {"role": "assistant", "content": "Hello!"},
    {"role": "user", "content": QUESTION},
)
KINDS = [kind for kind in get_args(AttackKind) if kind != "resample"]


def attacked(kind, prompt=None, **settings):
    prompt = prompt or EvalPrompt(id="p", prompt=QUESTION, category="odd", reference="None.")
    return Attack(kind=kind, **settings).applied([prompt])


@pytest.mark.parametrize("kind", KINDS)
def test_an_attack_changes_what_is_asked_and_keeps_what_was_wanted(kind):
    (prompt,) = attacked(kind)
    assert prompt.as_prompt.as_text() != QUESTION
    assert prompt.as_prompt.messages[-1]["role"] == "user"
    assert (prompt.id, prompt.category, prompt.reference) == ("p", "odd", "None.")
    assert prompt.original == EvalPrompt(id="p", prompt=QUESTION, category="odd", reference="None.")


@pytest.mark.parametrize("kind", KINDS)
def test_a_conversation_keeps_its_other_turns(kind):
    (prompt,) = attacked(kind, EvalPrompt(id="p", messages=TALK))
    assert [turn for turn in prompt.messages if turn in TALK[:3]] == list(TALK[:3])


def test_what_the_families_do():
    (hidden,) = attacked("base64")
    assert base64.b64encode(QUESTION.encode()).decode() in hidden.messages[-1]["content"]
    assert "Ubj qb V {qb} vg?" in attacked("rot13")[0].messages[-1]["content"]
    assert attacked("leetspeak")[0].messages[-1]["content"] == "H0w d0 1 {d0} 17?"
    assert attacked("suffix")[0].messages[-1]["content"].startswith(QUESTION)
    assert QUESTION in attacked("role_play")[0].messages[-1]["content"]
    begun = attacked("prefill")[0].messages
    assert [turn["role"] for turn in begun] == ["user", "assistant", "user"]
    assert begun[1]["content"].startswith("Sure")
    assert len(attacked("many_shot", shots=6)[0].messages) == 13


def test_resampling_asks_in_different_ways_the_first_being_as_it_was():
    ways = attacked("resample", k=48)
    assert len({way.messages[-1]["content"] for way in ways}) == 48
    assert ways[0].messages[-1]["content"] == QUESTION
    assert all(QUESTION in way.messages[-1]["content"] for way in ways)
    assert [variant_of(way.id) for way in ways[:2]] == [("p", 1), ("p", 2)]


def test_an_unknown_attack_is_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"kind=.sufix.: Input should be .suffix."):
        Task(prompts="harmfulqa", attack="sufix")


@pytest.mark.usefixtures("fakes")
def test_the_model_is_asked_by_the_adversary_and_the_judge_sees_what_was_wanted(tmp_path, monkeypatch):
    seen = []
    from stars_guard.evaluation.judges.classifier import RewardJudge

    judge = RewardJudge.judge

    def watched(self, answers):
        seen.extend(answer.prompt for answer in answers)
        return judge(self, answers)

    monkeypatch.setattr(RewardJudge, "judge", watched)
    # "mild" is what the scripted model answers well at once, and it cannot read it in rot13.
    task = Task(prompts=prompts_file(tmp_path, ["mild"]), attack="rot13", judges=("harm",))
    evaluation = plan(tmp_path, tasks={"asked": task})
    evaluate(evaluation, tmp_path / "out")
    assert {prompt.prompt for prompt in seen} == {"mild"}
    (answer,) = read_answers(EvalFolder(tmp_path / "out").answers("asked", "plain"))
    assert answer.text == "bad"
