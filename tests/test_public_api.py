"""What the package offers at its top, and what importing it costs."""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules

import pytest

import stars_guard

PACKAGE = Path(stars_guard.__file__)
STUBS = {
    ".".join(("stars_guard", *stub.parent.relative_to(PACKAGE.parent).parts)): stub
    for stub in sorted(PACKAGE.parent.rglob("*.pyi"))
}
PUBLIC = sorted({*STUBS, "stars_guard.conformance", "stars_guard.embedded", "stars_guard.testing"})
"""Every module that users may import; all others may change between versions."""


def listed(stub):
    """The module and the name of each line of a stub."""
    docstring, *imports = ast.parse(stub.read_text(encoding="utf-8")).body
    assert isinstance(docstring.value, ast.Constant), "a stub begins with a docstring"
    for statement in imports:
        (alias,) = statement.names
        assert alias.name == alias.asname, "import X as X, or it is no re-export"
        yield statement.module, alias.name


@pytest.mark.parametrize("package", STUBS)
def test_all_is_what_type_checkers_see(package):
    names = [name for _, name in listed(STUBS[package])]
    assert len(set(names)) == len(names)
    assert import_module(package).__all__ == sorted(names)


@pytest.mark.parametrize(
    ("package", "module", "name"),
    [(package, module, name) for package, stub in STUBS.items() for module, name in listed(stub)],
)
def test_every_name_is_importable_and_is_the_one_of_its_module(package, module, name):
    home = import_module(module)
    assert getattr(import_module(package), name) is getattr(home, name)
    assert name in dir(import_module(package))


@pytest.mark.parametrize("package", STUBS)
def test_no_name_is_that_of_a_module_beside_it(package):
    # Python would bind the module over the name, as soon as anything imports that module.
    modules = {module.name for module in iter_modules(import_module(package).__path__)}
    assert not modules & set(import_module(package).__all__)


@pytest.mark.parametrize("module", PUBLIC)
def test_a_public_module_stands_one_level_down_and_says_what_it_offers(module):
    assert module.count(".") <= 1
    offered = import_module(module).__all__
    assert offered
    assert all(hasattr(import_module(module), name) for name in offered)


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
    with pytest.raises(AttributeError, match=r"module 'stars_guard\.models' has no attribute 'Foo'"):
        _ = import_module("stars_guard.models").Foo


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
    assert imported_by("import stars_guard.testing, stars_guard.embedded") == {"pydantic"}


def test_the_packages_of_public_names_cost_nothing():
    assert imported_by(f"import {', '.join(STUBS)}") == set()


def test_the_parts_of_a_reward_or_a_model_cost_no_torch():
    rewards = "from stars_guard.rewards import Reward, RemoteReward, ScoreRequest, SklearnReward, one_number"
    models = "from stars_guard.models import HERMES, Order, OpenAICompatibleModel, Proposal"
    loading = "from stars_guard.loading import load_config, load_model, load_reward, read_config"
    assert imported_by(f"{rewards}\n{models}\n{loading}") == {"pydantic"}
