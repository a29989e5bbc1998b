"""What the package offers at its top, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import stars_guard

PACKAGE = Path(stars_guard.__file__)


def type_checking_imports():
    tree = ast.parse(PACKAGE.read_text(encoding="utf-8"))
    (guarded,) = (
        node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
    )
    return [
        (statement.module, alias.name, alias.asname)
        for statement in guarded.body
        for alias in statement.names
    ]


def test_all_is_what_type_checkers_see():
    imports = type_checking_imports()
    assert all(name == shown for _, name, shown in imports), "import X as X, or it is no re-export"
    assert sorted(name for _, name, _ in imports) == sorted(set(stars_guard.__all__) - {"__version__"})


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, name, _ in type_checking_imports()])
def test_every_name_is_importable_and_is_the_one_of_its_module(module, name):
    home = __import__(module, fromlist=[name])
    assert getattr(stars_guard, name) is getattr(home, name)
    assert name in dir(stars_guard)


def test_dir_lists_the_public_names():
    assert dir(stars_guard) == sorted(stars_guard.__all__)


def test_the_version_is_the_one_of_the_package_metadata():
    assert stars_guard.__version__.count(".") == 2
    assert stars_guard.__version__ == __import__("stars_guard.version", fromlist=["x"]).__version__


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="'stars_guard' has no attribute 'Foo'"):
        _ = stars_guard.Foo
    with pytest.raises(ImportError):
        from stars_guard import Foo  # noqa: F401


HEAVY = ("torch", "transformers", "pydantic", "numpy", "typer", "rich")


def imported_by(code):
    script = f"import sys\n{code}\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=PACKAGE.parents[1], capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_costs_nothing():
    assert imported_by("import stars_guard") == set()


def test_the_public_names_cost_no_torch():
    names = ", ".join(sorted(set(stars_guard.__all__)))
    assert imported_by(f"from stars_guard import {names}") == {"pydantic"}
    assert imported_by("import stars_guard.testing, stars_guard.loading") == {"pydantic"}
