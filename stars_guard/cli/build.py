"""From options to a loaded guard."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.cli.guard_settings import guard_config, refuse_beside, sampling_params, stated
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts, specs
from stars_guard.loading.apart import done_apart
from stars_guard.loading.names import model_spec, reward_spec
from stars_guard.loading.specs import ModelSpec, RewardSpec
from stars_guard.rewards.base import RewardModel

_OF_CLASSIFIERS = "--reward-preset, --reward-format, --good, --bad and --scale"


def load_guard(
    models: ModelOptions, guard: GuardOptions, sampling: SamplingOptions, limits: LimitOptions
) -> StarsGuardedLLM:
    """Check every option, then load the models.

    Args:
        models: which models, and how to load them.
        guard: how to guard.
        sampling: how to propose.
        limits: what an answer may cost.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    params, budget = sampling_params(sampling), Budget(**asdict(limits))
    config = guard_config(guard, sampling.max_tokens, models.reward)
    return load_with(models, config, params, budget)


def load_with(
    models: ModelOptions, config: GuardConfig, sampling: SamplingParams, budget: Budget | None = None
) -> StarsGuardedLLM:
    """Load the models, to be guarded with these settings.

    Args:
        models: which models, and how to load them.
        config: the STARS settings.
        sampling: how to propose.
        budget: what an answer may cost.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    model, reward = _specs(models)
    # A bad --device or --dtype surfaces as whatever torch raises.
    with notes().status("loading the models"), failures_as(ConfigurationError, "loading the models"):
        return StarsGuardedLLM.load(
            model,
            reward,
            config,
            model_options=_model_options(models),
            reward_options=_reward_options(models),
            sampling=sampling,
            budget=budget,
        )


def load_reward_alone(models: ModelOptions) -> RewardModel:
    """The reward model without a guard; a probe gets the language model it reads texts with.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    options = _reward_options(models)
    model, reward = _specs(models)
    task = "loading the reward model"
    with notes().status(task), failures_as(ConfigurationError, task):
        return done_apart(lambda: parts.load_reward(reward, options | _reader(models, model, reward)))


def _reader(models: ModelOptions, model: ModelSpec, reward: RewardSpec) -> dict[str, Any]:
    """What a probe reads texts with: the states of ``--model``, or of the embedded one."""
    if not isinstance(reward, specs.LocalProbe):
        refuse_beside("--model", models.model, "a reward model that is no probe")
        return {}
    if isinstance(model, specs.EngineServer | specs.EngineInProcess):
        raise ConfigurationError(
            f"a probe reads the states of a model in this process that no engine runs, not of {models.model}"
        )
    language_model: Any = parts.load_model(model, _model_options(models))
    return {"read": language_model.read_states}


def _model_options(models: ModelOptions) -> dict[str, Any]:
    """How to load the language model: on a server, in vLLM's engine here, or in this process."""
    spec = model_spec(models.model)
    if isinstance(spec, specs.EngineServer):
        return stated(
            tokenizer=models.tokenizer,
            tokenizer_revision=models.revision,
            api_key_env=models.api_key_env,
        )
    refuse_beside("--api-key-env", models.api_key_env, "a --model that is not on a server")
    if isinstance(spec, specs.EngineInProcess):
        return stated(tokenizer=models.tokenizer, revision=models.revision, dtype=models.dtype)
    refuse_beside("--tokenizer", models.tokenizer, "a --model that no engine runs")
    return stated(revision=models.revision, dtype=models.dtype, device=models.device)


def _reward_options(models: ModelOptions) -> dict[str, Any]:
    """How to load the reward model."""
    spec = reward_spec(models.reward)
    options = stated(
        preset=models.reward_preset,
        format=models.reward_format,
        good=tuple(models.good or ()) or None,
        bad=tuple(models.bad or ()) or None,
        scale=models.scale,
    )
    if options and isinstance(spec, specs.EmbeddedReward):
        raise ConfigurationError(f"{_OF_CLASSIFIERS} describe a reward model of your own; add --reward")
    if options and isinstance(spec, specs.RewardCode | specs.LocalJudge | specs.LocalProbe):
        raise ConfigurationError(
            f"{_OF_CLASSIFIERS} have no effect with --reward {models.reward}; they describe a classifier"
        )
    if isinstance(spec, specs.RewardCode):
        return {}  # --dtype and --device are the language model's, then
    return options | stated(revision=models.reward_revision, dtype=models.dtype, device=models.device)


def _specs(models: ModelOptions) -> tuple[ModelSpec, RewardSpec]:
    """What ``--model`` and ``--reward`` name."""
    model, reward = model_spec(models.model), reward_spec(models.reward)
    if isinstance(model, specs.LocalModel | specs.EngineInProcess):
        others = "or name an engine: vllm@http://localhost:8000 or vllm:FOLDER_OR_HUB_ID"
        _check_place("--model", model.path, others)
    if isinstance(reward, specs.LocalReward):
        _check_place("--reward", reward.path, "or name code: path/to/file.py:attribute")
    return model, reward


def _check_place(flag: str, place: str, others: str) -> None:
    """A path that is not there must not be looked for on the hub, which takes long and misleads."""
    if Path(place).expanduser().is_dir():
        return
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or Path(place).exists():
        raise ConfigurationError(
            f"{flag} {place} is not a folder; give one with config.json and weights, or a hub id, {others}"
        )
