"""Keeps any open LLM safe while it writes.

Importing this package costs no torch and next to no time: names are looked up when they are used. They are
listed in ``__init__.pyi``.
"""

from stars_guard.lazy import public_names

__all__, __getattr__, __dir__ = public_names(__name__, __path__[0])
