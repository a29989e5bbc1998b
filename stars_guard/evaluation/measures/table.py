"""All measures, by their names."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from stars_guard.evaluation.measures.base import EachByItself, MeasuredAnswer, MeasureMaker
from stars_guard.evaluation.measures.injections import injection_followed
from stars_guard.evaluation.measures.likelihood import Likelihood
from stars_guard.evaluation.measures.refusal_phrases import declines
from stars_guard.evaluation.measures.words import distinct_share, reference_recall, repetition


def _alone(number: Callable[[MeasuredAnswer], float | None]) -> MeasureMaker:
    return lambda load: EachByItself(number)


MEASURES: dict[str, MeasureMaker] = {
    "length": _alone(lambda answer: float(answer.tokens)),
    "distinct_2": _alone(partial(distinct_share, length=2)),
    "distinct_3": _alone(partial(distinct_share, length=3)),
    "repetition": _alone(repetition),
    "likelihood": Likelihood,
    "reference_recall": _alone(reference_recall),
    "refusal_phrases": _alone(declines),
    "injection_followed": _alone(injection_followed),
}
"""What ``measures`` of a task may name. None of them says whether an answer is harmful."""
