"""A reward model around another, for what looks on: same name, same scale, same abilities."""

from __future__ import annotations

from collections.abc import Sequence

from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.types import Reward


class WrappedReward:
    """Passes everything on. Subclasses change :meth:`score`.

    Args:
        reward: the reward model inside. Settings that were made for it fit the wrapped one as well.
    """

    def __init__(self, reward: RewardModel) -> None:
        self.reward = reward
        self.name = reward.name
        self.correction = getattr(reward, "correction", None)
        """What its scores are corrected by, if they are."""
        self.parallel_calls: int = getattr(reward, "parallel_calls", 1)
        """Most calls at the same time."""

    @property
    def parts(self) -> Sequence[RewardModel]:
        """The reward model inside."""
        return [self.reward]

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """As the reward model inside."""
        return self.reward.score(requests)

    def release(self, run_id: str) -> None:
        """Passed on."""
        self.reward.release(run_id)
