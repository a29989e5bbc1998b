"""The guard with a policy for segments that keep failing: a hint in the prompt, or going back."""

from __future__ import annotations

from typing import Literal

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.escalation import Backtrack, SafetyHint
from stars_guard.evaluation.methods.base import Method


class InformedRetry(Method):
    """Later attempts at a segment are drawn with a hint in the prompt of what is wanted."""

    kind: Literal["informed_retry"] = "informed_retry"
    hint: SafetyHint = SafetyHint()
    """Hint, and after how many attempts it is given."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with the hint."""
        return base.changed(escalation=(self.hint,))


class Backtracking(Method):
    """Where no attempt passes, the segments before are withdrawn and written anew."""

    kind: Literal["backtracking"] = "backtracking"
    back: Backtrack = Backtrack()
    """How far, and how often."""

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with going back."""
        return base.changed(escalation=(self.back,))
