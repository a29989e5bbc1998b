"""Secrets that an operator keeps in the environment, never in a file of settings."""

from __future__ import annotations

import os

from stars_guard.algorithm.acceptance import AcceptanceKey
from stars_guard.errors import ConfigurationError

ACCEPTANCE_KEY_ENV = "STARS_GUARD_ACCEPTANCE_KEY"
"""Environment variable that is read where the settings name none."""


def acceptance_key(variable: str | None = None) -> AcceptanceKey | None:
    """The acceptance key in the environment; None where none is.

    Args:
        variable: its name; None is :data:`ACCEPTANCE_KEY_ENV`, which may be absent.

    Raises:
        ConfigurationError: the named variable is absent, or its key is too short.
    """
    secret = os.environ.get(variable or ACCEPTANCE_KEY_ENV)
    if secret:
        return AcceptanceKey(secret)
    if variable is not None:
        raise ConfigurationError(f"the environment variable {variable} holds no acceptance key; set it")
    return None
