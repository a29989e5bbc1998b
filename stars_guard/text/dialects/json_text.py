"""JSON that a model wrote: whole or unfinished, and never with a number that JSON has not."""

from __future__ import annotations

import math
from typing import Any

from pydantic_core import from_json


def parse_json(text: str, partial: bool) -> Any:
    """The value of a JSON text.

    Args:
        text: blanks around it are left out.
        partial: the text is unfinished: what is there is read.

    Raises:
        ValueError: the text is no JSON, or has a number in it that is none: NaN, Infinity, or one too large.
    """
    # As bytes, since a text from elsewhere may hold half of a surrogate pair.
    encoded = text.strip().encode("utf-8", "replace")
    value = from_json(encoded, allow_inf_nan=False, allow_partial="trailing-strings" if partial else False)
    check_finite(value)
    return value


def check_finite(value: Any) -> None:
    """Check that every number of a value is one that JSON has.

    Raises:
        ValueError: one is not.
    """
    if isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            check_finite(inner)
    elif isinstance(value, float) and not math.isfinite(value):
        raise ValueError("a number that JSON has not")
