"""Combined rewards: values, what is asked of whom, and that early exit never changes a value."""

from __future__ import annotations

import math

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from stars_guard.errors import ConfigurationError, ScoringError
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import RewardModel, ScoreRequest, score_checked
from stars_guard.rewards.combine import Constrained, Minimum, Part, WeightedSum
from stars_guard.types import Reward

PROMPT = Prompt.of("How do I bake bread?")


class Column:
    """Reads its reward from a column of the response, ``"1.5 2"``; remembers what it was asked."""

    def __init__(self, column, truncated_tokens=0, components=None):
        self.name = f"column{column}"
        self.calls = []
        self.released = []
        self._column, self._truncated, self._components = column, truncated_tokens, components or {}

    def score(self, requests):
        self.calls.append([request.response for request in requests])
        values = [float(request.response.split()[self._column]) for request in requests]
        return [Reward(value, self._truncated, self._components) for value in values]

    def release(self, run_id):
        self.released.append(run_id)


def asked(rows):
    return [ScoreRequest(PROMPT, " ".join(map(repr, row)), False, run_id="run") for row in rows]


def values(reward, rows):
    return [item.value for item in score_checked(reward, asked(rows))]


def count(part):
    return sum(map(len, part.calls))


def test_weighted_sum_of_calibrated_parts():
    first, second = Column(0), Column(1)
    parts = {"safe": Part(first, offset=1.0, unit=2.0), "kind": second, "cost": Column(0)}
    reward = WeightedSum(parts, {"kind": 3, "safe": 0.5, "cost": 0})
    assert isinstance(reward, RewardModel)
    assert reward.name == "WeightedSum(safe=column0, kind=column1, cost=column0)"
    (first_text, second_text) = reward.score(asked([(5.0, 1.0), (1.0, -1.0)]))
    assert (first_text.value, second_text.value) == (4.0, -3.0)
    assert first_text.components == {"safe": 5.0, "kind": 1.0, "cost": 5.0}
    assert first.calls == second.calls == [["5.0 1.0", "1.0 -1.0"]]


def test_nested_components_are_prefixed_and_the_largest_truncation_counts():
    inner = Minimum({"a": Column(0, 3), "b": Column(1, 7, {"toxic": 0.5})})
    (nested,) = WeightedSum({"low": inner, "own": Column(0, 5)}, {"low": 1, "own": 1}).score(
        asked([(2.0, 1.0)])
    )
    assert nested == Reward(3.0, 7, {"low": 1.0, "low.a": 2.0, "low.b": 1.0, "low.b.toxic": 0.5, "own": 2.0})


def test_minimum_does_not_ask_what_cannot_be_lower():
    cheap, dear = Column(0), Column(1)
    reward = Minimum({"cheap": cheap, "dear": Part(dear, offset=1.0, unit=2.0, range=(-1.0, 1.0))})
    results = reward.score(asked([(-1.0, 0.5), (-0.5, -1.0), (-5.0, 1.0)]))  # the lowest of dear counts as -1
    assert [item.value for item in results] == [-1.0, -1.0, -5.0]
    assert [sorted(item.components) for item in results] == [["cheap"], ["cheap", "dear"], ["cheap"]]
    assert (len(cheap.calls), dear.calls) == (1, [["-0.5 -1.0"]])


def test_a_part_that_nobody_needs_is_not_called():
    dear = Column(1)
    reward = Minimum({"cheap": Column(0), "dear": Part(dear, range=(0.0, 1.0))})
    assert values(reward, [(-1.0, 1.0), (0.0, 1.0)]) == [-1.0, 0.0]
    assert reward.score([]) == []
    assert dear.calls == []


def test_constrained_takes_the_objective_only_over_the_floor():
    helpful, safe = Column(0), Column(1)
    reward = Constrained({"helpful": helpful, "safe": safe}, maximise="helpful", floor=0.5, lowest=-4.0)
    assert reward.name == "Constrained(safe=column1, helpful=column0)"
    rows = [(3.0, 0.5), (9.0, 0.25), (-9.0, 0.9), (9.0, math.nextafter(0.5, 0))]
    assert values(reward, rows) == [3.0, -4.25, -4.0, math.nextafter(-4.0, -5.0)]
    assert helpful.calls == [["3.0 0.5", "-9.0 0.9"]]


UNIT = st.floats(0, 1)
ANY = st.floats(-1e9, 1e9)


@given(rows=st.lists(st.tuples(ANY, UNIT, UNIT), max_size=6), offset=ANY, unit=st.floats(1e-3, 1e3))
def test_early_exit_never_changes_a_minimum(rows, offset, unit):
    bounded = [
        Part(Column(1), offset=offset, unit=unit, range=(0.0, 1.0)),
        Part(Column(2), range=(0.0, math.inf)),
    ]
    unbounded = [Part(Column(1), offset=offset, unit=unit), Part(Column(2))]
    quick, full = (
        Minimum({"a": Column(0), "b": second, "c": third}) for second, third in (bounded, unbounded)
    )
    exhaustive = [min(a, (b - offset) / unit, c) for a, b, c in rows]
    assert values(quick, rows) == values(full, rows) == exhaustive
    assert [count(part.reward) for part in unbounded] == [len(rows)] * 2
    decided = sum(a <= (0.0 - offset) / unit for a, _, _ in rows)
    assert count(bounded[0].reward) == len(rows) - decided


@given(rows=st.lists(st.tuples(ANY, ANY), max_size=6), floor=ANY, lowest=ANY)
def test_early_exit_never_changes_a_constrained_reward(rows, floor, lowest):
    objective = Column(0)
    reward = Constrained({"c": Column(1), "o": objective}, maximise="o", floor=floor, lowest=lowest)
    under = math.nextafter(lowest, -math.inf)
    exhaustive = [max(o, lowest) if c >= floor else min(lowest - (floor - c), under) for o, c in rows]
    assert values(reward, rows) == exhaustive
    assert count(objective) == sum(c >= floor for _, c in rows)


@given(text=st.tuples(ANY, ANY), other=st.tuples(ANY, ANY), floor=ANY, lowest=ANY)
def test_under_the_floor_is_always_under_and_further_is_never_better(text, other, floor, lowest):
    reward = Constrained({"o": Column(0), "c": Column(1)}, maximise="o", floor=floor, lowest=lowest)
    first, second = values(reward, [text, other])
    assume(text[1] < floor)
    assert first < second if other[1] >= floor else (first <= second or text[1] > other[1])


def test_release_reaches_every_part_even_when_one_raises():
    first, second = Column(0), Column(1)
    reward = Minimum({"a": first, "b": second})
    reward.release("run")
    second.release = lambda run_id: 1 / 0
    with pytest.raises(ZeroDivisionError):
        reward.release("other")
    assert (first.released, second.released) == (["run", "other"], ["run"])


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ((math.nan, 0.0), "column0 returned the reward nan"),
        ((0.5, 2.0), "outside its declared range 0.0 to 1"),
    ],
)
def test_a_part_without_a_proper_score_is_an_error(row, message):
    reward = Minimum({"a": Column(0), "b": Part(Column(1), range=(0.0, 1.0))})
    with pytest.raises(ScoringError, match=message):
        reward.score(asked([(0.5, 0.5), (row[0] or 0.5, row[1])]))


def test_a_part_that_raises_is_named():
    with pytest.raises(ScoringError, match="scoring with column3 failed: IndexError"):
        Minimum({"a": Column(3)}).score(asked([(0.5,)]))


def test_a_result_that_is_no_number_is_an_error():
    reward = Minimum({"a": Part(Column(0), unit=1e-300)})
    with pytest.raises(ScoringError, match="combined reward is inf"):
        reward.score(asked([(1e300,)]))


ONE = {"a": Column(0)}
TWO = {"a": Column(0), "b": Column(1)}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Minimum({}), "there are no parts"),
        (lambda: Minimum([Column(0)]), "there are no parts"),
        *[
            (lambda name=name: Minimum({name: Column(0)}), "cannot name a part")
            for name in ("", " ", "a.b", 3, "tool", "answer")
        ],
        (lambda: Minimum({"a": len}), "is no reward model"),
        (lambda: Part("x"), "str is no reward model"),
        (lambda: Part(Column(0), offset=math.nan), "offset=nan"),
        (lambda: Part(Column(0), unit=0.0), "unit=0.0 must be over 0"),
        (lambda: Part(Column(0), unit=True), "unit=True"),
        (lambda: Part(Column(0), range=(1.0, 0.0)), "lowest under highest"),
        (lambda: Part(Column(0), range=(math.nan, 0.0)), "lowest under highest"),
        (lambda: Part(Column(0), range=(0.0, 0.5, 1.0)), "lowest under highest"),
        (lambda: WeightedSum(ONE, {}), "name the same"),
        (lambda: WeightedSum(ONE, {"a": math.inf}), "weight of a=inf must be a finite number"),
        (lambda: WeightedSum(ONE, {"a": "1"}), "weight of a='1'"),
        (lambda: Constrained(TWO, maximise="c", floor=0, lowest=0), "maximise='c'"),
        (lambda: Constrained(ONE, maximise="a", floor=0, lowest=0), "give two parts"),
        (lambda: Constrained(TWO, maximise="a", floor=math.nan, lowest=0), "floor=nan"),
        (lambda: Constrained(TWO, maximise="a", floor=0, lowest=-math.inf), "lowest=-inf"),
    ],
)
def test_what_cannot_work_is_refused_at_construction(build, message):
    with pytest.raises(ConfigurationError, match=message):
        build()


def test_the_shared_base_decides_nothing():
    from stars_guard.rewards.combine import Combination

    with pytest.raises(NotImplementedError):
        Combination(ONE).score(asked([(1.0,)]))
