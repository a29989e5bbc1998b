"""Single settings of a guard changed by their dotted names: ``segments.max_tokens`` to 8."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel

from stars_guard.algorithm.config import GuardConfig
from stars_guard.errors import ConfigurationError
from stars_guard.settings import accepted_names


def changed_guard(config: GuardConfig, changes: Mapping[str, Any]) -> GuardConfig:
    """Settings of a guard with some of them changed, in the order given.

    Args:
        config: the settings.
        changes: values by dotted names; a name without a dot replaces a whole setting.

    Raises:
        ConfigurationError: there is no such setting, or it does not take the value.
    """
    for name, value in changes.items():
        first, *rest = name.split(".")
        config = config.changed(**{first: _with(name, getattr(config, first, None), rest, value)})
    return config


def check_names(changes: Mapping[str, Any]) -> None:
    """Refuse names that begin with no setting of a guard.

    Raises:
        ValueError: naming it.
    """
    known = list(GuardConfig.model_fields)
    for name in changes:
        if name.split(".")[0] not in known:
            raise ValueError(f"unknown setting of a guard {accepted_names(name, known)}")


def _with(place: str, setting: Any, names: Sequence[str], value: Any) -> Any:
    """A setting, as plain values, with an inner one replaced."""
    if not names:
        return value
    table = setting.model_dump() if isinstance(setting, BaseModel) else {} if setting is None else setting
    if not isinstance(table, Mapping):
        raise ConfigurationError(
            f"{place!r}: no setting {names[0]!r} stands within {setting!r}; change the whole setting"
        )
    return {**table, names[0]: _with(place, table.get(names[0]), names[1:], value)}
