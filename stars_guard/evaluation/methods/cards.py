"""CARDS (arXiv 2406.16306): segments that end where the model is unsure."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, LinearInTokens, Soft
from stars_guard.algorithm.segments import EntropyCut
from stars_guard.evaluation.methods.base import Method
from stars_guard.evaluation.methods.published import beta_of


class Cards(Method):
    """Entropy segments, a ramp over the answer's length, and the best candidate seen where none passed.

    Its published code takes beta for the sampling temperature, too, tests 20 candidates and keeps the best of
    21 unseen, never ends an answer early, and recomputes what a cache would hold. None of that is copied:
    temperature and end of sequence are those of the other methods, so that only the rule differs.
    """

    kind: Literal["cards"] = "cards"
    entropy: float = Field(default=3.0, ge=0)
    """Next-token entropy in nats, at which a segment ends."""
    top_k: int = Field(default=40, ge=0)
    """Most tokens that are drawn from; 0 is all."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The settings of CARDS, at the target and beta of the reward's own.

        Raises:
            ConfigurationError: the reward's rule has no beta.
        """
        return GuardConfig(
            threshold=LinearInTokens(target=base.threshold.target, alpha=0.5, horizon="request"),
            acceptance=Soft(beta=beta_of(base)),
            floor=-math.inf,
            final_at_target=False,
            segments=EntropyCut(threshold=self.entropy),
            drawing=Fixed(candidates=1),
            exhaustion=Best(),
            retry_temperature=None,
        )

    def sampling(self, base: SamplingParams) -> SamplingParams:
        """Draws from the likeliest tokens."""
        return base.changed(top_k=self.top_k)
