"""Settings of a single request: the guard's own, with what the keywords of a call put in their place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, TypedDict

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.settings import accepted_names


class SamplingOverrides(TypedDict, total=False):
    """The fields of :class:`SamplingParams` as keywords of a call; None is the guard's own."""

    max_tokens: int | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    seed: int | None
    stop: str | Sequence[str] | None
    stop_token_ids: Sequence[int] | None
    response_schema: str | dict[str, Any] | None


class Overrides(SamplingOverrides, total=False):
    """Settings that a single request may have instead of the guard's; None is the guard's own."""

    sampling: SamplingParams | None
    config: GuardConfig | None
    budget: Budget | None


class RequestSettings(NamedTuple):
    """How a request proposes, how it is guarded, and what it may cost."""

    sampling: SamplingParams
    config: GuardConfig
    budget: Budget

    def overridden(self, overrides: Mapping[str, Any]) -> RequestSettings:
        """Settings with those of a call in their place; fields of sampling change what is there.

        Raises:
            ConfigurationError: there is no such setting, or one is out of range.
        """
        known = (*self._fields, *SamplingParams.model_fields)
        if unknown := [name for name in overrides if name not in known]:
            raise ConfigurationError(f"unknown setting of a call {accepted_names(unknown[0], known)}")
        given = {name: value for name, value in overrides.items() if value is not None}
        parts = self._replace(**{name: given.pop(name) for name in self._fields if name in given})
        # What is no SamplingParams at all is refused by name where the request is checked.
        if not given or not isinstance(parts.sampling, SamplingParams):
            return parts
        return parts._replace(sampling=parts.sampling.changed(**given))
