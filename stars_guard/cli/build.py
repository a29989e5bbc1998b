"""From what a command is told to a loaded guard."""

from __future__ import annotations

from typing import Any

from stars_guard.cli.guard_settings import refuse_beside
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import notes
from stars_guard.cli.wanted import WantedGuard, WantedModels, wanted_guard, wanted_models
from stars_guard.errors import ConfigurationError, failures_as
from stars_guard.guarded import StarsGuardedLLM
from stars_guard.loading import parts
from stars_guard.loading.apart import done_apart
from stars_guard.loading.reading import reads_states, text_reader
from stars_guard.rewards.base import RewardModel


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
    return load_wanted(wanted_guard(models, guard, sampling, limits))


def load_wanted(wanted: WantedGuard) -> StarsGuardedLLM:
    """Load the models, to be guarded as is wanted.

    Raises:
        ConfigurationError: nothing usable is there.
    """
    models = wanted.models
    # A bad --device or --dtype surfaces as whatever torch raises.
    with notes().status("loading the models"), failures_as(ConfigurationError, "loading the models"):
        return StarsGuardedLLM.load(
            models.model,
            models.reward,
            wanted.config,
            model_options=models.model_options,
            reward_options=models.reward_options,
            sampling=wanted.sampling,
            budget=wanted.budget,
        )


def load_reward_alone(models: ModelOptions) -> RewardModel:
    """The reward model without a guard; a probe gets the language model it reads texts with.

    Raises:
        ConfigurationError: an option is wrong, or nothing usable is there.
    """
    wanted = wanted_models(models)
    task = "loading the reward model"
    with notes().status(task), failures_as(ConfigurationError, task):
        return done_apart(
            lambda: parts.load_reward(wanted.reward, wanted.reward_options | _reader(models, wanted))
        )


def _reader(models: ModelOptions, wanted: WantedModels) -> dict[str, Any]:
    """What a probe reads texts with: the states of ``--model``, or of the embedded one."""
    if not reads_states(wanted.reward):
        refuse_beside("--model", models.model, "a reward model that is no probe")
        return {}
    return text_reader(wanted.reward, wanted.model, wanted.model_options)
