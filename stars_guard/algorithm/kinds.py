"""Short forms of settings that come in several kinds."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Real
from typing import Any

from pydantic import BeforeValidator

from stars_guard.settings import Settings


def any_kind(words: str, number: tuple[str, str] | None = None) -> BeforeValidator:
    """What lets a setting of several kinds be given shortly: by the name of its kind, or as a number.

    Args:
        words: all that is taken, for messages.
        number: the kind that a mere number stands for, and the field of that kind which it is; None: no kind.
    """

    def spelled_out(value: Any) -> Any:
        if isinstance(value, str):
            return {"kind": value}
        if number is not None and isinstance(value, Real) and not isinstance(value, bool):
            return {"kind": number[0], number[1]: value}
        if isinstance(value, Settings) or (isinstance(value, Mapping) and "kind" in value):
            return value
        raise ValueError(f"should be {words}")

    return BeforeValidator(spelled_out)
