"""One call of an adapter, ready to be made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.prompts import Prompt


class CallOverrides(TypedDict):
    """What a request is answered with, as the methods of a guard take it."""

    sampling: SamplingParams
    config: GuardConfig
    budget: Budget


@dataclass(frozen=True, slots=True)
class GuardedCall:
    """One call of an adapter, ready to be made: ``guard.generate(call.prompt, **call.overrides)``."""

    prompt: Prompt
    overrides: CallOverrides
    include_trace: bool
    """Whether the answer is to come with the whole trace."""
    model: str | None
    """Name of the language model that this call asks for; None is the adapter's."""
    model_name: str
    """Name of the language model that answers, for metadata."""
