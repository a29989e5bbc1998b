"""What a command is told: its options over the settings of a file, field by field."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.algorithm.rules import LinearInTokens
from stars_guard.cli.guard_settings import guard_config, refuse_beside, stated
from stars_guard.cli.options import GuardOptions, LimitOptions, ModelOptions, SamplingOptions
from stars_guard.cli.screen import notes
from stars_guard.errors import ConfigurationError
from stars_guard.loading import specs
from stars_guard.loading.configuration import ConfigFile, Configuration, located
from stars_guard.loading.names import embedded_config, model_spec, reward_spec
from stars_guard.loading.specs import ModelSpec, RewardSpec
from stars_guard.loading.states import written_states

_OF_CLASSIFIERS = "--reward-preset, --reward-format, --good, --bad and --scale"


@dataclass(frozen=True)
class WantedModels:
    """Which models, and how to load them."""

    model: ModelSpec
    reward: RewardSpec
    model_options: dict[str, Any]
    reward_options: dict[str, Any]


@dataclass(frozen=True)
class WantedGuard:
    """All that a guard is made of."""

    models: WantedModels
    config: GuardConfig
    sampling: SamplingParams
    budget: Budget = field(default_factory=Budget)
    named: dict[str, Any] = field(default_factory=dict)
    """Which models, and how they are read, for the record; not where they run."""


def wanted_guard(
    models: ModelOptions, guard: GuardOptions, sampling: SamplingOptions, limits: LimitOptions
) -> WantedGuard:
    """What the options say, and the file of settings where they say nothing. Nothing is loaded.

    Args:
        models: which models, and how to load them.
        guard: how to guard, and the file.
        sampling: how to propose.
        limits: what an answer may cost.

    Raises:
        ConfigurationError: an option or the file is wrong.
    """
    found = located(guard.config)
    file = found.settings if found else Configuration()
    if found and guard.config is None:
        say_file(found.file)
    params = file.sampling.changed(**given_sampling(sampling))
    wanted = wanted_models(models, file)
    base = _base(guard, models.reward, wanted.reward, file)
    return WantedGuard(
        models=wanted,
        config=guard_config(guard, params.max_tokens, base),
        sampling=params,
        budget=file.budget.changed(**stated(**asdict(limits))),
        named=_named(models, file),
    )


def given_sampling(options: SamplingOptions) -> dict[str, Any]:
    """The fields of sampling that were given."""
    return stated(**asdict(options) | {"stop": options.stop or None})


def wanted_models(models: ModelOptions, file: Configuration | None = None) -> WantedModels:
    """Which models the options name, or else the file, and how to load them.

    Args:
        models: the options.
        file: settings that were read; None: there is no file.

    Raises:
        ConfigurationError: an option has no effect, or a path is not there.
    """
    file = file or Configuration()
    model = model_spec(file.model if models.model is None else models.model)
    reward = reward_spec(file.reward if models.reward is None else models.reward, model)
    if models.engine_model is not None:
        model = _renamed(model, models.engine_model)
    if isinstance(model, specs.LocalModel | specs.EngineInProcess):
        others = "or name an engine: vllm@http://localhost:8000 or vllm:FOLDER_OR_HUB_ID"
        _check_place("--model", model.path, others)
    if isinstance(reward, specs.LocalReward):
        _check_place("--reward", reward.path, "or name code: path/to/file.py:attribute")
    return WantedModels(model, reward, _model_options(models, model), _reward_options(models, reward))


def say_file(file: ConfigFile) -> None:
    """Say which file of settings is read, where the command line does not."""
    notes().print(f"settings from {file}", style="dim", markup=False, soft_wrap=True)


def _named(models: ModelOptions, file: Configuration) -> dict[str, Any]:
    named = {name: value for name, value in asdict(models).items() if name != "device"}
    for name in {"model", "reward"} & file.model_fields_set:
        if named[name] is None:
            named[name] = getattr(file, name).model_dump(mode="json", exclude_defaults=True)
    # Batches that began before there were revisions, names of engines and hidden states go on.
    return {
        name: value
        for name, value in named.items()
        if value or not name.endswith(("revision", "engine_model", "states"))
    }


def _base(options: GuardOptions, named: str | None, reward: RewardSpec, file: Configuration) -> GuardConfig:
    """The settings that options adjust: those of the file, or of the embedded reward."""
    if (guard := file.guard_beside(named)) is not None:
        return guard
    if (made_for_it := embedded_config(reward)) is not None:
        return made_for_it
    if options.target is None:
        which = f"--reward {named}" if named else f"the reward {reward.name}"
        own = "; the guard of the file belongs to another reward" if file.guard is not None else ""
        raise ConfigurationError(
            f"{which} needs --target or --config: rewards differ in scale, so say which reward to aim at{own}"
        )
    return GuardConfig(threshold=LinearInTokens(target=options.target))


def _renamed(model: ModelSpec, name: str) -> ModelSpec:
    """The model of that name in the same engine."""
    if not isinstance(model, specs.EngineServer):
        raise ConfigurationError(
            f"--engine-model {name} has no effect with a --model that is not on a server; leave it out"
        )
    return model.changed(name=name)


def _model_options(models: ModelOptions, spec: ModelSpec) -> dict[str, Any]:
    """How to load the language model: on a server, in vLLM's engine here, or in this process."""
    if isinstance(spec, specs.EngineServer):
        return stated(
            tokenizer=models.tokenizer,
            tokenizer_revision=models.revision,
            api_key_env=models.api_key_env,
            states=written_states(models.states) if models.states else None,
        )
    refuse_beside("--states", models.states, "a --model that is not on a server")
    refuse_beside("--api-key-env", models.api_key_env, "a --model that is not on a server")
    if isinstance(spec, specs.EngineInProcess):
        return stated(tokenizer=models.tokenizer, revision=models.revision, dtype=models.dtype)
    refuse_beside("--tokenizer", models.tokenizer, "a --model that no engine runs")
    return stated(revision=models.revision, dtype=models.dtype, device=models.device)


def _reward_options(models: ModelOptions, spec: RewardSpec) -> dict[str, Any]:
    """How to load the reward model."""
    options = stated(
        preset=models.reward_preset,
        format=models.reward_format,
        good=tuple(models.good or ()) or None,
        bad=tuple(models.bad or ()) or None,
        scale=models.scale,
    )
    if options and embedded_config(spec) is not None:
        raise ConfigurationError(f"{_OF_CLASSIFIERS} describe a reward model of your own; add --reward")
    if options and isinstance(
        spec,
        specs.RewardCode
        | specs.LocalJudge
        | specs.LocalProbe
        | specs.LocalStreamGuard
        | specs.EmbeddedJudge
        | specs.CascadeReward,
    ):
        raise ConfigurationError(
            f"{_OF_CLASSIFIERS} have no effect with --reward {spec.name}; they describe a classifier"
        )
    if isinstance(spec, specs.RewardCode | specs.ScoringServer):
        return options  # --dtype and --device are the language model's, then
    return options | stated(revision=models.reward_revision, dtype=models.dtype, device=models.device)


def _check_place(flag: str, place: str, others: str) -> None:
    """A path that is not there must not be looked for on the hub, which takes long and misleads."""
    if Path(place).expanduser().is_dir():
        return
    if place.startswith((".", "/", "~")) or place.count("/") > 1 or Path(place).exists():
        raise ConfigurationError(
            f"{flag} {place} is not a folder; give one with config.json and weights, or a hub id, {others}"
        )
