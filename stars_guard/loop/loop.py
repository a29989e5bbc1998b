"""The loop that a guard holds: rounds, and the driver that suits its language model."""

from __future__ import annotations

from stars_guard.errors import ConfigurationError
from stars_guard.loop.drivers import Driver, SharedDriver
from stars_guard.loop.lanes import LaneDriver
from stars_guard.loop.rounds import Rounds
from stars_guard.loop.sources import Proposers
from stars_guard.models.base import BatchesItself, LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.batching import MicroBatching


class Loop:
    """Guards every request given to its driver.

    Args:
        model: draws candidates.
        reward: judges them.
        safer_model: draws candidates for the policy of that name, from the same vocabulary.
        max_rows: most candidates in one batch, over all requests; with a language model that
            :class:`stars_guard.models.base.BatchesItself`, most requests at the same time. Requests beyond it
            wait their turn, in order of submission.
        micro_batching: with such a model, how scoring is put together.

    Attributes:
        driver: takes requests up.
        rounds: what it runs.

    Raises:
        ConfigurationError: ``micro_batching`` for a model that does not batch on its own.
    """

    def __init__(
        self,
        model: LanguageModel,
        reward: RewardModel,
        *,
        safer_model: LanguageModel | None = None,
        max_rows: int = 64,
        micro_batching: MicroBatching | None = None,
    ) -> None:
        proposers = Proposers.of(model, safer_model, reward)
        self.driver: Driver
        if isinstance(model, BatchesItself):
            self.driver = LaneDriver(model, proposers, reward, max_rows, micro_batching or MicroBatching())
        elif micro_batching is not None:
            raise ConfigurationError(
                f"micro_batching has no effect with {model.name}, whose requests are scored together anyway; "
                "leave it out"
            )
        else:
            self.driver = SharedDriver(proposers, reward, max_rows)
        self.rounds: Rounds = self.driver.rounds
