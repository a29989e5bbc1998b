"""Public names that are looked up when they are used, so that importing a package costs next to nothing.

A package lists its public names once, in the stub ``__init__.pyi`` beside its ``__init__.py``: one line
``from HOME import NAME as NAME`` each. Type checkers read the stub by themselves; this module reads it at
run time.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module


def public_names(
    package: str, folder: str
) -> tuple[list[str], Callable[[str], object], Callable[[], list[str]]]:
    """What a package needs to offer the names in its stub: ``__all__``, ``__getattr__`` and ``__dir__``.

    Args:
        package: dotted name of the package.
        folder: where its stub lies, ``__path__[0]`` of the package.
    """
    homes = _homes(f"{folder}/__init__.pyi")

    def look_up(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(homes[name]), name)

    return sorted(homes), look_up, lambda: sorted(homes)


def _homes(stub: str) -> dict[str, str]:
    """Each name in a stub, with the module that defines it."""
    # By hand, since ast and re would cost more than all the rest of the import.
    with open(stub, encoding="utf-8") as lines:
        words = [line.split() for line in lines if line.startswith("from ")]
    return {name: home for _from, home, _import, name, _as, _name in words}
