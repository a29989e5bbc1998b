"""Scoring for many threads: in one call what waits together, in order, and each caller's failure its own."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from stars_guard import Constant, GuardConfig, Hard, StarsGuardedLLM
from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import OneAtATime, ScoreRequest
from stars_guard.rewards.batching import MicroBatched, MicroBatching
from stars_guard.testing import FailingReward, KeywordReward, ScriptedModel, SelfBatchingModel
from stars_guard.types import Reward

PROMPT = Prompt.of("Hi")
LONG = 30.0


def asked(*texts):
    return [ScoreRequest(PROMPT, text, finished=False) for text in texts]


class Lengths:
    """Scores a text by its length; notes calls and threads; may hold a call up, or fail on a word."""

    name = "lengths"

    def __init__(self, during=lambda: None):
        self.calls = []
        self.threads = set()
        self.released = []
        self.during = during

    def score(self, requests):
        self.calls.append([request.response for request in requests])
        self.threads.add(threading.current_thread().name)
        self.during()
        if any(request.response == "culprit" for request in requests):
            raise ValueError("no")
        return [Reward(len(request.response)) for request in requests]

    def release(self, run_id):
        self.released.append(run_id)


def values(rewards):
    return [reward.value for reward in rewards]


def together(scorer, *groups):
    """Each group asked for by a thread of its own; what each got, in order."""

    def ask(group):
        try:
            return values(scorer.score(asked(*group)))
        except Exception as error:  # noqa: BLE001
            return error

    with ThreadPoolExecutor(len(groups)) as threads:
        return list(threads.map(ask, groups))


def test_a_caller_who_is_alone_waits_for_nobody():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_wait=LONG), company=lambda: 1)
    assert values(scorer.score(asked("a", "bc"))) == [1, 2]
    assert values(scorer.score(asked("abc"))) == [3]
    assert reward.calls == [["a", "bc"], ["abc"]]


def test_callers_who_wait_together_share_one_call_of_one_thread():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_wait=LONG), company=lambda: 3)
    assert together(scorer, ["a"], ["bb", "ccc"], ["dddd"]) == [[1], [2, 3], [4]]
    (call,) = reward.calls
    assert sorted(call) == ["a", "bb", "ccc", "dddd"]
    assert len(reward.threads) == 1
    assert reward.threads.isdisjoint({threading.current_thread().name})


def test_a_call_is_bounded_in_size():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_batch=2, max_wait=LONG), company=lambda: 4)
    assert together(scorer, ["a"], ["bb"], ["ccc"], ["dddd"]) == [[1], [2], [3], [4]]
    assert [len(call) for call in reward.calls] == [2, 2]


def test_a_single_request_may_be_larger_than_a_call():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_batch=1), company=lambda: 1)
    assert values(scorer.score(asked("a", "b", "c"))) == [1, 1, 1]
    assert len(reward.calls) == 1


def test_waiting_for_company_is_bounded():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_wait=0.001), company=lambda: 99)
    assert values(scorer.score(asked("a"))) == [1]


def test_only_the_culprit_fails():
    reward = Lengths()
    scorer = MicroBatched(reward, MicroBatching(max_wait=LONG), company=lambda: 3)
    good, bad, other = together(scorer, ["a"], ["culprit"], ["bb"])
    assert (good, other) == ([1], [2])
    assert isinstance(bad, ValueError)
    assert len(reward.calls) <= 4  # together, then by halves


def test_a_wrong_number_of_rewards_is_nobodys_score():
    reward = Lengths()
    reward.score = lambda requests: [Reward(1.0)]
    scorer = MicroBatched(reward, MicroBatching(max_wait=LONG), company=lambda: 2)
    first, second = together(scorer, ["a"], ["b", "c"])
    assert first == [1.0]
    assert isinstance(second, ScoringError)


def test_who_comes_while_a_call_runs_is_in_the_next():
    begun, go_on = threading.Event(), threading.Event()

    def during():
        begun.set()
        assert go_on.wait(LONG)

    reward = Lengths(during)
    scorer = MicroBatched(reward, MicroBatching(max_wait=LONG), company=lambda: 1)
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(scorer.score, asked("a"))
        assert begun.wait(LONG)
        later = [threads.submit(scorer.score, asked(text)) for text in ("bb", "ccc")]
        while len(scorer._waiting) < 2:
            threading.Event().wait(0.001)
        go_on.set()
        assert [values(call.result(LONG)) for call in [first, *later]] == [[1], [2], [3]]
    assert [len(call) for call in reward.calls] == [1, 2]


def test_release_comes_between_two_calls():
    begun, go_on = threading.Event(), threading.Event()

    def during():
        begun.set()
        assert go_on.wait(LONG)
        assert reward.released == []

    reward = Lengths(during)
    scorer = MicroBatched(reward, MicroBatching(), company=lambda: 1)
    with ThreadPoolExecutor(2) as threads:
        scoring = threads.submit(scorer.score, asked("a"))
        assert begun.wait(LONG)
        releasing = threads.submit(scorer.release, "run")
        go_on.set()
        assert values(scoring.result(LONG)) == [1]
        releasing.result(LONG)
    assert reward.released == ["run"]


def test_a_reward_that_gains_from_it_is_called_in_parallel():
    both = threading.Barrier(2, timeout=LONG)
    reward = Lengths(both.wait)
    reward.parallel_calls = 2
    scorer = MicroBatched(reward, MicroBatching(max_batch=1), company=lambda: 2)
    assert together(scorer, ["a"], ["bb"]) == [[1], [2]]
    assert len(reward.threads) == 2


@pytest.mark.parametrize("wrong", [{"max_batch": 0}, {"max_wait": -1}])
def test_bounds_are_checked(wrong):
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        MicroBatching(**wrong)


# --- one at a time ---

HELLO = ScoreRequest(PROMPT, "Hello.", finished=True)
CONFIG = GuardConfig(threshold=Constant(target=1.0), acceptance=Hard())


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
            threads.submit(reward.score, [HELLO])
    assert (len(inside.seen), inside.company) == (400, 0)


def test_an_answer_may_be_forgotten_by_the_thread_that_scores():
    class Collects(KeywordReward):
        def score(self, requests):
            reward.release("another")
            return super().score(requests)

    inside = Collects([])
    reward = OneAtATime(inside)
    assert reward.score([HELLO]) == [Reward(1.0)]
    assert inside.released == ["another"]


@pytest.mark.parametrize("wrap", [lambda model: model, SelfBatchingModel])
def test_the_loop_scores_texts_that_are_no_candidates(wrap):
    rounds = StarsGuardedLLM(wrap(ScriptedModel([["x"]])), KeywordReward(["bad"]), CONFIG).loop.rounds
    bad = ScoreRequest(PROMPT, "bad", finished=True)
    assert [reward.value for reward in rounds.score([HELLO, bad])] == [1.0, -1.0]
    broken = StarsGuardedLLM(wrap(ScriptedModel([["x"]])), FailingReward(OSError("away")), CONFIG).loop.rounds
    with pytest.raises(ScoringError, match="failing"):
        broken.score([HELLO])
