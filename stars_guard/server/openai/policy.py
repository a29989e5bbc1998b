"""What a request may set: the operator's limits, applied to the operator's own settings.

A request can make the guard stricter. It can make it weaker only in a field, and within a range, that the
operator allowed. A value that is not allowed is refused, never put right in silence.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from stars_guard.algorithm.candidates import Adaptive
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Best, Last, Refuse
from stars_guard.errors import ConfigurationError
from stars_guard.server.openai.faults import bad_request
from stars_guard.server.openai.limits import Range, RequestLimits
from stars_guard.server.openai.wire import ChatRequest, CompletionRequest, Stars

_RULES = ("target", "beta", "segment_tokens", "max_attempts")
_BUDGETS = tuple(Budget.model_fields)
_SAMPLING = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
_FREE = ("seed", "stop", "stop_token_ids", "tools", "response_format")
_HIGHER_IS_STRICTER = ("target", "min_p")
"""Fields in which a higher value is stricter; in all others, a lower one is."""
_ASKS_FOR_NOTHING: tuple[Any, ...] = (None, [], {"type": "text"})


@dataclass(frozen=True)
class RequestPolicy:
    """Reads of a request what it may set, and refuses the rest."""

    limits: RequestLimits
    guard: GuardConfig
    """How to guard unless a request says otherwise."""
    sampling: SamplingParams
    """How to draw what a request leaves open."""
    budget: Budget
    """What a choice may cost at most."""

    def proposing(self, body: ChatRequest | CompletionRequest) -> SamplingParams:
        """How to draw for this request; its length, schema and seed are not yet in it.

        Raises:
            Fault: naming the field that is not a request's to choose, or not so.
        """
        for name in _FREE:
            asks = getattr(body, name, None) not in _ASKS_FOR_NOTHING
            if asks and getattr(self.limits, name) == "fixed":
                raise bad_request(f"{name} is not a request's to choose here; {_remedy(name)}", name)
        given = {name: value for name in _SAMPLING if (value := getattr(body, name)) is not None}
        self._check(given, "")
        stops = [body.stop] if isinstance(body.stop, str) else body.stop or []
        return self.sampling.changed(
            **given,
            stop=_joined(self.sampling.stop, stops),
            stop_token_ids=_joined(self.sampling.stop_token_ids, body.stop_token_ids or []),
        )

    def guarding(self, stars: Stars, sampling: SamplingParams) -> tuple[GuardConfig, Budget]:
        """How this request is guarded, and what it may cost.

        Args:
            stars: what it asks for.
            sampling: how it draws, from :meth:`proposing`.

        Raises:
            Fault: naming the field that is not a request's to choose, or not so.
        """
        given = stars.model_dump(exclude_none=True, exclude={"trace"})
        self._check(given, "stars.")
        rules = {name: given[name] for name in _RULES if given.get(name, self._own[name]) != self._own[name]}
        budget = {name: given[name] for name in _BUDGETS if name in given}
        try:
            config = self.guard.adjusted(**rules)
        except ConfigurationError as error:
            raise bad_request(str(error), "stars") from error
        tightened = any(getattr(self.limits, name) == "stricter" for name in rules)
        if tightened:
            config = _without_slack(config)
        if tightened or _narrowed(sampling, self.sampling):
            config = _unforced(config)
        return config, self.budget.changed(**budget)

    @cached_property
    def _own(self) -> dict[str, float | None]:
        """The operator's value of each field that has a number."""
        return {
            "target": self.guard.threshold.target,
            "beta": getattr(self.guard.acceptance, "beta", 0.0),
            "segment_tokens": self.guard.segments.max_tokens,
            "max_attempts": self.guard.max_attempts,
            **{name: getattr(self.sampling, name) for name in _SAMPLING},
            **{name: getattr(self.budget, name) for name in _BUDGETS},
        }

    def _check(self, given: Mapping[str, float], place: str) -> None:
        for name, value in given.items():
            if problem := self._problem(name, value):
                field = f"{place}{name}"
                raise bad_request(f"{field}={value:.9g}: {problem}; {_remedy(name)}", field)

    def _problem(self, name: str, value: float) -> str | None:
        """What is wrong with a value; None if a request may choose it."""
        allowed, own = getattr(self.limits, name), self._own[name]
        if own is not None and value == own:
            return None
        if isinstance(allowed, Range):
            over = name in _BUDGETS and own is not None and value > own
            return f"at most {own:.9g} is allowed here" if over else allowed.problem(value)
        if allowed == "fixed":
            return "it is not a request's to choose here" + (
                "" if own is None else f", where it is {own:.9g}"
            )
        return _not_stricter(name, value, own)


def _narrowed(sampling: SamplingParams, own: SamplingParams) -> bool:
    """Whether a request's candidates are so much more alike than the operator's that they fail together.

    Near temperature 0 only the first is: the others are drawn at the operator's ``retry_temperature``
    (:mod:`stars_guard.algorithm.retries`). What a request narrowed is not forced either way.
    """
    narrow = {
        "temperature": sampling.temperature < own.temperature / 2,
        "top_p": sampling.top_p < min(own.top_p, 0.5),
        "top_k": 0 < sampling.top_k < min(own.top_k or math.inf, 5),
        "min_p": sampling.min_p > max(own.min_p, 0.5),
    }
    return any(narrow.values())


def _without_slack(config: GuardConfig) -> GuardConfig:
    """The settings with a bar that failures do not lower, for a request that would fail more often."""
    drawing = config.drawing
    slack = isinstance(drawing, Adaptive) and drawing.slack > 0
    return config.changed(drawing=drawing.changed(slack=0.0)) if slack else config


def _unforced(config: GuardConfig) -> GuardConfig:
    """The settings, refusing rather than forcing, for a request that made candidates pass less often.

    Otherwise it would get text by being strict: what its own bar rejects would be forced.
    """
    forces = isinstance(config.exhaustion, Best | Last)
    # The floor may be that of the policy which goes.
    return config.changed(exhaustion=Refuse(), floor=config.stated_floor) if forces else config


def _not_stricter(name: str, value: float, own: float | None) -> str | None:
    """Why a value other than the operator's is not stricter; None if it is."""
    if own is None:
        return None
    stricter, allowed = _stricter(name, value, own)
    return None if stricter else f"{allowed} is allowed here"


def _stricter(name: str, value: float, own: float) -> tuple[bool, str]:
    """Whether a value is stricter than the operator's, and which values may be chosen."""
    if name in _HIGHER_IS_STRICTER:
        return value > own, f"at least {own:.9g}"
    if name == "temperature":
        return 0 < value < own, f"over 0 and at most {own:.9g}" if own else "0"
    if name == "top_k":  # 0 keeps all tokens
        return 0 < value < (own or math.inf), f"1 to {own:.9g}"
    return value < own, f"at most {own:.9g}"


def _remedy(name: str) -> str:
    return f"the operator can allow it by limits.requests.{name}"


def _joined(own: tuple[Any, ...], given: list[Any]) -> tuple[Any, ...]:
    """The operator's, then those of a request, each once."""
    return tuple(dict.fromkeys([*own, *given]))
