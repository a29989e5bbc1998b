"""Settings of a guard as a section of another file: in place, or the name of the file that holds them."""

from __future__ import annotations

from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from stars_guard.algorithm.config import GuardConfig
from stars_guard.loading.calibrated import guard_section


def _read(section: Any) -> Any:
    return section if section is None or isinstance(section, GuardConfig) else guard_section(section)


GuardSection: TypeAlias = Annotated[GuardConfig | None, BeforeValidator(_read)]
"""A guard's settings, those that calibration wrote included; None where none are given."""
