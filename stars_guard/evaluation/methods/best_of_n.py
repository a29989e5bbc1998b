"""Best-of-N: N whole answers, of which the one with the highest reward is shown."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field, model_validator

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Constant, Hard
from stars_guard.algorithm.segments import FixedLength
from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.methods.base import CostsOf, Method

UNREACHABLE = 1e9
"""A target that no reward reaches, so that every candidate is drawn, and the best of them is shown."""
_MOST = 64
"""Most whole answers that matching asks for: more would not fit one round."""


class BestOfN(Method):
    """The best of N whole answers. N is given, or such that the costs are those of another method."""

    kind: Literal["best_of_n"] = "best_of_n"
    n: int = Field(default=0, ge=0, le=_MOST)
    """Whole answers; 0 where they follow from ``match``."""
    match: str | None = None
    """Name of the method whose costs N is chosen by."""
    by: Literal["tokens", "seconds"] = "tokens"
    """What shall be equal: proposed tokens an answer, or seconds of an answer that is alone."""

    @model_validator(mode="after")
    def _says_how_many(self) -> BestOfN:
        if bool(self.n) == (self.match is not None):
            raise ValueError("give either n, the number of answers, or match, the method to spend as much as")
        return self

    @property
    def waits_for(self) -> str | None:
        """The method that is matched."""
        return self.match

    def settled(self, costs: CostsOf) -> BestOfN:
        """The nearest N whose costs are those of the other method.

        Args:
            costs: of the other methods, and of ``plain``, whose answer is the unit.

        Raises:
            ConfigurationError: one of the two was not timed.
        """
        if self.match is None:
            return self
        ratio = _spent(self.match, costs, self.by) / _spent("plain", costs, self.by)
        return self.model_copy(update={"n": min(_MOST, max(1, round(ratio))), "match": None})

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """One segment as long as the answer, a target that nothing reaches, and the best of the N."""
        return GuardConfig(
            threshold=Constant(target=UNREACHABLE),
            acceptance=Hard(),
            floor=-math.inf,
            segments=FixedLength(max_tokens=sampling.max_tokens),
            drawing=Fixed(candidates=self.n),
            max_attempts=self.n,
            exhaustion=Best(),
        )


def _spent(method: str, costs: CostsOf, by: Literal["tokens", "seconds"]) -> float:
    of_method = costs(method)
    spent = of_method.proposed_tokens if by == "tokens" else of_method.seconds
    if not spent:
        raise ConfigurationError(
            f"{method!r} was not timed, so that nothing can be matched to it by {by}; set timed of the task "
            "to 1 or more, or match by tokens"
        )
    return spent
