"""Who may import whom, read from the source and held against the table of the house."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

import stars_guard
from tests.house.layers import ALLOWED, PLAIN
from tests.house.measure import import_graph, room_arrows, rooms

ROOT = Path(stars_guard.__file__).parent
CHECKOUT = ROOT.parent
SOURCES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path for path in sorted(ROOT.rglob("*.py"))
}
TENSOR_FOLDERS = ("models", "rewards", "embedded", "training")
TENSOR_PACKAGES = {"torch", "transformers", "peft", "safetensors", "gguf", "tokenizers", "llguidance"}
FRAMEWORKS = ("langchain", "llama_index", "llama-index", "llamaindex")


def foreign_imports(module):
    """Packages that a module imports from elsewhere, wherever in its source."""
    for node in ast.walk(ast.parse(SOURCES[module].read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            yield node.module.split(".")[0]


def in_folder(module, *folders):
    return module.split(".")[0] in folders and "." in module


def dotted(room):
    return room.removesuffix("/").removesuffix(".py").replace("/", ".")


@cache
def arrows():
    return room_arrows(CHECKOUT)


def imported_by(room):
    return {dotted(target) for source, target in arrows() if dotted(source) == room}


def test_every_module_is_read():
    assert len(import_graph(CHECKOUT)) > 150
    assert {"loop", "models.local", "rewards.judges", "guarded"} <= set(map(dotted, rooms(CHECKOUT)))


def test_every_room_is_in_the_table():
    assert set(ALLOWED).union(PLAIN) == set(map(dotted, rooms(CHECKOUT)))


@pytest.mark.parametrize("room", sorted(ALLOWED))
def test_a_room_imports_what_the_table_allows(room):
    assert imported_by(room) <= ALLOWED[room].union(PLAIN)


@pytest.mark.parametrize("place", range(len(PLAIN)), ids=PLAIN)
def test_a_plain_room_imports_only_those_before_it(place):
    assert imported_by(PLAIN[place]) <= set(PLAIN[:place])


@pytest.mark.parametrize("module", [name for name in SOURCES if not in_folder(name, *TENSOR_FOLDERS)])
def test_tensors_stay_under_their_folders(module):
    assert not set(foreign_imports(module)) & TENSOR_PACKAGES


@pytest.mark.parametrize("module", ["models.base", "models.__init__", "rewards.base", "rewards.function"])
def test_the_protocols_cost_no_tensors(module):
    assert not set(foreign_imports(module)) & TENSOR_PACKAGES


@pytest.mark.parametrize("module", SOURCES)
def test_no_framework_is_named(module):
    source = SOURCES[module].read_text(encoding="utf-8").lower()
    assert not [name for name in FRAMEWORKS if name in source]
