"""From a configuration to the guard that is served."""

from __future__ import annotations

from stars_guard.guarded import StarsGuardedLLM
from stars_guard.server.config import ServerConfig


def served_guard(config: ServerConfig) -> StarsGuardedLLM:
    """Load the models, to be guarded as the operator says.

    Raises:
        ConfigurationError: something is not there, or does not fit.
    """
    return StarsGuardedLLM.load(
        config.model,
        config.reward,
        config.guard,
        sampling=config.sampling,
        budget=config.budget,
        max_rows=config.limits.rows,
    )
