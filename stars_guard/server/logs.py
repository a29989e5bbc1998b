"""One line for each request, at its end. It holds no text of a user unless the operator asks for that."""

from __future__ import annotations

import json
import logging
from typing import Any, Literal

from stars_guard.job import Judged
from stars_guard.server.exchange import Exchange

log = logging.getLogger("stars_guard.server.requests")


class RequestLog:
    """An observer that logs, at level INFO."""

    def __init__(self, form: Literal["json", "text"], *, with_text: bool) -> None:
        self._line = json.dumps if form == "json" else _as_text
        self._with_text = with_text

    def began(self, exchange: Exchange) -> None:
        """It is logged at the end."""

    def admitted(self, exchange: Exchange) -> None:
        """Likewise."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Likewise."""

    def ended(self, exchange: Exchange) -> None:
        """Log it."""
        facts = _facts(exchange)
        if self._with_text:
            facts["texts"] = [result.text for result in exchange.results]
        log.info("%s", self._line(facts))


def _facts(exchange: Exchange) -> dict[str, Any]:
    """What is known of a request; of an error only its kind, since the words may quote text."""
    facts: dict[str, Any] = {
        "id": exchange.id,
        "endpoint": exchange.endpoint,
        "key": exchange.key or None,
        "stream": exchange.stream,
        "status": exchange.status,
        "outcome": exchange.outcome.value if exchange.outcome else None,
        "error": type(exchange.error).__name__ if exchange.error else None,
        "queued": _between(exchange.received, exchange.admitted),
        "first_text": _between(exchange.received, exchange.delivered),
        "seconds": _between(exchange.received, exchange.ended),
        "choices": [{**one.summary, "stop_reason": one.stop_reason.value} for one in exchange.results],
    }
    return {name: value for name, value in facts.items() if value not in (None, [])}


def _between(begin: float, end: float | None) -> float | None:
    return None if end is None else round(end - begin, 4)


def _as_text(facts: dict[str, Any]) -> str:
    return " ".join(f"{name}={value}" for name, value in facts.items())
