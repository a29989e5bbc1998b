"""STARS as it was published: no floor, a ramp over the request's length, and the last candidate forced."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Ramp, Soft
from stars_guard.errors import ConfigurationError
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
    """Acceptance temperature; None: that of the reward's settings, whose rule must then be soft."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The published settings, where none is given here at the numbers of the reward's own.

        Raises:
            ConfigurationError: no beta is given, and the reward's rule has none.
        """
        return GuardConfig.paper(
            target=base.threshold.target if self.target is None else self.target,
            beta=beta_of(base) if self.beta is None else self.beta,
            alpha=alpha_of(base) if self.alpha is None else self.alpha,
        )


def beta_of(base: GuardConfig) -> float:
    """Acceptance temperature of settings.

    Raises:
        ConfigurationError: the rule is the hard one, which has none. No number would do in its place: beta is
            in units of the reward, and rewards differ in scale.
    """
    if not isinstance(base.acceptance, Soft):
        raise ConfigurationError(
            f"acceptance of the reward's settings is {base.acceptance.kind!r}, which has no beta, and this "
            "method is a soft rule; name settings of the reward with {kind: soft, beta: ...}, where half of "
            "the spread of its segment rewards is a beginning, or give beta where the method has it"
        )
    return base.acceptance.beta


def alpha_of(base: GuardConfig) -> float:
    """Where the ramp of settings starts; half way for a threshold that is no ramp."""
    return base.threshold.alpha if isinstance(base.threshold, Ramp) else 0.5
