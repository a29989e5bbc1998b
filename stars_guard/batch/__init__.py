"""Many prompts from a file, answered once each: here, or on the machines of a Ray cluster."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
