"""What the operator sees of requests: metrics, spans, logs, traces, shadow records."""
