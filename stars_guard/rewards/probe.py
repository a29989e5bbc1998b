"""A reward read off the base model's own hidden states, which decoding computes anyway.

A probe is a small head (tens of kilobytes) trained for one base model with ``stars-guard train-reward --kind
probe``. It needs no second model and no second pass: a candidate costs one product of a vector and a matrix.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from pydantic import Field, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from stars_guard.errors import ConfigurationError, ScoringError, boundary
from stars_guard.rewards.base import Reward, ScoreRequest
from stars_guard.settings import Settings
from stars_guard.types import HiddenStates, ModelIdentity, Prompt

SETTINGS_FILE, WEIGHTS_FILE = "probe.json", "probe.safetensors"
READ = ("prompt", "mean", "last")
"""What a probe reads of each layer, in this order; see :class:`stars_guard.types.HiddenStates`."""

ReadStates: TypeAlias = Callable[
    [Sequence[tuple[Prompt, str]], tuple[int, ...]], Sequence[Sequence[HiddenStates]]
]
"""Reads texts for their states, as :meth:`stars_guard.models.transformers.TransformersModel.read_states`."""


class ProbeSettings(Settings):
    """What a probe is made for and how it reads; saved beside its weights."""

    version: int = Field(default=1, ge=1, le=1)
    """Of the file format."""
    name: str = "probe"
    """For traces."""
    layers: tuple[int, ...] = Field(min_length=1)
    """Layers read, rising."""
    model_name: str
    """The base model, and below what tells it from others."""
    model_layers: int = Field(ge=1)
    hidden_size: int = Field(ge=1)
    signature: tuple[float, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _rising(self) -> ProbeSettings:
        rising = list(self.layers) == sorted(set(self.layers))
        if not rising or self.layers[0] < 0 or self.layers[-1] > self.model_layers:
            raise ValueError(f"layers={self.layers} must rise, from 0 to {self.model_layers}")
        return self

    @property
    def features(self) -> int:
        """Numbers that the head reads."""
        return len(self.layers) * len(READ) * self.hidden_size


class Head(torch.nn.Module):
    """A linear part and a small hidden layer side by side; inputs ``[rows, features]``, one reward a row."""

    def __init__(self, features: int, units: int) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(features, 1)
        self.inner = torch.nn.Linear(features, units)
        self.outer = torch.nn.Linear(units, 1, bias=False)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """The rewards ``[rows]``."""
        linear: torch.Tensor = self.linear(features)
        return linear.squeeze(-1) + self.curved(features)

    def curved(self, features: torch.Tensor) -> torch.Tensor:
        """The hidden layer's part of the rewards ``[rows]``."""
        part: torch.Tensor = self.outer(torch.nn.functional.gelu(self.inner(features)))
        return part.squeeze(-1)


class ProbeReward:
    """Log-odds of being safe, or whatever else its head was trained to say, from hidden states.

    Within a guard, the states come with the candidates: the language model must be the very one that the
    probe was trained on, in any precision, and hand out its states (a local ``TransformersModel``). With
    ``read``, the probe has a model of its own that reads the texts, for use with any other language model.

    Args:
        settings: what it is made for.
        head: its weights.
        read: reads texts for their states.

    Raises:
        ConfigurationError: head and settings do not fit.
    """

    def __init__(self, settings: ProbeSettings, head: Head, *, read: ReadStates | None = None) -> None:
        if head.linear.in_features != settings.features:
            raise ConfigurationError(
                f"the head reads {head.linear.in_features} numbers and its settings say {settings.features}; "
                "the files of two probes were mixed up"
            )
        self.settings = settings
        self.name = settings.name
        self.head = head.float().eval()
        self._read = read

    @classmethod
    def load(cls, folder: str | Path, *, read: ReadStates | None = None) -> ProbeReward:
        """Load a folder written by :meth:`save`.

        Raises:
            ConfigurationError: it holds no probe, or a broken one.
        """
        place = Path(folder).expanduser()
        if not is_probe(place):
            raise ConfigurationError(f"{folder} holds no probe: there is no {SETTINGS_FILE} in it")
        with boundary(ConfigurationError, f"loading the probe in {folder}"):
            settings = ProbeSettings.model_validate_json((place / SETTINGS_FILE).read_bytes())
            try:
                weights = load_file(place / WEIGHTS_FILE)
            except SafetensorError as error:
                raise ConfigurationError(f"{place / WEIGHTS_FILE} is broken: {error}") from error
            head = Head(weights["linear.weight"].shape[1], weights["inner.weight"].shape[0])
            head.load_state_dict({key: value.float() for key, value in weights.items()})
        return cls(settings, head, read=read)

    def save(self, folder: Path) -> None:
        """Write settings and weights (float16) into a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / SETTINGS_FILE).write_text(self.settings.model_dump_json(indent=2) + "\n", encoding="utf-8")
        weights = {key: value.half().contiguous() for key, value in self.head.state_dict().items()}
        save_file(weights, folder / WEIGHTS_FILE)

    @property
    def hidden_layers(self) -> tuple[int, ...]:
        """The layers to observe; none if it has a model of its own."""
        return () if self._read else self.settings.layers

    def check_model(self, model: ModelIdentity) -> None:
        """Make sure that this is the base model.

        Raises:
            ConfigurationError: it is another one.
        """
        own = self.settings
        same_shape = (model.layers, model.hidden_size) == (own.model_layers, own.hidden_size)
        if not same_shape or not _alike(model.signature, own.signature):
            raise ConfigurationError(
                f"the probe {self.name} reads the hidden states of {own.model_name}, and {model.name} is "
                "another model; train one for it: stars-guard train-reward --kind probe"
            )

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request.

        Raises:
            ScoringError: a request has no states, and there is no model to read its text.
        """
        if not requests:
            return []
        features = torch.stack([features_of(states) for states in self._states(requests)])
        with torch.inference_mode():
            values: list[float] = self.head(features.to(self.head.linear.weight.device)).tolist()
        return [Reward(value) for value in values]

    def release(self, run_id: str) -> None:
        """Nothing is kept."""

    def _states(self, requests: Sequence[ScoreRequest]) -> list[HiddenStates]:
        if self._read:
            texts = [(request.prompt, request.response) for request in requests]
            return [only for (only,) in self._read(texts, self.settings.layers)]
        return [self._own_layers(request.hidden) for request in requests]

    def _own_layers(self, states: HiddenStates | None) -> HiddenStates:
        if states is None:
            raise ScoringError(
                f"the probe {self.name} reads hidden states, and this text came without; load it with read="
            )
        if states.layers == self.settings.layers:
            return states
        # Another part of the reward reads further layers.
        places = [states.layers.index(layer) for layer in self.settings.layers]
        parts = (part[places] for part in (states.prompt, states.mean, states.last))
        return HiddenStates(self.settings.layers, states.tokens, *parts)


def features_of(states: HiddenStates) -> torch.Tensor:
    """The numbers that a head reads: for each layer prompt, mean and last; ``[features]`` in float32.

    Each state is brought to length 1 per root of its size first, since a few huge dimensions would drown all
    others.
    """
    together = torch.stack([states.prompt, states.mean, states.last], dim=1).float()
    return torch.nn.functional.rms_norm(together, together.shape[-1:]).flatten()


def is_probe(folder: Path) -> bool:
    """Whether a folder holds a probe."""
    return (folder / SETTINGS_FILE).is_file()


def _alike(one: Sequence[float], other: Sequence[float]) -> bool:
    """Equal but for precision."""
    return len(one) == len(other) and all(
        abs(a - b) <= 0.02 * max(abs(a), abs(b), 0.01) for a, b in zip(one, other, strict=True)
    )
