"""STARS with the settings that are deployed, or any others."""

from __future__ import annotations

from typing import Literal

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.methods.base import Method
from stars_guard.evaluation.methods.guarding import GuardSection


class Guarded(Method):
    """The guard, as the evaluation or this method sets it."""

    kind: Literal["guarded"] = "guarded"
    guard_settings: GuardSection = None
    """Settings of :class:`stars_guard.GuardConfig`, or ``{file = "..."}``; None: those of the reward."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The settings given here, or those that the reward goes with."""
        return self.guard_settings or base
