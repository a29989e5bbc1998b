"""Exit codes of ``stars-guard``; 0 is success."""

FAILED = 1
"""The request failed."""
MISUSED = 2
"""Flags, settings or the installation are wrong."""
INTERRUPTED = 130
"""Ctrl-C."""
