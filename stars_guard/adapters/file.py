"""Settings of an adapter that its user did not give, from the file of settings."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from stars_guard.loading import specs
from stars_guard.loading.configuration import Configuration, located

_LOG = logging.getLogger("stars_guard.configuration")


def settings_of_file(named: str | Path | None, given: Mapping[str, Any]) -> dict[str, Any]:
    """What is given, and what the file says where nothing is, by the names of an adapter's settings.

    Which file was only found, and named by nobody, is logged as a warning.

    Args:
        named: the file; None: the one of the environment or of the working directory; empty: none.
        given: by name; what is None was not given.

    Raises:
        ConfigurationError: naming the file and what is wrong with it.
    """
    found = located(named)
    if found is None:
        return dict(given)
    level = logging.WARNING if found.file.found else logging.INFO
    _LOG.log(level, "settings from %s", found.file)
    stated = {name: value for name, value in given.items() if value is not None}
    return {**given, **_as_fields(found.settings, stated.get("reward")), **stated}


def _as_fields(file: Configuration, reward: object) -> dict[str, Any]:
    """The settings that stand in a file, by the names of an adapter's settings."""
    sections = file.model_fields_set
    fields = {name: getattr(file.sampling, name) for name in file.sampling.model_fields_set}
    fields |= {name: list(fields[name]) for name in ("stop", "stop_token_ids") if name in fields}
    if "budget" in sections:
        fields["budget"] = file.budget
    if "model" in sections:
        fields["model"] = _plain(file.model)
    if file.reward is not None:
        fields["reward"] = _plain(file.reward)
    if (guard := file.guard_beside(reward)) is not None:
        fields["guard_config"] = guard
    return fields


def _plain(section: specs.ModelSpec | specs.RewardSpec) -> Any:
    """The name alone, where it says all: settings of an adapter are saved, and names can be read back."""
    if isinstance(section, specs.LocalModel | specs.LocalReward):
        return section.path if section.model_fields_set <= {"kind", "path"} else section
    return section
