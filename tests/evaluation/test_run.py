"""A whole evaluation: what is answered, judged and counted, and that it goes on where it stopped."""

from __future__ import annotations

import json

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.cells import read_answers
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.results import Results
from stars_guard.evaluation.tasks.attacks import Attack
from stars_guard.evaluation.tasks.base import Task
from stars_guard.evaluation.timing import read_timings
from tests.support.evaluations import GUARD, HERE, judging, plan, prompts_file

pytestmark = pytest.mark.usefixtures("fakes")
JUDGES = {"harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": 0.0}}


class StopsAfter:
    """Interrupts an evaluation when so many steps are over."""

    def __init__(self, steps: int) -> None:
        self.steps = steps

    def begin(self, stage: str, total: int) -> None:
        """Any stage will do."""

    def advance(self) -> None:
        self.steps -= 1
        if self.steps == 0:
            raise KeyboardInterrupt


def by_method(results: Results) -> dict[str, object]:
    return {row.method: row for row in results.rows}


def test_the_guard_is_compared_with_plain_decoding(tmp_path):
    results = evaluate(plan(tmp_path), tmp_path / "out")
    plain, guarded = results.methods
    assert (plain.method, guarded.method) == ("plain", "guarded")
    assert plain.harmful["harm"].value == pytest.approx(2 / 3)
    assert guarded.harmful["harm"].value == pytest.approx(2 / 3)  # so-so passes what guides, not the judge
    assert plain.harmful["harm"].low <= plain.harmful["harm"].value <= plain.harmful["harm"].high
    assert (plain.repaired.value, guarded.repaired.value) == (0, pytest.approx(2 / 3))
    assert guarded.refused.value == guarded.forced.value == 0
    assert guarded.costs.proposed_tokens > plain.costs.proposed_tokens == plain.costs.kept_tokens
    assert plain.costs.seconds is None


def test_refusals_and_repairs_are_counted_apart(tmp_path):
    strict = Guarded(guard_settings={"threshold": 1.0, "exhaustion": "refuse", "max_attempts": 2})
    results = evaluate(plan(tmp_path, methods={"plain": Plain(), "strict": strict}), tmp_path / "out")
    assert results.methods[1].refused.value == pytest.approx(2 / 3)
    assert results.methods[1].repaired.value == 0
    assert results.methods[1].harmful["harm"].value == 0


def test_results_can_be_read_again(tmp_path):
    results = evaluate(plan(tmp_path), tmp_path / "out")
    assert Results.read(EvalFolder(tmp_path / "out").results) == results


@pytest.mark.parametrize("steps", range(1, 13))
def test_a_run_that_was_cut_off_goes_on_and_ends_as_if_it_had_not_been(tmp_path, steps):
    whole = evaluate(plan(tmp_path), tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        evaluate(plan(tmp_path), tmp_path / "cut", watcher=StopsAfter(steps))
    judging.asked.clear()
    resumed = evaluate(plan(tmp_path), tmp_path / "cut")
    assert without_times(resumed) == without_times(whole)


def without_times(results: Results) -> list[dict[str, object]]:
    times = dict.fromkeys(("seconds", "seconds_to_first_text"), True)
    return [method.model_dump(exclude={"costs": times, **times}) for method in results.methods]


def test_what_was_answered_and_judged_is_not_answered_and_judged_again(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    answers = EvalFolder(tmp_path / "out").answers("asked", "guarded")
    before, asked = answers.read_bytes(), len(judging.asked)
    evaluate(plan(tmp_path), tmp_path / "out")
    assert (answers.read_bytes(), len(judging.asked)) == (before, asked)


def test_a_judgement_that_was_cut_off_is_made_again(tmp_path):
    whole = evaluate(plan(tmp_path), tmp_path / "out")
    said = EvalFolder(tmp_path / "out").judgements("asked", "guarded", "harm")
    said.write_bytes(said.read_bytes()[:-5])
    judging.asked.clear()
    assert evaluate(plan(tmp_path), tmp_path / "out") == whole
    assert len(judging.asked) == 1
    assert len({json.loads(line)["id"] for line in said.read_text().splitlines()}) == 3


def test_other_settings_do_not_go_on_with_the_same_answers(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigurationError, match=r"of another batch.*seed"):
        evaluate(plan(tmp_path, seed=1), tmp_path / "out")


def test_the_refusal_of_other_settings_names_what_can_be_done_here(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    with pytest.raises(ConfigurationError, match="give another --output, or remove this file") as raised:
        evaluate(plan(tmp_path, seed=1), tmp_path / "out")
    assert "--existing" not in str(raised.value)


def test_nothing_that_was_said_of_removed_answers_counts_for_those_drawn_anew(tmp_path):
    judges = {**JUDGES, "pairs": {"kind": "pairwise", "by": f"{HERE}:judging"}}
    asked = prompts_file(tmp_path, ["mild", "wild", "wild too"])
    task = Task(prompts=asked, judges=tuple(judges), measures=("length",), timed=1)
    easy = {"words": {"name": f"{HERE}:guiding", "guard": GUARD | {"max_attempts": 1}}}
    changed = {"judges": judges, "tasks": {"asked": task}, "rewards": easy}
    evaluate(plan(tmp_path, judges=judges, tasks={"asked": task}), tmp_path / "out")
    folder = EvalFolder(tmp_path / "out")
    timings = folder.timings.read_text()
    for method in ("plain", "guarded"):
        folder.answers("asked", method).unlink()
    renewed = evaluate(plan(tmp_path, **changed), tmp_path / "out")
    fresh = evaluate(plan(tmp_path, **changed), tmp_path / "fresh")
    assert without_times(renewed) == without_times(fresh)
    assert len(folder.timings.read_text().splitlines()) == len(timings.splitlines())
    assert not set(folder.timings.read_text().splitlines()) & set(timings.splitlines())


def test_what_was_said_of_answers_that_are_there_stays_when_others_are_drawn_anew(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    EvalFolder(tmp_path / "out").answers("asked", "guarded").unlink()
    judging.asked.clear()
    evaluate(plan(tmp_path), tmp_path / "out")
    assert len(judging.asked) == 3


def test_an_answer_that_was_cut_off_is_none_when_answers_are_read(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    path = EvalFolder(tmp_path / "out").answers("asked", "plain")
    path.write_bytes(path.read_bytes()[:-5])
    assert len(read_answers(path)) == 2


def test_results_that_are_none_are_said_to_be_none(tmp_path):
    path = tmp_path / "results.json"
    path.write_text('{"version": 1, "methods": "private')
    with pytest.raises(ConfigurationError, match=r"results.json: not the results") as raised:
        Results.read(path)
    assert "private" not in str(raised.value)


def test_methods_share_the_seed_of_every_answer(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    seeds = [
        [answer.seed for answer in read_answers(EvalFolder(tmp_path / "out").answers("asked", name))]
        for name in ("plain", "guarded")
    ]
    assert seeds[0] == seeds[1]
    assert len(set(seeds[0])) == 3


def test_a_task_may_want_several_answers_to_a_prompt(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild"]), seeds=3, judges=("harm",))
    results = evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")
    assert results.methods[0].answers == 6
    assert results.methods[0].harmful["harm"].prompts == 2


def test_best_of_n_is_matched_to_the_tokens_of_another_method(tmp_path):
    methods = {"matched": BestOfN(match="guarded"), "plain": Plain(), "guarded": Guarded()}
    results = evaluate(plan(tmp_path, ("wild", "wild too"), methods=methods), tmp_path / "out")
    matched = results.methods[-1]
    plain, guarded = (by_method(results)[name] for name in ("plain", "guarded"))
    assert matched.method == "matched"
    assert matched.settings["n"] == round(11 / 3)  # "bad", "bad" and "so-so" against "bad"
    assert guarded.proposed_per_kept > plain.proposed_per_kept


def test_timed_answers_are_drawn_alone_by_all_methods_in_turn(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild", "wild too"]), timed=2)
    results = evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")
    lines = [json.loads(line) for line in EvalFolder(tmp_path / "out").timings.read_text().splitlines()]
    assert [line["method"] for line in lines] == ["plain", "guarded"] * 2
    assert len({line["row"] for line in lines}) == 2
    assert all(result.costs.seconds is not None for result in results.methods)
    evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out")
    assert len(EvalFolder(tmp_path / "out").timings.read_text().splitlines()) == 4


def test_a_method_that_waits_for_seconds_takes_its_turns_with_all_others(tmp_path):
    task = Task(prompts=prompts_file(tmp_path, ["mild", "wild", "wild too"]), timed=2)
    methods = {
        "plain": Plain(),
        "guarded": Guarded(),
        "other": Guarded(),
        "matched": BestOfN(match="guarded", by="seconds"),
    }
    evaluate(plan(tmp_path, methods=methods, tasks={"asked": task}), tmp_path / "out")
    timings = read_timings(EvalFolder(tmp_path / "out"))
    of = {
        purpose: [timing.method for timing in timings if timing.purpose == purpose]
        for purpose in ("match", "compare")
    }
    assert of["match"] == ["plain", "guarded"] * 2
    assert of["compare"] == ["plain", "guarded", "other", "matched"] * 2
    evaluate(plan(tmp_path, methods=methods, tasks={"asked": task}), tmp_path / "out")
    assert read_timings(EvalFolder(tmp_path / "out")) == timings


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"methods": {"guarded": Guarded()}}, "no 'plain'"),
        ({"methods": {"plain": Plain(), "other": BestOfN(match="guarder")}}, "methods: 'guarder'"),
        ({"methods": {"plain": Plain(), "other": Guarded(reward="word")}}, "did you mean 'words'"),
        ({"tasks": {"asked": Task(prompts="harmfulqa", judges=("harms",))}}, "judges: 'harms'"),
    ],
)
def test_names_that_are_not_there_are_refused_before_anything_runs(tmp_path, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        plan(tmp_path, **changes)


def test_other_settings_of_a_judge_have_it_judge_anew(tmp_path):
    evaluate(plan(tmp_path), tmp_path / "out")
    judging.asked.clear()
    lenient = {"harm": {"kind": "classifier", "reward": f"{HERE}:judging", "harmful_under": -5.0}}
    results = evaluate(plan(tmp_path, judges=lenient), tmp_path / "out")
    assert len(judging.asked) == 6
    assert {result.harmful["harm"].value for result in results.methods} == {0}


def test_all_ways_to_ask_a_prompt_count_as_one_prompt(tmp_path):
    task = Task(
        prompts=prompts_file(tmp_path, ["mild", "wild"]),
        judges=("harm",),
        attack=Attack(kind="resample", k=4),
    )
    for result in evaluate(plan(tmp_path, tasks={"asked": task}), tmp_path / "out").methods:
        assert result.answers == 8
        assert result.refused.prompts == result.harmful["harm"].prompts == 2
        assert result.harmful_difference["harm"].prompts == 2
