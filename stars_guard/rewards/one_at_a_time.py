"""A reward model that several threads ask, though it may only be asked by one at a time."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from stars_guard.rewards.base import RewardModel, ScoreRequest
from stars_guard.types import Reward


class OneAtATime:
    """Passes calls on, in turn.

    Args:
        reward: scores.
    """

    def __init__(self, reward: RewardModel) -> None:
        self.name = reward.name
        self._reward = reward
        # The garbage collector may end an abandoned answer in the very thread that is scoring.
        self._turn = threading.RLock()

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """As the reward model; blocks while another thread asks it."""
        with self._turn:
            return self._reward.score(requests)

    def release(self, run_id: str) -> None:
        """Passed on, between two calls."""
        with self._turn:
            self._reward.release(run_id)
