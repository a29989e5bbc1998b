"""Best-of-N that costs what another method costs: N follows from what was counted and timed."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError
from stars_guard.evaluation import evaluate
from stars_guard.evaluation.methods.best_of_n import BestOfN
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.plain import Plain
from stars_guard.evaluation.tasks.base import Task
from tests.evaluation.methods.test_methods import costs
from tests.support.evaluations import plan, prompts_file

# One answer takes 3 seconds, and each further one in the same batch one more.
TIMED = {"plain": costs(20, 3.0), "two": costs(40, 4.0), "five": costs(100, 7.0)}


@pytest.mark.parametrize(("seconds", "n"), [(6.0, 4), (6.4, 4), (6.6, 5), (20.0, 18), (1.0, 1), (500.0, 64)])
def test_answers_that_are_drawn_together_cost_less_than_as_many_drawn_alone(seconds, n):
    known = {**TIMED, "guarded": costs(70, seconds)}
    method = BestOfN(match="guarded", by="seconds", timed_like=("two", "five"))
    assert method.settled(known.__getitem__).n == n


def test_as_many_answers_as_were_tried_where_more_took_no_longer():
    known = {**TIMED, "five": costs(100, 2.0), "guarded": costs(70, 6.0)}
    method = BestOfN(match="guarded", by="seconds", timed_like=("two", "five"))
    assert method.settled(known.__getitem__).n == 5


def test_nothing_is_matched_to_what_proposed_nothing():
    with pytest.raises(ConfigurationError, match="'plain' proposed no tokens"):
        BestOfN(match="guarded").settled({"plain": costs(0), "guarded": costs(5)}.__getitem__)


@pytest.mark.parametrize("given", [{"n": 2}, {"match": "guarded"}])
def test_a_pace_that_is_not_read_is_refused(given):
    with pytest.raises(ConfigurationError, match="timed_like is read where"):
        BestOfN(timed_like=("two",), **given)


@pytest.mark.parametrize(
    "other",
    [
        pytest.param({"match": "guarded"}, id="does not answer the task"),
        pytest.param({"match": "waiting"}, id="waits itself"),
        pytest.param({"match": "plain", "by": "seconds", "timed_like": ("guarded",)}, id="pace"),
    ],
)
def test_costs_that_will_not_be_known_are_refused_at_once(tmp_path, other):
    methods = {
        "plain": Plain(),
        "guarded": Guarded(),
        "waiting": BestOfN(match="plain"),
        "matched": BestOfN(**other),
    }
    task = Task(prompts=prompts_file(tmp_path, ["mild"]), methods=("waiting", "matched"))
    with pytest.raises(ConfigurationError, match="method 'matched' reads the costs of"):
        plan(tmp_path, methods=methods, tasks={"asked": task})


@pytest.mark.usefixtures("fakes")
def test_equal_tokens_are_proposed(tmp_path):
    methods = {"plain": Plain(), "guarded": Guarded(), "matched": BestOfN(match="guarded")}
    results = {
        result.method: result
        for result in evaluate(plan(tmp_path, ["wild"], methods=methods), tmp_path / "out").methods
    }
    proposed = {name: result.costs.proposed_tokens for name, result in results.items()}
    assert results["matched"].settings["n"] == round(proposed["guarded"] / proposed["plain"])
    assert results["matched"].settings["n"] > 1
