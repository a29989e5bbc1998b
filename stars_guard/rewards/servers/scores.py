"""From the JSON answer of a scoring server to rewards. Pure: no HTTP.

The functions raise :class:`AnswerError` when something is missing, of another type, not finite or out of
range, and say where; they never quote a text of the answer, which may echo what was judged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.readout import Labels, Readout, Scale, readout
from stars_guard.types import Reward

ScoreRow: TypeAlias = tuple[float, ...] | Mapping[str, float]
"""The finite numbers of one request: in the order of the model's labels, or by label."""
Unit: TypeAlias = Literal["logit", "probability"]
RowReader: TypeAlias = Callable[[ScoreRow], Reward]

_SMALLEST = 2.0**-126  # what a server computes in float32 and calls 0 is below this
_LARGEST = 1 - 2.0**-25  # and what it calls 1 is above this
_ROUNDING = 1e-2  # how far a server's rounded probabilities may be from a sum of 1


class AnswerError(ValueError):
    """The answer of a scoring server is not what its format says; the message quotes nothing of it."""


def fields(value: Any, name: str) -> Any:
    """``value[name]`` of a JSON object."""
    if not isinstance(value, Mapping) or name not in value:
        raise AnswerError(f"the field {name} is missing")
    return value[name]


def items(value: Any, where: str) -> list[Any]:
    """``value``, which must be a JSON array."""
    if not isinstance(value, list):
        raise AnswerError(f"{where} is {_kind(value)}, not a list")
    return value


def number(value: Any, where: str) -> float:
    """``value`` as a finite float."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise AnswerError(f"{where} is {_kind(value)}, not a number")
    if not -1e300 < value < 1e300:
        raise AnswerError(f"{where} is not a finite number")
    return float(value)


def number_list(value: Any, where: str) -> tuple[float, ...]:
    """``value`` as a tuple of finite floats."""
    return tuple(number(element, where) for element in items(value, where))


def row(value: Any, where: str) -> ScoreRow:
    """One number, a list of number_list, or an object of numbers."""
    if isinstance(value, Mapping):
        return {str(label): number(score, where) for label, score in value.items()}
    return number_list(value, where) if isinstance(value, list) else (number(value, where),)


def _kind(value: Any) -> str:
    names = {str: "a text", bool: "true or false", dict: "an object", list: "a list", type(None): "null"}
    return names.get(type(value), "a number")


@dataclass(frozen=True, slots=True)
class LabelReader:
    """Reads one number for each label of a classifier; a scalar reward model has one.

    Attributes:
        readout: labels, and what the reward is about.
        unit: what the server's numbers are. Probabilities of 0 and 1 count as the nearest that float32 tells
            from them, so that log-odds stay finite: within 88 of 0, or up to 17 where labels are independent.
    """

    readout: Readout
    unit: Unit

    def __call__(self, values: ScoreRow) -> Reward:
        """The reward; components tell several labels apart."""
        logits = self._logits(self._in_order(values))
        components = self.readout.components(logits) if len(logits) > 1 else {}
        return Reward(self.readout.value(logits), components=components)

    def _in_order(self, values: ScoreRow) -> tuple[float, ...]:
        labels = self.readout.labels
        if len(values) != len(labels):
            raise AnswerError(f"{len(values)} numbers for one text, {len(labels)} expected; give labels=")
        if not isinstance(values, Mapping):
            return values
        if len(labels) == 1:
            return tuple(values.values())
        if set(values) != set(labels):
            raise AnswerError(f"the labels are not {list(labels)}; give the model's own as labels=")
        return tuple(values[label] for label in labels)

    def _logits(self, values: Sequence[float]) -> list[float]:
        if self.unit == "logit":
            return list(values)
        _check_probabilities(values)
        if self.readout.multi_label:
            return [_log_odds(value) for value in values]
        if abs(sum(values) - 1) > _ROUNDING:
            raise AnswerError(
                "probabilities do not sum to 1; pass multi_label=True if labels are independent"
            )
        return [math.log(max(value, _SMALLEST)) for value in values]


@dataclass(frozen=True, slots=True)
class WorstReader:
    """Reads the probability of each category of harm; the likeliest decides.

    Attributes:
        categories: those that count; empty for all that the server names.
        scale: ``log_odds`` of the worst category not being met, or ``probability``, 1 minus its own.
    """

    categories: tuple[str, ...]
    scale: Scale

    def __call__(self, values: ScoreRow) -> Reward:
        """The reward; components are all categories."""
        by_name = values if isinstance(values, Mapping) else {}
        chosen = [by_name[name] for name in self.categories or by_name if name in by_name]
        if not chosen or len(chosen) < len(self.categories):
            raise AnswerError(f"the categories are missing: {', '.join(self.categories) or 'there is none'}")
        _check_probabilities(chosen)
        worst = max(chosen)
        value = 1 - worst if self.scale == "probability" else -_log_odds(worst)
        return Reward(value, components=dict(by_name))


def label_reader(
    labels: Iterable[str],
    unit: Unit,
    scale: Scale,
    *,
    good: Labels | None,
    bad: Labels | None,
    multi_label: bool,
) -> LabelReader:
    """How the numbers of a model's labels are read.

    Args:
        labels: the model's labels in the order of its outputs; none for a scalar reward model.
        unit: what the server's numbers are.
        scale: unit of the reward.
        good: label or labels whose probability is the reward.
        bad: label or labels whose absence is the reward; give ``good`` or ``bad``, not both.
        multi_label: the labels are independent, instead of exactly one being true.

    Raises:
        ConfigurationError: as in :func:`stars_guard.rewards.readout.readout`, or one label twice.
    """
    names = dict(enumerate(labels)) or {0: "score"}
    if len(set(names.values())) < len(names):
        raise ConfigurationError(f"labels={list(names.values())} names one twice; give each output its own")
    kind = "multi_label_classification" if multi_label else None
    return LabelReader(readout(names, kind, good=good, bad=bad, scale=scale), unit)


def _check_probabilities(values: Sequence[float]) -> None:
    if not all(-1e-6 <= value <= 1 + 1e-6 for value in values):
        raise AnswerError(
            "a probability is not between 0 and 1; if the server sends logits use scale='logit'"
        )


def _log_odds(probability: float) -> float:
    inside = min(max(probability, _SMALLEST), _LARGEST)
    return math.log(inside) - math.log1p(-inside)
