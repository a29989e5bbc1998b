"""What a reward model needs that is asked about texts alone, without a guard around it."""

from __future__ import annotations

from collections.abc import Mapping
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
        ConfigurationError: an engine runs the model, and is not told to hand out states.
    """
    if not reads_states(reward_spec(reward)):
        return {}
    spec = model_spec(model)
    if isinstance(spec, specs.EngineServer | specs.EngineInProcess) and not _hands_out(spec, options or {}):
        raise ConfigurationError(
            f"a probe reads hidden states, and this engine ({spec.kind}) hands out none: say where a server "
            "writes them (states), or which layers an engine in this process is to hand out (hidden_layers), "
            "or name a folder or hub id of the probe's model"
        )
    language_model: Any = parts.load_model(spec, options)
    return {"read": language_model.read_states}


def reads_states(reward: RewardSpec) -> bool:
    """Whether a reward is a probe, or has one among its parts."""
    return any(isinstance(spec, specs.LocalProbe) for spec in with_parts(reward))


def _hands_out(spec: specs.EngineServer | specs.EngineInProcess, options: Mapping[str, Any]) -> bool:
    name = "states" if isinstance(spec, specs.EngineServer) else "hidden_layers"
    return bool(options.get(name) or getattr(spec, name))
