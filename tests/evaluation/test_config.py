"""What is wrong with an evaluation is said when it is made, or else before anything is drawn."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import EvalPlan, evaluate
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.methods.self_judged import SelfJudged
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import HERE, plan, prompts_file

pytestmark = pytest.mark.usefixtures("fakes")
SERVED = {"base": "vllm@http://localhost:8000"}
MATCHED = {"kind": "best_of_n", "match": "guarded"}


def comparing(folder, *, task=None, prompts=("mild", "wild", "wild too"), **methods):
    """An evaluation of plain decoding, the guard, and these methods."""
    asked = {"prompts": prompts_file(folder, prompts), "timed": 1, **(task or {})}
    return plan(folder, methods={"plain": Plain(), "guarded": Guarded(), **methods}, tasks={"asked": asked})


@pytest.mark.parametrize(
    ("timed_like", "problem"),
    [
        (("one",), r"'matched': timed_like names one with n=1.*name one with n=2 or more"),
        (("guarded",), "timed_like names 'guarded', which is no best_of_n with n given"),
        (("plain",), "timed_like names 'plain', which is no best_of_n with n given"),
    ],
)
def test_times_through_which_no_line_can_be_drawn_are_refused(tmp_path, timed_like, problem):
    matched = BestOfN(match="guarded", by="seconds", timed_like=timed_like)
    with pytest.raises(ConfigurationError, match=problem):
        comparing(tmp_path, one=BestOfN(n=1), matched=matched)


def test_one_other_number_of_answers_is_a_second_point(tmp_path):
    matched = BestOfN(match="guarded", by="seconds", timed_like=("one", "two"))
    comparing(tmp_path, one=BestOfN(n=1), two=BestOfN(n=2), matched=matched)


def test_matching_by_seconds_needs_a_task_that_is_timed(tmp_path):
    matched = BestOfN(match="guarded", by="seconds")
    with pytest.raises(
        ConfigurationError, match=r"'matched' is matched by seconds, and task 'asked' has timed=0"
    ):
        comparing(tmp_path, task={"timed": 0}, matched=matched)
    comparing(tmp_path, task={"timed": 0}, matched=BestOfN(match="guarded"))


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"segments.tokens": 8}, "method 'matched' on task 'asked': .*tokens"),
        ({"drawing": {"kind": "fixed", "candidates": 0}}, "candidates"),
        ({"max_attempts.most": 8}, "'max_attempts.most': no setting 'most' stands within"),
        ({"acceptance": {"kind": "soft", "beta": "0.5 sd", "gamma": 1}}, "gamma"),
    ],
)
@pytest.mark.parametrize("kind", [MATCHED, {"kind": "guarded"}], ids=["waits", "does not wait"])
def test_changes_are_tried_before_costs_and_spread_are_known(tmp_path, kind, changes, problem):
    with pytest.raises(ConfigurationError, match=problem):
        comparing(tmp_path, matched={**kind, "changes": changes})


def test_a_study_of_a_method_that_waits_is_tried_too(tmp_path):
    grid = {"method": "matched", "task": "asked", "vary": {"guard.segments.max_tokens": [8, 0]}}
    made = comparing(tmp_path, matched=MATCHED)
    with pytest.raises(
        ConfigurationError, match=r"method 'size=0' on task 'asked'.*greater than or equal to 1"
    ):
        made.changed(studies={"size": grid})
    made.changed(studies={"size": {**grid, "vary": {"guard.segments.max_tokens": [8, 4]}}})


@pytest.mark.parametrize("floor", [5.0, -5.0, "mean - 1 sd"])
def test_a_floor_and_a_target_of_which_one_is_not_known_may_fit(tmp_path, floor):
    target = {"kind": "constant", "target": "mean + 1 sd"}
    comparing(tmp_path, strict=Guarded(changes={"threshold": target, "floor": floor}))
    comparing(tmp_path, strict=Guarded(changes={"floor": None, "threshold": target}))


def test_a_policy_that_would_never_draw_is_refused(tmp_path):
    retry = {"kind": "informed_retry", "hint": {"after": 3}, "changes": {"max_attempts": 2}}
    with pytest.raises(ConfigurationError, match=r"method 'retry' on task 'asked'.*max_attempts=2"):
        comparing(tmp_path, retry=retry)


@pytest.mark.parametrize(
    ("task", "changes", "problem"),
    [
        ({"measures": ["likelihood"]}, {}, "task 'asked' measures the likelihood, and 'vllm@http"),
        (
            {},
            {"methods": {"plain": Plain(), "judged": SelfJudged()}},
            "'judged' needs a language model in this",
        ),
        ({}, {"models": {"base": "weights.gguf"}}, "GGUF weights are not run in this process"),
    ],
)
def test_what_a_served_model_cannot_do_is_refused(tmp_path, task, changes, problem):
    asked = {"prompts": prompts_file(tmp_path, ["mild"]), **task}
    with pytest.raises(ConfigurationError, match=problem):
        plan(tmp_path, **{"models": SERVED, "tasks": {"asked": asked}, **changes})


def test_pairs_are_compared_with_a_method_that_answers(tmp_path):
    pairs = {"kind": "pairwise", "by": f"{HERE}:judging", "against": "guarded"}
    task = Task(prompts=prompts_file(tmp_path, ["mild"]), judges=("pairs",), methods=("plain",))
    with pytest.raises(ConfigurationError, match="no such entry of the methods of asked: 'guarded'"):
        plan(tmp_path, judges={"pairs": pairs}, tasks={"asked": task})


@pytest.mark.parametrize(
    ("most", "limit", "fits"),
    [(None, None, False), (2, None, False), (None, 2, False), (None, 1, True), (1, None, True)],
)
def test_plain_decoding_answers_as_many_prompts_as_what_is_compared_with_it(tmp_path, most, limit, fits):
    methods = {"plain": Plain(max_prompts=1), "guarded": Guarded(max_prompts=most)}
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild"]), limit=limit)
    if fits:
        plan(tmp_path, methods=methods, tasks={"asked": task})
        return
    with pytest.raises(ConfigurationError, match="max_prompts=1 of 'plain': 'guarded' answers more prompts"):
        plan(tmp_path, methods=methods, tasks={"asked": task})


IN_UNITS = Guarded(changes={"floor": None, "threshold": {"kind": "constant", "target": "mean + 0 sd"}})


def in_units(folder, **changes):
    task = {"prompts": prompts_file(folder, ["mild", "wild", "wild too"]), **changes.pop("task", {})}
    return plan(folder, methods={"plain": Plain(), "units": IN_UNITS}, tasks={"asked": task}, **changes)


def test_more_prompts_than_the_limit_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"draws.prompts=4, and task 'asked' has only 2 prompts"):
        in_units(tmp_path, task={"limit": 2}, draws={"prompts": 4})
    with pytest.raises(ConfigurationError, match="timed=3, and task 'asked' has only 2 prompts"):
        in_units(tmp_path, task={"limit": 2, "timed": 3})


@pytest.mark.usefixtures("nothing_is_drawn")
def test_more_prompts_than_there_are_are_refused_before_anything_is_drawn(tmp_path):
    with pytest.raises(ConfigurationError, match=r"draws.prompts=4, and task 'asked' has only 3 prompts"):
        evaluate(in_units(tmp_path, draws={"prompts": 4}), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="timed=9, and task 'asked' has only 3 prompts"):
        evaluate(comparing(tmp_path, task={"timed": 9}), tmp_path / "out")


def test_draws_of_greedy_answers_are_refused(tmp_path):
    with pytest.raises(ConfigurationError, match=r"temperature=0.*draws equal candidates"):
        in_units(tmp_path, sampling={"temperature": 0})


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"methods": {"plain": Plain(), "../other": Guarded()}}, "'../other' among methods"),
        ({"methods": {"plain": Plain(), "": Guarded()}}, "'' among methods"),
        ({"models": {"/tmp/b": None}}, "'/tmp/b' among models"),
        ({"tasks": {"x" * 151: Task(prompts="harmfulqa")}}, r"among tasks .* 1 to 150 characters"),
    ],
)
def test_names_that_lead_out_of_the_output_folder_are_refused(tmp_path, changes, problem):
    with pytest.raises(ConfigurationError, match=problem):
        plan(tmp_path, **changes)
    plan(tmp_path, models={"hub/base": None})


@pytest.mark.parametrize(
    ("vary", "problem"),
    [
        ({"guard.max_attempts": [1, 1]}, "a value stands twice among 1, 1"),
        ({"guard.max_attempts": {"a b": 1, "ab": 2}}, "two methods named 'ab'"),
        ({"max_prompts": [1, 2]}, "limit=2, and vary has max_prompts, too"),
    ],
)
def test_a_study_whose_methods_cannot_be_told_apart_is_refused(tmp_path, vary, problem):
    with pytest.raises(ConfigurationError, match=problem):
        plan(tmp_path, studies={"s": {"method": "guarded", "task": "asked", "vary": vary, "limit": 2}})


@pytest.mark.usefixtures("nothing_is_drawn")
@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        (
            {
                "judges": {
                    "harm": {"kind": "llm", "url": "http://localhost", "model": "m", "api_key_env": "NO_KEY"}
                }
            },
            "NO_KEY",
        ),
        ({"judges": {"harm": {"kind": "human", "labels": "none.csv"}}}, "none.key.json"),
        (
            {"methods": {"plain": Plain(), "judged": SelfJudged()}},
            "self_judged needs a language model in this",
        ),
        ({"rewards": {"words": {"name": f"{HERE}:gone", "guard": {"threshold": 1.0}}}}, "gone"),
    ],
)
def test_what_cannot_be_loaded_or_combined_fails_before_anything_is_drawn(
    tmp_path, monkeypatch, changes, problem
):
    monkeypatch.delenv("NO_KEY", raising=False)
    with pytest.raises(ConfigurationError, match=problem):
        evaluate(plan(tmp_path, **changes), tmp_path / "out")


@pytest.mark.usefixtures("nothing_is_drawn")
def test_a_measure_that_cannot_be_taken_fails_before_anything_is_drawn(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, ["mild"]), measures=("likelihood",))
    with pytest.raises(ConfigurationError, match="'likelihood' needs a base model in this process"):
        evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")


def test_a_plan_that_was_written_down_is_read_again(tmp_path):
    made = in_units(tmp_path)
    assert EvalPlan.found_at("results", made.model_dump(mode="json")) == made


def test_a_reward_without_settings_is_told_in_the_words_of_a_file(tmp_path):
    with pytest.raises(ConfigurationError, match=r"name='embedded:prob' by .*guard: \{threshold: 1"):
        plan(tmp_path, rewards={"probe": {"name": "embedded:prob"}})
