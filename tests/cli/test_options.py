"""From options to settings."""

from __future__ import annotations

from typing import Any

import pytest

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.algorithm.escalation import Backtrack, SafetyHint, TemperatureLadder
from stars_guard.algorithm.openings import RefusalOpening, WriteRefusal
from stars_guard.algorithm.rules import (
    Constant,
    FrontLoaded,
    Hard,
    Last,
    LinearInSegments,
    LinearInTokens,
    Refuse,
    Soft,
)
from stars_guard.algorithm.segments import CLAUSE_MARKS, Boundary, EntropyCut, FixedLength
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.wanted import wanted_guard
from stars_guard.errors import ConfigurationError


def configured(reward: str | None = None, **options: Any) -> GuardConfig:
    models, sampling = ModelOptions(reward=reward), SamplingOptions(max_tokens=100)
    return wanted_guard(models, GuardOptions(**options), sampling, LimitOptions()).config


def test_no_options_are_the_embedded_settings() -> None:
    assert configured() == embedded.CONFIG
    assert configured(embedded.ENCODER_NAME) == embedded.ENCODER_CONFIG


def test_options_replace_embedded_settings() -> None:
    changed = configured(target=3.0, beta=0.1, exhaustion="refuse", keep_rejected_text=True)
    assert changed.threshold == embedded.CONFIG.threshold.model_copy(update={"target": 3.0})
    assert (changed.acceptance, changed.exhaustion) == (Soft(beta=0.1), Refuse())
    assert changed.keep_rejected_text


def test_schedules() -> None:
    own: dict[str, Any] = {"reward": "own/reward", "target": 1.0}
    assert configured(**own).threshold == LinearInTokens(target=1.0)
    assert configured(**own, schedule="constant").threshold == Constant(target=1.0)
    assert configured(**own, schedule="front_loaded").threshold == FrontLoaded(target=1.0, start=2.0)
    assert configured(**own, schedule="front_loaded", start=4.0).threshold == FrontLoaded(
        target=1.0, start=4.0
    )
    in_segments = configured(**own, schedule="linear_in_segments", alpha=0.2, segment_tokens=16)
    assert in_segments.threshold == LinearInSegments(target=1.0, alpha=0.2, segments=7)


def test_segments_rules_and_policies() -> None:
    assert configured(segment_tokens=8).segments == FixedLength(max_tokens=8)
    assert configured(segments="entropy", segment_tokens=2).segments == EntropyCut(max_tokens=2, min_tokens=2)
    assert configured(segments="sentence").segments == Boundary()
    assert configured(segments="clause").segments == Boundary(marks=CLAUSE_MARKS)
    assert configured(rule="hard").acceptance == Hard()
    assert configured(rule="soft").acceptance == embedded.CONFIG.acceptance
    floored = configured(exhaustion="last", floor=-1.0)
    assert (floored.exhaustion, floored.lowest) == (Last(), -1.0)
    with pytest.raises(ConfigurationError, match="--target"):
        configured("own/reward")


def test_escalation() -> None:
    assert configured(escalate=["ladder"]).escalation == (TemperatureLadder(),)
    both = configured(escalate=["backtrack", "hint", "ladder", "hint"]).escalation
    assert both == (Backtrack(), SafetyHint(after=8), TemperatureLadder())
    assert configured(escalate=["hint"]).escalation == (SafetyHint(),)
    three = configured(escalate=["opening", "hint", "ladder"]).escalation
    assert three == (RefusalOpening(after=12), SafetyHint(after=8), TemperatureLadder())
    assert configured(escalate=["opening"]).escalation == (RefusalOpening(),)
    assert configured(exhaustion="write_refusal").exhaustion == WriteRefusal()
    with pytest.raises(
        ConfigurationError, match="--escalate pray is not among ladder, hint, opening, backtrack, none"
    ):
        configured(escalate=["hint", "pray"])
    assert configured(escalate=["none"]).escalation == ()
    with pytest.raises(ConfigurationError, match="--escalate none and --escalate hint contradict"):
        configured(escalate=["none", "hint"])


def test_attempts_make_room_for_policies_unless_they_are_counted() -> None:
    assert configured(escalate=["opening"]).max_attempts == 8
    assert configured(escalate=["opening", "hint", "ladder"]).max_attempts == 16
    assert configured(escalate=["backtrack"]).max_attempts == embedded.CONFIG.max_attempts
    with pytest.raises(ConfigurationError, match="max_attempts=3"):
        configured(escalate=["opening"], max_attempts=3)
    few = configured(max_attempts=3)
    assert (few.max_attempts, few.escalation) == (3, ())
    assert configured(max_attempts=4).escalation == embedded.CONFIG.escalation


def test_the_embedded_probe_needs_no_target() -> None:
    assert configured(reward=embedded.PROBE_NAME) == embedded.CONFIG
    with pytest.raises(ConfigurationError, match="needs --target"):
        configured(reward="own/reward")
