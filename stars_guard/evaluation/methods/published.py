"""STARS as it was published: no floor, a ramp over the request's length, and the last candidate forced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Ramp, Soft
from stars_guard.evaluation.methods.base import Method
from stars_guard.settings import Computable


class Published(Method):
    """The rule of arXiv 2511.03827, by :meth:`stars_guard.GuardConfig.paper`."""

    kind: Literal["published"] = "published"
    target: float | None = None
    """Reward ``r*``; None: that of the reward's settings."""
    alpha: float | None = Field(default=None, ge=0, le=1)
    """Where the ramp starts, 0 at the bare prompt's reward, 1 at the target; None: that of the reward's
    settings, or 0.5 where they have no ramp."""
    beta: Computable | None = Field(default=None, gt=0)
    """Acceptance temperature; None: that of the reward's settings."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The published settings, where none is given here at the numbers of the reward's own."""
        return GuardConfig.paper(
            target=base.threshold.target if self.target is None else self.target,
            beta=self.beta or beta_of(base),
            alpha=alpha_of(base) if self.alpha is None else self.alpha,
        )


def beta_of(base: GuardConfig) -> float:
    """Acceptance temperature of settings; a quarter of a unit for the hard rule, which has none."""
    return base.acceptance.beta if isinstance(base.acceptance, Soft) else 0.25


def alpha_of(base: GuardConfig) -> float:
    """Where the ramp of settings starts; half way for a threshold that is no ramp."""
    return base.threshold.alpha if isinstance(base.threshold, Ramp) else 0.5
