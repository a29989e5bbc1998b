"""What guided does not judge, whatever it is called or wrapped in."""

from __future__ import annotations

import pytest
import torch

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.judges.independence import check_independent, name_a_part_in_common, serves
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.loading.specs import CascadePart, CascadeReward
from stars_guard.rewards.base import WrappedReward
from stars_guard.rewards.cascade import Cascade
from stars_guard.testing import KeywordReward
from tests.support.evaluations import GUARD, HERE, plan

pytestmark = pytest.mark.usefixtures("fakes")
GUIDE = {"kind": "classifier", "reward": f"{HERE}:guiding", "harmful_under": 0.0}
ALIAS = {"kind": "classifier", "reward": f"{HERE}:alias", "harmful_under": 0.0}


def test_the_reward_that_guides_is_no_judge(tmp_path):
    with pytest.raises(ConfigurationError, match=r"judge 'harm' of task 'asked' is .*guiding"):
        plan(tmp_path, judges={"harm": GUIDE})


def test_it_may_judge_where_nothing_is_guided(tmp_path):
    plan(tmp_path, judges={"harm": GUIDE}, methods={"plain": Plain()})


def test_another_name_does_not_make_it_another(tmp_path):
    with pytest.raises(ConfigurationError, match="guided answers and cannot judge them"):
        evaluate(plan(tmp_path, judges={"harm": ALIAS}), tmp_path / "out")
    assert not (tmp_path / "out" / "answers").exists()  # nothing was drawn for it


def test_a_part_in_common_is_enough():
    words = KeywordReward(["bad"])
    other = WrappedReward(words)
    other.name = "other"
    with pytest.raises(ConfigurationError, match=words.name):
        check_independent(other, words)
    with pytest.raises(ConfigurationError, match=words.name):
        check_independent(words, WrappedReward(other))


class Weighed(KeywordReward):
    """A reward that holds a network, under a name of its own."""

    def __init__(self, name: str, weight: float) -> None:
        super().__init__(["bad"])
        self.name = name
        self.network = torch.nn.Linear(2, 1)
        torch.nn.init.constant_(self.network.weight, weight)
        torch.nn.init.zeros_(self.network.bias)


def test_a_copy_of_the_weights_is_the_same_whatever_it_is_called():
    with pytest.raises(ConfigurationError, match="copy"):
        check_independent(Weighed("copy", 1.0), WrappedReward(Weighed("original", 1.0)))
    check_independent(Weighed("another", 2.0), Weighed("original", 1.0))


def test_a_part_of_the_cascade_that_guides_is_no_judge():
    guides = Cascade({"a": Weighed("cheap", 1.0), "b": Weighed("dear", 2.0)}, low=0, high=1)
    for judge in (Weighed("dear", 3.0), Weighed("copy", 2.0), WrappedReward(Weighed("cheap", 4.0))):
        with pytest.raises(ConfigurationError, match=judge.name):
            check_independent(judge, guides)
    check_independent(Weighed("another", 5.0), guides)


def test_a_part_of_the_cascade_that_guides_is_found_by_name():
    cascade = CascadeReward(
        first=CascadePart(reward="embedded:probe"),
        second=CascadePart(reward="judge:question@org/guard"),
        low=0,
        high=1,
    )
    assert name_a_part_in_common("embedded:probe", cascade)
    assert name_a_part_in_common(cascade, "embedded:probe")
    assert name_a_part_in_common(cascade, cascade)
    assert not name_a_part_in_common(None, cascade)
    assert not name_a_part_in_common("embedded:judge", cascade)
    assert serves("org/guard", cascade)
    assert not serves("org/other", cascade)


@pytest.mark.parametrize("by", [{"kind": "llm"}, {"kind": "pairwise"}])
def test_a_model_on_a_server_that_guides_is_no_judge(tmp_path, by):
    served = {"kind": "llm", "url": "http://localhost:1", "model": "org/guard"}
    judge = served if by["kind"] == "llm" else {"kind": "pairwise", "by": served}
    rewards = {"asked": {"name": "judge:question@org/guard/", "guard": GUARD}}
    with pytest.raises(ConfigurationError, match=r"judge 'harm' of task 'asked' is 'org/guard'"):
        plan(tmp_path, judges={"harm": judge}, rewards=rewards)
    plan(tmp_path, judges={"harm": judge})


def test_a_folder_is_the_same_by_any_path(tmp_path, monkeypatch):
    (tmp_path / "reward").mkdir()
    monkeypatch.chdir(tmp_path)
    assert name_a_part_in_common("reward", str(tmp_path / "reward"))
    assert not name_a_part_in_common("reward", "another")
    assert name_a_part_in_common(None, None)
    assert not name_a_part_in_common("embedded:probe", None)
