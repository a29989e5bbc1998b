"""What has to be known of a public classifier to use it as a reward; pure data, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from stars_guard.errors import ConfigurationError
from stars_guard.rewards.readout import Labels, Scale

PresetKind: TypeAlias = Literal["reward", "safety", "injection", "sentiment"]
SCALAR = ("LABEL_0",)
"""The labels of a scalar reward model."""


@dataclass(frozen=True, slots=True)
class ClassifierPreset:
    """What has to be known of a public classifier to use it as a reward.

    Attributes:
        kind: what it was made for: ``reward`` is a preference or reward model.
        models: hub ids for which these facts hold.
        format: a name in :data:`stars_guard.rewards.classifiers.formats.FORMATS`, or ``auto``.
        meaning: what a high reward means, in one line.
        checked: how the facts are known.
        labels: all labels of the model, in the order of its logits; one label is a scalar reward model.
        good: labels whose probability is the reward.
        bad: labels whose absence is the reward; neither of both for a scalar where higher is better.
        scale: unit of the reward.
        problem_type: as in a config, for models whose own config leaves it out.
        loading: options for ``from_pretrained`` without which the weights do not fit.
        licence: of the weights; empty if not known.
    """

    kind: PresetKind
    models: tuple[str, ...]
    format: str
    meaning: str
    checked: str
    labels: tuple[str, ...] = SCALAR
    good: tuple[str, ...] | None = None
    bad: tuple[str, ...] | None = None
    scale: Scale = "log_odds"
    problem_type: str | None = None
    loading: dict[str, Any] = field(default_factory=dict)
    licence: str = ""

    def chosen(
        self, labels: Iterable[str], good: Labels | None, bad: Labels | None
    ) -> tuple[Labels | None, Labels | None]:
        """The good and the bad labels of a loaded model: those given, or else those of the preset.

        Args:
            labels: all labels of the loaded model.
            good: labels that the user calls good, or None.
            bad: labels that the user calls bad, or None.

        Raises:
            ConfigurationError: the model lacks a label of the preset.
        """
        if good is not None or bad is not None:
            return good, bad
        has = list(labels)
        missing = [label for label in (*(self.good or ()), *(self.bad or ())) if label not in has]
        if missing:
            raise ConfigurationError(
                f"the preset for {self.models[0]} names the labels {missing}, but the model has {has}; "
                "say which are good (good=...) or bad (bad=...), or leave the preset out"
            )
        return self.good, self.bad
