"""Who imports whom: circles of modules, rooms, and the arrows between rooms.

An import counts wherever it is written: at the top of a file, in a function, or for type checkers only.
Modules that are imported by a computed name (``import_module``) are not seen, and neither is the ``__init__``
of a package that Python runs on the way to one of its modules.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Iterator
from pathlib import Path

from tests.house.source import FRONT_DOORS, Source, sources


def import_graph(root: Path) -> dict[str, set[str]]:
    """Modules of the package, each with the other modules of the package that it imports."""
    modules = {source.module for source in sources(root)}
    return {source.module: set(_imported(source, modules)) - {source.module} for source in sources(root)}


def circles(root: Path) -> list[list[str]]:
    """Groups of modules that all import each other, directly or by way of others."""
    graph = import_graph(root)
    reach = {module: _reachable(graph, module) for module in graph}
    groups = {
        tuple(sorted(other for other in reach[module] if module in reach[other]))
        for module in graph
        if module in reach[module]
    }
    return [list(group) for group in sorted(groups)]


def rooms(root: Path) -> list[str]:
    """Rooms of the package: modules at its top level, front doors excluded, and folders with modules in them.

    The name of a folder ends with a slash. A folder inside a folder is a room of its own.
    """
    return sorted(set(_rooms_by_module(root).values()))


def room_arrows(root: Path) -> list[tuple[str, str]]:
    """Pairs of different rooms of which the first imports from the second."""
    room_of = _rooms_by_module(root)
    arrows = {
        (room_of[importer], room_of[module])
        for importer, modules in import_graph(root).items()
        for module in modules
        if importer in room_of and module in room_of
    }
    return sorted((importer, module) for importer, module in arrows if importer != module)


def _rooms_by_module(root: Path) -> dict[str, str]:
    return {
        source.module: _room(source)
        for source in sources(root)
        if not (source.at_the_top and source.path.stem in FRONT_DOORS)
    }


def _room(source: Source) -> str:
    if source.at_the_top:
        return source.path.stem
    return "/".join(source.path.parts[1:-1]) + "/"


def _imported(source: Source, modules: Collection[str]) -> Iterator[str]:
    for node in ast.walk(source.tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            origin = _origin(source, node)
            deeper = (f"{origin}.{alias.name}" for alias in node.names)
            names = [name if name in modules else origin for name in deeper]
        yield from (name for name in names if name in modules)


def _origin(source: Source, node: ast.ImportFrom) -> str:
    """Absolute name of the module that a ``from`` import reads."""
    if not node.level:
        return node.module or ""
    package = source.path.parent.parts
    base = package[: len(package) - node.level + 1]
    return ".".join((*base, node.module) if node.module else base)


def _reachable(graph: dict[str, set[str]], start: str) -> set[str]:
    """Modules that ``start`` imports, directly or by way of others."""
    reached: set[str] = set()
    waiting = [start]
    while waiting:
        fresh = graph[waiting.pop()] - reached
        reached |= fresh
        waiting.extend(fresh)
    return reached
