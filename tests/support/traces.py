"""Traces of runs that no loop made."""

from __future__ import annotations

import copy

from stars_guard.algorithm.run import Run
from stars_guard.algorithm.trace import Trace
from stars_guard.types import StopReason


def trace_of(run: Run, reason: StopReason | None = None) -> Trace:
    """What a run has decided so far, as it is now.

    Args:
        run: which decisions.
        reason: why the answer ended; None is what the run says.
    """
    return Trace(
        run_id="r",
        model="m",
        reward="w",
        config=run.config,
        sampling=run.sampling,
        base_rewards=run.base_rewards,
        segments=copy.deepcopy(run.segments),
        stop_reason=reason or run.stop_reason,
    )
