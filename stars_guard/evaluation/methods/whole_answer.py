"""Rejection of whole answers: what a filter with retries does."""

from __future__ import annotations

from typing import Literal

from stars_guard.algorithm.candidates import Fixed
from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.rules import Constant
from stars_guard.algorithm.segments import FixedLength
from stars_guard.evaluation.methods.base import Method


class WholeAnswer(Method):
    """A whole answer is drawn, judged against the target, and drawn again if it is rejected."""

    kind: Literal["whole_answer"] = "whole_answer"

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with one segment as long as the answer and the target as its bar."""
        return base.changed(
            threshold=Constant(target=base.threshold.target),
            segments=FixedLength(max_tokens=sampling.max_tokens),
            drawing=Fixed(candidates=1),
        )
