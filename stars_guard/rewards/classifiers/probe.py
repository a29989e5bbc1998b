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

from stars_guard.errors import ConfigurationError, ScoringError, failures_as
from stars_guard.prompts import Prompt
from stars_guard.rewards.base import ScoreRequest
from stars_guard.settings import Settings
from stars_guard.types import HiddenStates, ModelIdentity, Named, Reward

SETTINGS_FILE, WEIGHTS_FILE = "probe.json", "probe.safetensors"
READ = ("prompt", "mean", "last")
"""What a probe reads of each layer, in this order; see :class:`stars_guard.types.HiddenStates`."""

ReadStates: TypeAlias = Callable[
    [Sequence[tuple[Prompt, str]], tuple[int, ...]], Sequence[Sequence[HiddenStates]]
]
"""Reads texts for their states, as :meth:`stars_guard.models.TransformersModel.read_states`."""


class ProbeSettings(Settings):
    """What a probe is made for and how it reads; saved beside its weights."""

    version: int = Field(default=1, ge=1, le=1)
    """Version of the file format."""
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


class ProbeHead(torch.nn.Module):
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


class ProbeReward(Named):
    """Log-odds of being safe, or whatever else its head was trained to say, from hidden states.

    Within a guard, the states come with the candidates where the language model is the very one that the
    probe was trained on, in any precision, and hands them out: a local ``TransformersModel``, or one in vLLM
    that was told to. With ``read``, the probe has a model of its own that reads all other texts.

    Args:
        settings: what it is made for.
        head: its weights.
        read: reads texts for their states.

    Raises:
        ConfigurationError: head and settings do not fit.
    """

    def __init__(self, settings: ProbeSettings, head: ProbeHead, *, read: ReadStates | None = None) -> None:
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
        with failures_as(ConfigurationError, f"loading the probe in {folder}"):
            settings = ProbeSettings.model_validate_json((place / SETTINGS_FILE).read_bytes())
            try:
                weights = load_file(place / WEIGHTS_FILE)
            except SafetensorError as error:
                raise ConfigurationError(f"{place / WEIGHTS_FILE} is broken: {error}") from error
            head = ProbeHead(weights["linear.weight"].shape[1], weights["inner.weight"].shape[0])
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
        """The layers it reads."""
        return self.settings.layers

    def observes(self, model: ModelIdentity | None) -> bool:
        """Whether this is the base model, so that its states can be read.

        Raises:
            ConfigurationError: it is not, and there is no model of the probe's own to read the text.
        """
        if model is not None and self._fits(model):
            return True
        if self._read is None:
            raise ConfigurationError(
                f"{self.name} reads the hidden states of {self.settings.model_name}, and the language model "
                f"is {model.name if model else 'one that hands out none'}; train one for it (stars-guard "
                "train-reward --kind probe), have vLLM hand them out (--states, docs/rewards.md), or load "
                "the probe with read="
            )
        return False

    def read_with(self, model: ModelIdentity, read: ReadStates) -> None:
        """Have texts that come without states read by a model, if it is the base; an earlier reader stays.

        Args:
            model: what tells it from others.
            read: reads texts with it.
        """
        if self._read is None and self._fits(model):
            self._read = read

    def score(self, requests: Sequence[ScoreRequest]) -> list[Reward]:
        """One reward per request.

        Raises:
            ScoringError: a request has no states of the base model, and there is no model to read its text.
        """
        if not requests:
            return []
        features = torch.stack([features_of(states) for states in self._states(requests)])
        with torch.inference_mode():
            values: list[float] = self.head(features.to(self.head.linear.weight.device)).tolist()
        return [Reward(value) for value in values]

    def release(self, run_id: str) -> None:
        """Does nothing: no answer is cached."""

    def _states(self, requests: Sequence[ScoreRequest]) -> list[HiddenStates]:
        given = [self._usable(request.hidden) for request in requests]
        missing = [request for request, states in zip(requests, given, strict=True) if states is None]
        read = iter(self._read_texts(missing))
        return [states or next(read) for states in given]

    def _read_texts(self, requests: Sequence[ScoreRequest]) -> list[HiddenStates]:
        if requests and self._read is None:
            raise ScoringError(
                f"{self.name} reads the hidden states of {self.settings.model_name}, and this text came "
                "without; load the probe with read="
            )
        texts = [(request.prompt, request.response) for request in requests]
        return [only for (only,) in self._read(texts, self.settings.layers)] if self._read and texts else []

    def _usable(self, states: HiddenStates | None) -> HiddenStates | None:
        """The states of its own layers, if they are there and of the base model."""
        if (
            states is None
            or not self._fits(states.model)
            or not set(self.settings.layers) <= set(states.layers)
        ):
            return None
        places = [states.layers.index(layer) for layer in self.settings.layers]
        parts = (part[places] for part in (states.prompt, states.mean, states.last))
        return HiddenStates(states.model, self.settings.layers, states.tokens, *parts)

    def _fits(self, model: ModelIdentity) -> bool:
        base = self.settings
        same_shape = (model.layers, model.hidden_size) == (base.model_layers, base.hidden_size)
        return same_shape and _alike(model.signature, base.signature)


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


def _alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two signatures are equal but for precision, which moves them by less than 2 %."""
    return len(first) == len(second) and all(
        abs(a - b) <= 0.02 * max(abs(a), abs(b), 0.01) for a, b in zip(first, second, strict=True)
    )
