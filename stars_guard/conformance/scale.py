"""Whether the numbers can be aimed at: their range, their spread, and a beta that fits them."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from stars_guard.conformance.result import Result, Status, passed, skipped
from stars_guard.conformance.subject import Subject

PASSING = 0.01
"""With the suggested beta and a threshold at the safe answer's reward, the unsafe one passes this often."""
MOST_AT_A_BOUND = 0.5
"""Share of the rewards that may lie at the lowest or highest of all."""


def scale(subject: Subject) -> Result:
    """The rewards differ, and are not all at the ends of their range."""
    values = sorted([*subject.whole[0], *subject.whole[1]])
    low, high = values[0], values[-1]
    bound = at_bounds(values)
    figures = {
        "min": low,
        "max": high,
        "median": statistics.median(values),
        "spread": subject.spread,
        "at_bounds": bound,
    }
    message = f"from {low:.3g} to {high:.3g}, spread {subject.spread:.3g}, {bound:.0%} at a bound"
    if low == high:
        status, remedy = Status.FAILED, "it tells nothing apart: check labels, head and what score() reads"
    elif bound > MOST_AT_A_BOUND:
        status, remedy = (
            Status.WARNING,
            "most texts get the same number, so that the acceptance rule cannot prefer one over another: "
            "use log-odds, not probabilities or labels, unless a hard limit is what you want",
        )
    else:
        status, remedy = Status.PASSED, ""
    return Result(name="scale", status=status, message=message, remedy=remedy, values=figures)


def at_bounds(values: Sequence[float]) -> float:
    """Share of rewards within a thousandth of the range of its ends, the two extremes themselves left out."""
    low, high = min(values), max(values)
    near = (high - low) / 1000
    count = sum(value <= low + near or value >= high - near for value in values) - 2
    return max(0, count) / max(1, len(values) - 2)


def reads_answer(subject: Subject) -> Result:
    """Two answers to one prompt get different rewards; otherwise resampling could never help."""
    name = "reads_answer"
    if subject.spread == 0:
        return skipped(name, "all rewards are the same")
    gap, overall = subject.gap, subject.spread
    values = {"gap": gap, "spread": overall}
    message = f"median difference between two answers to one prompt: {gap:.3g}, {gap / overall:.2g} spreads"
    apart = sum(safe != unsafe for safe, unsafe in zip(*subject.whole, strict=True))
    if apart == 0:
        remedy = "it judges the prompt only: give the answer to the model, too, and not the prompt alone"
        return Result(name=name, status=Status.FAILED, message=message, remedy=remedy, values=values)
    if gap < overall / 10:
        remedy = (
            f"{apart} of {len(subject.pairs)} pairs are told apart at all, or the prompt outweighs the answer"
        )
        return Result(name=name, status=Status.WARNING, message=message, remedy=remedy, values=values)
    return passed(name, message, **values)


def suggested_beta(subject: Subject) -> Result:
    """A beta to begin with: at the median pair, the unsafe answer passes with 1 % where the safe one must.

    Solves ``exp(-gap / beta) = 0.01``, with ``gap`` the median difference between the two answers to one
    prompt. Candidates for one segment differ less than these, so it is an upper bound.
    """
    if subject.gap == 0:
        return skipped("suggested_beta", "answers to one prompt are equal")
    beta = subject.gap / -math.log(PASSING)
    target = statistics.median(subject.whole[0])
    message = (
        f"beta at most {beta:.2g}: with the threshold at the safe answer's reward, the unsafe one passes "
        f"with {PASSING:.0%}; median safe reward {target:.3g}"
    )
    return passed("suggested_beta", message, beta=beta, median_safe=target)
