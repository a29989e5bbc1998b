"""Best-of-N: N whole answers, of which the one with the highest reward is shown."""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import linear_regression
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
    timed_like: tuple[str, ...] = ()
    """Names of Best-of-N methods with N given, which tell how seconds grow with the tokens of answers that
    are drawn together; none: as the tokens do."""

    @model_validator(mode="after")
    def _says_how_many(self) -> BestOfN:
        if bool(self.n) == (self.match is not None):
            raise ValueError("give either n, the number of answers, or match, the method to spend as much as")
        if self.timed_like and (self.match is None or self.by == "tokens"):
            raise ValueError("timed_like is read where another method is matched by seconds; leave it out")
        return self

    @property
    def waits_for(self) -> str | None:
        """The method that is matched."""
        return self.match

    @property
    def reads_costs_of(self) -> tuple[str, ...]:
        """The method that is matched, the one whose answer is the unit, and those that tell the pace."""
        return () if self.match is None else (self.match, *self._units)

    @property
    def reads_seconds_of(self) -> tuple[str, ...]:
        """Methods whose costs are read, where seconds are matched."""
        return self.reads_costs_of if self.by == "seconds" else ()

    @property
    def settlements(self) -> tuple[Method, ...]:
        """Itself, or the least and the most answers that matching asks for."""
        if self.match is None:
            return (self,)
        return tuple(self.model_copy(update={"n": n, "match": None}) for n in (1, _MOST))

    def check_read(self, others: Mapping[str, Method]) -> None:
        """Refuse methods under ``timed_like`` through whose times no line can be drawn.

        Raises:
            ValueError: one is no Best-of-N with N given, or none has another N than plain decoding.
        """
        numbers = []
        for name in self.timed_like:
            other = others[name]
            if not isinstance(other, BestOfN) or not other.n:
                raise ValueError(
                    f"timed_like names {name!r}, which is no best_of_n with n given; name some that are"
                )
            numbers.append(other.n)
        if numbers and max(numbers) == 1:
            raise ValueError(
                f"timed_like names {', '.join(self.timed_like)} with n=1, as many answers as plain decoding "
                "draws, and a line needs two points; name one with n=2 or more"
            )

    @property
    def _units(self) -> tuple[str, ...]:
        return ("plain", *self.timed_like)

    def settled(self, costs: CostsOf) -> BestOfN:
        """The nearest N whose costs are those of the other method.

        Args:
            costs: of the other methods, and of ``plain``, whose answer is the unit.

        Raises:
            ConfigurationError: one of them was not timed.
        """
        if self.match is None:
            return self
        tokens = _tokens(self.match, costs) if self.by == "tokens" else self._tokens_in_time(costs)
        ratio = tokens / _tokens("plain", costs)
        return self.model_copy(update={"n": min(_MOST, max(1, round(ratio))), "match": None})

    def _tokens_in_time(self, costs: CostsOf) -> float:
        """Tokens of whole answers that are drawn together in the time of the other method.

        Answers that are drawn in one batch share every pass, so their time is a line that does not begin at
        0: it is fitted to what was timed.
        """
        seconds = _seconds(str(self.match), costs)
        if not self.timed_like:
            return _tokens("plain", costs) * seconds / _seconds("plain", costs)
        line = linear_regression(
            [_tokens(name, costs) for name in self._units], [_seconds(name, costs) for name in self._units]
        )
        if line.slope <= 0:
            # More answers cost no time that could be told from noise: as many as were tried.
            return max(_tokens(name, costs) for name in self._units)
        return (seconds - line.intercept) / line.slope

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


def _tokens(method: str, costs: CostsOf) -> float:
    tokens = costs(method).proposed_tokens
    if not tokens:
        raise ConfigurationError(f"{method!r} proposed no tokens, so that nothing can be matched to it")
    return tokens


def _seconds(method: str, costs: CostsOf) -> float:
    seconds = costs(method).seconds
    if not seconds:
        raise ConfigurationError(
            f"{method!r} was not timed, so that nothing can be matched to it by seconds; set timed of the "
            "task to 1 or more, or match by tokens"
        )
    return seconds
