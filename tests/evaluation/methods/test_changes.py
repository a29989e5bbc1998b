"""Settings of a guard changed by their names, and numbers in units of the reward's spread."""

from __future__ import annotations

import pytest

from stars_guard import ConfigurationError, Constant, GuardConfig, Soft
from stars_guard.evaluation.methods.changes import changed_guard
from stars_guard.evaluation.methods.guarded import Guarded
from stars_guard.evaluation.methods.scale import RewardScale, ScaleAt, has_units, in_reward_units

BASE = GuardConfig(threshold={"kind": "linear_in_tokens", "target": 2.0}, acceptance=Soft(beta=0.25))
SCALE = RewardScale(
    mean=1.0,
    spread=2.0,
    positions=(ScaleAt(tokens=16, mean=0.0, spread=1.0), ScaleAt(tokens=32, mean=4.0, spread=3.0)),
)


def test_a_setting_within_a_setting_is_changed_and_the_others_stay():
    changed = changed_guard(BASE, {"threshold.alpha": 0.9, "segments.max_tokens": 8, "max_attempts": 3})
    assert (changed.threshold.alpha, changed.threshold.target) == (0.9, 2.0)
    assert (changed.segments.max_tokens, changed.max_attempts) == (8, 3)
    assert changed.acceptance == BASE.acceptance


def test_a_whole_setting_is_replaced():
    assert changed_guard(BASE, {"threshold": {"kind": "constant", "target": 1.0}}).threshold == Constant(
        target=1.0
    )
    assert changed_guard(BASE, {"reasoning.threshold": 1.5}).reasoning.threshold == Constant(target=1.5)


@pytest.mark.parametrize("changes", [{"segments.tokens": 8}, {"threshold.alpha": 2}, {"max_attempts": "x"}])
def test_what_the_guard_does_not_take_is_refused(changes):
    with pytest.raises(ConfigurationError):
        changed_guard(BASE, changes)


def test_a_name_that_is_no_setting_is_refused_when_the_method_is_made():
    with pytest.raises(ConfigurationError, match=r"'segment.max_tokens' \(did you mean 'segments'"):
        Guarded(changes={"segment.max_tokens": 8})


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0.5 sd", 1.0),
        ("2sd", 4.0),
        ("mean + 1 sd", 3.0),
        ("mean - 0.5 sd", 0.0),
        ("mean at 16 + 1 sd", 1.0),
        ("mean at 99 - 1 sd", 1.0),
    ],
)
def test_numbers_in_units_of_the_spread(text, number):
    assert in_reward_units({"a": [text, "mean", 7]}, SCALE) == {"a": [number, "mean", 7]}
    assert has_units([{"a": text}])


def test_without_positions_all_segments_are_taken_together():
    assert in_reward_units("mean at 16 + 1 sd", RewardScale(mean=1.0, spread=2.0)) == 3.0


@pytest.mark.parametrize("text", ["mean * 2 sd", "one sd", "mean 1 sd", "-1 sd"])
def test_a_text_that_was_meant_as_such_a_number_is_refused(text):
    with pytest.raises(ConfigurationError, match="no number in units of the reward's spread"):
        Guarded(changes={"acceptance": {"kind": "soft", "beta": text}})


def test_the_reward_is_measured_only_where_there_are_such_numbers():
    def measured() -> RewardScale:
        asked.append(True)
        return SCALE

    asked: list[bool] = []
    assert Guarded(changes={"max_attempts": 3}).scaled(measured).changes == {"max_attempts": 3}
    assert not asked
    scaled = Guarded(changes={"acceptance": {"kind": "soft", "beta": "1 sd"}}).scaled(measured)
    assert scaled.changes == {"acceptance": {"kind": "soft", "beta": 2.0}}
