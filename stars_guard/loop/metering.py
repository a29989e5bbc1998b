"""The meter between the loop and a reward model: no text is asked for that its request has not paid."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from stars_guard.errors import ScoringError
from stars_guard.loop.request import RequestInFlight
from stars_guard.rewards.base import RewardModel, ScoreRequest, WrappedReward
from stars_guard.types import Reward


class OverBudgetError(ScoringError):
    """A call would have passed ``Budget.max_reward_calls`` of a request that has a part in it."""


class Metered(WrappedReward):
    """Counts every text that goes to the reward model, also when it is asked for again after a failure.

    Args:
        reward: scores. Threads of one's own may ask it; those of one answer must not at the same time.
    """

    def __init__(self, reward: RewardModel) -> None:
        super().__init__(reward)
        self._open: dict[str, RequestInFlight] = {}

    def open(self, request: RequestInFlight) -> None:
        """Count the texts of an answer that begins. Texts of answers that are not open are free."""
        self._open[request.run_id] = request

    def close(self, run_id: str) -> None:
        """Count no longer for an answer that is over."""
        self._open.pop(run_id, None)

    def score(self, requests: Sequence[ScoreRequest]) -> Sequence[Reward]:
        """Rewards of the reward model inside.

        Raises:
            OverBudgetError: one of the answers cannot pay for its texts; none is asked for then.
        """
        texts = Counter(request.run_id for request in requests)
        bills = [(self._open[run_id], count) for run_id, count in texts.items() if run_id in self._open]
        if not all(request.can_pay(count) for request, count in bills):
            raise OverBudgetError(f"asking {self.name} would have passed max_reward_calls")
        for request, count in bills:
            request.costs.reward_asked(count)
        return super().score(requests)
