"""What goes into the loop, a request, and what comes out of it: events, the last of which is the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.trace import Attempt, Verdict
from stars_guard.prompts import Prompt
from stars_guard.result import GuardedResult
from stars_guard.text.transcript import Shown


@dataclass(frozen=True, slots=True)
class Request:
    """What to answer, how to propose, how to guard, and what it may cost."""

    prompt: Prompt
    sampling: SamplingParams
    config: GuardConfig
    budget: Budget
    acceptance_key: AcceptanceKey | None = None
    """What acceptance draws are hashed with; None: they follow from the seed."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A candidate was judged."""

    segment: int
    """Segment number, from 0."""
    attempt: Attempt
    verdict: Verdict
    """What became of the segment; ``OPEN`` while it goes on."""
    chosen: int | None
    """Index of the attempt that is now part of the answer, once one is."""


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is over."""

    result: GuardedResult


@dataclass(frozen=True, slots=True)
class Failed:
    """The request failed. A ``StarsGuardError`` carries the trace up to the failure."""

    error: Exception


Event: TypeAlias = Judged | Shown | Finished | Failed
