"""Accept or reject every token (MARA, IJCAI 2025): segments of one token."""

from __future__ import annotations

from typing import Literal

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.algorithm.segments import FixedLength
from stars_guard.evaluation.methods.base import Method


class TokenLevel(Method):
    """The guard's rule on segments of one token.

    With a probe as the reward, a small network on the model's own states judges every token, as in MARA,
    whose network is trained by reinforcement and ours on labelled answers.
    """

    kind: Literal["token_level"] = "token_level"

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """The reward's settings, with segments of one token."""
        return base.changed(segments=FixedLength(max_tokens=1))
