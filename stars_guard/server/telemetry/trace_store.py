"""Full traces by the id of their request: the latest ones, each for the key that made it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from stars_guard.algorithm.trace import Trace
from stars_guard.server.config import Traces
from stars_guard.server.telemetry.exchange import Exchange


class TraceStore:
    """Keeps so many; the oldest go first."""

    def __init__(self, settings: Traces) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, tuple[str, list[Trace]]] = OrderedDict()

    def keep(self, exchange: Exchange, failed: Trace | None = None) -> None:
        """Keep those of a request that is over, if any are kept here.

        Args:
            exchange: the request.
            failed: decisions of a choice that has no result.
        """
        if not self._settings.enabled:
            return
        traces = [result.trace for result in exchange.results]
        self._kept[exchange.id] = (exchange.key, [*traces, failed] if failed else traces)
        while len(self._kept) > self._settings.keep:
            self._kept.popitem(last=False)

    def of(self, request_id: str, key: str) -> list[dict[str, Any]] | None:
        """One trace for each choice; None if there are none, or they are somebody else's."""
        owner, traces = self._kept.get(request_id, ("", None))
        if traces is None or owner != key:
            return None
        return [trace.model_dump(mode="json") for trace in traces]
