"""What the operator sees of requests: metrics, spans and logs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Literal

from pydantic import field_validator

from stars_guard.loop.events import Judged
from stars_guard.server.telemetry.exchange import Exchange, Observer
from stars_guard.settings import Settings

log = logging.getLogger("stars_guard.server")


class ObservabilitySettings(Settings):
    """What the server tells of its requests, and where."""

    metrics: bool = True
    """Prometheus metrics at ``/metrics``."""
    reward_buckets: tuple[float, ...] = (-16, -8, -4, -2, -1, -0.5, -0.25, 0, 0.25, 0.5, 0.75, 1, 2, 4, 8, 16)
    """Upper bounds of the buckets that rewards are counted in, on the reward model's scale, rising."""
    spans: bool = True
    """OpenTelemetry spans; they go nowhere unless the process has a tracer provider."""
    logs: Literal["json", "text", "off"] = "json"
    """One line a request, at its end, to stderr."""
    log_text: bool = False
    """Whether these lines also hold the text of prompts and answers."""

    @field_validator("reward_buckets")
    @classmethod
    def _rise(cls, buckets: tuple[float, ...]) -> tuple[float, ...]:
        if not buckets or any(a >= b for a, b in pairwise(buckets)):
            raise ValueError(f"reward_buckets must rise strictly, one at least, got {buckets}")
        return buckets


class Observers:
    """Tells several observers of every request; the failure of an observer does not reach the request.

    Args:
        observers: told in this order.
    """

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def began(self, exchange: Exchange) -> None:
        """Pass on that a request was received."""
        self._each(lambda observer: observer.began(exchange))

    def admitted(self, exchange: Exchange) -> None:
        """Pass on that a request is being served."""
        self._each(lambda observer: observer.admitted(exchange))

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Pass ``judged``, a decision about ``choice`` of ``exchange``, on."""
        self._each(lambda observer: observer.decided(exchange, choice, judged))

    def ended(self, exchange: Exchange) -> None:
        """Pass on that a request is over."""
        self._each(lambda observer: observer.ended(exchange))

    def _each(self, tell: Callable[[Observer], None]) -> None:
        for observer in self._observers:
            try:
                tell(observer)
            except Exception as error:  # noqa: BLE001 - it must not fail the request
                # Its words may quote text.
                log.error("%s failed: %s", type(observer).__name__, type(error).__name__)
