"""Thresholds that are measured, and what they promise."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
