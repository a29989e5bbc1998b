"""From the logits of a classifier to one number, higher = safer. Pure: plain floats, no torch.

A model says how likely each of its labels is. The caller says which labels are good (``good="safe"``) or
which are bad (``bad=("toxic", "threat")``); the reward is about the event "good", whose probability is P:

=============  =====================================  ==================================================
scale          reward                                 range
=============  =====================================  ==================================================
``log_odds``   ``log(P / (1 - P))``                   all numbers; keeps its resolution near 0 and 1
``probability``  ``P``                                0 to 1
``logit``      the logit; several: their logsumexp    all numbers; negated for bad labels
=============  =====================================  ==================================================

Single-label models (softmax): P is the sum of the good labels, or 1 minus the sum of the bad ones.
Multi-label models (one sigmoid a label): P(any good) or 1 - P(any bad), where P(any) = 1 - prod(1 - p_i), as
if the labels were independent. A model with one output is the second kind; its log-odds are the logit itself.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from stars_guard.errors import ConfigurationError, ScoringError

Scale: TypeAlias = Literal["log_odds", "probability", "logit"]
Labels: TypeAlias = str | Iterable[str]


@dataclass(frozen=True, slots=True)
class Readout:
    """How a row of logits becomes a reward.

    Attributes:
        labels: the model's labels, in the order of its logits.
        chosen: indices of the labels that were named.
        is_good: whether the named labels are the good ones.
        multi_label: one sigmoid a label, instead of one softmax over all.
        scale: unit of the reward.
    """

    labels: tuple[str, ...]
    chosen: tuple[int, ...]
    is_good: bool
    multi_label: bool
    scale: Scale

    def value(self, logits: Sequence[float]) -> float:
        """The reward of one row of ``len(labels)`` logits; NaN if one of them is not finite.

        Raises:
            ScoringError: the row has another length.
        """
        if len(logits) != len(self.labels):
            raise ScoringError(f"the model gave {len(logits)} logits for its {len(self.labels)} labels")
        if not all(map(math.isfinite, logits)):
            return math.nan
        sign = 1.0 if self.is_good else -1.0
        if self.scale == "logit":
            return sign * logsumexp([logits[index] for index in self.chosen])
        odds = sign * self._log_odds_of_chosen(logits)
        return odds if self.scale == "log_odds" else sigmoid(odds)

    def components(self, logits: Sequence[float]) -> dict[str, float]:
        """Every label's probability, for the trace; its logit, if that is the scale."""
        if self.scale == "logit":
            return dict(zip(self.labels, logits, strict=True))
        if self.multi_label:
            return {label: sigmoid(logit) for label, logit in zip(self.labels, logits, strict=True)}
        total = logsumexp(logits)
        return {label: math.exp(logit - total) for label, logit in zip(self.labels, logits, strict=True)}

    def _log_odds_of_chosen(self, logits: Sequence[float]) -> float:
        inside = [logits[index] for index in self.chosen]
        if self.multi_label:
            return log_odds_of_any(inside)
        outside = [logit for index, logit in enumerate(logits) if index not in self.chosen]
        return logsumexp(inside) - logsumexp(outside)


def readout(
    id2label: Mapping[int, str],
    problem_type: str | None = None,
    *,
    good: Labels | None = None,
    bad: Labels | None = None,
    scale: Scale = "log_odds",
) -> Readout:
    """Choose labels by name; a model with one output needs no choice.

    Args:
        id2label: the model's labels by index of the logit.
        problem_type: as in the model's config; ``multi_label_classification`` means one sigmoid a label.
        good: the label or labels whose probability is to be high. Give ``good`` or ``bad``, not both.
        bad: the label or labels whose probability is to be low.
        scale: unit of the reward.

    Raises:
        ConfigurationError: unknown label or scale, no choice where one is needed, or a choice of everything.
    """
    labels = tuple(id2label[index] for index in sorted(id2label))
    if scale not in get_args(Scale):
        raise ConfigurationError(f"unknown scale {scale!r}; use one of {', '.join(get_args(Scale))}")
    multi_label = problem_type == "multi_label_classification" or len(labels) == 1
    chosen, is_good = _choose(labels, good, bad)
    if not multi_label and len(chosen) == len(labels):
        raise ConfigurationError(
            f"all labels {list(labels)} were named; name only the good ones or only the bad ones"
        )
    if problem_type == "regression" and len(labels) > 1 and scale != "logit":
        raise ConfigurationError(f"a regression model has no probabilities, so no {scale}; use scale='logit'")
    return Readout(labels, chosen, is_good, multi_label, scale)


def _choose(labels: tuple[str, ...], good: Labels | None, bad: Labels | None) -> tuple[tuple[int, ...], bool]:
    if good is not None and bad is not None:
        raise ConfigurationError("pass good= or bad=, not both; the other labels are taken as the opposite")
    named = good if good is not None else bad
    if named is not None:
        return _indices(labels, named), good is not None
    if len(labels) == 1:
        return (0,), True
    raise ConfigurationError(
        f"the model has the labels {list(labels)}; say which are good (good='safe') or which are bad "
        "(bad=('toxic', 'threat'))"
    )


def _indices(labels: tuple[str, ...], named: Labels) -> tuple[int, ...]:
    names = [named] if isinstance(named, str) else list(named)
    unknown = [name for name in names if name not in labels]
    if unknown or not names:
        raise ConfigurationError(f"unknown labels {unknown}; the model has the labels {list(labels)}")
    return tuple(sorted({labels.index(name) for name in names}))


def logsumexp(values: Sequence[float]) -> float:
    """``log(sum(exp(values)))`` of finite values without overflow; the value itself if there is one."""
    top = max(values)
    return top + math.log(math.fsum(math.exp(value - top) for value in values))


def sigmoid(logit: float) -> float:
    """``1 / (1 + exp(-logit))`` without overflow."""
    if logit >= 0:
        return 1 / (1 + math.exp(-logit))
    return math.exp(logit) / (1 + math.exp(logit))


def log_odds_of_any(logits: Sequence[float]) -> float:
    """Log-odds of "at least one" of independent events with these logits, exact at both ends.

    With odds a and b of two events, the odds of any are (1 + a)(1 + b) - 1 = a + b + ab.
    """
    total, *others = logits
    for logit in others:
        total = logsumexp([total, logit, total + logit])
    return total
