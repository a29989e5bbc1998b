"""The guard behind an OpenAI-compatible HTTP interface: ``stars-guard serve``."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
