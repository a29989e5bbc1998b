"""STARS with settings that were measured: those that ``stars-guard calibrate`` wrote."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.methods.base import Method
from stars_guard.loading.calibrated import CalibratedConfig, guard_section


def _read(section: Any) -> Any:
    return section if isinstance(section, GuardConfig) else guard_section(section)


def _measured(settings: CalibratedConfig) -> CalibratedConfig:
    if settings.made_for is None:
        raise ValueError(
            "they do not say what they were made for, so stars-guard calibrate did not write them; give its "
            "config.toml, or take the kind 'guarded' for settings written by hand"
        )
    return settings


class Calibrated(Method):
    """The guard with measured settings, which are refused for another reward than they were made for.

    They are measured before an evaluation and on other prompts: what is fitted on the prompts that it is
    then compared on looks better than it is.
    """

    kind: Literal["calibrated"] = "calibrated"
    guard_settings: Annotated[CalibratedConfig, BeforeValidator(_read), AfterValidator(_measured)]
    """What ``stars-guard calibrate`` wrote, as ``{file = "config.toml"}`` or in place."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The measured settings."""
        return self.guard_settings
