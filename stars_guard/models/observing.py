"""Hidden states summed up as an answer grows, so that a reward can read them at the cost of an addition."""

from __future__ import annotations

from dataclasses import replace

import torch

from stars_guard.errors import ConfigurationError
from stars_guard.types import HiddenStates

States = tuple[torch.Tensor, ...]
"""What a pass computed: one tensor ``[rows, new tokens, hidden]`` per layer, the embedding first."""


def check_layers(layers: tuple[int, ...], count: int) -> None:
    """Raise ``ConfigurationError`` unless the model has these layers."""
    if not layers or min(layers) < 0 or max(layers) > count:
        raise ConfigurationError(f"layers {layers} cannot be observed; the model has layers 0 to {count}")


def at_prompt(layers: tuple[int, ...], states: States) -> HiddenStates:
    """The states of an answer that has not begun: the prompt was read in a pass of one row."""
    last = chosen(layers, states)[0, :, -1]
    return HiddenStates(layers, 0, prompt=last, total=torch.zeros_like(last), last=last)


def extended(before: HiddenStates, new: torch.Tensor) -> HiddenStates:
    """The states after further response tokens, whose own are ``new`` ``[layers, new tokens, hidden]``."""
    return replace(
        before, tokens=before.tokens + new.shape[1], total=before.total + new.sum(1), last=new[:, -1]
    )


def chosen(layers: tuple[int, ...], states: States) -> torch.Tensor:
    """``[rows, layers, new tokens, hidden]`` in float32."""
    return torch.stack([states[layer] for layer in layers], dim=1).float()
