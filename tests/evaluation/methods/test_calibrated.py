"""Settings that calibration wrote, and only those."""

from __future__ import annotations

import pytest
from pydantic import TypeAdapter

from stars_guard import ConfigurationError, GuardConfig, SamplingParams, StarsGuardedLLM
from stars_guard.algorithm.rules import Constant, Table
from stars_guard.evaluation.methods import AnyMethod
from stars_guard.evaluation.methods.calibrated import Calibrated
from stars_guard.loading.calibrated import MadeFor, write_config
from stars_guard.testing import KeywordReward, ScriptedModel

BASE = GuardConfig(threshold=Constant(target=1.0))
MEASURED = GuardConfig(threshold=Table(positions=(4, 8), thresholds=(0.2, 0.4)))
FOR = MadeFor(reward="keywords", model="scripted", acceptance=0.5)


def test_a_file_of_calibration_is_what_guards(tmp_path):
    write_config(tmp_path / "config.toml", MEASURED, FOR)
    given = {"kind": "calibrated", "guard_settings": {"file": str(tmp_path / "config.toml")}}
    method = TypeAdapter(AnyMethod).validate_python(given)
    config = method.guard(BASE, SamplingParams())
    assert config.threshold == MEASURED.threshold
    llm = StarsGuardedLLM(ScriptedModel([["fine"]]), KeywordReward(["bad"]), config)
    assert llm.generate("Well?").text == "fine"


def test_the_measured_settings_may_stand_in_place():
    settings = {"threshold": 0.5, "made_for": FOR.model_dump()}
    method = Calibrated(guard_settings=settings)
    assert method.guard(BASE, SamplingParams()).threshold == Constant(target=0.5)
    assert Calibrated(**method.model_dump()) == method
    assert Calibrated(guard_settings=method.guard_settings) == method


def test_they_are_refused_for_another_reward():
    made_for = FOR.model_copy(update={"reward": "another"})
    settings = Calibrated(guard_settings={"threshold": 0.5, "made_for": made_for.model_dump()})
    with pytest.raises(ConfigurationError, match="made for the reward 'another'"):
        StarsGuardedLLM(
            ScriptedModel([["fine"]]), KeywordReward(["bad"]), settings.guard(BASE, SamplingParams())
        )


def test_settings_that_nobody_measured_are_refused():
    with pytest.raises(ConfigurationError, match="do not say what they were made for"):
        Calibrated(guard_settings={"threshold": 0.5})
