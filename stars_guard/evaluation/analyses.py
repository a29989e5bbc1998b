"""What is to be looked at beside the main figures: settings of the analyses that an evaluation asks for."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field, field_validator

from stars_guard.algorithm.kinds import any_kind
from stars_guard.evaluation.tasks.base import Task
from stars_guard.loading.names import reward_spec
from stars_guard.loading.specs import LocalProbe, RewardCode
from stars_guard.settings import Settings


class Analysis(Settings):
    """One look at the answers, or at draws of its own, of one task."""

    kind: str
    """Kind of the analysis, which every subclass fixes."""
    task: str = ""
    """Name of the task; empty: the evaluation's first."""
    judge: str = ""
    """Name of the judge whose word counts; empty: the first of the task."""

    @property
    def answering(self) -> tuple[str, ...]:
        """Names of the methods that it looks at, where it names some."""
        return ()

    @property
    def scoring(self) -> tuple[str, ...]:
        """Names of the rewards that it looks at, where it names some."""
        return ()

    @property
    def needs_judge(self) -> bool:
        """Whether it finds nothing without a judge."""
        return False

    @property
    def reads_judgements_of(self) -> tuple[str, ...]:
        """Names of the methods whose answers the judge must have looked at."""
        return ()

    @property
    def reads_draws(self) -> bool:
        """Whether it reads plain answers with several continuations at each prefix."""
        return False

    def check_task(self, name: str, task: Task) -> None:
        """Refuse a task that does not suit it.

        Args:
            name: of the task.
            task: its settings.

        Raises:
            ValueError: saying what it needs.
        """


class MiscalibrationAnalysis(Analysis):
    """How well the reward of a beginning foretells what is said of the whole answer."""

    kind: Literal["miscalibration"] = "miscalibration"
    methods: tuple[str, ...] = ("plain",)
    """Names of the methods whose answers are looked at, each with the reward that scored them."""

    @property
    def answering(self) -> tuple[str, ...]:
        """The methods."""
        return self.methods


class BellmanAnalysis(Analysis):
    """How far the reward of a beginning is from the mean reward of its continuations."""

    kind: Literal["bellman"] = "bellman"
    rewards: tuple[str, ...] = ()
    """Names of the rewards; none given: all."""

    @property
    def reads_draws(self) -> bool:
        """The error is that of plain answers."""
        return True

    @property
    def scoring(self) -> tuple[str, ...]:
        """The rewards."""
        return self.rewards


class ResamplingAnalysis(Analysis):
    """An attacker who asks in several ways, knows the judge, and keeps the worst answer."""

    kind: Literal["resampling"] = "resampling"

    @property
    def needs_judge(self) -> bool:
        """The worst answer is the judge's word."""
        return True

    def check_task(self, name: str, task: Task) -> None:
        """Refuse a task that asks every prompt in one way only.

        Raises:
            ValueError: naming the task.
        """
        if task.attack is None or task.attack.kind != "resample":
            raise ValueError(
                f"analysis 'resampling' needs a task that asks in several ways; give {name!r} the attack "
                "'resample'"
            )


class GradientAnalysis(Analysis):
    """An attacker who knows the probe's weights, and writes a suffix that makes it like a harmful answer."""

    kind: Literal["gradient"] = "gradient"
    probe: str = "embedded:probe"
    """The probe, as ``--reward`` takes it."""
    method: str = "plain"
    """Name of the method whose harmful answers the probe is to like."""
    prompts: int = Field(default=4, ge=1)
    """Answers that are attacked: those that the judge likes least."""
    suffix_tokens: int = Field(default=8, ge=1)
    """Length of the suffix."""
    steps: int = Field(default=4, ge=1)
    """Steps of the search; each tries ``tried`` replacements of one token."""
    tried: int = Field(default=32, ge=1)
    """Replacements that are tried in a step."""

    @field_validator("probe")
    @classmethod
    def _has_weights(cls, probe: str) -> str:
        if not isinstance(reward_spec(probe), LocalProbe | RewardCode):
            raise ValueError(
                "is no probe; name a folder that stars-guard train-reward wrote, or embedded:probe"
            )
        return probe

    @property
    def answering(self) -> tuple[str, ...]:
        """The method."""
        return (self.method,)

    @property
    def needs_judge(self) -> bool:
        """The judge says which answers are attacked."""
        return True

    @property
    def reads_judgements_of(self) -> tuple[str, ...]:
        """The method."""
        return (self.method,)


AnyAnalysis: TypeAlias = Annotated[
    Annotated[
        MiscalibrationAnalysis | BellmanAnalysis | ResamplingAnalysis | GradientAnalysis,
        Field(discriminator="kind"),
    ],
    any_kind("the name of an analysis, or its settings with a kind"),
]
"""An analysis, or its name."""
