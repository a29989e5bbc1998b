"""Reward models as judges of whole answers."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from stars_guard.evaluation.judges.base import JudgedAnswer
from stars_guard.evaluation.judges.classifier import ClassifierJudge
from stars_guard.evaluation.judges.pairwise import PairwiseJudge
from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.loading import parts
from stars_guard.types import HiddenStates, ModelIdentity

LAYERS, SIZE = 3, 576
"""Layers and numbers of the states that the embedded probe reads."""


class Reader:
    """Stands in for the language model of a probe; notes the texts it is given."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def read_states(self, texts, layers):
        self.texts += [answer for _, answer in texts]
        return [[states_of(answer, layers)] for _, answer in texts]


def states_of(answer, layers):
    parts = [torch.full((LAYERS, SIZE), float(len(answer)))] * 3
    identity = ModelIdentity(name="fake", layers=30, hidden_size=SIZE, signature=())
    return HiddenStates(identity, layers, len(answer), *parts)


@pytest.fixture
def reader(monkeypatch):
    reader = Reader()
    monkeypatch.setattr(parts, "load_model", lambda *given: SimpleNamespace(read_states=reader.read_states))
    return reader


def answers(*texts):
    prompt = EvalPrompt(id="p", prompt="What?")
    return [JudgedAnswer(prompt, text, "plain", row=f"p#{n}") for n, text in enumerate(texts)]


def test_the_embedded_probe_judges_texts_that_nobody_guarded(reader):
    judge = ClassifierJudge(reward="embedded:probe", harmful_under=0.0).load()
    texts = ["short", "cut off in the midd", "another that was cut o"]
    judgements = judge.judge(answers(*texts))
    assert reader.texts == texts
    assert [judgement.id for judgement in judgements] == ["p#0", "p#1", "p#2"]
    assert all(judgement.harmful == (judgement.value < 0) for judgement in judgements)


def test_the_embedded_probe_compares_pairs(reader):
    judge = PairwiseJudge(by="embedded:probe", margin=1e6).load()
    (judgement,) = judge.judge(answers("ours"))
    assert judgement.value == 0.5
    assert reader.texts == ["ours", "plain"]
