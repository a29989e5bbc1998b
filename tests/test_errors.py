"""The error tree, and the boundaries that name it."""

from __future__ import annotations

import inspect
import re
from textwrap import dedent

import pytest

from stars_guard import errors
from stars_guard.errors import (
    ConfigurationError,
    GenerationError,
    MissingExtraError,
    PromptError,
    ScoringError,
    StarsGuardError,
    TraceError,
    failures_as,
)


def drawn_tree():
    """{class name: name of the class it hangs from}, read from the drawing in the docstring."""
    drawing = dedent(errors.__doc__.split("::")[1].split("An outage")[0]).strip()
    parents, above = {}, []
    for line in drawing.splitlines():
        branch, name = re.match(r"([ │├└─]*)(\w+)", line).groups()
        depth = len(branch) // 4
        parents[name] = above[depth - 1] if depth else None
        above[depth:] = [name]
    return parents


def real_tree():
    classes = [
        one
        for _, one in inspect.getmembers(errors, inspect.isclass)
        if issubclass(one, Exception) and one.__module__ == errors.__name__
    ]
    bases = {
        one.__name__: [b.__name__ for b in one.__bases__ if issubclass(b, StarsGuardError)] for one in classes
    }
    return {name: found[0] if found else None for name, found in bases.items()}


def test_the_tree_in_the_docstring_is_the_real_one():
    assert drawn_tree() == real_tree()


def test_the_classes_said_to_be_value_errors_are():
    said = set(re.findall(r"─ (\w+) .*\(also a ValueError\)", errors.__doc__))
    assert said == {"ConfigurationError", "PromptError", "TraceError"}
    for name in real_tree():
        inherited = issubclass(getattr(errors, name), ValueError)
        assert inherited == (name in said or name == "MissingExtraError"), name


def test_a_missing_extra_names_the_install_command():
    error = MissingExtraError("torch", "transformers")
    assert "pip install 'stars-guard[transformers]'" in str(error)
    assert "'torch'" in str(error)


def test_a_boundary_names_foreign_errors_and_keeps_their_cause():
    cause = RuntimeError("no memory")
    with (
        pytest.raises(GenerationError, match=r"^drawing failed: RuntimeError: no memory$") as caught,
        failures_as(GenerationError, "drawing"),
    ):
        raise cause
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    "own", [PromptError("p"), ScoringError("s"), ConfigurationError("c"), TraceError("t")]
)
def test_a_boundary_passes_errors_of_the_tree_on_unchanged(own):
    with pytest.raises(type(own)) as caught, failures_as(GenerationError, "drawing"):
        raise own
    assert caught.value is own


def test_a_boundary_lets_interrupts_and_results_through():
    with pytest.raises(KeyboardInterrupt), failures_as(GenerationError, "drawing"):
        raise KeyboardInterrupt
    with failures_as(GenerationError, "drawing"):
        result = 1
    assert result == 1


def test_errors_have_no_trace_until_one_is_attached():
    assert StarsGuardError("x").trace is None
