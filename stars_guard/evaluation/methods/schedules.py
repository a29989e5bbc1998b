"""The guard with another course of the threshold: constant, or strict early."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant, FrontLoaded
from stars_guard.evaluation.methods.base import Method
from stars_guard.settings import Computable


class ConstantBar(Method):
    """The target from the first token on."""

    kind: Literal["constant_bar"] = "constant_bar"

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with a threshold that is the target everywhere."""
        return base.changed(threshold=Constant(target=base.threshold.target))


class FrontLoadedBar(Method):
    """A bar that is strict early and falls to the target: AdaSearch (arXiv 2510.23334) found that best."""

    kind: Literal["front_loaded_bar"] = "front_loaded_bar"
    excess: float = Field(default=1.0, ge=0)
    """How far over the target the bar begins, in units of the reward."""
    decay_tokens: Computable = Field(default=32, gt=0)
    """Response tokens after which the excess has fallen to 1/e."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with a threshold that falls to the target."""
        target = base.threshold.target
        falling = FrontLoaded(target=target, start=target + self.excess, decay_tokens=self.decay_tokens)
        return base.changed(threshold=falling)
