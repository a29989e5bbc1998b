"""Settings in a file: what calibration writes and every entry point reads.

The file is TOML, or YAML by its name: the fields of :class:`stars_guard.GuardConfig` (those that are None
left out), a table ``made_for`` that says which models they were measured on, and a table ``correction`` if
they were measured on a corrected reward::

    max_attempts = 20

    [threshold]
    kind = "constant"
    target = 1.25

    [made_for]
    reward = "harmlessness"
    model = "smollm2"
    acceptance = 0.5
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import Field

from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError, needs_extra
from stars_guard.rewards.base import RewardModel
from stars_guard.rewards.corrected import CorrectedReward, Correction
from stars_guard.settings import Settings, read_settings
from stars_guard.types import Channel


class MadeFor(Settings):
    """What the settings were measured on, and what they promise there."""

    reward: str
    """Name of the reward model; its scale is that of the thresholds."""
    model: str
    """Name of the language model."""
    acceptance: float = Field(gt=0, le=1)
    """Promised acceptance rate: accepted over judged candidates, all segments together."""


class CalibratedConfig(GuardConfig):
    """A :class:`stars_guard.GuardConfig` that knows what it was made for."""

    made_for: MadeFor | None = None
    """None: written by hand, for whatever reward it is used with."""
    correction: Correction | None = None
    """Correction that the reward had when they were measured; None: it was as it is."""

    def __hash__(self) -> int:
        return hash(self.model_dump_json())

    def corrected(self, reward: RewardModel) -> RewardModel:
        """The reward model as these settings were measured on it; channels with own rules keep its scale."""
        if self.correction is None or getattr(reward, "correction", None) == self.correction:
            return reward
        channels = [channel for channel in Channel if self.own_rules(channel) is None]
        return CorrectedReward(reward, self.correction, channels)

    def check_reward(self, reward: RewardModel) -> None:
        """Refuse to guard with another reward model, or with another correction of the same.

        Raises:
            ConfigurationError: naming both.
        """
        if self.made_for is not None and self.made_for.reward != reward.name:
            raise ConfigurationError(
                f"the settings were made for the reward {self.made_for.reward!r}, but the reward here is "
                f"{reward.name!r}; rewards differ in scale, so calibrate for this one"
            )
        if self.correction is not None and getattr(reward, "correction", None) != self.correction:
            raise ConfigurationError(
                f"the settings come with a correction that the reward {reward.name!r} does not have; a guard "
                "is corrected when it is built, so build one with these settings"
            )


def read_config(path: str | Path) -> CalibratedConfig:
    """Read settings: a file of them alone, or the section ``guard`` of a whole configuration.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    values = read_settings(path)
    if is_guard_alone(values) or "guard" not in values:
        return CalibratedConfig.found_at(str(path), values)
    try:
        return guard_section(values["guard"])
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error


def is_guard_alone(values: Mapping[str, Any]) -> bool:
    """Whether what a file says is settings of a guard alone, as calibration writes them."""
    return "threshold" in values


def guard_section(section: Any) -> CalibratedConfig:
    """The section ``guard`` of a configuration: settings, or the file that holds them.

    Raises:
        ConfigurationError: saying what is wrong with it.
    """
    if isinstance(section, str):
        return CalibratedConfig.of_file(section)
    if not isinstance(section, Mapping):
        raise ConfigurationError("guard is no table; give its settings, or the name of a file with them")
    if "file" not in section:
        return CalibratedConfig(**section)
    if len(section) > 1:
        raise ConfigurationError("guard.file stands alone: the file holds all settings of the guard")
    return CalibratedConfig.of_file(section["file"])


def write_config(
    path: str | Path,
    config: GuardConfig,
    made_for: MadeFor | None = None,
    correction: Correction | None = None,
) -> None:
    """Write settings, so that :func:`read_config` gives them back.

    Args:
        path: the file, whose name ends in ``.toml``; replaced if it is there.
        config: the settings; a :class:`CalibratedConfig` keeps what it was made for, and its correction.
        made_for: what they were measured on, instead.
        correction: of the reward that they were measured on, instead.

    Raises:
        ConfigurationError: the file cannot be written, or would be read as something else.
        MissingExtraError: tomli-w is not installed.
    """
    if Path(path).suffix != ".toml":
        raise ConfigurationError(f"{path} does not end in .toml, and settings are written as TOML; rename it")
    dumps = toml_writer()
    values = config.model_dump(mode="json", exclude_none=True)
    if made_for is not None:
        values["made_for"] = made_for.model_dump()
    if correction is not None:
        values["correction"] = correction.model_dump(mode="json")
    try:
        Path(path).expanduser().write_text(dumps(values), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def toml_writer() -> Callable[[dict[str, Any]], str]:
    """What turns a table into TOML.

    Raises:
        MissingExtraError: tomli-w is not installed.
    """
    with needs_extra("calibrate", "tomli-w"):
        import tomli_w
    return tomli_w.dumps


def as_config(config: Any) -> Any:
    """Settings given as a path become what the file holds; everything else stays."""
    return read_config(config) if isinstance(config, str | Path) else config


def corrected(config: GuardConfig, reward: RewardModel) -> RewardModel:
    """The reward model as the settings were measured on it, if they know."""
    return config.corrected(reward) if isinstance(config, CalibratedConfig) else reward
