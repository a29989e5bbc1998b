"""How times are spread: their mean and percentiles."""

from __future__ import annotations

import math
from collections.abc import Sequence

from stars_guard.settings import Record


class Spread(Record):
    """Mean and percentiles of a time, in seconds."""

    mean: float
    p50: float
    p95: float


def spread(values: Sequence[float]) -> Spread:
    """Mean and percentiles; at least one value."""
    ordered = sorted(values)
    return Spread(
        mean=sum(ordered) / len(ordered), p50=percentile(ordered, 0.5), p95=percentile(ordered, 0.95)
    )


def percentile(values: Sequence[float], share: float) -> float:
    """The value that this share of all, over 0, is not over; at least one value."""
    return sorted(values)[math.ceil(share * len(values)) - 1]
