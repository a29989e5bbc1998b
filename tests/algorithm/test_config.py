"""What users set: validated at construction, frozen, and the same after a round trip through JSON."""

from __future__ import annotations

import math

import pytest
from pydantic import ValidationError

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Raise,
    Refuse,
    Soft,
    Table,
)
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError

THRESHOLD = Constant(target=1.0)

PARTS = {
    "threshold": [
        LinearInTokens(target=2, alpha=0.25),
        LinearInSegments(target=2, segments=6),
        Constant(target=-1),
        FrontLoaded(target=1, start=3, decay_tokens=20),
        Table(positions=(8, 16), thresholds=(0.5, 1.5)),
    ],
    "acceptance": [Soft(beta=0.1), Hard()],
    "segments": [FixedLength(max_tokens=15), EntropyCut(threshold=2), Boundary(marks=".;")],
    "drawing": [Fixed(candidates=4), Adaptive(segment_tokens=(8, 64), slack=0.5)],
    "exhaustion": [Best(), Best(floor=-2), Last(), Refuse(), Raise()],
}


@pytest.mark.parametrize(
    ("part", "value"), [(part, value) for part, values in PARTS.items() for value in values], ids=repr
)
def test_every_kind_of_setting_survives_json(part, value):
    config = GuardConfig(**{"threshold": THRESHOLD, part: value})
    again = GuardConfig.model_validate_json(config.model_dump_json())
    assert again == config
    assert type(getattr(again, part)) is type(value)
    assert hash(again) == hash(config)


def test_parts_may_be_given_as_plain_data():
    config = GuardConfig(threshold={"kind": "linear_in_tokens", "target": 2}, segments={"kind": "boundary"})
    assert config == GuardConfig(threshold=LinearInTokens(target=2), segments=Boundary())


def test_sampling_and_budget_survive_json():
    sampling = SamplingParams(seed=2**63 - 1, stop=("a", "b"), stop_token_ids=(1, 2), top_p=0.5)
    assert SamplingParams.model_validate_json(sampling.model_dump_json()) == sampling
    budget = Budget(max_proposed_tokens=5, max_reward_calls=6, max_seconds=0.5)
    assert Budget.model_validate_json(budget.model_dump_json()) == budget


def test_a_single_stop_string_need_not_be_wrapped():
    assert SamplingParams(stop="END").stop == ("END",)
    assert SamplingParams(stop=["END", "###"]).stop == ("END", "###")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: GuardConfig(), "GuardConfig: threshold: Field required"),
        (lambda: GuardConfig(threshold=THRESHOLD, max_attempts=0), "GuardConfig: max_attempts=0: "),
        (lambda: GuardConfig(threshold=THRESHOLD, tau=1), "GuardConfig: unknown setting 'tau'"),
        (lambda: GuardConfig(threshold=THRESHOLD, on_error="ignore"), "on_error='ignore': "),
        (
            lambda: GuardConfig(threshold={"kind": "constant"}),
            r"threshold.constant: .*target: Field required",
        ),
        (lambda: GuardConfig(threshold={"kind": "flat", "target": 1}), "threshold: .*'flat'"),
        (lambda: GuardConfig(threshold={"kind": "constant", "target": "x"}), "target='x': "),
        (lambda: GuardConfig(threshold=THRESHOLD, acceptance={"kind": "soft", "beta": 0}), "beta=0: "),
        (lambda: GuardConfig(threshold=1.0), "threshold"),
        (lambda: SamplingParams(max_tokens=0), "SamplingParams: max_tokens=0: "),
        (lambda: SamplingParams(temperature=-1), "temperature=-1: "),
        (lambda: SamplingParams(temperature=math.nan), "temperature=nan: "),
        (lambda: SamplingParams(top_k=-1), "top_k=-1: "),
        (lambda: SamplingParams(top_p=0), "top_p=0: "),
        (lambda: SamplingParams(min_p=2), "min_p=2: "),
        (lambda: SamplingParams(repetition_penalty=0), "repetition_penalty=0: "),
        (lambda: SamplingParams(seed=-1), "seed=-1: "),
        (lambda: SamplingParams(seed=2**63), f"seed={2**63}: "),
        (lambda: SamplingParams(stop=""), "a stop string is empty"),
        (lambda: SamplingParams(stop=("END", "")), "a stop string is empty"),
        (lambda: Budget(max_proposed_tokens=0), "Budget: max_proposed_tokens=0: "),
        (lambda: Budget(max_reward_calls=0), "max_reward_calls=0: "),
        (lambda: Budget(max_seconds=0), "max_seconds=0: "),
        (lambda: Budget(max_seconds=math.inf), "max_seconds=inf: "),
    ],
)
def test_wrong_settings_are_one_clear_line(wrong, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        wrong()
    assert "\n" not in str(caught.value)
    assert isinstance(caught.value, ValueError)


def test_every_wrong_setting_is_named():
    with pytest.raises(ConfigurationError) as caught:
        SamplingParams(top_p=7, top_k=-2, speed=1)
    assert all(part in str(caught.value) for part in ("top_p=7", "top_k=-2", "unknown setting 'speed'"))


@pytest.mark.parametrize(
    "settings", [GuardConfig(threshold=THRESHOLD), SamplingParams(), Budget(), THRESHOLD]
)
def test_settings_are_frozen(settings):
    name = next(iter(type(settings).model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(settings, name, getattr(settings, name))


@pytest.mark.parametrize(
    ("exhaustion", "acceptance", "floor"),
    [
        (Best(), Soft(beta=0.2), 0.0),
        (Best(), Hard(), 1.0),
        (Best(floor=-3), Soft(), -3.0),
        (Refuse(), Soft(beta=0.2), 0.0),
    ],
)
def test_the_floor_is_resolved_from_target_and_acceptance(exhaustion, acceptance, floor):
    assert GuardConfig(threshold=THRESHOLD, exhaustion=exhaustion, acceptance=acceptance).floor == floor
