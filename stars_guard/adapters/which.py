"""Which model and which reward an adapter is told, as fields: checked at construction, kept as given."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, TypeAlias

from pydantic import PlainSerializer, PlainValidator, WithJsonSchema

from stars_guard.embedded import ENCODER_NAME
from stars_guard.loading import specs
from stars_guard.loading.names import ModelLike, RewardLike, model_spec, reward_spec

EMBEDDED = "embedded"
"""How the embedded language model and the embedded reward are called where their names are shown."""


def name_of_model(model: ModelLike) -> str:
    """Name of a language model, for metadata; a text is its own name."""
    if isinstance(model, str):
        return model or EMBEDDED
    match model_spec(model):
        case specs.EmbeddedModel():
            return EMBEDDED
        case specs.ReadyModel(part=part):
            return part.name
        case specs.EngineServer(name=name, url=url):
            return name or url
        case spec:
            return spec.path


def name_of_reward(reward: RewardLike) -> str:
    """Name of a reward model, for metadata; a text is its own name."""
    if isinstance(reward, str):
        return reward or EMBEDDED
    return EMBEDDED if reward is None else reward_spec(reward).name


def saved_model(model: ModelLike) -> str | dict[str, str] | None:
    """A language model in saved settings and where settings are shown: a name, else its kind and name.

    The latter is refused when settings are read, so that no object is taken for a hub id of its name; and it
    leaves out options, which may hold access tokens.
    """
    if model is None or isinstance(model, str | Path):
        return None if model is None else str(model)
    return {"kind": model_spec(model).kind, "name": name_of_model(model)}


def saved_reward(reward: RewardLike) -> str | dict[str, str] | None:
    """A reward model in saved settings, as :func:`saved_model` has a language model."""
    if reward is None or isinstance(reward, str | Path):
        return None if reward is None else str(reward)
    return {"kind": reward_spec(reward).kind, "name": name_of_reward(reward)}


def _checked_model(model: Any) -> ModelLike:
    if isinstance(model, str):
        return str.__str__(model)  # a member of an enumeration as its text
    # The embedded one has one form, so that what asks for None misses no description of it.
    return None if isinstance(model_spec(model), specs.EmbeddedModel) else model


def _checked_reward(reward: Any) -> RewardLike:
    if isinstance(reward, str):
        return str.__str__(reward)
    # The encoder by its name, which can be saved and read again; None stays what the model decides.
    is_encoder = reward is not None and reward_spec(reward) == specs.EmbeddedReward()
    return ENCODER_NAME if is_encoder else reward


_AS_TEXT = WithJsonSchema({"type": "string"})

ModelField: TypeAlias = Annotated[
    ModelLike, PlainValidator(_checked_model), PlainSerializer(saved_model), _AS_TEXT
]
"""Type of a setting that says which language model; use it with ``| None``."""
RewardField: TypeAlias = Annotated[
    RewardLike, PlainValidator(_checked_reward), PlainSerializer(saved_reward), _AS_TEXT
]
"""Type of a setting that says which reward model; use it with ``| None``."""
