"""From the sections of a configuration to a loaded guard."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

from stars_guard import embedded
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.models.base import LanguageModel
from stars_guard.rewards.base import RewardModel
from stars_guard.server.config import (
    EngineInProcess,
    EngineServer,
    LocalModel,
    LocalReward,
    ScoringServer,
    ServerConfig,
)


def load_guard(config: ServerConfig) -> StarsGuardedLLM:
    """Load the models; the reward first, which is smaller and fails sooner.

    Raises:
        ConfigurationError: something is not there, or does not fit.
    """
    # In a thread that ends: torch keeps its workers per thread, and those left behind slow all others.
    with ThreadPoolExecutor(max_workers=1) as loader:
        reward = loader.submit(_reward, config).result()
        model = loader.submit(_model, config).result()
    return StarsGuardedLLM(
        model,
        reward,
        config.guard or embedded.CONFIG,
        sampling=config.sampling,
        budget=config.budget,
        max_rows=config.limits.rows,
    )


def _model(config: ServerConfig) -> LanguageModel:
    from stars_guard.loading.parts import load_model
    from stars_guard.models.engines.vllm import SPEC

    wanted = config.model
    if isinstance(wanted, LocalModel):
        options = {name: value for name in ("dtype", "device") if (value := getattr(wanted, name))}
        return load_model(wanted.path, options)
    if isinstance(wanted, EngineServer):
        return _engine(wanted)
    if isinstance(wanted, EngineInProcess):
        tokenizer = {"tokenizer": wanted.tokenizer} if wanted.tokenizer else {}
        return load_model(f"{SPEC}{wanted.path}", {**wanted.options, **tokenizer})
    return load_model(None, {})


def _engine(wanted: EngineServer) -> LanguageModel:
    from stars_guard.loading.engine_servers import load_remote

    place = f"{wanted.engine}@{wanted.url}" + (f"#{wanted.name}" if wanted.name else "")
    return load_remote(place, api_key_env=wanted.api_key_env, tokenizer=wanted.tokenizer)


def _reward(config: ServerConfig) -> RewardModel:
    wanted = config.reward
    if isinstance(wanted, ScoringServer):
        from stars_guard.rewards.servers.remote import RemoteReward

        given: dict[str, Any] = wanted.model_dump(exclude={"kind", "url", "format", "http"})
        return RemoteReward(wanted.url, wanted.format, http=wanted.http, **given)
    from stars_guard.loading.parts import load_reward

    if isinstance(wanted, LocalReward):
        return load_reward(wanted.path, wanted.options)
    return load_reward(None, {})
