"""How likely the base model finds an answer: whether what is shown is still what it would say."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean

from stars_guard.errors import ConfigurationError
from stars_guard.evaluation.measures.base import BaseModelLoader, MeasuredAnswer
from stars_guard.models.base import ReadsLikelihoods


class Likelihood:
    """Mean log-probability of an answer's tokens under the base model given the prompt, in nats.

    Higher is likelier; it is taken at temperature 1, whatever the answer was drawn at. Refused answers have
    none: the base model did not write the refusal text.

    Args:
        load: gives the base model.

    Raises:
        ConfigurationError: the base model says no likelihoods.
    """

    def __init__(self, load: BaseModelLoader) -> None:
        model = load()
        if not isinstance(model, ReadsLikelihoods):
            raise ConfigurationError(
                f"the measure 'likelihood' needs a base model in this process, and {model.name} says no "
                "likelihoods; leave the measure out, or name a folder of a model"
            )
        self._model = model

    def measure(self, answers: Sequence[MeasuredAnswer]) -> list[float | None]:
        """The likelihood of each answer; None where it is empty or was refused.

        Raises:
            PromptError: the base model cannot be shown a prompt.
        """
        shown = [answer for answer in answers if not answer.refused]
        read = iter(self._model.log_probabilities([(each.prompt.as_prompt, each.text) for each in shown]))
        values = [[] if answer.refused else next(read) for answer in answers]
        return [fmean(tokens) if tokens else None for tokens in values]
