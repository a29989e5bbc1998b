"""From names to parts: folders, hub ids, or the embedded default. Imports torch only when called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from stars_guard import embedded
from stars_guard.config import GuardConfig
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel


def load_model(path: str | None, options: Mapping[str, Any]) -> LanguageModel:
    """The language model at ``path``; None is the embedded one, with int8 weights on a CPU."""
    try:
        from stars_guard.models.int8 import int8_linears, is_available
        from stars_guard.models.transformers import TransformersModel
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    if path is not None:
        return TransformersModel.load(path, **options)
    on_cpu = options.get("device", "cpu") == "cpu"
    fast = {"device": "cpu", "prepare": int8_linears} if on_cpu and is_available() else {}
    return TransformersModel.load(str(embedded.chat_model()), **{**fast, **options})


def load_reward(path: str | None, options: Mapping[str, Any]) -> RewardModel:
    """The reward model at ``path``; None is the embedded harmlessness reward."""
    try:
        from stars_guard.rewards.classifier import ClassifierReward
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    if path is not None:
        return ClassifierReward.load(path, **options)
    return ClassifierReward.load(str(embedded.harmlessness_reward()), **{"name": "harmlessness", **options})


def load_config(config: GuardConfig | None, reward: str | None) -> GuardConfig:
    """The settings; only the embedded reward comes with its own.

    Raises:
        ConfigurationError: a reward model of the user's own, and no settings for it.
    """
    if config is not None:
        return config
    if reward is None:
        return embedded.CONFIG
    raise ConfigurationError(
        f"no config for the reward model {reward!r}: rewards differ in scale, so say what to aim at, "
        "for example config=GuardConfig(threshold=LinearInTokens(target=...))"
    )
