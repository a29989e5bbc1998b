"""What an evaluation found: one record a method and task, every figure with its interval."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from stars_guard.batch.manifest import replace
from stars_guard.evaluation.methods.costs import Costs
from stars_guard.evaluation.statistics.estimates import MeanEstimate
from stars_guard.evaluation.statistics.paired import Difference
from stars_guard.evaluation.statistics.wins import WinRate
from stars_guard.evaluation.stored import read_stored
from stars_guard.settings import StoredRecord
from stars_guard.version import __version__


class MainFigures(StoredRecord):
    """What most readers want to know of one method on one task; None where it was not measured."""

    method: str
    task: str
    answers: int
    """Answers, refusals included."""
    harmful: float | None
    """Share of answers that :attr:`harmful_by` took for harmful."""
    harmful_low: float | None
    harmful_high: float | None
    harmful_by: str | None
    """Name of the judge: the first of the task's that says what is harmful. Where several do, the words of
    the others are in ``results.json`` and in the report."""
    refused: float | None
    """Share of answers that ended with the refusal text."""
    proposed_per_kept: float
    """Tokens drawn for each one kept."""
    proposed_per_kept_low: float | None
    proposed_per_kept_high: float | None
    seconds_per_answer: float | None
    """Median wall time of an answer that was alone in the process."""
    seconds_per_answer_low: float | None
    seconds_per_answer_high: float | None
    seconds_to_first_text: float | None
    """Median wall time until its first text could be shown."""
    seconds_to_first_text_low: float | None
    seconds_to_first_text_high: float | None


class MethodResult(StoredRecord):
    """One method on one task."""

    method: str
    task: str
    answers: int
    """Answers, refusals included."""
    errors: int
    """Rows that ended with an error instead."""
    harmful: dict[str, MeanEstimate] = Field(default_factory=dict)
    """Share of answers that each judge of harm took for harmful; refusals are answers, and count."""
    rewards: dict[str, MeanEstimate] = Field(default_factory=dict)
    """Mean value that each judge gave: a held-out reward, or a win rate (ties count half)."""
    harmful_difference: dict[str, Difference] = Field(default_factory=dict)
    """Harm by each judge less that of plain decoding, on the same prompts."""
    reward_difference: dict[str, Difference] = Field(default_factory=dict)
    """Value that each judge gave less that of plain decoding, on the same prompts."""
    wins: dict[str, WinRate] = Field(default_factory=dict)
    """Wins, ties and losses by each judge of pairs, against the method that it compares with."""
    measures: dict[str, MeanEstimate] = Field(default_factory=dict)
    """What was measured without a judge."""
    refused: MeanEstimate | None = None
    """Share of answers that ended with the refusal text."""
    repaired: MeanEstimate | None = None
    """Share of answers in which a candidate was rejected and which were not refused."""
    forced: MeanEstimate | None = None
    """Share of answers with a segment that no candidate earned."""
    costs: Costs
    proposed_per_kept: MeanEstimate | None = None
    """Price in the costs with its interval, like the two times below; None in results of earlier versions."""
    seconds: MeanEstimate | None = None
    seconds_to_first_text: MeanEstimate | None = None
    settings: dict[str, Any] = Field(default_factory=dict)
    """Settings of the method, with everything filled in."""

    @property
    def main(self) -> MainFigures:
        """The main figures: harm is that of the first judge of harm."""
        judge, harm = next(iter(self.harmful.items()), (None, None))
        return MainFigures(
            method=self.method,
            task=self.task,
            answers=self.answers,
            **_bounds("harmful", harm.value if harm else None, harm),
            harmful_by=judge,
            refused=self.refused and self.refused.value,
            **_bounds("proposed_per_kept", self.costs.proposed_per_kept, self.proposed_per_kept),
            **_bounds("seconds_per_answer", self.costs.seconds, self.seconds),
            **_bounds("seconds_to_first_text", self.costs.seconds_to_first_text, self.seconds_to_first_text),
        )


def _bounds(name: str, value: float | None, estimate: MeanEstimate | None) -> dict[str, Any]:
    """A figure and the ends of its interval, by their names."""
    low, high = (estimate.low, estimate.high) if estimate else (None, None)
    return {name: value, f"{name}_low": low, f"{name}_high": high}


class Results(StoredRecord):
    """All results of an evaluation."""

    version: Literal[1] = 1
    stars_guard: str = __version__
    evaluation: dict[str, Any]
    """The evaluation's own settings."""
    methods: list[MethodResult]

    @property
    def rows(self) -> list[MainFigures]:
        """The main figures of every method on every task."""
        return [result.main for result in self.methods]

    def write(self, path: Path) -> None:
        """Write them as JSON; they are there as a whole or not at all."""
        replace(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Results:
        """Read what :meth:`write` wrote.

        Raises:
            ConfigurationError: it is something else.
        """
        return read_stored(cls, path, "the results of an evaluation", "run the evaluation again")
