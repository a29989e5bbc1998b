"""What the operator sees of requests: metrics, spans and logs."""

from __future__ import annotations

from typing import Literal

from stars_guard.settings import Settings


class ObservabilitySettings(Settings):
    """What is told, and where."""

    metrics: bool = True
    """Prometheus metrics at ``/metrics``."""
    spans: bool = True
    """OpenTelemetry spans; they go nowhere unless the process has a tracer provider."""
    logs: Literal["json", "text", "off"] = "json"
    """One line a request, at its end, to stderr."""
    log_text: bool = False
    """Whether logs also hold the text of answers."""
