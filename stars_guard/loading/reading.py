"""What a reward model needs that is asked about texts alone, without a guard around it."""

from __future__ import annotations

from typing import Any

from stars_guard.errors import ConfigurationError
from stars_guard.loading import parts, specs
from stars_guard.loading.names import ModelLike, RewardLike, model_spec, reward_spec, with_parts
from stars_guard.loading.parts import Options
from stars_guard.loading.specs import RewardSpec


def text_reader(reward: RewardLike, model: ModelLike = None, options: Options = None) -> dict[str, Any]:
    """Options of a reward model that reads texts: a probe needs the states of a language model.

    Args:
        reward: which reward model.
        model: the language model of a probe; None is the embedded one.
        options: how to load that.

    Raises:
        ConfigurationError: an engine runs the model, which hands out no states.
    """
    if not reads_states(reward_spec(reward)):
        return {}
    spec = model_spec(model)
    if isinstance(spec, specs.EngineServer | specs.EngineInProcess):
        raise ConfigurationError(
            f"a probe reads the states of a model in this process, and an engine ({spec.kind}) hands out "
            "none; name a folder or hub id of the probe's model"
        )
    language_model: Any = parts.load_model(spec, options)
    return {"read": language_model.read_states}


def reads_states(reward: RewardSpec) -> bool:
    """Whether a reward is a probe, or has one among its parts."""
    return any(isinstance(spec, specs.LocalProbe) for spec in with_parts(reward))
