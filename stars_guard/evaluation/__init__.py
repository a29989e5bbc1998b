"""Proof that a guard helps, and at what price: methods, tasks, judges and costs, compared with intervals."""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
