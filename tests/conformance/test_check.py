"""The conformance kit: good rewards pass every check, and each broken one fails the check made for it."""

from __future__ import annotations

import math
import random
import re
import subprocess
import sys
import time
from collections import Counter
from functools import cache
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binomtest

from stars_guard import FunctionReward
from stars_guard.conformance import CHECKS, Pair, Result, Status, Subject, check_reward, shipped_pairs
from stars_guard.conformance.cost import peak_memory
from stars_guard.conformance.harm import at_least, auc, harm_at, pair_accuracy
from stars_guard.conformance.runs import mentions
from stars_guard.conformance.scale import at_bounds, scale
from stars_guard.conformance.subject import first_words, request
from stars_guard.errors import ConfigurationError, ConformanceError, PromptError, ScoringError
from stars_guard.rewards.veto import Veto
from stars_guard.testing import KeywordReward
from stars_guard.types import Reward

pytestmark = pytest.mark.slow

NAMES = [check.__name__ for check in CHECKS]
WINDOW = 40


def words_of(text):
    return re.findall(r"\w+", text.lower())


@cache
def counts():
    """How often a word is in the safe and in the unsafe answers of the kit."""
    safe, unsafe = Counter(), Counter()
    for pair in shipped_pairs():
        safe.update(words_of(pair.safe))
        unsafe.update(words_of(pair.unsafe))
    return safe, unsafe


def weight(word):
    safe, unsafe = counts()
    return math.log((safe[word] + 0.5) / (unsafe[word] + 0.5))


class Good:
    """Log-odds of the last words, learnt from the very pairs: as good as a reward can be on them."""

    name = "good"

    def score(self, requests):
        return [self.reward(one) for one in requests]

    def release(self, run_id):
        pass

    def reward(self, one):
        words = words_of(one.response)
        value = self.value(one, sum(map(weight, words[-WINDOW:])) / 10)
        return Reward(value, truncated_tokens=max(0, len(words) - WINDOW))

    def value(self, one, good):
        return good


class Harsh(Good):
    """Reads all of it, and keeps the worst: the beginning of a long answer counts."""

    def reward(self, one):
        words = words_of(one.response)
        places = range(0, max(1, len(words)), WINDOW // 2)
        return Reward(min(sum(map(weight, words[place : place + WINDOW])) for place in places) / 10)


class Guess(Good):
    """A number drawn from the text: the same every time, and worth nothing."""

    def __init__(self, seed=0):
        self.seed = seed

    def reward(self, one):
        return Reward(random.Random(f"{self.seed} {one.prompt.as_text()} {one.response}").gauss(0, 1))


class Drawn(Good):
    """A new number every time."""

    def __init__(self):
        self.random = random.Random(0)

    def value(self, one, good):
        return self.random.gauss(0, 1)


class SameForAll(Good):
    def value(self, one, good):
        return 1.5


class PromptOnly(Good):
    def value(self, one, good):
        return len(one.prompt.as_text()) / 10


class Inverted(Good):
    def value(self, one, good):
        return -good


class Sign(Good):
    def value(self, one, good):
        return 1.0 if good >= 0 else -1.0


class Offset(Good):
    """Right within a prompt only."""

    def value(self, one, good):
        return good + 200 * random.Random(one.prompt.as_text()).random()


class OfBatch(Good):
    def score(self, requests):
        return [Reward(one.value + 0.5 * len(requests)) for one in super().score(requests)]


class Half(Good):
    """Rounds like half precision, in another way alone than among others."""

    def score(self, requests):
        return [Reward(one.value * (1 + 0.02 * (len(requests) == 1))) for one in super().score(requests)]


class Sorted(Good):
    """Forgets to put large batches back into order."""

    def score(self, requests):
        if len(requests) > 8:
            requests = sorted(requests, key=lambda one: len(one.response))
        return super().score(requests)


class TooFew(Good):
    def score(self, requests):
        return super().score(requests)[:-1]


class OneForNone(Good):
    def score(self, requests):
        return super().score(requests) or [Reward(0.0)]


class FailsOn(Good):
    """Gives NaN, or raises, where ``when`` holds."""

    def __init__(self, when, error=None):
        self.when, self.error = when, error

    def value(self, one, good):
        if not self.when(one):
            return good
        if self.error:
            raise self.error
        return math.nan


class Beginning(Good):
    def reward(self, one):
        return super().reward(request("any", first_words(one.response, WINDOW)))


class Silent(Good):
    """Cuts without saying so."""

    def reward(self, one):
        return Reward(super().reward(one).value)


class DullEnd(Good):
    """Loses interest in longer texts."""

    def value(self, one, good):
        return good / (100 if len(one.response) > 2000 else 1)


class WholeWords(Good):
    """Shocked by a word it does not know, such as half of one."""

    def value(self, one, good):
        safe, unsafe = counts()
        known = [word for word in words_of(one.response)[-1:] if word in safe or word in unsafe]
        return good if known else good - 5


class ByLength(Good):
    """A cache that takes texts of one length in one run for the same."""

    def __init__(self):
        self.kept = {}

    def reward(self, one):
        fresh = super().reward(one)
        key = (one.run_id, len(words_of(one.response)))
        return self.kept.setdefault(key, fresh) if one.run_id else fresh


class ByPrompt(Good):
    """Keeps what it read of a run's prompt, under ``key(run_id)``, until ``forget`` says so."""

    def __init__(self, key, forget):
        self.key, self.forget, self.kept = key, forget, {}

    def value(self, one, good):
        size = len(one.prompt.as_text()) / 10
        return good + (self.kept.setdefault(self.key(one.run_id), size) if one.run_id else size)

    def release(self, run_id):
        self.forget(self.kept)


class MadeUp(Good):
    """Answers what is late with a number of convenience."""

    def value(self, one, good):
        return 0.0 if one.deadline and one.deadline < time.monotonic() else good


class Hoards(Good):
    """Remembers every request for ever, deep inside; the rewards are right."""

    def __init__(self):
        kept = []
        self.keep = lambda one: kept.append({"seen": (one,)})

    def value(self, one, good):
        self.keep(one)
        return good


class Releases(Good):
    def release(self, run_id):
        raise KeyError(run_id)


def is_long(one):
    return len(one.response.split()) > 2000


def failed(reward):
    return {result.name for result in check_reward(reward).failed}


@pytest.mark.parametrize("reward", [Good(), Harsh()], ids=["window", "whole"])
def test_a_good_reward_passes_every_check(reward):
    report = check_reward(reward)
    assert [result.name for result in report.results] == NAMES
    assert {result.status for result in report.results} == {Status.PASSED}, str(report)
    assert not any(result.remedy for result in report.results)
    report.raise_for_failures()


HARM = {"harm_at_8_words", "harm_at_16_words", "harm_at_32_words", "harm"}
BROKEN = {
    "constant": (SameForAll(), {"scale"}),
    "prompt only": (PromptOnly(), {"reads_answer"}),
    "inverted": (Inverted(), HARM),
    "batch": (OfBatch(), {"batch_invariance"}),
    "order": (Sorted(), {"order", "batch_invariance"}),
    "count": (TooFew(), {"answers"}),
    "empty batch": (OneForNone(), {"empty_batch"}),
    "emoji": (FailsOn(lambda one: "\u200d" in one.response), {"languages"}),
    "empty": (FailsOn(lambda one: not one.response.strip()), {"empty_text"}),
    "late": (FailsOn(lambda one: one.deadline is not None), {"late_deadline"}),
    "late, made up": (MadeUp(), {"late_deadline"}),
    "too long": (FailsOn(is_long, IndexError("out of range")), {"long_texts"}),
    "NaN when long": (FailsOn(is_long), {"long_texts"}),
    "beginning": (Beginning(), {"bad_end"}),
    "half words": (WholeWords(), {"cut_words"}),
    "cache by length": (ByLength(), {"run_ids", "release", "interleaved_runs"}),
    "cache never emptied": (ByPrompt(lambda run_id: run_id, lambda kept: None), {"release"}),
    "cache of all": (ByPrompt(lambda run_id: "", dict.clear), {"interleaved_runs"}),
    "release": (Releases(), {"run_ids", "release", "forgets", "interleaved_runs"}),
}


@pytest.mark.parametrize(("reward", "expected"), BROKEN.values(), ids=BROKEN)
def test_a_broken_reward_fails_what_is_made_for_it(reward, expected):
    report = check_reward(reward)
    assert {result.name for result in report.failed} == expected, str(report)
    assert all(result.remedy for result in [*report.failed, *report.warnings])


def test_every_check_that_judges_has_a_reward_that_fails_it():
    covered = {name for _, names in BROKEN.values() for name in names}
    assert set(NAMES) - covered == {"determinism", "suggested_beta", "cost"}


def test_a_random_reward_is_not_repeatable_and_no_better_than_guessing():
    report = check_reward(Drawn())
    assert {"determinism", "harm"} <= {result.name for result in report.failed}
    assert report["order"].status is report["run_ids"].status is Status.SKIPPED


def test_hardly_any_guess_passes():
    verdicts = [harm_at(None)(Subject(Guess(seed), shipped_pairs())).status for seed in range(200)]
    assert verdicts.count(Status.FAILED) >= 170
    assert verdicts.count(Status.PASSED) <= 6


WARNED = {
    "forgets": Hoards(),
    "scale": Sign(),
    "long_texts": Silent(),
    "bad_end": DullEnd(),
    "batch_invariance": Half(),
    "harm": Offset(),
}


@pytest.mark.parametrize(("name", "reward"), WARNED.items(), ids=WARNED)
def test_what_is_not_wrong_but_worth_knowing_warns(name, reward):
    report = check_reward(reward)
    assert not report.failed
    assert report[name].status is Status.WARNING
    assert report[name].remedy


@pytest.mark.parametrize("error", [ScoringError("at most 2000 words"), PromptError("too long")])
def test_a_long_text_may_be_refused_in_words(error):
    found = check_reward(FailsOn(is_long, error))["long_texts"]
    assert (found.status, found.message) == (Status.PASSED, f"refused: {error}")


def test_a_late_request_may_be_refused():
    found = check_reward(FailsOn(lambda one: one.deadline is not None, ScoringError("late")))["late_deadline"]
    assert (found.status, found.message) == (Status.PASSED, "refused: late")


def test_what_a_run_leaves_behind_is_counted():
    class Frees(ByLength):
        def release(self, run_id):
            self.kept = {key: kept for key, kept in self.kept.items() if key[0] != run_id}

    found = check_reward(Frees())["forgets"]
    assert found.status is Status.PASSED
    assert (found.values["during"] > 0, found.values["after"]) == (True, 0)
    assert check_reward(Hoards())["forgets"].values["after"] > 0


def test_mentions_follow_references_and_end():
    loop = ["x run"]
    loop.append({"again": loop, "run 2": sys})
    assert mentions(loop, "run") == 2
    assert mentions(test_mentions_follow_references_and_end, "WINDOW") == 0


def test_after_a_wrong_count_nothing_else_is_asked():
    report = check_reward(TooFew())
    assert {result.status for result in report.results[1:]} == {Status.SKIPPED}
    assert "7 rewards for 8 requests" in report["answers"].message


def test_a_reward_blind_to_short_texts_warns_there():
    blind = FailsOn(lambda one: False)
    blind.value = lambda one, good: good if len(words_of(one.response)) > 20 else hash_of(one)
    report = check_reward(blind, checks=[harm_at(8), harm_at(None)])
    assert [result.status for result in report.results] == [Status.WARNING, Status.PASSED]
    assert "train on texts cut short" in report["harm_at_8_words"].remedy


def hash_of(one):
    return random.Random(one.response).gauss(0, 1)


def test_ties_are_left_out_and_told():
    report = check_reward(KeywordReward(["hurt", "steal"]), checks=[harm_at(None)])
    found = report["harm"]
    assert "tied" in found.message
    assert found.status is Status.PASSED
    assert found.values["pair_accuracy"] < 0.9


def test_a_few_pairs_say_nothing():
    report = check_reward(Good(), checks=[harm_at(None)], pairs=shipped_pairs()[:3])
    assert report["harm"].status is Status.WARNING
    assert "too few pairs" in report["harm"].remedy


def test_a_hint_of_order_only_warns():
    # 20 of 28 right is better than guessing at 5 %, not at 1 %.
    swapped = {pair.safe for pair in shipped_pairs()[:8]} | {pair.unsafe for pair in shipped_pairs()[:8]}
    uncertain = Good()
    uncertain.value = lambda one, good: -good if one.response in swapped else good
    found = check_reward(uncertain, checks=[harm_at(None)])["harm"]
    assert found.status is Status.WARNING
    assert 0.01 < found.values["p"] <= 0.05


def test_a_reward_that_hardly_minds_the_answer_warns():
    dull = Good()
    dull.value = lambda one, good: len(one.prompt.as_text()) + good / 100
    found = check_reward(dull)["reads_answer"]
    assert found.status is Status.WARNING
    assert "28 of 28 pairs" in found.remedy


def test_a_constant_reward_leaves_nothing_to_compare():
    report = check_reward(SameForAll())
    skipped = {result.name for result in report.results if result.status is Status.SKIPPED}
    assert skipped == {"bad_end", "cut_words", "reads_answer", "suggested_beta", *HARM}


def test_texts_without_long_words_are_not_cut():
    pairs = [Pair(category="short", prompt="Why?", safe="so be it " * 9, unsafe="no to it " * 9)]
    report = check_reward(FunctionReward(lambda prompt, text: float("so" in text)), pairs=pairs)
    assert report["cut_words"].status is Status.SKIPPED
    assert "no long word" in report["cut_words"].message


def test_the_suggested_beta_lets_one_unsafe_answer_in_a_hundred_pass():
    pairs = [Pair(category="any", prompt="Why?", safe="good", unsafe="bad")]
    report = check_reward(FunctionReward(lambda prompt, text: 4.0 if text == "good" else 1.0), pairs=pairs)
    beta = report["suggested_beta"].values["beta"]
    assert math.exp(-3 / beta) == pytest.approx(0.01)


def test_the_pairs_are_long_enough_for_every_cut():
    pairs = shipped_pairs()
    assert len(pairs) == len({pair.prompt for pair in pairs}) == 28
    assert set(Counter(pair.category for pair in pairs).values()) == {4}
    lengths = [len(text.split()) for pair in pairs for text in (pair.safe, pair.unsafe)]
    assert min(lengths) > 32
    assert max(lengths) < 1.2 * min(lengths)


def test_a_failure_says_what_and_what_to_do():
    report = check_reward(SameForAll())
    with pytest.raises(ConformanceError, match="it tells nothing apart") as caught:
        report.raise_for_failures()
    assert isinstance(caught.value, AssertionError)
    assert "interleaved_runs" not in str(caught.value)
    assert "interleaved_runs" in str(report)
    assert report.summary in str(report)
    assert report.summary == "14 passed, 1 failed, 8 skipped"


def test_checks_can_be_left_out_and_added():
    def is_named(subject):
        return Result(name="is_named", status=Status.PASSED, message=subject.reward.name)

    report = check_reward(Good(), checks=[scale, is_named])
    assert [result.name for result in report.results] == ["scale", "is_named"]
    with pytest.raises(KeyError):
        _ = report["harm"]


def test_a_check_that_raises_has_failed():
    def broken(subject):
        raise ZeroDivisionError("oh")

    (found,) = check_reward(Good(), checks=[broken]).failed
    assert found.name == "broken"
    assert "ZeroDivisionError: oh" in found.message


def test_wrong_arguments_are_named():
    with pytest.raises(ConfigurationError, match="str is no reward model"):
        check_reward("harmless")
    with pytest.raises(ConfigurationError, match="pairs is empty"):
        check_reward(Good(), pairs=[])


def test_memory_is_left_out_where_the_system_does_not_say(monkeypatch):
    assert peak_memory() > 1
    monkeypatch.setitem(sys.modules, "resource", None)
    assert peak_memory() is None
    assert "memory_growth_mib" not in check_reward(Good())["cost"].values


def test_a_function_with_a_word_list_has_warnings_at_most():
    bad = ("hurt", "steal", "stupid", "idiot", "kill", "beat", "filthy", "useless", "laugh", "worthless")
    reward = FunctionReward(lambda prompt, text: -sum(text.lower().count(word) for word in bad))
    check_reward(reward).raise_for_failures()


@pytest.mark.parametrize(
    "reward", [KeywordReward(["hurt", "steal", "stupid", "idiot"]), Veto(["hurt", "steal", "idiot", "beat"])]
)
def test_a_hard_limit_has_warnings_at_most(reward):
    report = check_reward(reward)
    report.raise_for_failures()
    assert report["scale"].status is Status.WARNING


def test_a_veto_of_other_words_needs_other_pairs():
    pairs = [
        Pair(category="brands", prompt=f"Where do I buy {thing}?", safe="At a shop.", unsafe="At Acme.")
        for thing in ("bread", "milk", "salt", "tea", "rice", "beans", "soap")
    ]
    assert failed(Veto(["acme"])) == {"scale"}
    check_reward(Veto(["acme"]), pairs=pairs).raise_for_failures()


def test_an_untrained_classifier_keeps_the_contract():
    from stars_guard.rewards.classifiers.classifier import ClassifierReward
    from tests.support.tiny import tiny_bert_classifier, tiny_bert_tokenizer

    reward = ClassifierReward(tiny_bert_classifier(), tiny_bert_tokenizer(), bad="unsafe")
    report = check_reward(reward)
    meaning = {"scale", "bad_end", "cut_words", "reads_answer", *HARM}
    assert {result.name for result in report.failed} <= meaning, str(report)
    assert report["long_texts"].values["truncated_answer"] > 1000


def test_an_untrained_decoder_with_a_cache_keeps_the_contract():
    from stars_guard.rewards.classifiers.classifier import ClassifierReward
    from tests.support.tiny import tiny_llama_reward, tiny_tokenizer

    report = check_reward(ClassifierReward(tiny_llama_reward(), tiny_tokenizer()))
    for name in (
        "order",
        "batch_invariance",
        "determinism",
        "run_ids",
        "release",
        "forgets",
        "interleaved_runs",
    ):
        assert report[name].status is Status.PASSED, str(report)


@pytest.mark.embedded
def test_the_embedded_reward_passes():
    from stars_guard.loading.parts import load_reward

    report = check_reward(load_reward(None, {}))
    report.raise_for_failures()
    assert report["harm"].status is Status.PASSED
    assert {result.name for result in report.warnings} <= {"bad_end", "cut_words"}


@given(st.integers(0, 60).flatmap(lambda trials: st.tuples(st.integers(0, trials), st.just(trials))))
def test_the_sign_test_is_exact(drawn):
    wins, trials = drawn
    expected = binomtest(wins, trials, alternative="greater").pvalue if trials else 1.0
    assert at_least(wins, trials) == pytest.approx(expected)


REWARDS = st.lists(st.integers(-3, 3).map(float), min_size=1, max_size=8)


@given(REWARDS, REWARDS)
def test_auc_counts_all_pairs(safe, unsafe):
    wins = [1.0 if one > other else 0.5 if one == other else 0.0 for one, other in product(safe, unsafe)]
    assert auc(safe, unsafe) == pytest.approx(sum(wins) / len(wins))
    assert auc(safe, unsafe) + auc(unsafe, safe) == pytest.approx(1)


@given(REWARDS)
def test_pair_accuracy_counts_one_pair_a_prompt(safe):
    assert pair_accuracy(safe, safe) == 0.5
    assert pair_accuracy(safe, [value - 1 for value in safe]) == 1


@given(st.lists(st.floats(-9, 9), min_size=1, max_size=20))
def test_a_share_at_the_bounds_is_a_share(values):
    assert 0 <= at_bounds(values) <= 1


def test_bounds_count_what_is_stuck_there():
    assert at_bounds([0.0, 0.0, 0.0, 1.0]) == 1
    assert at_bounds([0.0, 0.3, 0.6, 1.0]) == 0
    assert at_bounds([0.0, 0.0, 0.3, 1.0]) == 0.5


def test_the_kit_needs_no_torch():
    code = (
        "import sys, stars_guard.conformance;"
        "sys.exit(' '.join({'torch', 'numpy', 'rich'} & set(sys.modules)) or 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
