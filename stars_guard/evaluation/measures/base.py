"""What a measure is: a number for each answer that no judge is asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from stars_guard.evaluation.tasks.prompts import EvalPrompt
from stars_guard.models.base import LanguageModel


@dataclass(frozen=True, slots=True, repr=False)
class MeasuredAnswer:
    """An answer to be measured.

    Attributes:
        prompt: what was asked.
        text: everything that was shown.
        tokens: response tokens that were kept.
        refused: whether the text, or its end, is the refusal text, which no model wrote.
    """

    prompt: EvalPrompt
    text: str
    tokens: int
    refused: bool


class AnswerMeasure(Protocol):
    """Measures answers."""

    def measure(self, answers: Sequence[MeasuredAnswer]) -> list[float | None]:
        """One number an answer, in order; None where the answer has none."""


BaseModelLoader: TypeAlias = Callable[[], LanguageModel]
"""Gives the base model of an evaluation, for measures that ask it."""
MeasureMaker: TypeAlias = Callable[[BaseModelLoader], AnswerMeasure]
"""Makes a measure."""


class EachByItself:
    """A measure that looks at one answer at a time.

    Args:
        number: of one answer; None where it has none.
    """

    def __init__(self, number: Callable[[MeasuredAnswer], float | None]) -> None:
        self._number = number

    def measure(self, answers: Sequence[MeasuredAnswer]) -> list[float | None]:
        """One number an answer."""
        return [self._number(answer) for answer in answers]
