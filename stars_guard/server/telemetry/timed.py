"""How long the reward model takes, call by call; and a guard around a reward model that is watched."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.rewards.wrapped import WrappedReward
from stars_guard.types import Reward

Measured: TypeAlias = Callable[[float, int, str], None]
"""Takes the seconds of a call, the texts in it, and ``scored`` or ``failed``; called where it was scored."""


class TimedReward(WrappedReward):
    """A reward model whose calls are measured.

    Args:
        reward: scores.
        measured: told of every call.
    """

    def __init__(self, reward: RewardModel, measured: Measured) -> None:
        super().__init__(reward)
        self._measured = measured

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """As the reward model."""
        begun = time.monotonic()
        result = "failed"
        try:
            rewards = self.reward.score(requests)
            result = "scored"
            return rewards
        finally:
            self._measured(time.monotonic() - begun, len(requests), result)


def rejudged(llm: StarsGuardedLLM, reward: RewardModel, **parts: Any) -> StarsGuardedLLM:
    """The same guard around another reward model, on the same scale.

    Args:
        llm: the guard; it must not be used any more, since two engines would draw from one language model.
        reward: judges instead.
        parts: ``max_rows`` and ``micro_batching``, if the guard was built with any.
    """
    return StarsGuardedLLM(
        llm.model,
        reward,
        llm.config,
        sampling=llm.sampling,
        budget=llm.budget,
        safer_model=llm.engine.proposers.safer_model,
        **parts,
    )
