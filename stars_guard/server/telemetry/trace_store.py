"""Full traces by the id of their request: the latest ones, each for the key that made it."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from pydantic import Field

from stars_guard.algorithm.trace import Trace
from stars_guard.server.telemetry.exchange import Exchange
from stars_guard.settings import Settings


class Traces(Settings):
    """Full traces at ``/v1/traces/{id}``."""

    enabled: bool = False
    """Whether they are kept."""
    keep: int = Field(default=1000, ge=1)
    """Most traces kept: those of the latest requests."""


class TraceStore:
    """Keeps the traces of the latest requests; the oldest go first."""

    def __init__(self, settings: Traces) -> None:
        self._settings = settings
        self._kept: OrderedDict[str, tuple[str, list[Trace]]] = OrderedDict()

    def keep(self, exchange: Exchange, failed: Trace | None = None) -> None:
        """Keep the traces of a request that is over, if any are kept here.

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
        """Traces of a request, one for each choice; None if there are none, or they are somebody else's."""
        owner, traces = self._kept.get(request_id, ("", None))
        if traces is None or owner != key:
            return None
        return [trace.model_dump(mode="json") for trace in traces]
