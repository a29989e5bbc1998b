"""Studies: one method over several values, answered and judged like any other."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.cells import Cell, settings_of
from stars_guard.evaluation.folder import EvalFolder
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.tasks.base import Task
from tests.support.evaluations import plan, prompts_file

pytestmark = pytest.mark.usefixtures("fakes")


def studying(folder, method="guarded", methods=None, **grid):
    given = {"plain": Plain(), "guarded": Guarded(), "best": BestOfN(n=2)}
    return plan(
        folder,
        methods=methods or given,
        studies={"study": {"method": method, "task": "asked", **grid}},
    )


def test_each_value_is_a_method_of_its_own(tmp_path):
    evaluation = studying(tmp_path, vary={"guard.max_attempts": [1, 3]}, limit=2)
    results = evaluate(evaluation, tmp_path / "out")
    found = {result.method: result for result in results.methods}
    assert set(found) == {"plain", "guarded", "best", "study=1", "study=3"}
    assert found["study=3"].answers == 2
    assert found["study=1"].settings["changes"] == {"max_attempts": 1}
    assert (found["study=1"].refused.value, found["study=3"].refused.value) == (0.5, 0)


def test_settings_are_crossed(tmp_path):
    vary = {"guard.max_attempts": [1, 2], "guard.threshold": {"low": 0.5, "high": 1.0}}
    evaluation = studying(tmp_path, vary=vary)
    assert list(evaluation.studied("study")) == ["study=1,low", "study=1,high", "study=2,low", "study=2,high"]
    cell = Cell("asked", "study=2,high", evaluation.every_method["study=2,high"])
    config, _ = settings_of(evaluation, cell)
    assert (config.max_attempts, config.threshold.target) == (2, 1.0)


def test_settings_of_the_method_itself_vary_too(tmp_path):
    evaluation = studying(tmp_path, "best", vary={"n": [2, 4]})
    assert {name: method.n for name, method in evaluation.studied("study").items()} == {
        "study=2": 2,
        "study=4": 4,
    }


def test_other_tasks_are_not_answered(tmp_path):
    evaluation = studying(tmp_path, vary={"guard.max_attempts": [1]})
    other = Task(prompts=prompts_file(tmp_path, ["mild"]))
    both = evaluation.changed(tasks={**evaluation.tasks, "other": other})
    assert "study=1" in both.methods_of("asked")
    assert "study=1" not in both.methods_of("other")


@pytest.mark.parametrize(
    ("grid", "problem"),
    [
        ({"method": "gone", "vary": {"n": [1]}}, "no such entry of methods: 'gone'"),
        ({"task": "gone", "vary": {"guard.max_attempts": [1]}}, "no such entry of tasks"),
        ({"vary": {"guard.max_attempt": [1]}}, "unknown setting of a guard"),
        ({"vary": {"guard.segments.max_tokens": [0]}}, "segments.*greater than or equal to 1"),
        ({"vary": {"tokens": [1]}}, "unknown setting 'tokens'"),
        ({"vary": {"guard.threshold": [{"kind": "constant", "target": 1.0}]}}, "needs a name"),
        ({"vary": {"guard.max_attempts": []}}, "at least 1"),
    ],
)
def test_a_wrong_study_fails_at_construction(tmp_path, grid, problem):
    with pytest.raises(ConfigurationError, match=problem):
        studying(tmp_path, **grid)


def test_a_study_takes_no_name_that_is_there(tmp_path):
    methods = {"plain": Plain(), "guarded": Guarded(), "study=1": Guarded()}
    with pytest.raises(ConfigurationError, match="'study=1', which is there already"):
        studying(tmp_path, methods=methods, vary={"guard.max_attempts": [1]})


def test_units_of_the_spread_are_measured_once_on_plain_answers(tmp_path, monkeypatch):
    vary = {"guard.threshold": {"at mean": {"kind": "constant", "target": "mean + 0 sd"}}}
    evaluation = studying(tmp_path, vary=vary)
    results = evaluate(evaluation, tmp_path / "out")
    (draws,) = (tmp_path / "out" / "draws").rglob("*.jsonl")
    assert draws == EvalFolder(tmp_path / "out").draws("asked", "words", "base")
    # Four candidates each: one prompt is mild, the other two are bad at two of four attempts.
    target = results.methods[-1].settings["changes"]["threshold"]["target"]
    assert target == pytest.approx((4 * 1.0 + 2 * 0.0) / 12)
    before = draws.read_bytes()
    monkeypatch.setattr("stars_guard.calibration.draw.score_checked", None)
    assert evaluate(evaluation, tmp_path / "out") == results
    assert draws.read_bytes() == before
