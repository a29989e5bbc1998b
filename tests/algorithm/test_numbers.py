"""Numbers that a model cannot compute with are refused where they are set."""

from __future__ import annotations

import pytest

from stars_guard.algorithm.candidates import Adaptive
from stars_guard.algorithm.config import (
    LARGEST_PENALTY,
    LEAST_TEMPERATURE,
    Budget,
    GuardConfig,
    SamplingParams,
)
from stars_guard.algorithm.escalation import TemperatureLadder
from stars_guard.algorithm.rules import Constant, FrontLoaded, Soft
from stars_guard.errors import ConfigurationError
from stars_guard.settings import LEAST_NUMBER

TARGET = Constant(target=1.0)
UNDERFLOWING = [1e-320, 5e-324, 1e-300, LEAST_NUMBER / 2]
SETTINGS = {
    "temperature": lambda number: SamplingParams(temperature=number),
    "top_p": lambda number: SamplingParams(top_p=number),
    "min_p": lambda number: SamplingParams(min_p=number),
    "repetition_penalty": lambda number: SamplingParams(repetition_penalty=number),
    "max_seconds": lambda number: Budget(max_seconds=number),
    "beta": lambda number: Soft(beta=number),
    "decay_tokens": lambda number: FrontLoaded(target=1, start=2, decay_tokens=number),
    "highest": lambda number: TemperatureLadder(highest=number),
    "target_rate": lambda number: Adaptive(target_rate=number),
    "step": lambda number: TemperatureLadder(step=number),
    "acceptance": lambda number: GuardConfig(threshold=TARGET, acceptance={"kind": "soft", "beta": number}),
}


@pytest.mark.parametrize("number", UNDERFLOWING)
@pytest.mark.parametrize("name", SETTINGS)
def test_a_number_that_is_0_to_a_model_is_refused_by_name(name, number):
    with pytest.raises(ConfigurationError, match=rf"{name}.*should be"):
        SETTINGS[name](number)


def test_what_can_be_computed_with_is_taken():
    assert SamplingParams(temperature=LEAST_TEMPERATURE).temperature == LEAST_TEMPERATURE
    assert SamplingParams(temperature=0, min_p=0).temperature == 0
    assert SamplingParams(top_p=LEAST_NUMBER, min_p=LEAST_NUMBER).top_p == LEAST_NUMBER
    assert Soft(beta=LEAST_NUMBER).probability(0.0, 1.0) == 0.0
    assert Soft(beta=LEAST_NUMBER).probability(1.0, 1.0) == 1.0
    assert FrontLoaded(target=1, start=2, decay_tokens=LEAST_NUMBER).decay_tokens == LEAST_NUMBER


@pytest.mark.parametrize("temperature", [1e-9, 1e-30])
def test_a_temperature_is_greedy_or_large_enough_to_divide_by(temperature):
    with pytest.raises(ConfigurationError, match=f"temperature={temperature}: should be 0, which is greedy"):
        SamplingParams(temperature=temperature)


@pytest.mark.parametrize("penalty", [LARGEST_PENALTY * 1.01, 0.99 / LARGEST_PENALTY, 1e30, 1e-30])
def test_a_repetition_penalty_leaves_logits_finite(penalty):
    with pytest.raises(ConfigurationError, match=r"repetition_penalty=.*should be between 0.01 and 100"):
        SamplingParams(repetition_penalty=penalty)
