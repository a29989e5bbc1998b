"""Every error pickles and copies with all it holds: across processes, and with its cause."""

from __future__ import annotations

import copy
import pickle
import re
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path

import pytest

import stars_guard
from stars_guard.algorithm.rules import Raise
from stars_guard.errors import (
    ConfigurationError,
    ContextLengthError,
    GenerationError,
    MissingExtraError,
    NoAcceptableSegment,
    StarsGuardError,
)
from stars_guard.loop.metering import OverBudgetError
from stars_guard.testing import KeywordReward
from stars_guard.text.content import UnreadableBlockError
from tests.support.guards import guarded, hard

ARGUMENTS = {MissingExtraError: ("torch", "transformers")}
"""Of constructors that take more than a message."""


def descendants(kind):
    return {kind}.union(*map(descendants, kind.__subclasses__()))


def tree():
    """Every error of the package: modules that hang one from another's are imported first."""
    package = Path(stars_guard.__file__).parent
    for path in package.rglob("*.py"):
        bases = re.findall(r"^class \w+\((\w+)", path.read_text(encoding="utf-8"), re.MULTILINE)
        if {kind.__name__ for kind in descendants(StarsGuardError)} & set(bases):
            import_module(".".join(path.relative_to(package.parent).with_suffix("").parts))
    kinds = {kind for kind in descendants(StarsGuardError) if kind.__module__.startswith("stars_guard")}
    return sorted(kinds, key=lambda kind: kind.__name__)


TREE = tree()


def made(kind):
    error = kind(*ARGUMENTS.get(kind, ("what happened",)))
    error.segment, error.trace = 3, {"run_id": "r"}
    error.add_note("while it was tried")
    error.__cause__ = OSError(2, "no such file")
    return error


def shown(error):
    return type(error), str(error), error.args, vars(error), repr(error.__cause__)


WAYS = {
    **{f"protocol {n}": lambda error, n=n: pickle.loads(pickle.dumps(error, n)) for n in range(6)},
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
}


def test_the_tree_holds_errors_of_every_room():
    assert {OverBudgetError, UnreadableBlockError, ContextLengthError} < set(TREE)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
@pytest.mark.parametrize("kind", TREE)
def test_an_error_travels_with_all_it_holds(kind, way):
    error = made(kind)
    other = way(error)
    assert other is not error
    assert shown(other) == shown(error)


def test_a_prompt_that_is_too_long_keeps_its_numbers():
    error = pickle.loads(pickle.dumps(ContextLengthError.of(600, 5, 512, "m")))
    assert (error.prompt_tokens, error.context_window) == (600, 512)
    assert "600 prompt tokens plus max_tokens=5 exceed the 512 positions of m" in str(error)


def test_an_error_without_a_cause_still_shows_its_context():
    other = copy.copy(GenerationError("x"))
    assert other.__cause__ is None
    assert not other.__suppress_context__


class UnreadableError(Exception):
    """A foreign error that only fails when its pickle is read."""

    def __init__(self, first, second):
        super().__init__(first)


@pytest.mark.parametrize("cause", [RuntimeError(lambda: None), UnreadableError("a", "b")])
def test_a_cause_that_cannot_travel_stays_behind(cause):
    error = made(ConfigurationError)
    error.__cause__ = cause
    assert copy.copy(error).__cause__ is copy.deepcopy(error).__cause__ is cause
    other = pickle.loads(pickle.dumps(error))
    assert other.__cause__ is None
    assert shown(other)[:4] == shown(error)[:4]


class MadeOfTwoError(GenerationError):
    """One of a user's own, whose constructor makes the message."""

    def __init__(self, host, port):
        super().__init__(f"{host}:{port} is away")
        self.port = port


def test_an_error_of_a_class_of_the_users_own_travels_too():
    other = pickle.loads(pickle.dumps(MadeOfTwoError("here", 80)))
    assert (str(other), other.port, other.args) == ("here:80 is away", 80, ("here:80 is away",))


def test_the_trace_of_a_real_failure_travels():
    llm = guarded([["bad"]], KeywordReward(["bad"]), hard(exhaustion=Raise()))
    with pytest.raises(NoAcceptableSegment) as caught:
        llm.generate("x")
    other = pickle.loads(pickle.dumps(caught.value))
    assert other.trace == caught.value.trace
    assert other.trace.attempts > 0


def failing(kind):
    raise made(kind)


def test_errors_cross_the_border_of_a_process():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        for kind in TREE:
            error = pool.submit(failing, kind).exception(timeout=120)
            # A pool puts where it was raised in the place of the cause.
            assert shown(error)[:4] == shown(made(kind))[:4]
