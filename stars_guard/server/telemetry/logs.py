"""Structured logs: one line for each request, at its end, without text unless the operator wants it."""

from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TextIO

from opentelemetry.trace import get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from stars_guard.loop.events import Judged
from stars_guard.result import token_counts
from stars_guard.server.telemetry.exchange import Exchange, Outcome
from stars_guard.server.telemetry.library_logs import line_message
from stars_guard.server.telemetry.observers import ObservabilitySettings

log = logging.getLogger("stars_guard.server.requests")

_LEVELS = {
    Outcome.SCORING_ERROR: logging.ERROR,
    Outcome.GENERATION_ERROR: logging.ERROR,
    Outcome.INTERNAL_ERROR: logging.ERROR,
    Outcome.EXHAUSTED: logging.WARNING,
    Outcome.TIMED_OUT: logging.WARNING,
}
_PARENT = TraceContextTextMapPropagator()


class RequestLog:
    """An observer that logs requests as they end.

    Args:
        settings: whether text is logged too.
    """

    def __init__(self, settings: ObservabilitySettings | None = None) -> None:
        self._texts = _texts if settings and settings.log_text else _no_texts

    def began(self, exchange: Exchange) -> None:
        """Do nothing: the line comes at the end."""

    def admitted(self, exchange: Exchange) -> None:
        """Do nothing: the line comes at the end."""

    def decided(self, exchange: Exchange, choice: int, judged: Judged) -> None:
        """Do nothing with ``exchange``, ``choice`` and ``judged``: spans and traces hold decisions."""

    def ended(self, exchange: Exchange) -> None:
        """Log the request."""
        level = _LEVELS.get(exchange.outcome or Outcome.INTERNAL_ERROR, logging.INFO)
        if log.isEnabledFor(level):
            log.log(level, "request", extra={"fields": {**_facts(exchange), **self._texts(exchange)}})


def _facts(exchange: Exchange) -> dict[str, Any]:
    error = exchange.error
    facts: dict[str, Any] = {
        "id": exchange.id,
        "trace_id": _trace_id(exchange.headers),
        "endpoint": exchange.endpoint,
        "model": exchange.model,
        "key": exchange.key,
        "stream": exchange.stream,
        "shadow": exchange.shadow,
        "status": exchange.status,
        "outcome": (exchange.outcome or Outcome.INTERNAL_ERROR).value,
        "error": None if error is None else _kind(error),
        **_times(exchange),
    }
    return facts | _counts(exchange) if exchange.results else facts


def _kind(error: BaseException) -> str:
    """Type of an error and of what caused it; not its words, which may quote text."""
    cause = error.__cause__
    return type(error).__name__ + (f" from {type(cause).__name__}" if cause else "")


def _trace_id(headers: Mapping[str, str]) -> str | None:
    """Id of the client's trace, if the headers name one rightly."""
    context = get_current_span(_PARENT.extract(headers)).get_span_context()
    return format(context.trace_id, "032x") if context.is_valid else None


def _times(exchange: Exchange) -> dict[str, float | None]:
    """Seconds since the request was received."""
    ended = time.monotonic() if exchange.ended is None else exchange.ended
    points = {"waited": exchange.admitted, "first_text": exchange.delivered, "total": ended}
    return {
        f"{name}_seconds": None if point is None else round(point - exchange.received, 6)
        for name, point in points.items()
    }


def _counts(exchange: Exchange) -> dict[str, Any]:
    results = exchange.results
    usages = [result.usage for result in results]
    tokens = token_counts(*results)
    return {
        "run_ids": [result.trace.run_id for result in results],
        "stop_reasons": [result.stop_reason.value for result in results],
        "guarantee": results[0].trace.guarantee.value,
        "upstream_first_candidates_seconds": usages[0].seconds.first_candidates,
        "scoring_seconds": round(sum(usage.seconds.score for usage in usages), 6),
        "prompt_tokens": tokens["prompt_tokens"],
        "kept_tokens": tokens["completion_tokens"],
        **exchange.totals,
    }


def _texts(exchange: Exchange) -> dict[str, Any]:
    return {
        "prompt": exchange.requests[0].prompt.as_text() if exchange.requests else None,
        "texts": [result.text for result in exchange.results],
    }


def _no_texts(exchange: Exchange) -> dict[str, Any]:
    return {}


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object, with the type and the place of an exception, not its words."""

    def format(self, record: logging.LogRecord) -> str:
        """Line for ``record``."""
        line = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": line_message(record),
            **getattr(record, "fields", {}),
            **_exception(record),
        }
        return json.dumps(line, ensure_ascii=False, default=str)


class TextFormatter(logging.Formatter):
    """Formats a record for people: ``name=value`` after the message."""

    def format(self, record: logging.LogRecord) -> str:
        """Line for ``record``."""
        fields = {**getattr(record, "fields", {}), **_exception(record)}
        pairs = [
            f"{name}={json.dumps(value, default=str)}" for name, value in fields.items() if value is not None
        ]
        return " ".join([_time(record), record.levelname, record.name, line_message(record), *pairs])


def _time(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


def _exception(record: logging.LogRecord) -> dict[str, Any]:
    error = record.exc_info[1] if record.exc_info else None
    if error is None:
        return {}
    frames = traceback.extract_tb(error.__traceback__)
    return {"exception": _kind(error), "at": [f"{frame.name}:{frame.lineno}" for frame in frames]}


_FORMATTERS = {"json": JsonFormatter, "text": TextFormatter}


def write_logs(settings: ObservabilitySettings, stream: TextIO | None = None) -> logging.Handler:
    """Have everything that is logged in this process written in the form that the operator chose.

    For a process that serves; whoever embeds the application sets up logging for himself.

    Args:
        settings: in which form.
        stream: where to; None is stderr.

    Returns:
        The handler, already added to the root logger.
    """
    if settings.logs == "off":
        handler: logging.Handler = logging.NullHandler()
    else:
        handler = logging.StreamHandler(stream)
        handler.setFormatter(_FORMATTERS[settings.logs]())
        logging.getLogger("stars_guard").setLevel(logging.INFO)
    logging.getLogger().addHandler(handler)
    return handler
