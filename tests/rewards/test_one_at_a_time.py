"""A reward model that is asked by several threads is asked by one at a time."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stars_guard.errors import ScoringError
from stars_guard.rewards.base import Reward, ScoreRequest
from stars_guard.rewards.one_at_a_time import OneAtATime
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import Prompt
from tests.support.guards import guarded

ASKED = ScoreRequest(Prompt.of("Hi"), "Hello.", finished=True)


class Alone(KeywordReward):
    """Notices company."""

    def __init__(self):
        super().__init__([])
        self.inside = threading.Semaphore(1)
        self.company = 0

    def score(self, requests):
        alone = self.inside.acquire(blocking=False)
        self.company += not alone
        rewards = super().score(requests)
        if alone:
            self.inside.release()
        return rewards


def test_calls_never_overlap():
    inside = Alone()
    reward = OneAtATime(inside)
    with ThreadPoolExecutor(8) as threads:
        for _ in range(400):
            threads.submit(reward.score, [ASKED])
    assert (len(inside.seen), inside.company) == (400, 0)


def test_an_answer_may_be_forgotten_by_the_thread_that_scores():
    class Collects(KeywordReward):
        def score(self, requests):
            reward.release("another")
            return super().score(requests)

    inside = Collects([])
    reward = OneAtATime(inside)
    assert reward.score([ASKED]) == [Reward(1.0)]
    assert inside.released == ["another"]


@pytest.mark.parametrize("wrap", [lambda model: model, SelfBatchingModel])
def test_an_engine_scores_texts_that_are_no_candidates(wrap):
    reward = KeywordReward(["bad"])
    engine = guarded(wrap(ScriptedModel([["x"]])), reward).engine
    bad = ScoreRequest(Prompt.of("Hi"), "bad", finished=True)
    assert [one.value for one in engine.score([ASKED, bad])] == [1.0, -1.0]
    broken = guarded(wrap(ScriptedModel([["x"]])), FailingReward(OSError("away"))).engine
    with pytest.raises(ScoringError, match="failing"):
        broken.score([ASKED])
