"""What a method is: settings that say how an answer is drawn, guarded and judged, all through one loop."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, TypeAlias

from pydantic import Field, field_validator

from stars_guard.algorithm.config import GuardConfig, SamplingParams
from stars_guard.evaluation.methods.changes import check_names
from stars_guard.evaluation.methods.costs import Costs
from stars_guard.evaluation.methods.scale import RewardScale, check_units, has_units, in_reward_units
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.settings import Settings

CostsOf: TypeAlias = Callable[[str], Costs]
"""Costs of another method on the same task, by its name."""


class Method(Settings):
    """One way to answer. Every method answers through the same loop, so that all costs count alike."""

    kind: str
    """Kind of the method, which every subclass fixes."""
    reward: str = ""
    """Name of the reward that guides, one of the evaluation's; empty: that of the task, or the first."""
    model: str = ""
    """Name of the language model that proposes, one of the evaluation's; empty: the first."""
    max_prompts: int | None = Field(default=None, ge=1)
    """Most prompts of a task that are answered by this method; None: all."""
    changes: dict[str, Any] = Field(default_factory=dict)
    """Settings of the guard changed in those that the method has otherwise, by dotted names such as
    ``segments.max_tokens``; numbers may be in units of the reward's spread, such as ``0.5 sd``."""

    @field_validator("changes")
    @classmethod
    def _can_be_changed(cls, changes: dict[str, Any]) -> dict[str, Any]:
        check_names(changes)
        check_units(changes)
        return changes

    @property
    def guided(self) -> bool:
        """Whether a reward has a say in what is shown."""
        return True

    @property
    def waits_for(self) -> str | None:
        """Name of the method whose costs must be known first."""
        return None

    @property
    def reads_costs_of(self) -> tuple[str, ...]:
        """Names of all methods whose costs are read."""
        return ()

    @property
    def reads_seconds_of(self) -> tuple[str, ...]:
        """Names of those among them that must have been timed."""
        return ()

    @property
    def needs_local_model(self) -> bool:
        """Whether the language model must be in this process."""
        return False

    @property
    def settlements(self) -> tuple[Method, ...]:
        """What it may become by :meth:`settled`, from the least to the most, before any costs are known."""
        return (self,)

    def check_read(self, others: Mapping[str, Method]) -> None:
        """Refuse methods whose costs cannot be read.

        Args:
            others: those of :attr:`reads_costs_of`, by name.

        Raises:
            ValueError: naming it, and what to do.
        """

    def settled(self, costs: CostsOf) -> Method:
        """The method with everything set that depends on the costs of another.

        Args:
            costs: of the methods that have answered the same task.
        """
        return self

    def scaled(self, scale: Callable[[], RewardScale]) -> Self:
        """The method with plain numbers in place of those in units of the reward's spread.

        Args:
            scale: measures the reward; called only where there are such numbers.
        """
        if not has_units(self.changes):
            return self
        return self.model_copy(update={"changes": in_reward_units(self.changes, scale())})

    def guard(self, base: GuardConfig, sampling: SamplingParams) -> GuardConfig:
        """Settings of the guard.

        Args:
            base: settings that suit the reward, as the evaluation gives them.
            sampling: how the task is answered.
        """
        raise NotImplementedError

    def sampling(self, base: SamplingParams) -> SamplingParams:
        """How to propose, where ``base`` is how the task is answered otherwise."""
        return base

    def scorer(self, model: LanguageModel, reward: RewardModel) -> RewardModel:
        """What judges the candidates; the reward that guides, unless the method has a judge of its own.

        Args:
            model: proposes.
            reward: the evaluation's.
        """
        return reward
