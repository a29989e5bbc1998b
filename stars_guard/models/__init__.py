"""Language models, and what one must do to be one: in this process, or behind an inference engine."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
