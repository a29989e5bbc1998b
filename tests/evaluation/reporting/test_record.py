"""The record of a report: what is computed from the folder, and that it holds no text."""

from __future__ import annotations

import json

import pytest

from stars_guard.evaluation import evaluate
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.methods.published import Published
from stars_guard.evaluation.reporting.record import EvaluationReport, report_of, subjects_of
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import HERE, plan, prompts_file


def test_costs_are_those_of_the_results(report):
    for result in report.results.methods:
        costs = report.tasks["asked"].costs[result.method]
        assert costs.proposed_per_kept.value == pytest.approx(result.costs.proposed_per_kept, rel=1e-4)
        assert costs.tokens.proposed.value == pytest.approx(result.costs.proposed_tokens, rel=1e-4)
        assert costs.reward_calls.value == pytest.approx(result.costs.reward_calls, rel=1e-4)
        assert costs.seconds.value == pytest.approx(result.costs.seconds, rel=1e-4)
        assert costs.seconds_to_first_text.value == pytest.approx(
            result.costs.seconds_to_first_text, rel=1e-4
        )
        assert costs.seconds.prompts == 2


def test_the_same_folder_gives_the_same_record(output, report, tmp_path):
    assert report_of(output, name="main", command="stars-guard eval main.yaml") == report
    report.write(tmp_path / "report.json")
    assert EvaluationReport.read(tmp_path / "report.json") == report


def test_no_text_of_a_prompt_or_an_answer_is_in_it(report):
    text = report.model_dump_json()
    assert "wild" not in text
    assert "so-so" not in text


def test_pairs_are_of_the_same_prompts(report):
    compared = report.tasks["asked"].comparisons
    harm = {c.other: c for c in compared if c.figure == "harmful"}
    assert set(harm) == {"plain", "bon-tokens", "bon-seconds"}
    assert all(c.difference.prompts == 4 for c in harm.values())
    tokens = next(c for c in compared if (c.figure, c.other) == ("proposed_tokens", "plain"))
    assert tokens.difference.value == pytest.approx(
        (11 - 3) * 2 / 4
    )  # "bad", "bad" and "so-so" for "bad", twice in four


def test_ties_count_half_in_the_win_matrix(report):
    wins = {(win.method, win.other): win.rate.value for win in report.tasks["asked"].wins}
    assert wins["plain", "guarded"] == 0.5  # the judge finds "bad" and "so-so" alike
    assert len(wins) == 6


def test_methods_at_equal_costs_are_known(report):
    assert report.subjects == ("guarded",)
    assert report.matched("asked", "guarded", "tokens") == ["bon-tokens"]
    assert report.matched("asked", "guarded", "seconds") == ["bon-seconds"]


def test_difficulty_is_by_what_a_judge_says_of_plain_answers(report):
    bands = report.tasks["asked"].costs["guarded"].bands
    assert "judge harm gave the answers of plain" in report.tasks["asked"].difficulty
    assert [(band.name, band.attempts.value) for band in bands] == [
        ("hardest", 3),
        ("hard", 3),
        ("easy", 1),
        ("easiest", 1),
    ]


def test_without_a_judge_difficulty_is_by_attempts(tmp_path, fakes):
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild"]))
    evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")
    made = report_of(tmp_path / "out", name="main", command="c")
    assert made.tasks["asked"].difficulty == "the attempts that guarded needed"
    assert [band.attempts.value for band in made.tasks["asked"].costs["guarded"].bands] == [3, 1]


def test_the_report_is_about_the_deployed_guard_or_else_any_method(reported):
    others = reported(["mild"], methods={"plain": Plain(), "as-published": Published(beta=0.5)})
    assert others.subjects == subjects_of(others.results) == ("as-published",)


def test_a_report_is_about_every_method_that_others_match(tmp_path, fakes):
    methods = {
        "plain": Plain(),
        "first": Guarded(),
        "second": Guarded(),
        "unmatched": Guarded(),
        "like-first": BestOfN(match="first"),
        "like-second": BestOfN(match="second"),
    }
    evaluate(plan(tmp_path, methods=methods), tmp_path / "out")
    made = report_of(tmp_path / "out", name="main", command="c")
    assert made.subjects == ("first", "second")
    assert made.matched("asked", "second", "tokens") == ["like-second"]
    assert {c.method for c in made.tasks["asked"].comparisons} == {"first", "second"}


def test_records_are_small(report):
    numbers: list[str] = []

    def kept(text: str) -> float:
        numbers.append(text)
        return float(text)

    json.loads(report.tasks["asked"].model_dump_json(), parse_float=kept)
    assert numbers
    assert all(float(number) == float(f"{float(number):.5g}") for number in numbers)


def test_a_scorer_that_judges_with_two_cuts_has_its_values_compared_once(reported):
    scorer = {"kind": "classifier", "reward": f"{HERE}:judging"}
    judges = {"harm": scorer | {"harmful_under": 0.0}, "strict": scorer | {"harmful_under": 1.5}}
    report = reported(["mild", "wild"], judged_by=("harm", "strict"), judges=judges)
    asked = report.tasks["asked"]
    assert {comparison.judge for comparison in asked.comparisons if comparison.figure == "reward"} == {"harm"}
    assert {win.judge for win in asked.wins} == {"harm"}
    harmful = {comparison.judge for comparison in asked.comparisons if comparison.figure == "harmful"}
    assert harmful == {"harm", "strict"}


def test_of_answers_that_all_took_one_attempt_none_took_less(report):
    costs = report.tasks["asked"].costs["plain"]
    assert (costs.attempts.low, costs.attempts.high) == (1, 1)
    assert (costs.stalls.attempts.low, costs.bands[0].attempts.low) == (1, 1)
    assert (costs.tokens.rejected.low, costs.tokens.rejected.high) == (0, 0)
    assert costs.stalls.at_limit.high > 0  # a share without exception is not certain
