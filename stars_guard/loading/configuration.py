"""One file for all ways in: the models, how to guard and to sample, what an answer may cost, and the server.

It is the file that is named; else the one that ``STARS_GUARD_CONFIG`` names; else ``stars-guard.toml`` in the
working directory. The last was named by nobody, and may have come with something else: it must belong to
whoever runs this, may not have code run, may name no secret of the environment, and whoever reads it says so.
An empty ``STARS_GUARD_CONFIG`` is the word that there is none.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Self

from pydantic import BeforeValidator, model_validator

from stars_guard.algorithm.config import Budget, GuardConfig, SamplingParams
from stars_guard.errors import ConfigurationError
from stars_guard.loading import parts, specs
from stars_guard.loading.calibrated import CalibratedConfig, guard_section, is_guard_alone
from stars_guard.loading.names import ModelLike, RewardLike, model_spec, reward_spec, with_parts
from stars_guard.loading.specs import (
    EmbeddedModel,
    ModelSection,
    ModelSpec,
    RewardSection,
    RewardSpec,
)
from stars_guard.settings import Settings, read_settings

CONFIG_ENV = "STARS_GUARD_CONFIG"
"""Environment variable that names the file."""
CONFIG_NAME = "stars-guard.toml"
"""Name of the file that is looked for in the working directory."""
SERVER_SECTIONS = frozenset(
    {
        *("served_name", "server", "limits", "keys", "hosts", "cors_origins", "acceptance_key_env"),
        *("traces", "health", "shadow", "observability"),
    }
)
"""Settings of the same file that only the server reads."""


def _named_model(section: Any) -> Any:
    return model_spec(section) if isinstance(section, str) else section


class Configuration(Settings):
    """Which models, how to guard and to sample, and what an answer may cost. All may be left out."""

    model: Annotated[ModelSection, BeforeValidator(_named_model)] = EmbeddedModel()
    """A section with the model's ``kind``, or a name, as ``--model`` takes it."""
    reward: Annotated[RewardSection, BeforeValidator(specs.named_section)] | None = None
    """A section with the reward's ``kind``, or a name, as ``--reward`` takes it. None: the embedded one that
    suits the model."""
    guard: CalibratedConfig | None = None
    """Settings of :class:`stars_guard.GuardConfig`, or ``{file = "..."}`` with those of calibration.
    None: those of the embedded reward."""
    sampling: SamplingParams = SamplingParams()
    """How to propose, unless a request says otherwise."""
    budget: Budget = Budget()
    """What every request may cost at most."""

    @model_validator(mode="before")
    @classmethod
    def _guard_from_file(cls, values: Any) -> Any:
        guard = values.get("guard") if isinstance(values, dict) else None
        if guard is None or isinstance(guard, GuardConfig):
            return values
        return {**values, "guard": guard_section(guard)}

    @classmethod
    def of_file(cls, path: str | Path) -> Self:
        """The settings in a file: a configuration, or settings of a guard alone.

        Raises:
            ConfigurationError: naming the file and what is wrong with it.
        """
        values = read_settings(path)
        if is_guard_alone(values):
            return cls(guard=CalibratedConfig.found_at(str(path), values))
        return cls.found_at(str(path), {name: values[name] for name in values if cls.reads(name)})

    @classmethod
    def reads(cls, section: str) -> bool:
        """Whether a section of the file is for this kind of settings, or for nobody, which is an error."""
        return section in cls.model_fields or section not in SERVER_SECTIONS

    def guard_beside(self, reward: object) -> CalibratedConfig | None:
        """The settings of the guard, unless they belong to a reward that another was named instead of.

        Args:
            reward: what was named instead of the reward of the file; None: nothing.
        """
        return self.guard if reward is None or self.model_fields_set <= {"guard"} else None


@dataclass(frozen=True, slots=True)
class ConfigFile:
    """The file of settings that is read, and by whose word."""

    path: Path
    found: bool
    """Whether it was only found in the working directory, and named by nobody."""

    def __str__(self) -> str:
        return f"{self.path}, found in the working directory" if self.found else str(self.path)

    def check(self, settings: Configuration) -> None:
        """Refuse what a file may not say that nobody named.

        Raises:
            ConfigurationError: naming it.
        """
        if self.found and (what := _of_trust(settings)):
            raise ConfigurationError(
                f"{self.path} was found in the working directory and names {what}; if you trust it, say so: "
                f"--config {self.path}, or {CONFIG_ENV}={self.path}"
            )


def config_file(named: str | Path | None = None) -> ConfigFile | None:
    """The file of settings to be read, if there is one.

    Args:
        named: a file that somebody named; empty: none is to be read.

    Raises:
        ConfigurationError: one lies in the working directory that another user could have put there.
    """
    place = os.environ.get(CONFIG_ENV) if named is None else str(named)
    if place is not None:
        return ConfigFile(Path(place).expanduser(), found=False) if place else None
    path = Path(CONFIG_NAME).absolute()
    if not path.exists():
        return None
    _check_owner(path)
    return ConfigFile(path, found=True)


class Located(NamedTuple):
    """A file and the settings in it."""

    file: ConfigFile
    settings: Configuration


def located(named: str | Path | None = None) -> Located | None:
    """The file of settings to be read, if there is one, and what it says.

    Args:
        named: as for :func:`config_file`.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    file = config_file(named)
    if file is None:
        return None
    settings = Configuration.of_file(file.path)
    file.check(settings)
    return Located(file, settings)


class GuardParts(NamedTuple):
    """What a guard is made of."""

    model: ModelSpec
    reward: RewardSpec
    config: GuardConfig
    sampling: SamplingParams | None
    budget: Budget | None

    def answering(self, **given: Any) -> dict[str, Any]:
        """The parts that are given, with sampling and budget from here where they are not."""
        return {
            **given,
            "sampling": given.get("sampling") or self.sampling,
            "budget": given.get("budget") or self.budget,
        }


def guard_parts(model: ModelLike, reward: RewardLike, config: GuardConfig | str | Path | None) -> GuardParts:
    """What a guard is to be made of: what is given, and what a file says where nothing is.

    Args:
        model: which language model.
        reward: which reward model.
        config: STARS settings, or the path of a file of settings.

    Raises:
        ConfigurationError: there are no settings for the reward, or the file is wrong.
    """
    if not isinstance(config, str | Path):
        proposing = model_spec(model)
        spec = reward_spec(reward, proposing)
        return GuardParts(proposing, spec, parts.load_config(config, spec), None, None)
    file = Configuration.of_file(config)
    proposing = model_spec(file.model if model is None else model)
    spec = reward_spec(file.reward if reward is None else reward, proposing)
    guard = parts.load_config(file.guard_beside(reward), spec)
    return GuardParts(proposing, spec, guard, file.sampling, file.budget)


def _of_trust(settings: Configuration) -> str | None:
    """What in the settings needs the word of whoever runs this: code, and secrets that go elsewhere."""
    rewards = with_parts(reward_spec(settings.reward))
    options = [getattr(spec, "options", {}) for spec in (settings.model, *rewards)]
    if any(isinstance(spec, specs.RewardCode) for spec in rewards):
        return "code that would be run"
    if any(given.get("trust_remote_code") for given in options):
        return "trust_remote_code"
    reached = [settings.model, *(getattr(spec, "http", None) for spec in rewards)]
    secrets = any(getattr(access, "api_key_env", None) for access in reached)
    return "a key in the environment, which would be sent" if secrets else None


def _check_owner(path: Path) -> None:
    """Refuse a file that another user put there, or could have.

    Raises:
        ConfigurationError: naming it.
    """
    state = path.stat()
    mine = not hasattr(os, "geteuid") or state.st_uid in (0, os.geteuid())
    if not mine or state.st_mode & stat.S_IWOTH:
        raise ConfigurationError(
            f"{path} belongs to another user, or others may write it; if it is to be read, name it: --config "
            f"{path}, or {CONFIG_ENV}={path}. To read none, set {CONFIG_ENV} to nothing"
        )
