"""Hidden states summed up as an answer grows, so that a reward can read them at the cost of an addition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from stars_guard.errors import ConfigurationError
from stars_guard.types import HiddenStates, ModelIdentity

DECAY = 2 ** (-1 / 32)
"""Weight of a token relative to the one after it."""

States = tuple[torch.Tensor, ...]
"""What a pass computed: one tensor ``[rows, new tokens, hidden]`` per layer, the embedding first."""


def check_layers(layers: Sequence[int], count: int) -> None:
    """Raise ``ConfigurationError`` unless the model has these layers."""
    if not layers or min(layers) < 0 or max(layers) > count:
        raise ConfigurationError(f"layers {tuple(layers)} cannot be read; the model has layers 0 to {count}")


def chosen(layers: Sequence[int], states: States) -> torch.Tensor:
    """``[rows, layers, new tokens, hidden]`` in float32."""
    return torch.stack([states[layer] for layer in layers], dim=1).float()


def at_prompt(model: ModelIdentity, layers: tuple[int, ...], new: torch.Tensor) -> HiddenStates:
    """The states of an answer that has not begun.

    Args:
        model: what tells the model that read the prompt from others.
        layers: whose output it is.
        new: states of the prompt, ``[layers, tokens, hidden]``.
    """
    last = new[:, -1]
    return HiddenStates(model, layers, 0, prompt=last, mean=last, last=last)


def extended(before: HiddenStates, new: torch.Tensor) -> HiddenStates:
    """The states after further response tokens, whose own are ``new`` ``[layers, new tokens, hidden]``."""
    count = new.shape[1]
    weights = DECAY ** torch.arange(count - 1, -1, -1, device=new.device, dtype=new.dtype)
    weight_before = _weight(before.tokens) * DECAY**count
    total = before.mean * weight_before + torch.einsum("t,lth->lh", weights, new)
    tokens = before.tokens + count
    return replace(before, tokens=tokens, mean=total / _weight(tokens), last=new[:, -1])


def _weight(tokens: int) -> float:
    """Sum of the weights of so many tokens."""
    return (1 - DECAY**tokens) / (1 - DECAY)
