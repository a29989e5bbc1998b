"""A kit for adapters: all that makes a guard the language model of a framework, but the framework itself.

An adapter turns what its framework passes into a :class:`GuardedCall` (with :class:`AdapterSettings`), makes
that call on the guard, and turns the result or the events of its stream into what the framework wants.
"""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
