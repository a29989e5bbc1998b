"""What a probe reads of a text: features of the base model's hidden states, at several lengths."""

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from stars_guard.errors import ConfigurationError
from stars_guard.models.base import HandsOutLayers, ObservableModel, ReadsStates
from stars_guard.prompts import Prompt
from stars_guard.rewards.classifiers.probe import READ, features_of

_LOG = logging.getLogger(__name__)

STAND_IN = "Go on."
"""The prompt of training texts that have none."""
CHUNK = 256
"""Texts read between two log lines."""


class StateReader:
    """Turns prompts and answers into what a probe reads.

    Args:
        model: reads texts for their states: a local model, or one in vLLM that hands them out.
        layers: whose hidden states are read.
        prompt_tokens: how many a prompt keeps, its last; None keeps all.
    """

    def __init__(self, model: object, layers: tuple[int, ...], prompt_tokens: int | None = None) -> None:
        if not isinstance(model, ReadsStates):
            raise ConfigurationError(f"{type(model).__name__} cannot read texts; use a TransformersModel")
        self._model, self._layers, self._prompt_tokens = model, layers, prompt_tokens

    def features(self, texts: Sequence[tuple[str, str]], lengths: Sequence[int | None]) -> Tensor:
        """``[texts, lengths, features]`` in float16."""
        shape = (len(texts), len(lengths), len(self._layers) * len(READ) * self._model.identity.hidden_size)
        features = torch.empty(shape, dtype=torch.float16)
        for start in range(0, len(texts), CHUNK):
            chunk = [(self._prompt(prompt), response) for prompt, response in texts[start : start + CHUNK]]
            for n, states in enumerate(self._model.read_states(chunk, self._layers, lengths), start):
                features[n] = torch.stack([features_of(state) for state in states])
            _LOG.info("read %d of %d texts", start + len(chunk), len(texts))
        return features

    def _prompt(self, text: str) -> Prompt:
        ids = self._model.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if self._prompt_tokens and len(ids) > self._prompt_tokens:
            text = self._model.tokenizer.decode(ids[-self._prompt_tokens :])
        return Prompt.of(text if text.strip() else STAND_IN)


def observable_model(model: object) -> ObservableModel:
    """The model itself, if it hands out its states.

    Raises:
        ConfigurationError: it does not.
    """
    if not isinstance(model, ObservableModel):
        raise ConfigurationError(
            f"{type(model).__name__} does not hand out hidden states; use a local model, or have "
            "vLLM hand them out (docs/rewards.md)"
        )
    return model


def usual_layers(model: object, count: int) -> tuple[int, ...]:
    """The layers that a probe reads unless it is told: at 50, 60 and 73 % of the depth.

    Args:
        model: whose states; an engine that hands out some layers only is read for all of them.
        count: number of its layers.
    """
    if isinstance(model, HandsOutLayers):
        return tuple(layer for layer in model.handed_out if layer > 0)
    return tuple(sorted({round(count * share) for share in (0.5, 0.6, 0.73)}))
