"""What is to be looked at beside the main figures: settings of the analyses that an evaluation asks for."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from stars_guard.algorithm.kinds import any_kind
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
    def scoring(self) -> tuple[str, ...]:
        """The rewards."""
        return self.rewards


class ResamplingAnalysis(Analysis):
    """An attacker who asks in several ways, knows the judge, and keeps the worst answer."""

    kind: Literal["resampling"] = "resampling"


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

    @property
    def answering(self) -> tuple[str, ...]:
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
