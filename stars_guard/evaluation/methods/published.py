"""STARS as it was published: no floor, a ramp over the request's length, and the last candidate forced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Soft
from stars_guard.evaluation.methods.base import Method
from stars_guard.settings import Computable


class Published(Method):
    """The rule of arXiv 2511.03827, by :meth:`stars_guard.GuardConfig.paper`."""

    kind: Literal["published"] = "published"
    alpha: float = Field(default=0.5, ge=0, le=1)
    """Where the ramp starts: 0 at the bare prompt's reward, 1 at the target."""
    beta: Computable | None = Field(default=None, gt=0)
    """Acceptance temperature; None: that of the reward's settings."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The published settings, at the target of the reward's own."""
        beta = self.beta or beta_of(base)
        return GuardConfig.paper(target=base.threshold.target, beta=beta, alpha=self.alpha)


def beta_of(base: GuardConfig) -> float:
    """Acceptance temperature of settings; a quarter of a unit for the hard rule, which has none."""
    return base.acceptance.beta if isinstance(base.acceptance, Soft) else 0.25
