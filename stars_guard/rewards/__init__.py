"""Reward models, and what one must do to be one: classifiers, judges, servers, or any Python function."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
