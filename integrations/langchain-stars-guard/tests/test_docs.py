"""README and docstrings say what is so."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import re
from pathlib import Path

import pytest

import langchain_stars_guard

README = Path(__file__).parents[1] / "README.md"
BLOCKS = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
MODULES = [module.name for module in pkgutil.iter_modules(langchain_stars_guard.__path__)]


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_the_readme_runs(number):
    exec(compile(BLOCKS[number], f"README block {number}", "exec"), {})


def test_the_swap_is_on_the_first_screen():
    screen = README.read_text(encoding="utf-8").splitlines()[:20]
    assert any(line.startswith("-") and "ChatHuggingFace(" in line for line in screen)
    assert any(line.startswith("+") and "ChatStarsGuardedLLM(" in line for line in screen)


def test_the_readme_names_the_events():
    named = re.findall(r"custom event `([\w.]+)`", README.read_text(encoding="utf-8"))
    assert named == [langchain_stars_guard.DECISION_EVENT, langchain_stars_guard.TRACE_EVENT]


@pytest.mark.parametrize("name", MODULES)
def test_the_docstrings_run(name):
    module = importlib.import_module(f"langchain_stars_guard.{name}")
    assert doctest.testmod(module).failed == 0


def test_public_names():
    public = {"ChatStarsGuardedLLM", "StarsGuardedLLM", "RunnableReward", "DECISION_EVENT", "TRACE_EVENT"}
    assert set(langchain_stars_guard.__all__) == public
    assert all(hasattr(langchain_stars_guard, name) for name in (*public, "StarsGuardMiddleware"))


def test_the_package_is_typed():
    assert (Path(langchain_stars_guard.__file__).parent / "py.typed").exists()


def test_importing_loads_no_model_library_and_no_agents():
    import subprocess
    import sys

    code = "import sys, langchain_stars_guard; print(*{'torch', 'langchain'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
