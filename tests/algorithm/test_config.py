"""What users set: validated at construction, frozen, and the same after a round trip through JSON."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from stars_guard.algorithm.candidates import Adaptive, Fixed
from stars_guard.algorithm.config import Budget, ChannelRules, GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack
from stars_guard.algorithm.rules import (
    Best,
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Position,
    Raise,
    Refuse,
    Soft,
    Table,
)
from stars_guard.algorithm.segments import Boundary, EntropyCut, FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.types import Channel

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


def test_short_forms_stand_for_what_is_meant():
    short = GuardConfig(
        threshold=1, acceptance="soft", segments=16, drawing=4, exhaustion="refuse", escalation=["backtrack"]
    )
    assert short == GuardConfig(
        threshold=Constant(target=1.0),
        acceptance=Soft(),
        segments=FixedLength(max_tokens=16),
        drawing=Fixed(candidates=4),
        exhaustion=Refuse(),
        escalation=(Backtrack(),),
    )
    assert ChannelRules(threshold=0.5, acceptance="hard").threshold == Constant(target=0.5)
    assert GuardConfig.model_validate_json('{"threshold": 1.5}').threshold == Constant(target=1.5)


def test_settings_show_what_was_set_and_can_be_made_from_that():
    config = GuardConfig(threshold=LinearInTokens(target=2.0), acceptance=Soft(beta=0.25), floor=0.0)
    shown = "GuardConfig(threshold=LinearInTokens(target=2.0), acceptance=Soft(beta=0.25), floor=0.0)"
    assert repr(config) == shown
    assert eval(shown) == config
    assert (repr(SamplingParams()), repr(Budget(max_seconds=2))) == (
        "SamplingParams()",
        "Budget(max_seconds=2.0)",
    )


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
        (
            lambda: GuardConfig(threshold=True),
            "threshold=True: should be a number, which holds",
        ),
        (lambda: GuardConfig(threshold=Constant), "threshold: should be a number"),
        (lambda: GuardConfig(threshold={"target": 1.0}), "threshold: should be a number"),
        (lambda: GuardConfig(threshold=Hard()), "threshold: .*'hard'.* expected tags: 'linear_in_tokens'"),
        (
            lambda: GuardConfig(threshold=1.0, acceptance=0.5),
            "acceptance=0.5: should be 'hard', 'soft'",
        ),
        (
            lambda: GuardConfig(threshold=1.0, max_atempts=1),
            r"did you mean 'max_attempts'\?\); there are",
        ),
        (lambda: SamplingParams(xyz=1), "unknown setting 'xyz'; there are: max_tokens, temperature"),
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
    ("changes", "lowest", "forced_from"),
    [
        ({"acceptance": Soft(beta=0.2)}, 0.0, 0.0),
        ({"acceptance": Hard()}, 1.0, 1.0),
        ({}, 1.0, 1.0),  # nobody said what a reward under the target is worth
        ({"acceptance": Soft(), "exhaustion": Best(floor=-3)}, -3.0, -3.0),
        ({"acceptance": Soft(), "exhaustion": Best(floor=0), "floor": -3}, -3.0, 0.0),
        ({"acceptance": Soft(), "exhaustion": Best(floor=-3), "floor": 0}, 0.0, 0.0),
        ({"acceptance": Soft(beta=0.2), "exhaustion": Refuse()}, 0.0, 0.0),
        ({"acceptance": Soft(beta=0.2), "exhaustion": Last(), "floor": 0.5}, 0.5, 0.5),
        ({"floor": -math.inf}, -math.inf, -math.inf),
    ],
)
def test_the_floor_is_what_is_set_or_follows_from_target_and_acceptance(changes, lowest, forced_from):
    config = GuardConfig(threshold=THRESHOLD, **changes)
    assert (config.lowest, config.forced_from(Channel.ANSWER)) == (lowest, forced_from)
    assert GuardConfig.model_validate_json(config.model_dump_json()) == config
    assert GuardConfig(**json.loads(json.dumps(config.model_dump(mode="json"), allow_nan=False))) == config


def test_a_channel_with_rules_of_its_own_has_a_floor_of_its_own():
    rules = ChannelRules(threshold=Constant(target=9.0), floor=8.0)
    config = GuardConfig(threshold=THRESHOLD, exhaustion=Best(floor=-3), tools=rules)
    assert (config.rules(Channel.TOOL).lowest, config.forced_from(Channel.TOOL)) == (8.0, 8.0)


@pytest.mark.parametrize("made", [GuardConfig, ChannelRules])
@pytest.mark.parametrize(
    ("floor", "message"),
    [
        (math.nan, "floor=nan: must be"),
        (math.inf, "floor=inf: must be"),
        (1.5, "is over the target 1"),
    ],
)
def test_a_floor_out_of_reach_is_refused(made, floor, message):
    with pytest.raises(ConfigurationError, match=message):
        made(threshold=THRESHOLD, floor=floor)


@pytest.mark.parametrize("floor", [math.nan, math.inf, "nan"])
def test_what_may_be_forced_is_a_number(floor):
    with pytest.raises(ConfigurationError, match="must be a number, or -inf"):
        Best(floor=floor)


def test_the_published_rule_has_a_name_of_its_own():
    config = GuardConfig.paper(target=2.0, beta=0.5, max_attempts=7)
    rules = config.rules(Channel.ANSWER)
    # The request's horizon, a start wherever the bare prompt is, no floor, no bar of its own at the end.
    for most, bar in ((32, 2.0), (64, 0.0), (2048, -2 + 4 * 32 / 2048)):
        at = Position(32, 1, most, base_reward=-6.0, final=config.final_at_target)
        assert rules.bar(at) == pytest.approx(bar)
    assert rules.probability(-60.0, 2.0) == pytest.approx(math.exp(-124))
    assert isinstance(config.exhaustion, Last)
    assert (config.max_attempts, config.segments.max_tokens) == (7, 32)


@given(st.floats(-9, 1), st.floats(-9, 9), st.floats(-9, 9), st.integers(1, 600), st.booleans())
def test_nothing_under_the_floor_has_a_chance_and_the_end_is_held_to_the_target(
    floor, base, reward, tokens, final
):
    rules = ChannelRules(threshold=LinearInTokens(target=1.0), acceptance=Soft(beta=0.7), floor=floor)
    bars = {rules.bar(Position(tokens, 1, most, base, final=final)) for most in (tokens, 5000)}
    (bar,) = bars  # whatever the request asks for
    assert min(1.0, floor) <= bar <= 1.0
    assert not final or bar == 1.0
    assert (rules.probability(reward, bar) == 0) == (reward < floor)


def test_a_schema_nested_without_end_is_refused():
    with pytest.raises(ConfigurationError, match="nested too deeply"):
        SamplingParams(response_schema="[" * 10**6)
