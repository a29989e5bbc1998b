"""Advice in the log: once for the same settings, however many answers give it."""

from __future__ import annotations

import logging

from stars_guard.algorithm.advice import advice_on
from stars_guard.algorithm.trace import Trace

log = logging.getLogger("stars_guard")

MOST_SETTINGS = 100
"""Most settings that are told apart: requests may bring some of their own, and must not fill the log."""


class AdviceLog:
    """Logs what answers say about their settings, once for the same settings.

    Args:
        most: how many settings are told apart; advice on any others is not logged.
    """

    def __init__(self, most: int = MOST_SETTINGS) -> None:
        self._most = most
        self._given: dict[str, str] = {}

    def ended(self, trace: Trace) -> None:
        """Log the advice on an answer that ended, if there is any and it is new."""
        advice = advice_on(trace)
        if advice is None or len(self._given) >= self._most:
            return
        # One step that no other thread can divide, and no lock, which a forked process might inherit held.
        if self._given.setdefault(trace.config.model_dump_json(), trace.run_id) is trace.run_id:
            log.warning("run %s: %s", trace.run_id, advice.message)


ADVICE = AdviceLog()
"""The log of this process."""
