"""From names to parts: folders, hub ids, specs, or the embedded default. Imports torch only when called."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeAlias

from stars_guard import embedded
from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError, MissingExtraError
from stars_guard.loading.calibrated import corrected, read_config
from stars_guard.loading.code import is_spec, load_named
from stars_guard.loading.engine_servers import is_remote, load_remote
from stars_guard.loop.loop import Loop
from stars_guard.models.base import LanguageModel
from stars_guard.models.engines.vllm import is_in_process, load_in_process
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.corrected import CorrectedReward

Options: TypeAlias = Mapping[str, Any] | None

_SHARED: dict[str, Loop] = {}
_LOADING = threading.Lock()


def shared_loop(
    model: str | None,
    model_options: Options,
    reward: str | None,
    reward_options: Options,
    config: GuardConfig,
) -> Loop:
    """The one loop of this process for these ids and options; loaded when it is first asked for.

    Settings with a correction get the one loop with that correction, around the same weights.
    """
    # repr, since options may hold what cannot be hashed, such as a quantisation config.
    key = repr((model, sorted((model_options or {}).items()), reward, sorted((reward_options or {}).items())))
    with _LOADING:
        if key not in _SHARED:
            _SHARED[key] = Loop(*load_parts(model, model_options, reward, reward_options))
        plain = _SHARED[key].rounds
        reward_model = corrected(config, plain.reward)
        if isinstance(reward_model, CorrectedReward) and reward_model is not plain.reward:
            key = repr((key, reward_model.correction, sorted(reward_model.channels)))
            if key not in _SHARED:
                _SHARED[key] = Loop(plain.proposers.model, reward_model)
        return _SHARED[key]


def load_parts(
    model: str | None, model_options: Options, reward: str | None, reward_options: Options
) -> tuple[LanguageModel, RewardModel]:
    """The language model and the reward model; the reward first, which is smaller and fails sooner."""
    # In a thread that ends: torch keeps its workers per thread, and those left behind slow all others.
    with ThreadPoolExecutor(max_workers=1) as loader:
        reward_model = loader.submit(load_reward, reward, reward_options or {}).result()
        return loader.submit(load_model, model, model_options or {}).result(), reward_model


def load_model(path: str | None, options: Mapping[str, Any]) -> LanguageModel:
    """The language model at ``path``; None is the embedded one, in int8 on a CPU unless ``dtype`` is set.

    A spec of :mod:`stars_guard.loading.engine_servers`, such as ``vllm@http://localhost:8000``, names one on
    a server; ``vllm:FOLDER_OR_HUB_ID`` one in vLLM's engine, as in :mod:`stars_guard.models.engines.vllm`.
    """
    if path is not None and is_remote(path):
        return load_remote(path, **options)
    if path is not None and is_in_process(path):
        return load_in_process(path, **options)
    try:
        from stars_guard.models.local.int8 import int8_linears, is_available
        from stars_guard.models.local.transformers import TransformersModel
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    if path is not None:
        return TransformersModel.load(path, **options)
    free = options.get("device", "cpu") == "cpu" and "dtype" not in options
    fast = {"device": "cpu", "prepare": int8_linears} if free and is_available() else {}
    return TransformersModel.load(str(embedded.chat_model()), **{**fast, **options})


def load_reward(path: str | None, options: Mapping[str, Any]) -> RewardModel:
    """The reward model at ``path``, a classifier or a probe; None is the embedded harmlessness reward.

    ``embedded:probe`` is the probe of the embedded language model. A spec of
    :mod:`stars_guard.loading.code`, such as ``my_rewards.py:calm``, names code, which is run.
    """
    if path == embedded.PROBE_NAME:
        path = str(embedded.PROBE)
    if path is not None and is_spec(path):
        return load_named(path, options)
    try:
        from stars_guard.rewards.classifiers.classifier import ClassifierReward
        from stars_guard.rewards.classifiers.formats import pair, prompt_tail
        from stars_guard.rewards.classifiers.probe import ProbeReward, is_probe
    except ImportError as error:
        raise MissingExtraError(str(error.name), "transformers") from error
    if path is not None and is_probe(Path(path).expanduser()):
        return ProbeReward.load(path, **_probe_options(path, options))
    if path is not None:
        return ClassifierReward.load(path, **options)
    own = {"name": "harmlessness", "format": prompt_tail(pair, embedded.PROMPT_TOKENS)}
    return ClassifierReward.load(str(embedded.harmlessness_reward()), **{**own, **options})


def _probe_options(path: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Its few numbers need no precision or device of their own."""
    if unknown := set(options) - {"read", "dtype", "device"}:
        raise ConfigurationError(
            f"the probe in {path} takes no {', '.join(sorted(unknown))}; leave out options of classifiers"
        )
    return {key: options[key] for key in options if key == "read"}


def load_config(config: GuardConfig | str | Path | None, reward: str | None) -> GuardConfig:
    """The settings, read if they are in a file; only the embedded reward comes with its own.

    Raises:
        ConfigurationError: a reward model of the user's own, and no settings for it; or a wrong file.
    """
    if isinstance(config, str | Path):
        return read_config(config)
    if config is not None:
        return config
    if embedded.is_embedded(reward):
        return embedded.CONFIG
    raise ConfigurationError(
        f"no config for the reward model {reward!r}: rewards differ in scale, so say what to aim at, "
        "for example config=GuardConfig(threshold=LinearInTokens(target=...))"
    )
