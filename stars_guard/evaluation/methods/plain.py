"""Plain decoding: the first candidate, whatever it is."""

from __future__ import annotations

from typing import Literal

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.methods.base import Method
from stars_guard.report import unguarded


class Plain(Method):
    """Decoding that rejects nothing."""

    kind: Literal["plain"] = "plain"

    @property
    def guided(self) -> bool:
        """Rewards are counted, and change nothing."""
        return False

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """Settings under which the first candidate is accepted."""
        return unguarded(base)
